package edge

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// serve runs the gateway's own server on a connection in memory.
func serve(t *testing.T, r *rig) (conn net.Conn, stop func()) {
	t.Helper()
	client, server := net.Pipe()
	srv := r.edge.Server()
	l := &oneConn{conn: make(chan net.Conn, 1), done: make(chan struct{})}
	l.conn <- server
	ended := make(chan struct{})
	go func() { defer close(ended); _ = srv.Serve(l) }()
	return client, func() {
		client.Close()
		srv.Close()
		<-ended
	}
}

type oneConn struct {
	conn chan net.Conn
	done chan struct{}
}

func (l *oneConn) Accept() (net.Conn, error) {
	select {
	case c := <-l.conn:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *oneConn) Close() error {
	select {
	case <-l.done:
	default:
		close(l.done)
	}
	return nil
}

func (l *oneConn) Addr() net.Addr { return &net.TCPAddr{} }

const head = "POST /v1/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer wk_web\r\nContent-Length: %d\r\n\r\n"

func TestASlowBodyIsGivenUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Config{BodyTimeout: 10 * time.Second, BodyRate: 100})
		conn, stop := serve(t, r)
		defer stop()
		begin := time.Now()
		var sender sync.WaitGroup
		defer sender.Wait()
		defer conn.Close()
		sender.Go(func() {
			fmt.Fprintf(conn, head, 1000)
			for range 100 { // 10 bytes a second, 100 are wanted
				if _, err := io.WriteString(conn, "          "); err != nil {
					return
				}
				time.Sleep(time.Second)
			}
		})
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		if resp.StatusCode != 408 || !resp.Close || !strings.Contains(string(body), "body_timeout") {
			t.Errorf("%d %s", resp.StatusCode, body)
		}
		if took := time.Since(begin); took < 10*time.Second || took > 12*time.Second {
			t.Errorf("given up after %v", took)
		}
	})
}

func TestASteadyBodyMayTakeItsTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Config{BodyTimeout: 10 * time.Second, BodyRate: 100})
		conn, stop := serve(t, r)
		defer stop()
		body := good + strings.Repeat(" ", 6000-len(good))
		var sender sync.WaitGroup
		defer sender.Wait()
		sender.Go(func() {
			fmt.Fprintf(conn, head, len(body))
			for i := 0; i < len(body); i += 200 { // 200 bytes a second for 30 s
				io.WriteString(conn, body[i:i+200])
				time.Sleep(time.Second)
			}
		})
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode != 202 {
			t.Errorf("%d", resp.StatusCode)
		}
	})
}

func TestARefusedSlowBodyDoesNotHoldTheConnection(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Config{BodyTimeout: 10 * time.Second})
		conn, stop := serve(t, r)
		defer stop()
		begin := time.Now()
		go io.WriteString(conn, strings.Replace(fmt.Sprintf(head, 1000), "wk_web", "wk_nobody", 1))
		in := bufio.NewReader(conn)
		resp, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode != 401 {
			t.Errorf("%d", resp.StatusCode)
		}
		io.Copy(io.Discard, in)
		if took := time.Since(begin); took > 11*time.Second {
			t.Errorf("the connection was closed after %v", took)
		}
	})
}

func TestASenderThatHangsUpMeansItsEventsAllTheSame(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Config{})
		r.stream.wait = make(chan struct{})
		conn, stop := serve(t, r)
		fmt.Fprintf(conn, head+"%s", len(good), good)
		synctest.Wait()
		conn.Close() // the page is gone
		synctest.Wait()
		close(r.stream.wait)
		synctest.Wait()
		stop()
		if len(r.events()) != 1 {
			t.Error("the event is lost")
		}
		r.wantLedger(1, nil)
	})
}

func TestTheStoreTimeoutIsA503AndTheBodyDeadlineDoesNotCutIt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		// The body has 1 s and the store 5: the first must not end the second.
		r := newRig(t, Config{BodyTimeout: time.Second, StoreTimeout: 5 * time.Second})
		r.stream.wait = make(chan struct{})
		conn, stop := serve(t, r)
		defer stop()
		begin := time.Now()
		go fmt.Fprintf(conn, head+"%s", len(good), good)
		in := bufio.NewReader(conn)
		resp, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		if took := time.Since(begin); resp.StatusCode != 503 || took < 5*time.Second || took > 5*time.Second+patienceStep || !strings.Contains(string(body), "not known") {
			t.Errorf("%d after %v: %s", resp.StatusCode, took, body)
		}
		if resp.Close {
			t.Error("the connection is closed")
		}
		close(r.stream.wait)
		go fmt.Fprintf(conn, head+"%s", len(good), good)
		if resp, err = http.ReadResponse(in, nil); err != nil || resp.StatusCode != 202 {
			t.Errorf("the next request on the connection: %v %v", resp, err)
		}
	})
}

func TestHTTP2(t *testing.T) {
	t.Parallel()
	r := newRig(t, Config{BodyTimeout: 300 * time.Millisecond})
	srv := httptest.NewUnstartedServer(nil)
	srv.Config = r.edge.Server()
	srv.EnableHTTP2 = true
	srv.StartTLS()
	defer srv.Close()
	send := func(body io.Reader) (int, string) {
		req, _ := http.NewRequest(http.MethodPost, srv.URL+"/v1/events", body)
		req.Header.Set("Authorization", "Bearer wk_web")
		resp, err := srv.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		answer, _ := io.ReadAll(resp.Body)
		if resp.ProtoMajor != 2 {
			t.Errorf("HTTP/%d", resp.ProtoMajor)
		}
		return resp.StatusCode, string(answer)
	}
	if status, body := send(strings.NewReader(good)); status != 202 {
		t.Errorf("%d %s", status, body)
	}
	never, end := io.Pipe()
	defer end.Close()
	if status, body := send(never); status != 408 || !strings.Contains(body, "body_timeout") {
		t.Errorf("a body that never comes: %d %s", status, body)
	}
	if status, body := send(strings.NewReader(good)); status != 202 {
		t.Errorf("after it: %d %s", status, body)
	}
}

func TestABodyThatEndsEarly(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Config{})
		conn, stop := serve(t, r)
		defer stop()
		fmt.Fprintf(conn, head+"%s", len(good)+10, good)
		conn.Close()
		synctest.Wait()
		if len(r.events()) != 0 || r.edge.Stats().Refused["incomplete_body"] != 1 {
			t.Errorf("%+v", r.edge.Stats())
		}
	})
}
