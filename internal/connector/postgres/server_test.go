package postgres

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/eventsluice/sluice/internal/connector/connectortest"
	"github.com/eventsluice/sluice/internal/testenv"
)

// server is a real PostgreSQL with a database and a role of its own, behind a
// proxy that can fail as networks do.
type server struct {
	*proxy
	admin    string // address for the test itself, not through the proxy
	role     string
	password string
	url      string // address for the connector
}

// createEvents makes the table as the connector does.
var createEvents = newStatements(table{"events"}, []string{"id"}).create

var roles atomic.Int64

func newServer(t testing.TB) *server {
	t.Helper()
	s := &server{admin: testenv.Postgres(t), role: fmt.Sprintf("role_%d", roles.Add(1)), password: "pa55 w:rd/with@signs?"}
	admin, err := url.Parse(s.admin)
	if err != nil {
		t.Fatal(err)
	}
	s.exec(t, fmt.Sprintf("CREATE ROLE %s LOGIN PASSWORD '%s'", s.role, s.password))
	s.exec(t, "GRANT CREATE ON SCHEMA public TO "+s.role)
	s.proxy = newProxy(t, admin.Query().Get("host")+"/.s.PGSQL.5432")
	s.url = (&url.URL{
		Scheme: "postgres", User: url.UserPassword(s.role, s.password), Host: s.listener.Addr().String(),
		Path: admin.Path, RawQuery: "sslmode=disable",
	}).String()
	return s
}

func (s *server) connect(t testing.TB) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(context.Background(), s.admin)
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

// exec runs statements as the administrator.
func (s *server) exec(t testing.TB, statements ...string) {
	t.Helper()
	conn := s.connect(t)
	defer conn.Close(context.Background())
	for _, statement := range statements {
		if _, err := conn.Exec(context.Background(), statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
}

func (s *server) hasTable(t testing.TB) (has bool) {
	t.Helper()
	conn := s.connect(t)
	defer conn.Close(context.Background())
	if err := conn.QueryRow(context.Background(), "SELECT to_regclass('public.events') IS NOT NULL").Scan(&has); err != nil {
		t.Fatal(err)
	}
	return has
}

// ids returns the ids of the table in the order in which they were inserted:
// in a table that only grows that is their place in the file.
func (s *server) ids(t testing.TB) []string {
	t.Helper()
	if !s.hasTable(t) {
		return nil
	}
	return s.texts(t, "SELECT id FROM events ORDER BY ctid")
}

// texts returns what a query for one column of text finds.
func (s *server) texts(t testing.TB, query string) []string {
	t.Helper()
	conn := s.connect(t)
	defer conn.Close(context.Background())
	rows, err := conn.Query(context.Background(), query)
	if err != nil {
		t.Fatal(err)
	}
	texts, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	return texts
}

// deny takes away a right: the password, or where there is a table, the right
// to write to it.
func (s *server) deny(t *testing.T) (leave func()) {
	if s.hasTable(t) {
		s.exec(t, "REVOKE INSERT ON events FROM "+s.role)
		return func() { s.exec(t, "GRANT INSERT ON events TO "+s.role) }
	}
	s.exec(t, fmt.Sprintf("ALTER ROLE %s PASSWORD 'another'", s.role))
	return func() { s.exec(t, fmt.Sprintf("ALTER ROLE %s PASSWORD '%s'", s.role, s.password)) }
}

// proxy passes connections on, and knows as much of the protocol as it needs
// to lose the answer to a statement: after the first message of the client,
// every message is a type byte, a length that counts itself, and the rest.
// Source: PostgreSQL, "Message Formats".
type proxy struct {
	listener net.Listener
	target   string
	mode     atomic.Value // connectortest.State
	// loseEvery says which commits are done without an answer, besides those of
	// the mode: every nth; zero is none. lost is how many that were.
	loseEvery, commits, lost atomic.Int64

	mu    sync.Mutex
	conns map[net.Conn]bool
}

func newProxy(t testing.TB, target string) *proxy {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{listener: listener, target: target, conns: make(map[net.Conn]bool)}
	p.mode.Store(connectortest.State(""))
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { p.serve(client) })
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		p.cut()
		wg.Wait()
	})
	return p
}

// enter returns a function for connectortest.Destination.Enter.
func (p *proxy) enter(s connectortest.State) func(*testing.T) func() {
	return func(*testing.T) func() {
		p.mode.Store(s)
		if s == connectortest.Away {
			p.cut()
		}
		return func() {
			p.mode.Store(connectortest.State(""))
			if s != connectortest.Away {
				p.cut() // what hung hangs no longer
			}
		}
	}
}

func (p *proxy) is(s connectortest.State) bool { return p.mode.Load() == s }

// cut ends all connections.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for conn := range p.conns {
		_ = conn.Close()
	}
	clear(p.conns)
}

func (p *proxy) serve(client net.Conn) {
	server, err := net.Dial("unix", p.target)
	if err != nil || p.is(connectortest.Away) {
		_ = client.Close()
		if err == nil {
			_ = server.Close()
		}
		return
	}
	p.mu.Lock()
	p.conns[client], p.conns[server] = true, true
	p.mu.Unlock()
	defer client.Close()
	defer server.Close()

	var lost, hung atomic.Bool
	var wg sync.WaitGroup
	wg.Go(func() {
		defer client.Close()
		for {
			kind, message, err := readMessage(server, true)
			if err != nil {
				return
			}
			if lost.Load() || hung.Load() {
				if kind == 'Z' && lost.Load() { // the statement is committed
					return
				}
				continue
			}
			if _, err := client.Write(message); err != nil {
				return
			}
		}
	})
	for first := true; ; first = false {
		kind, message, err := readMessage(client, !first)
		if err != nil {
			break
		}
		if kind == 'P' && p.is(connectortest.LostAnswer) {
			// A statement that cannot be parsed, for its table is missing, is
			// answered before its Execute is read: that answer is lost too.
			lost.Store(true)
		}
		// Execute of a statement that commits by itself, or a query with COMMIT.
		if kind == 'E' || kind == 'Q' && bytes.Contains(message, []byte("COMMIT\x00")) {
			n := p.loseEvery.Load()
			unlucky := n > 0 && p.commits.Add(1)%n == 0
			if unlucky {
				p.lost.Add(1)
			}
			lost.Store(unlucky || p.is(connectortest.LostAnswer))
		}
		if p.is(connectortest.Hanging) {
			hung.Store(true)
			continue
		}
		if _, err := server.Write(message); err != nil {
			break
		}
	}
	_ = server.Close()
	wg.Wait()
}

func readMessage(r io.Reader, typed bool) (kind byte, message []byte, err error) {
	header := make([]byte, 4, 512)
	if typed {
		header = header[:5]
	}
	if _, err := io.ReadFull(r, header); err != nil {
		return 0, nil, err
	}
	length := int(binary.BigEndian.Uint32(header[len(header)-4:])) - 4
	message = append(header, make([]byte, length)...)
	_, err = io.ReadFull(r, message[len(header):])
	if typed {
		kind = header[0]
	}
	return kind, message, err
}
