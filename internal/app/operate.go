package app

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"

	"github.com/eventsluice/sluice/internal/cloud/letters"
	"github.com/eventsluice/sluice/internal/deadletter"
)

// ListLetters prints the letters that a filter selects, at most limit, as a
// table or as lines of JSON.
func ListLetters(ctx context.Context, desk deadletter.Desk, destination string, f deadletter.Filter, limit int, asJSON bool, out io.Writer) (err error) {
	var after uint64
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	defer func() { err = errors.Join(err, table.Flush()) }() // what was found is shown, also if there is no more to be had
	lines := json.NewEncoder(out)
	headed := asJSON
	for limit > 0 {
		page, err := desk.List(ctx, destination, f, after, min(limit, mostLetters))
		if err != nil {
			return err
		}
		if !headed {
			headed = true
			fmt.Fprintln(table, "LETTER\tDESTINATION\tEVENT\tNAME\tCLASS\tSTATUS\tATTEMPTS\tLAST TRY\tMESSAGE")
		}
		for i := range page.Letters {
			l := &page.Letters[i]
			if asJSON {
				if err := lines.Encode(l); err != nil {
					return err
				}
				continue
			}
			fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\t%d\t%s\t%s\n", l.ID, dash(printable(l.Destination)), dash(l.EventID), dash(printable(l.EventName)),
				l.Class, dash(code(l)), l.Attempts, l.LastTry.UTC().Format(time.RFC3339), printable(clip(l.Message, 80)))
		}
		limit -= len(page.Letters)
		if after = page.Next; after == 0 {
			break
		}
	}
	return nil
}

func code(l *deadletter.Letter) string {
	if l.Status != 0 {
		return statusText(l.Status)
	}
	return l.Code
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func clip(s string, most int) string {
	runes := []rune(s)
	if len(runes) > most {
		return string(runes[:most]) + "…"
	}
	return s
}

// printable keeps what others wrote from moving the cursor of a terminal or
// breaking the table.
func printable(s string) string {
	out := []rune(s)
	for i, r := range out {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 {
			out[i] = ' '
		}
	}
	return string(out)
}

// ShowLetter prints one letter as JSON.
func ShowLetter(ctx context.Context, desk deadletter.Desk, destination, id string, out io.Writer) error {
	letter, err := desk.Get(ctx, destination, id)
	if err != nil {
		return err
	}
	return writeIndented(out, letter)
}

// CountLetters prints how many letters there are: of a queue on AWS how many
// messages, as it says itself, unless a filter selects some.
func CountLetters(ctx context.Context, desk deadletter.Desk, destination string, f deadletter.Filter, out io.Writer) error {
	if queue, ok := desk.(*letters.Desk); ok && f.IsZero() {
		d, err := queue.Count(ctx, destination)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(out, "%d messages: %d waiting, %d in flight, %d delayed\n", d.Total(), d.Waiting, d.InFlight, d.Delayed)
		return err
	}
	var after uint64
	for n := 0; ; {
		page, err := desk.List(ctx, destination, f, after, mostLetters)
		if err != nil {
			return err
		}
		n += len(page.Letters)
		if after = page.Next; after == 0 {
			_, err = fmt.Fprintf(out, "%d letters\n", n)
			return err
		}
	}
}

// BackupLetters writes letters to a file, see deadletter.Backup.
func BackupLetters(ctx context.Context, desk deadletter.Desk, destination, path string, o deadletter.BackupOptions, out, errs io.Writer) (err error) {
	file, err := deadletter.OpenFile(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	show := newProgress(errs, "written", -1)
	p, err := deadletter.Backup(ctx, desk, destination, file, o, func(p deadletter.BackupProgress) { show.at(p.Written + p.Kept) })
	show.end()
	fmt.Fprintf(out, "%d written to %s, %d were in it, %d deleted; %d batches processed\n", p.Written, path, p.Kept, p.Deleted, p.Batches)
	return err
}

// CarryOut carries out a replay or a purge and says how it went. Letters that
// were refused make it fail.
func CarryOut(ctx context.Context, done string, act func(context.Context, string, deadletter.Order, func(deadletter.Progress)) (deadletter.Progress, error),
	destination string, o deadletter.Order, out, errs io.Writer,
) error {
	var show *progress
	p, err := act(ctx, destination, o, func(p deadletter.Progress) {
		if show == nil {
			show = newProgress(errs, "examined", p.Total)
		}
		show.at(p.Examined)
	})
	if show != nil {
		show.end()
	}
	if o.DryRun && err == nil {
		fmt.Fprintf(out, "%d of %d letters match; nothing was changed\n", p.Matched, p.Total)
		sample(out, p.Sample)
		return nil
	}
	fmt.Fprintf(out, "%d %s; %d of %d letters matched\n", p.Done, done, p.Matched, p.Total)
	if p.Kept > 0 {
		fmt.Fprintf(out, "%d of them share a message with letters that were not, and come again with the next order\n", p.Kept)
	}
	if err == nil && p.Refused > 0 {
		err = fmt.Errorf("%d letters stay where they are; the first of them: %s", p.Refused, p.Reason)
	}
	return err
}

func sample(out io.Writer, letters []deadletter.Letter) {
	for i := range letters {
		l := &letters[i]
		fmt.Fprintf(out, "  %s  %s  %s  %s\n", l.ID, dash(printable(l.EventName)), l.Class, printable(clip(l.Message, 80)))
	}
}

// previewed is how many letters are shown before they are purged.
const previewed = 10

// OnAWS reports whether a desk is that of queues on AWS.
func OnAWS(desk deadletter.Desk) bool {
	_, ok := desk.(*letters.Desk)
	return ok
}

// PreviewPurge says what is about to be deleted: how many there are, the first
// that the filter selects, and whether they look like dead letters.
func PreviewPurge(ctx context.Context, desk deadletter.Desk, name, destination string, f deadletter.Filter, out io.Writer) error {
	queue, ok := desk.(*letters.Desk)
	if !ok {
		p, err := desk.Purge(ctx, destination, deadletter.Order{Filter: f, DryRun: true}, nil)
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "About to delete %d of %d letters of %s for good. The first of them:\n", p.Matched, p.Total, name)
		sample(out, p.Sample)
		return nil
	}
	d, err := queue.Count(ctx, destination)
	if err != nil {
		return err
	}
	page, err := queue.List(ctx, destination, f, 0, previewed)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "About to delete for good what the filter selects of %s, which holds about %d messages. The first of it:\n", name, d.Total())
	sample(out, page.Letters)
	strange := 0
	for i := range page.Letters {
		if page.Letters[i].Class == letters.ClassUnknown {
			strange++
		}
	}
	switch {
	case len(page.Letters) == 0:
		fmt.Fprintln(out, "  nothing")
	case strange == len(page.Letters):
		fmt.Fprintln(out, "None of these looks like a dead letter: is it the right queue?")
	case strange > 0:
		fmt.Fprintf(out, "%d of these %d do not look like dead letters.\n", strange, len(page.Letters))
	}
	return nil
}

