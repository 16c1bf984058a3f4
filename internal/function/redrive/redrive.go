// Package redrive is the Lambda function that an operator invokes by hand to
// deal with a dead letter queue: count, list, backup, replay, purge. It is
// `sluice dlq` for who has a console of AWS and no shell in the account.
//
// It is invoked synchronously with a Request in JSON,
//
//	{"queue":"crm-dead","action":"replay","filter":{"event_name":"order_*"},"rate":50}
//
// and answers with an Answer. It stops before its time is over; an answer with
// "done":false says that it is to be invoked again, with the same request.
//
// Its environment:
//
//   - BACKUP_BUCKET: where backups go. With it a replay backs up first.
//   - SLUICE_STREAM: kinesis://NAME, for replays to the stream.
//   - RULES_BUCKET, RULES_KEY: the rules document, which knows the ARN of
//     destinations.
package redrive

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/eventsluice/sluice/internal/cloud/letters"
	"github.com/eventsluice/sluice/internal/cloud/sdk"
	"github.com/eventsluice/sluice/internal/deadletter"
	"github.com/eventsluice/sluice/internal/fault"
)

// Answer is what the function answers.
type Answer struct {
	Action string `json:"action"`
	Queue  string `json:"queue"`
	// Done is false if the time was over before all was done: Reason says so.
	Done   bool   `json:"done"`
	Reason string `json:"reason,omitempty"`
	// Messages are what the queue holds, approximately: of a count.
	Messages *letters.Depth `json:"messages,omitempty"`
	// Letters are those of a list.
	Letters []deadletter.Letter `json:"letters,omitempty"`
	// Backup is how far a backup came, Progress how far a replay or a purge.
	Backup   *deadletter.BackupProgress `json:"backup,omitempty"`
	Progress *deadletter.Progress       `json:"progress,omitempty"`
	// Elsewhere is how many messages of the queue others held when its end was
	// reached: see letters.Desk.
	Elsewhere int `json:"elsewhere,omitempty"`
	// Objects hold the backup, in the order in which they were put.
	Objects []string `json:"objects,omitempty"`
}

// Function is redrive.
type Function struct {
	clients letters.Clients
	bucket  string
	options letters.Options
	log     *slog.Logger
}

// Setup reads the environment. The error has a line for each variable that
// cannot be used.
func Setup(lookup func(string) (string, bool)) (setup letters.Setup, backups string, err error) {
	get := func(name string) string { value, _ := lookup(name); return value }
	var faults []error
	if text := get("SLUICE_STREAM"); text != "" {
		name, ok := strings.CutPrefix(text, "kinesis://")
		if !ok || name == "" {
			faults = append(faults, fmt.Errorf("SLUICE_STREAM=%q: right would be kinesis://NAME", text))
		}
		setup.Stream = name
	}
	bucket, key := get("RULES_BUCKET"), get("RULES_KEY")
	switch {
	case bucket != "" && key != "":
		setup.Rules = "s3://" + bucket + "/" + key
	case bucket != "" || key != "":
		faults = append(faults, fmt.Errorf("RULES_BUCKET=%q, RULES_KEY=%q: set both, or neither", bucket, key))
	}
	return setup, get("BACKUP_BUCKET"), errors.Join(faults...)
}

// New makes the function. backups is the bucket for backups, empty if there is
// none; log may be nil. It makes no call.
func New(clients letters.Clients, backups string, options letters.Options, log *slog.Logger) *Function {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Function{clients: clients, bucket: backups, options: options, log: log}
}

// Handle handles one invocation. A request that is wrong, and a failure that
// does not pass by itself, fail it; what was done before counts.
func (f *Function) Handle(ctx context.Context, payload []byte) ([]byte, error) {
	r, err := parse(payload)
	if err == nil && r.Action == Backup && f.bucket == "" {
		err = errors.New("BACKUP_BUCKET is not set: there is no place for a backup")
	}
	if err != nil {
		return nil, err
	}
	began := time.Now()
	a, err := f.act(ctx, r)
	f.log.Info("redrive", slog.String("action", r.Action), slog.String("queue", r.Queue), slog.Bool("done", a.Done), slog.Duration("took", time.Since(began)), slog.Any("error", err))
	if err != nil {
		return nil, fmt.Errorf("%s of %s%s: %w", r.Action, r.Queue, a.soFar(), err)
	}
	return json.Marshal(a)
}

