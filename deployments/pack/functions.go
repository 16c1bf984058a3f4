package main

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
)

// functions are the commands that run on Lambda.
var functions = []string{"router", "connector", "redrive"}

// mostZip is the largest zip file that we deploy. Lambda takes 50 MB; a start
// takes longer the more there is to load.
const mostZip = 12_000_000

// packFunctions builds commands and writes DIR/NAME.zip for each. It prints a
// line for each: file, bytes, digest.
func packFunctions(ctx context.Context, dir string, names []string, out io.Writer) error {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return err
	}
	temporary, err := os.MkdirTemp("", "pack-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(temporary) }()
	for _, name := range names {
		binary := filepath.Join(temporary, name)
		// Without the tag aws-lambda-go brings net/rpc, for a runtime that is
		// no more.
		if err := build(ctx, "./cmd/"+name, binary, "-tags", "lambda.norpc", "-ldflags", "-s -w"); err != nil {
			return err
		}
		code, err := os.ReadFile(binary)
		if err != nil {
			return err
		}
		packed, err := zipped(code)
		if err != nil {
			return err
		}
		if len(packed) > mostZip {
			return fmt.Errorf("%s.zip has %d bytes, more than %d", name, len(packed), mostZip)
		}
		file := filepath.Join(dir, name+".zip")
		if err := os.WriteFile(file, packed, 0o644); err != nil { //nolint:gosec // not secret
			return err
		}
		fmt.Fprintf(out, "%s %d %x\n", file, len(packed), sha256.Sum256(packed))
	}
	return nil
}

// zipped returns a zip file as the runtime provided.al2023 wants it: one file,
// bootstrap, executable, at the root.
func zipped(code []byte) ([]byte, error) {
	var buf bytes.Buffer
	w := zip.NewWriter(&buf)
	// The first moment that a zip file can name, in place of now.
	header := &zip.FileHeader{Name: "bootstrap", Method: zip.Deflate, Modified: time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC)}
	header.SetMode(0o755)
	file, err := w.CreateHeader(header)
	if err != nil {
		return nil, err
	}
	if _, err := file.Write(code); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return buf.Bytes(), nil
}
