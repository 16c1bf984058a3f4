package letters

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/eventsluice/sluice/internal/cloud/object"
	"github.com/eventsluice/sluice/internal/deadletter"
	"github.com/eventsluice/sluice/internal/fault"
)

// Archive is a backup in a bucket: objects with the lines of a backup, one for
// each call of Add. They are called
//
//	dead-letters/QUEUE/2026/11/26/20261126T100000.000Z-000001.jsonl
//
// by the time at which the archive was begun. After a crash letters may be in
// two objects.
type Archive struct {
	objects Objects
	bucket  string
	prefix  string
	number  int
	keys    []string
}

var _ deadletter.Safe = (*Archive)(nil)

// NewArchive begins a backup of a queue.
func NewArchive(objects Objects, bucket, queue string) *Archive {
	queue = strings.Trim(strings.ReplaceAll(strings.TrimPrefix(queue, object.Scheme), "/", "-"), "-")
	return &Archive{objects: objects, bucket: bucket, prefix: "dead-letters/" + queue + "/" + time.Now().UTC().Format("2006/01/02/20060102T150405.000Z")}
}

// Has implements deadletter.Safe: what earlier backups hold is not looked up.
func (*Archive) Has(*deadletter.Letter) bool { return false }

// Add puts an object with these lines. When it returns nil they are durable.
func (a *Archive) Add(ctx context.Context, lines []byte) error {
	for {
		a.number++
		key := fmt.Sprintf("%s-%06d.jsonl", a.prefix, a.number)
		err := a.objects.Put(ctx, a.bucket, key, lines, object.Absent)
		if fault.KindOf(err) == fault.Conflict {
			continue // that of another backup, begun in the same moment
		}
		if err == nil {
			a.keys = append(a.keys, object.Scheme+a.bucket+"/"+key)
		}
		return err
	}
}

// Sync implements deadletter.Safe.
func (*Archive) Sync(context.Context) error { return nil }

// Keep adds letters.
func (a *Archive) Keep(ctx context.Context, letters []deadletter.Letter) error {
	var lines []byte
	var err error
	for i := range letters {
		if lines, err = deadletter.AppendLine(lines, letters[i]); err != nil {
			return err
		}
	}
	if len(lines) == 0 {
		return nil
	}
	return a.Add(ctx, lines)
}

// Objects returns the names of the objects that were put, as s3://bucket/key.
func (a *Archive) Objects() []string { return a.keys }
