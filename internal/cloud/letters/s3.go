package letters

import (
	"context"
	"sync"
	"time"

	"github.com/eventsluice/sluice/internal/cloud/object"
	"github.com/eventsluice/sluice/internal/event"
	"github.com/eventsluice/sluice/internal/fault"
)

// Objects is S3, as an *object.Client is.
type Objects interface {
	Get(ctx context.Context, bucket, key, have string, limit int64) (body []byte, version string, err error)
	Put(ctx context.Context, bucket, key string, body []byte, version string) error
	Delete(ctx context.Context, bucket, key string) error
	List(ctx context.Context, bucket, prefix, after string) (keys []string, more bool, err error)
	Redeem(ctx context.Context, claim event.Claim) ([]byte, error)
}

var _ Objects = (*object.Client)(nil)

const (
	// maxObject bounds an object: what a function was invoked with has 6 MB, and
	// a part of a backup not much more than deadletter puts into a page.
	maxObject = 64 << 20
	// objectsAtOnce are read side by side.
	objectsAtOnce = 8
)

// s3Box is the objects of a bucket with a prefix, in the order of their keys.
// Those of an event source are called aws/lambda/MAPPING/SHARD/YYYY/MM/DD/…, so
// that this is the order of time for a shard.
type s3Box struct {
	objects        Objects
	bucket, prefix string
	keys           []string // listed, and not read yet
	after          string
	ended          bool
}

var _ box = (*s3Box)(nil)

func (b *s3Box) name() string                   { return object.Scheme + b.bucket + "/" + b.prefix }
func (*s3Box) visibility() time.Duration        { return 0 }
func (*s3Box) extend(context.Context, []*held)  {}
func (*s3Box) putBack(context.Context, []*held) {}

func (b *s3Box) receive(ctx context.Context, _ bool) ([]received, error) {
	for {
		if len(b.keys) == 0 {
			if b.ended {
				return nil, nil
			}
			keys, more, err := b.objects.List(ctx, b.bucket, b.prefix, b.after)
			if err != nil {
				return nil, err
			}
			b.keys, b.ended = keys, !more || len(keys) == 0
			if len(keys) > 0 {
				b.after = keys[len(keys)-1]
			}
			continue
		}
		n := min(objectsAtOnce, len(b.keys))
		messages, err := b.get(ctx, b.keys[:n])
		if err != nil {
			return nil, err
		}
		b.keys = b.keys[n:]
		if len(messages) > 0 {
			return messages, nil
		}
	}
}

// get reads objects. Those that are gone meanwhile are left out, and so are
// folders, which are empty objects whose keys end in a slash.
func (b *s3Box) get(ctx context.Context, keys []string) ([]received, error) {
	bodies, errs := make([][]byte, len(keys)), make([]error, len(keys))
	var all sync.WaitGroup
	for i, key := range keys {
		all.Go(func() { bodies[i], _, errs[i] = b.objects.Get(ctx, b.bucket, key, "", maxObject) })
	}
	all.Wait()
	var messages []received
	for i, key := range keys {
		switch err := errs[i]; {
		case fault.KindOf(err) == fault.NotFound:
		case err != nil:
			return nil, err
		case len(bodies[i]) == 0 && key[len(key)-1] == '/':
		default:
			messages = append(messages, received{Message: Message{ID: key, Body: bodies[i], Queue: b.bucket}})
		}
	}
	return messages, nil
}

func (b *s3Box) remove(ctx context.Context, messages []*held) []error {
	errs := make([]error, len(messages))
	for from := 0; from < len(messages); from += objectsAtOnce {
		var all sync.WaitGroup
		for i := from; i < min(len(messages), from+objectsAtOnce); i++ {
			all.Go(func() { errs[i] = b.objects.Delete(ctx, b.bucket, messages[i].id) })
		}
		all.Wait()
	}
	return errs
}

func (b *s3Box) count(ctx context.Context) (d Depth, err error) {
	for after, more := "", true; more; {
		var keys []string
		if keys, more, err = b.objects.List(ctx, b.bucket, b.prefix, after); err != nil {
			return d, err
		}
		d.Waiting += uint64(len(keys))
		if len(keys) == 0 {
			break
		}
		after = keys[len(keys)-1]
	}
	return d, nil
}
