package main

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/eventsluice/sluice/examples/program"
)

func TestTheExamplePrintsWhereItListensAndEndsWhenInterrupted(t *testing.T) {
	t.Parallel()
	ctx, interrupt := context.WithCancel(t.Context())
	read, write := io.Pipe()
	done := make(chan error, 1)
	go func() {
		err := run(ctx, []string{"-stream", "clicks", "-shards", "2"}, write)
		write.Close()
		done <- err
	}()
	lines := bufio.NewScanner(read)
	if !lines.Scan() {
		t.Fatal("it prints nothing")
	}
	addr, ok := strings.CutPrefix(lines.Text(), "AWS_ENDPOINT_URL_KINESIS=http://")
	if !ok {
		t.Fatalf("first line %q", lines.Text())
	}
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	go io.Copy(io.Discard, read)
	interrupt()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if conn, err := net.Dial("tcp", addr); err == nil {
		conn.Close()
		t.Error("it listens after its end")
	}
}

func TestTheExampleRefusesWhatItCannotDo(t *testing.T) {
	t.Parallel()
	for args, want := range map[string]error{
		"-shards two": program.ErrUsage,
		"extra":       program.ErrUsage,
		"-shards -1":  nil,
		"-stream a/b": nil,
		"-addr nope":  nil,
	} {
		err := run(t.Context(), strings.Fields(args), io.Discard)
		if err == nil || want != nil && !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", args, err, want)
		}
	}
}
