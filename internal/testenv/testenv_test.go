package testenv

import (
	"bufio"
	"io"
	"net"
	"net/url"
	"os/exec"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
)

func TestEachTestHasADatabaseOfItsOwn(t *testing.T) {
	t.Parallel()
	first, second := Postgres(t), Postgres(t)
	for _, address := range []string{first, second} {
		conn, err := pgx.Connect(t.Context(), address)
		if err != nil {
			t.Fatal(err)
		}
		// The second time this fails if the databases are one.
		if _, err := conn.Exec(t.Context(), "CREATE TABLE mine (id int)"); err != nil {
			t.Error(err)
		}
		if err := conn.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

func TestPasswordIsNeeded(t *testing.T) {
	t.Parallel()
	address, err := url.Parse(Postgres(t))
	if err != nil {
		t.Fatal(err)
	}
	address.User = url.UserPassword(address.User.Username(), "wrong")
	if conn, err := pgx.Connect(t.Context(), address.String()); err == nil {
		_ = conn.Close(t.Context())
		t.Error("a wrong password is taken")
	}
}

func TestRedisGoesAwayAndComesBackEmpty(t *testing.T) {
	t.Parallel()
	server, other := Redis(t), Redis(t)
	if server.Addr == other.Addr {
		t.Fatal("two tests have one server")
	}
	say := func(command string) (string, error) {
		conn, err := net.Dial("tcp", server.Addr)
		if err != nil {
			return "", err
		}
		defer conn.Close()
		if _, err := io.WriteString(conn, command+"\r\n"); err != nil {
			return "", err
		}
		return bufio.NewReader(conn).ReadString('\n')
	}
	if answer, err := say("SET a b"); err != nil || answer != "+OK\r\n" {
		t.Fatalf("SET: %q, %v", answer, err)
	}
	server.Kill()
	if answer, err := say("PING"); err == nil {
		t.Fatalf("a server that was killed says %q", answer)
	}
	server.Start()
	if answer, err := say("EXISTS a"); err != nil || answer != ":0\r\n" {
		t.Fatalf("EXISTS: %q, %v", answer, err)
	}
}

func TestNodeRuns(t *testing.T) {
	t.Parallel()
	version, err := exec.CommandContext(t.Context(), Node(t), "--version").Output()
	if err != nil || !strings.HasPrefix(string(version), "v") {
		t.Errorf("node --version: %q, %v", version, err)
	}
}

func TestChromiumIsFound(t *testing.T) {
	t.Parallel()
	if path := Chromium(t); !isFile(path) {
		t.Errorf("there is no file %s", path)
	}
}

func TestMissingPartSkipsUnlessCI(t *testing.T) {
	for _, c := range []struct {
		ci   string
		want bool
	}{{"true", true}, {"1", true}, {"false", false}, {"", false}, {"perhaps", false}} {
		t.Setenv("CI", c.ci)
		if got := required(); got != c.want {
			t.Errorf("CI=%q: required is %t", c.ci, got)
		}
	}
}
