package postgres

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"testing"
	"testing/iotest"

	"github.com/eventsluice/sluice/internal/connector"
	"github.com/eventsluice/sluice/internal/event"
)

// The statements, and the bytes of rows in both forms. Other tests show that a
// server reads them.
func TestTheRequestIsAsWritten(t *testing.T) {
	t.Parallel()
	conn, err := New([]byte(`{"url":"postgres://sluice@db.example/analytics","table":"raw.events","key":["id","received_at"]}`), connector.Env{})
	if err != nil {
		t.Fatal(err)
	}
	c := conn.(*Connector)
	rows := c.Plan([]connector.Delivery{
		{Event: event.Event{
			ID: "0199f0c2-0000-7000-8000-000000000001", Type: "track", Name: "order_completed", UserID: "u1", AnonymousID: "a1", Source: "web",
			Timestamp: "2026-11-23T11:00:00.1234567+01:00", ReceivedAt: "2026-11-23T10:00:01.125Z",
			Data: []byte(`{"total":1.50,"nul":"\u0000"}`), Context: []byte(`{"locale":"de-AT"}`), Extra: []byte(`"coupon":"X"`),
		}},
		{Event: event.Event{ID: "only-name", Type: "track", Name: "only name", Timestamp: "0001-01-01T00:00:00Z"}},
	}).Calls[0].Payload.([]row)
	copied, err := io.ReadAll(newCopyReader(rows))
	if err != nil {
		t.Fatal(err)
	}
	if err := iotest.TestReader(newCopyReader(rows), copied); err != nil {
		t.Error(err)
	}
	var got bytes.Buffer
	for _, s := range []struct{ name, text string }{
		{"create_table", c.sql.create}, {"few rows", c.sql.insert}, {"many rows", c.sql.copy}, {"and then", c.sql.merge}, {"check", c.sql.ask},
	} {
		fmt.Fprintf(&got, "--- %s\n%s\n\n", s.name, s.text)
	}
	fmt.Fprintf(&got, "--- what is copied\n%s", hex.Dump(copied))
	for i, array := range new(arrays).fill(rows) {
		fmt.Fprintf(&got, "\n--- $%d\n%s", i+1, hex.Dump(array))
	}
	const name = "testdata/request.golden"
	if os.Getenv("SLUICE_UPDATE") == "1" {
		if err := os.WriteFile(name, got.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.Bytes(), want) {
		t.Errorf("%s is not what is sent (SLUICE_UPDATE=1 writes it):\n%s", name, got.Bytes())
	}
}
