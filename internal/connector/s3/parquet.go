package s3

import (
	"bytes"
	"fmt"
	"sync"

	"github.com/parquet-go/parquet-go"

	"github.com/eventsluice/sluice/internal/connector"
	"github.com/eventsluice/sluice/internal/connector/warehouse"
	"github.com/eventsluice/sluice/internal/event"
)

// row is an event in a Parquet file: the columns of the warehouse, and the ip.
// Empty strings of optional columns are null. Times are microseconds since 1970.
type row struct {
	ID          string `parquet:"id"`
	Type        string `parquet:"type,dict"`
	Name        string `parquet:"name,dict"`
	UserID      string `parquet:"user_id,optional"`
	AnonymousID string `parquet:"anonymous_id,optional"`
	Timestamp   *int64 `parquet:"timestamp,optional,timestamp(microsecond)"`
	ReceivedAt  *int64 `parquet:"received_at,optional,timestamp(microsecond)"`
	Source      string `parquet:"source,optional,dict"`
	IP          string `parquet:"ip,optional"`
	Data        []byte `parquet:"data,json"`
	Context     []byte `parquet:"context,json"`
}

// makeRow maps an event, or says why the file cannot have it.
func makeRow(e *event.Event) (row, *connector.Result) {
	r := row{
		ID: e.ID, Type: e.Type, Name: e.Name, UserID: e.UserID, AnonymousID: e.AnonymousID,
		Source: e.Source, IP: e.IP, Data: warehouse.Data(e), Context: warehouse.Context(e),
	}
	for _, column := range [...]struct {
		name, text string
		value      **int64
	}{{"timestamp", e.Timestamp, &r.Timestamp}, {"received_at", e.ReceivedAt, &r.ReceivedAt}} {
		if column.text == "" {
			continue
		}
		t, refused := warehouse.Time(column.name, column.text)
		if refused != nil {
			return row{}, refused
		}
		micros := t.UnixMicro()
		*column.value = &micros
	}
	return r, nil
}

// parquetWriters make files; they are kept, for each holds buffers of its
// columns.
type parquetWriters struct{ pool sync.Pool }

func newParquetWriters(compression string) *parquetWriters {
	codec := parquet.Compression(&parquet.Snappy)
	if compression == zstd {
		codec = parquet.Compression(&parquet.Zstd)
	}
	return &parquetWriters{sync.Pool{New: func() any {
		return parquet.NewGenericWriter[row](nil, codec,
			// Pages of the first version are what every reader knows.
			parquet.DataPageVersion(1), parquet.CreatedBy("sluice", version, ""))
	}}}
}

// encode returns rows as a file. The same rows give the same bytes.
func (p *parquetWriters) encode(rows []row) ([]byte, error) {
	var out bytes.Buffer
	w := p.pool.Get().(*parquet.GenericWriter[row])
	w.Reset(&out)
	if _, err := w.Write(rows); err != nil {
		return nil, fmt.Errorf("parquet: %w", err)
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("parquet: %w", err)
	}
	p.pool.Put(w)
	return out.Bytes(), nil
}
