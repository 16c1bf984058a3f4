package s3

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/klauspost/compress/gzip"

	"github.com/eventsluice/sluice/internal/connector"
)

// maxBytes bounds the events of a file before compression, unless one is
// larger.
const maxBytes = 32 << 20

// file is the payload of a call: events of one partition, in their order.
type file struct {
	key string
	// lines are the events of an NDJSON file as they are stored; rows are those
	// of a Parquet file. The other one is nil.
	lines [][]byte
	rows  []row
}

// draft is a file while Plan fills it.
type draft struct {
	file
	path   string
	events []int
	size   int
	first  string // received_at of the first event
	ids    []byte // of all events, each behind its length
}

// fits reports whether a file may take another event.
func (d *draft) fits(size, maxEvents int) bool {
	return len(d.events) == 0 || len(d.events) < maxEvents && d.size+size <= maxBytes
}

func (d *draft) add(i int, delivery *connector.Delivery) {
	e := &delivery.Event
	if len(d.events) == 0 {
		d.first = e.ReceivedAt
	}
	d.events = append(d.events, i)
	d.size += len(delivery.Raw)
	d.ids = binary.AppendUvarint(d.ids, uint64(len(e.ID)))
	d.ids = append(d.ids, e.ID...)
}

// name returns the name of the file within its partition: when its first event
// was received, so that names stand in the order of time; a digest of the ids
// of its events, in their order; and how many there are. So the same events make
// the same key, whatever the hour of the attempt.
func (d *draft) name() string {
	first := "undated"
	if t, err := time.Parse(time.RFC3339, d.first); err == nil {
		first = t.UTC().Format("20060102T150405Z")
	}
	sum := sha256.Sum256(d.ids)
	return first + "-" + hex.EncodeToString(sum[:16]) + "-" + strconv.Itoa(len(d.events))
}

// gzips are writers that are not in use; each holds most of a megabyte.
var gzips = sync.Pool{New: func() any { return gzip.NewWriter(nil) }}

// encodeNDJSON returns the lines, gzip. The stored form of an event may have line
// breaks between its tokens, but nowhere else: there a space is as good.
func encodeNDJSON(lines [][]byte) ([]byte, error) {
	var out bytes.Buffer
	w := gzips.Get().(*gzip.Writer)
	defer gzips.Put(w)
	w.Reset(&out)
	var scratch []byte
	for _, line := range lines {
		scratch = append(appendLine(scratch[:0], line), '\n')
		if _, err := w.Write(scratch); err != nil {
			return nil, fmt.Errorf("gzip: %w", err)
		}
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("gzip: %w", err)
	}
	return out.Bytes(), nil
}

// appendLine appends a line without line breaks in it.
func appendLine(dst, line []byte) []byte {
	begin := len(dst)
	dst = append(dst, line...)
	for _, lineBreak := range [...]byte{'\n', '\r'} {
		for i := begin; ; i++ {
			n := bytes.IndexByte(dst[i:], lineBreak)
			if n < 0 {
				break
			}
			i += n
			dst[i] = ' '
		}
	}
	return dst
}
