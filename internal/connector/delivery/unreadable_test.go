package delivery_test

import (
	"bytes"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eventsluice/sluice/internal/connector/delivery"
	"github.com/eventsluice/sluice/internal/connector/delivery/deliverytest"
	"github.com/eventsluice/sluice/internal/stream"
)

func TestAnEventThatCannotBeReadIsADeadLetterWithItsBytes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t)
		s.stream.Append([]byte("\xff not JSON"), deliverytest.Event("e2", "good", "u1"))
		s.stream.Append([]byte(`{"id":`))
		s.start()
		synctest.Wait()
		s.wantCounts(delivery.Counts{Seen: 3, Delivered: 1, Dead: 2})
		_, dead := s.disk.Letters()
		var raws []string
		for _, l := range dead {
			raws = append(raws, string(l.Raw))
			if l.Class != "permanent" || l.Code != "unreadable" || l.Event != nil {
				t.Errorf("letter %+v", l)
			}
		}
		slices.Sort(raws)
		if want := []string{`{"id":`, "\xff not JSON"}; !slices.Equal(raws, want) {
			t.Errorf("kept %q, want %q", raws, want)
		}
		s.stop()
		s.checkDisk()
	})
}

func TestADamagedRecordIsOneDeadLetterAndTheRestOfItIsSkipped(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t)
		sealed := func(n int) stream.Record {
			var a stream.Aggregate
			a.Reset("bucket-0", 0)
			for i := range n {
				a.Add(deliverytest.Event(fmt.Sprintf("e%d", i+1), "bought", "u1"))
			}
			return stream.Record{PartitionKey: "bucket-0", Data: slices.Clone(a.Seal()), Events: n}
		}
		torn := sealed(5)
		torn.Data = torn.Data[:len(torn.Data)-20]
		short := sealed(1)
		short.Events = 3
		uncounted := sealed(1)
		uncounted.Events = 0
		s.stream.AppendRecord(sealed(3), torn)
		s.stream.AppendRecord(short)
		s.stream.AppendRecord(uncounted)
		s.start()
		time.Sleep(time.Second)
		want := delivery.Counts{Seen: 12, Skipped: 6, Delivered: 5, Dead: 1}
		s.wantCounts(want)
		_, dead := s.disk.Letters()
		if len(dead) != 1 || !bytes.Equal(dead[0].Raw, torn.Data) {
			t.Errorf("%d dead letters; one with the bytes of the record is right", len(dead))
		}
		s.checkDisk()
		s.crash()
		s.start()
		time.Sleep(time.Second)
		s.wantCounts(want) // recovered, and not read again
		if n := s.runner.Status().Residual; n != 0 {
			t.Errorf("residual %d", n)
		}
		s.stop()
		s.checkDisk()
	})
}
