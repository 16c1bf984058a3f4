package sqlite

import (
	"errors"
	"io/fs"
	"path/filepath"
	"testing"

	"github.com/eventsluice/sluice/internal/event"
)

func TestAWarehouseIsReadWhileItIsOpenForWriting(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "a b?c#.db")
	c := open(t, path)
	sent := events(5)
	deliver(t, c, sent)
	var ids []string
	err := Read(t.Context(), path, "", 3, func(ev *event.Event) error {
		ids = append(ids, ev.ID)
		if want := sent[len(sent)-len(ids)].Event; ev.ID != want.ID || ev.Name != want.Name || ev.ReceivedAt != want.ReceivedAt || ev.UserID != want.UserID || string(ev.Data) != string(want.Data) {
			t.Errorf("read %+v\nsent %+v", ev, want)
		}
		return nil
	})
	if err != nil || len(ids) != 3 {
		t.Errorf("%v, %v", ids, err)
	}
	if err := Read(t.Context(), path, "no such name", 3, func(*event.Event) error { t.Error("an event"); return nil }); err != nil {
		t.Error(err)
	}
	stop := errors.New("enough")
	if err := Read(t.Context(), path, "", 3, func(*event.Event) error { return stop }); !errors.Is(err, stop) {
		t.Error(err)
	}
	if err := Read(t.Context(), filepath.Join(t.TempDir(), "none.db"), "", 3, nil); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}