// soFar says what was done before a failure.
func (a *Answer) soFar() string {
	switch {
	case a.Backup != nil:
		return fmt.Sprintf(", after %d letters written and %d deleted", a.Backup.Written, a.Backup.Deleted)
	case a.Progress != nil:
		return fmt.Sprintf(", after %d letters", a.Progress.Done)
	}
	return ""
}

// Times at the end of an invocation that are left: to finish what was begun,
// and to put back and answer.
const (
	mostFinish = 30 * time.Second
	mostAnswer = 5 * time.Second
)

// act does what a request asks for.
func (f *Function) act(ctx context.Context, r Request) (a Answer, err error) {
	a = Answer{Action: r.Action, Queue: r.Queue}
	o := f.options
	o.Redeem = r.Action == Backup
	work := ctx
	if deadline, ok := ctx.Deadline(); ok {
		left := time.Until(deadline)
		o.Deadline = deadline.Add(-min(left/4, mostFinish))
		var cancel context.CancelFunc
		work, cancel = context.WithDeadline(ctx, deadline.Add(-min(left/10, mostAnswer)))
		defer cancel()
	}
	var archive *letters.Archive
	var desk *letters.Desk
	if f.bucket != "" && r.Action == Replay {
		o.Before = func(ctx context.Context, all []deadletter.Letter) error {
			redeemed, err := desk.Redeem(ctx, all)
			if err != nil {
				return err
			}
			return archive.Keep(ctx, redeemed)
		}
	}
	if desk, err = letters.NewDesk(f.clients, o); err != nil {
		return a, err
	}
	defer func() {
		a.Elsewhere = desk.Elsewhere()
		err = errors.Join(err, desk.Close(ctx))
	}()
	if r.Action == Backup || o.Before != nil {
		name, err := desk.Name(work, r.Queue)
		if err != nil {
			return a, err
		}
		archive = letters.NewArchive(f.clients.Objects, f.bucket, name)
	}
	switch r.Action {
	case Count:
		var d letters.Depth
		d, err = desk.Count(work, r.Queue)
		a.Messages = &d
	case List:
		err = a.list(work, desk, r)
	case Backup:
		var p deadletter.BackupProgress
		p, err = deadletter.BackupTo(work, desk, r.Queue, archive, deadletter.BackupOptions{Filter: r.Filter, Delete: r.Delete}, nil)
		a.Backup = &p
	case Replay, Purge:
		do := desk.Replay
		if r.Action == Purge {
			do = desk.Purge
		}
		var p deadletter.Progress
		p, err = do(work, r.Queue, r.order(), nil)
		a.Progress = &p
	}
	if archive != nil {
		a.Objects = archive.Objects()
	}
	return a, a.finish(work, r, err)
}

// finish says whether all is done. That the time was over is no failure.
func (a *Answer) finish(work context.Context, r Request, err error) error {
	ofTime := errors.Is(err, letters.ErrPaused) || err != nil && work.Err() != nil ||
		errors.Is(err, context.DeadlineExceeded) && sdk.AsFailure(err) == nil // and not that of a call
	switch {
	case ofTime:
		a.Reason = "the time was over: invoke it again"
		if r.Action == Backup && !r.Delete {
			a.Reason = "the time was over, and a backup that leaves the letters in the queue begins anew each time: give the function more time, or say \"delete\":true"
		}
		return nil
	case err != nil:
		return err
	}
	a.Done = a.Reason == ""
	return nil
}

// mostAnswered bounds the letters of an answer, which may have 6 MB. Source:
// Lambda developer guide, "Lambda quotas" (read 2026-11).
const mostAnswered = 4 << 20

func (a *Answer) list(ctx context.Context, desk *letters.Desk, r Request) error {
	limit := r.Limit
	if limit == 0 {
		limit = 100
	}
	a.Letters = []deadletter.Letter{}
	size := 0
	for after := uint64(0); limit > 0; {
		page, err := desk.List(ctx, r.Queue, r.Filter, after, limit)
		if err != nil {
			return err
		}
		for i := range page.Letters {
			text, err := json.Marshal(page.Letters[i])
			if err != nil {
				return fault.New(fault.Internal, "letter %s: %v", page.Letters[i].ID, err)
			}
			if size += len(text); size > mostAnswered {
				a.Reason = fmt.Sprintf("more letters than fit into an answer: these are the first %d; the others are shown with a filter, or kept by a backup", len(a.Letters))
				return nil
			}
			a.Letters = append(a.Letters, page.Letters[i])
		}
		limit -= len(page.Letters)
		if after = page.Next; after == 0 {
			break
		}
	}
	return nil
}