// ConfirmPurge has the name of the queue typed. An error says that it was not.
func ConfirmPurge(ctx context.Context, desk deadletter.Desk, name, destination string, in io.Reader, out io.Writer) error {
	if queue, ok := desk.(*letters.Desk); ok {
		var err error
		if name, err = queue.Name(ctx, destination); err != nil {
			return err
		}
	}
	fmt.Fprintf(out, "Type %s to delete: ", name)
	typed := make(chan string, 1)
	go func() { // ends with the line, or with the process
		line, _ := bufio.NewReader(in).ReadString('\n') // what came before the end is compared
		typed <- strings.TrimSpace(line)
	}()
	select {
	case line := <-typed:
		if line == name {
			return nil
		}
		return errors.New("that is not its name: nothing was deleted")
	case <-ctx.Done():
		return ctx.Err()
	}
}

// progress shows how far long work is: a bar on a terminal, a line now and
// then elsewhere.
type progress struct {
	bar  *progressbar.ProgressBar
	out  io.Writer
	what string
	said time.Time
}

// sayEvery is how often progress that is not shown on a terminal gets a line.
const sayEvery = 10 * time.Second

// newProgress shows progress towards a total, -1 if it is not known.
func newProgress(out io.Writer, what string, total int) *progress {
	p := &progress{out: out, what: what, said: time.Now()}
	if file, ok := out.(*os.File); ok && term.IsTerminal(int(file.Fd())) {
		p.bar = progressbar.NewOptions(total, progressbar.OptionSetWriter(out), progressbar.OptionSetDescription(what),
			progressbar.OptionShowCount(), progressbar.OptionClearOnFinish())
	}
	return p
}

func (p *progress) at(n int) {
	switch {
	case p.bar != nil:
		_ = p.bar.Set(n) // a bar that cannot be drawn does not stop the work
	case time.Since(p.said) >= sayEvery:
		p.said = time.Now()
		fmt.Fprintf(p.out, "%d %s\n", n, p.what)
	}
}

func (p *progress) end() {
	if p.bar != nil {
		_ = p.bar.Finish() // likewise
	}
}
