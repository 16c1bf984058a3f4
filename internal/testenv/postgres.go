package testenv

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// PostgresServer is the environment variable that names a PostgreSQL server to
// be used instead of one of our own: an address whose user may create
// databases.
const PostgresServer = "SLUICE_TEST_POSTGRES"

// Postgres returns the address of a new, empty database on a private
// PostgreSQL server, in the form postgres://user:password@/database?host=….
// The user is the owner of everything; the password is needed to connect.
//
// The server is started when the first test of a test binary asks for it, and
// ends with the binary, however that ends. It listens on a socket in a folder
// of its own and nowhere else, and does not fsync. initdb and postgres are
// looked for in PATH and where Debian (/usr/lib/postgresql), Red Hat
// (/usr/pgsql-*) and Homebrew keep them. PostgreSQL refuses to run as root:
// then it is run as the user postgres, or nobody.
func Postgres(t testing.TB) string {
	t.Helper()
	server, err := startOnce()
	switch {
	case errors.Is(err, errNoPostgres):
		missing(t, err.Error())
	case err != nil:
		t.Fatalf("private PostgreSQL: %v", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	conn, err := pgx.Connect(ctx, server)
	if err != nil {
		t.Fatalf("private PostgreSQL: %v", err)
	}
	defer conn.Close(ctx)
	name := fmt.Sprintf("test_%d_%d", os.Getpid(), databases.Add(1))
	if _, err := conn.Exec(ctx, "CREATE DATABASE "+name); err != nil {
		t.Fatalf("private PostgreSQL: %v", err)
	}
	if os.Getenv(PostgresServer) != "" {
		t.Cleanup(func() { drop(t, server, name) })
	}
	address, err := url.Parse(server)
	if err != nil {
		t.Fatal(err)
	}
	address.Path = "/" + name
	return address.String()
}

// drop leaves somebody else's server as it was.
func drop(t testing.TB, server, name string) {
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	conn, err := pgx.Connect(ctx, server)
	if err != nil {
		t.Error(err)
		return
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, "DROP DATABASE "+name+" WITH (FORCE)"); err != nil {
		t.Error(err)
	}
}

// startTimeout is long because machines may be slow and busy.
const startTimeout = 2 * time.Minute

var (
	databases atomic.Int64
	startOnce = sync.OnceValues(startPostgres)
)

var errNoPostgres = errors.New("PostgreSQL is not installed (no initdb and postgres in PATH or the usual folders)")

// folders where packages put the programs, newest version first.
var folders = []string{
	"/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/usr/libexec/postgresql*",
	"/opt/homebrew/opt/postgresql*/bin", "/usr/local/opt/postgresql*/bin", "/usr/local/pgsql/bin",
}

// findPostgres returns the folder of initdb and postgres.
func findPostgres() (string, error) {
	var found []string
	if initdb, err := exec.LookPath("initdb"); err == nil {
		found = append(found, filepath.Dir(initdb))
	}
	for _, pattern := range folders {
		matches, err := filepath.Glob(pattern)
		if err != nil {
			return "", err
		}
		slices.Reverse(matches)
		found = append(found, matches...)
	}
	for _, folder := range found {
		_, initdb := exec.LookPath(filepath.Join(folder, "initdb"))
		_, postgres := exec.LookPath(filepath.Join(folder, "postgres"))
		if initdb == nil && postgres == nil {
			return folder, nil
		}
	}
	return "", errNoPostgres
}

// keeper runs the server until its input ends, which happens when the test
// binary does; then it stops the server and removes the folder.
const keeper = `"$1/postgres" -D "$2/data" -k "$2" -c listen_addresses= -c max_connections=200 \
	-c fsync=off -c synchronous_commit=off -c full_page_writes=off -c log_min_messages=fatal &
read -r _
kill -QUIT $!
wait $!
rm -rf "$2"`

// startPostgres starts the server and returns the address of its first
// database.
func startPostgres() (address string, err error) {
	if address := os.Getenv(PostgresServer); address != "" {
		return address, nil
	}
	programs, err := findPostgres()
	if err != nil {
		return "", err
	}
	// The path of a socket may not be long (107 bytes on Linux), so not below
	// a folder of the test.
	folder, err := os.MkdirTemp("", "sluice-pg-")
	if err != nil {
		return "", err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(folder))
		}
	}()
	password := rand.Text()
	passwordFile := filepath.Join(folder, "password")
	if err := os.WriteFile(passwordFile, []byte(password), 0o600); err != nil {
		return "", err
	}
	attributes, err := unprivileged(folder, passwordFile)
	if err != nil {
		return "", err
	}
	var output bytes.Buffer
	initdb := exec.Command(filepath.Join(programs, "initdb"), "--no-sync", "--auth=scram-sha-256", "--username=sluice",
		"--pwfile="+passwordFile, "--encoding=UTF8", "--locale=C", "--pgdata="+filepath.Join(folder, "data"))
	initdb.Dir, initdb.SysProcAttr, initdb.Stdout, initdb.Stderr = folder, attributes, &output, &output
	if err := initdb.Run(); err != nil {
		return "", fmt.Errorf("initdb: %w\n%s", err, output.Bytes())
	}
	log, err := os.Create(filepath.Join(folder, "log"))
	if err != nil {
		return "", err
	}
	defer log.Close()
	server := exec.Command("/bin/sh", "-c", keeper, "sh", programs, folder)
	server.Dir, server.SysProcAttr, server.Stdout, server.Stderr = folder, attributes, log, log
	// The pipe is never written to. It ends with this process.
	if _, err := server.StdinPipe(); err != nil {
		return "", err
	}
	if err := server.Start(); err != nil {
		return "", err
	}
	ended := make(chan error, 1)
	go func() { ended <- server.Wait() }()
	address = (&url.URL{
		Scheme: "postgres", User: url.UserPassword("sluice", password), Path: "/postgres",
		RawQuery: url.Values{"host": {folder}, "sslmode": {"disable"}}.Encode(),
	}).String()
	if err := waitForPostgres(address, ended); err != nil {
		text, _ := os.ReadFile(log.Name())
		return "", fmt.Errorf("%w\n%s", err, text)
	}
	return address, nil
}

// waitForPostgres returns when the server takes connections.
func waitForPostgres(address string, ended <-chan error) error {
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for {
		conn, err := pgx.Connect(ctx, address)
		if err == nil {
			return conn.Close(ctx)
		}
		select {
		case <-ticker.C:
		case <-ended:
			return errors.New("the server ended")
		case <-ctx.Done():
			return fmt.Errorf("the server does not answer: %w", err)
		}
	}
}
