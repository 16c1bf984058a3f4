package app

import (
	"context"
	"crypto/tls"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"github.com/eventsluice/sluice/internal/retry"
)

// certificate is a TLS certificate in files that is read again when it is
// renewed.
type certificate struct {
	certFile, keyFile string
	current           atomic.Pointer[tls.Certificate]
	read              time.Time // the newer modification time of the two files
}

func loadCertificate(certFile, keyFile string) (*certificate, error) {
	c := &certificate{certFile: certFile, keyFile: keyFile}
	if err := c.reload(); err != nil {
		return nil, fmt.Errorf("SLUICE_TLS_CERT=%q, SLUICE_TLS_KEY=%q: %w", certFile, keyFile, err)
	}
	return c, nil
}

// reload reads the files if they changed. On an error the certificate in use
// stays: renewals write two files, and between them they do not match.
func (c *certificate) reload() error {
	var newest time.Time
	for _, name := range []string{c.certFile, c.keyFile} {
		info, err := os.Stat(name)
		if err != nil {
			return err
		}
		if info.ModTime().After(newest) {
			newest = info.ModTime()
		}
	}
	if newest.Equal(c.read) {
		return nil
	}
	pair, err := tls.LoadX509KeyPair(c.certFile, c.keyFile)
	if err != nil {
		return err
	}
	c.current.Store(&pair)
	c.read = newest
	return nil
}

// Run looks for a renewed certificate until ctx is done. failed is called with
// what is wrong with one that cannot be used.
func (c *certificate) Run(ctx context.Context, every time.Duration, failed func(error)) error {
	for retry.Sleep(ctx, every) == nil {
		if err := c.reload(); err != nil {
			failed(err)
		}
	}
	return nil
}

func (c *certificate) config() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			return c.current.Load(), nil
		},
	}
}
