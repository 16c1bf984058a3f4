package app

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/eventsluice/sluice/internal/cloud/object"
	"github.com/eventsluice/sluice/internal/cloud/sdk"
	"github.com/eventsluice/sluice/internal/document"
	"github.com/eventsluice/sluice/internal/edge/source"
	"github.com/eventsluice/sluice/internal/fault"
)

const (
	// documentInterval is how often documents are looked at for changes, and
	// objectInterval those in S3, where each look is a call that costs.
	documentInterval = time.Second
	objectInterval   = 10 * time.Second
	// objectTimeout bounds a call to S3.
	objectTimeout = 10 * time.Second
)

// isObject reports whether a document is an object in S3.
func isObject(name string) bool { return strings.HasPrefix(name, object.Scheme) }

// interval returns how often a document is looked at for changes.
func interval(name string) time.Duration {
	if isObject(name) {
		return objectInterval
	}
	return documentInterval
}

// documentSource returns where a document is read from: a path, or s3://bucket/key.
func documentSource(ctx context.Context, name string) (document.Source, error) {
	if !isObject(name) {
		return document.File(name), nil
	}
	objects, bucket, key, err := openObject(ctx, name)
	if err != nil {
		return nil, err
	}
	return bounded{objects.Source(bucket, key)}, nil
}

func openObject(ctx context.Context, name string) (objects *object.Client, bucket, key string, err error) {
	if bucket, key, err = object.Parse(name); err != nil {
		return nil, "", "", err
	}
	cfg, err := sdk.Load(ctx, nil)
	if err != nil {
		return nil, "", "", err
	}
	return object.New(cfg), bucket, key, nil
}

// bounded is a Source whose reads end.
type bounded struct{ document.Source }

func (b bounded) Read(ctx context.Context, have string) ([]byte, string, error) {
	ctx, cancel := context.WithTimeout(ctx, objectTimeout)
	defer cancel()
	return b.Source.Read(ctx, have)
}

// openDocument reads a document for the first time.
func openDocument[T any](ctx context.Context, p *program, name string, parse func([]byte) (T, error)) (*document.Live[T], error) {
	from, err := documentSource(ctx, name)
	if err != nil {
		return nil, err
	}
	return document.Open(ctx, from, parse, p.log)
}

// ReadDocument reads a document once: a path, or s3://bucket/key. The error is
// fs.ErrNotExist if there is none.
func ReadDocument(ctx context.Context, name string) ([]byte, error) {
	from, err := documentSource(ctx, name)
	if err != nil {
		return nil, err
	}
	doc, _, err := from.Read(ctx, "")
	if isObject(name) && fault.KindOf(err) == fault.NotFound {
		return nil, errors.Join(fs.ErrNotExist, err)
	}
	return doc, err
}

// changeKeys replaces the keys document by what change makes of it; of nothing,
// if there is none. change may be called several times.
func changeKeys(ctx context.Context, name string, change func(document []byte) ([]byte, error)) error {
	if !isObject(name) {
		return source.ChangeFile(name, change)
	}
	objects, bucket, key, err := openObject(ctx, name)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, objectTimeout)
	defer cancel()
	// Somebody else may change it at the same time: then it is read again.
	const attempts = 5
	for range attempts {
		doc, version, err := objects.Get(ctx, bucket, key, "", document.MaxBytes)
		switch {
		case fault.KindOf(err) == fault.NotFound:
			version = object.Absent
		case err != nil:
			return err
		}
		if doc, err = change(doc); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if err = objects.Put(ctx, bucket, key, doc, version); fault.KindOf(err) != fault.Conflict {
			return err
		}
	}
	return fmt.Errorf("%s is being changed by others again and again: try later", name)
}

// exists reports whether a document is there: nil, fs.ErrNotExist, or why that
// is not known. An object is looked at when it is opened.
func exists(name string) error {
	if isObject(name) {
		return nil
	}
	_, err := os.Stat(name)
	return err
}
