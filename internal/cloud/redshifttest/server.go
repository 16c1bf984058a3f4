package redshifttest

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/eventsluice/sluice/internal/cloud/awstest"
)

// Config is how a server is.
type Config struct {
	// Postgres is the address of the database that statements run on.
	Postgres string
	// Buckets are what COPY reads.
	Buckets Buckets
	// Addr is where it listens. Default 127.0.0.1 and a port from the system.
	Addr string
	// Region is that for which calls have to be signed. Default us-east-1 and
	// calls for any region.
	Region string
	// MaxActive is how many batches may run at once. Default 500. Source: Redshift
	// Management Guide, "Quotas for Amazon Redshift Data API" (read 2026-11).
	MaxActive int
}

// Buckets are those of S3.
type Buckets interface {
	// Keys lists the keys of a bucket.
	Keys(bucket string) ([]string, error)
	// Get reads an object.
	Get(bucket, key string) ([]byte, error)
}

// Server is an endpoint of the Data API. It is safe for concurrent use.
type Server struct {
	*awstest.Host
	config Config

	// all ends with Close; running are the batches.
	all     context.Context
	end     context.CancelFunc
	running sync.WaitGroup

	mu      sync.Mutex
	batches map[string]*batch
	tokens  map[string]string // of a call, the id of its batch
	held    chan struct{}     // closed when batches may go on; nil if they may
}

// batch is what one call has begun.
type batch struct {
	id         string
	statements []string
	created    time.Time
	stop       context.CancelFunc

	// Guarded by Server.mu.
	status  string
	updated time.Time
	err     string
	rows    []int64 // of the statements that are done
}

// Statuses of a batch. Source: Redshift Data API, DescribeStatement (read
// 2026-11).
const (
	Submitted = "SUBMITTED"
	Started   = "STARTED"
	Finished  = "FINISHED"
	Failed    = "FAILED"
	Aborted   = "ABORTED"
)

func (b *batch) ended() bool { return b.status != Submitted && b.status != Started }

// New starts a server that is gone when the test ends.
func New(t testing.TB, c Config) *Server {
	t.Helper()
	s, err := Open(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// Open starts a server. Close ends it.
func Open(c Config) (*Server, error) {
	if c.Postgres == "" || c.Buckets == nil {
		return nil, errors.New("redshifttest: a PostgreSQL and buckets are needed")
	}
	if c.MaxActive == 0 {
		c.MaxActive = 500
	}
	s := &Server{config: c, batches: map[string]*batch{}, tokens: map[string]string{}}
	s.all, s.end = context.WithCancel(context.Background())
	var err error
	s.Host, err = awstest.NewHost(awstest.Config{
		Service: "redshift-data",
		Has:     func(operation string) bool { return operations[operation] != nil },
		Route:   s.route,
		MaxBody: maxBody,
		Addr:    c.Addr, Region: c.Region,
	})
	if err == nil {
		err = s.Start()
	}
	if err != nil {
		s.end()
		return nil, err
	}
	return s, nil
}

// Close stops the host and all batches, and returns when they have ended.
func (s *Server) Close() {
	s.Stop()
	s.end()
	s.running.Wait()
}

// Hold lets the batches that begin from now on wait before their first statement,
// as on a busy cluster, until release is called. One that waits can be cancelled.
func (s *Server) Hold() (release func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	held := make(chan struct{})
	s.held = held
	return sync.OnceFunc(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.held == held {
			s.held = nil
		}
		close(held)
	})
}

// Batches returns the statements of all batches that ended with a status, in
// any order.
func (s *Server) Batches(status string) [][]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all [][]string
	for _, b := range s.batches {
		if b.status == status {
			all = append(all, b.statements)
		}
	}
	return all
}

// end of a batch that a fault decides.
type ending struct{ status, text string }

// FailBatches makes batches that are begun fail with a text, such as
// "ERROR: permission denied for relation events". Nothing of them is done.
func FailBatches(text string) awstest.Fault {
	return awstest.Effect(func(p *awstest.Plan, _ awstest.Strike) { p.Add(ending{Failed, text}) }).On("BatchExecuteStatement")
}

// AbortBatches makes batches that are begun end as if somebody had stopped them.
func AbortBatches() awstest.Fault {
	return awstest.Effect(func(p *awstest.Plan, _ awstest.Strike) { p.Add(ending{Aborted, ""}) }).On("BatchExecuteStatement")
}
