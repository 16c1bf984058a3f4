package s3

import (
	"context"
	"slices"
	"sync"
	"testing"

	"github.com/eventsluice/sluice/internal/connector"
	"github.com/eventsluice/sluice/internal/fault"
)

// memory is a Bucket that fails as it is told.
type memory struct {
	// puts and looks are the errors of the calls to come; nil is none. lost says
	// which errors of Put come although the object is written.
	puts, looks []error
	lost        bool
	checked     error

	mu      sync.Mutex
	objects map[string][]byte
	tried   []string // the keys of all calls of Put
	bodies  [][]byte
}

func (m *memory) Put(_ context.Context, key string, body []byte, _ string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.tried, m.bodies = append(m.tried, key), append(m.bodies, body)
	var err error
	if len(m.puts) > 0 {
		err, m.puts = m.puts[0], m.puts[1:]
	}
	if err == nil || m.lost {
		if m.objects == nil {
			m.objects = map[string][]byte{}
		}
		m.objects[key] = body
	}
	return err
}

func (m *memory) Has(_ context.Context, key string, body []byte) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.looks) > 0 {
		err := m.looks[0]
		m.looks = m.looks[1:]
		if err != nil {
			return false, err
		}
	}
	there, ok := m.objects[key]
	return ok && slices.Equal(there, body), nil
}

func (m *memory) Check(context.Context, string) error { return m.checked }

// open makes a connector of a bucket.
func open(t testing.TB, bucket Bucket, settings string) *Connector {
	t.Helper()
	c, err := Spec(func(context.Context, Location) (Bucket, error) { return bucket, nil }).New([]byte(settings), connector.Env{})
	if err != nil {
		t.Fatal(err)
	}
	return c.(*Connector)
}

// kind is an error of a kind.
func kind(k fault.Kind) error { return fault.New(k, "the store says %s", k) }
