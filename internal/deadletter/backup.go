package deadletter

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// A backup is JSON Lines, one letter each:
//
//	{"attributes":{"id":"17.0.2","destination":"crm","class":"permanent",…},"body":{"id":"0198…","name":…}}
//
// body is the event, byte for byte, but for line breaks and other white space
// between its tokens, which a line cannot have; attributes are all other fields of Letter.
// A letter without a readable event has "encoding":"base64" in its attributes
// and its raw bytes, so encoded, as a string in body. A letter that only claims
// its event has neither, and an empty string there.

type line struct {
	Attributes struct {
		Letter
		Encoding string `json:"encoding,omitempty"`
	} `json:"attributes"`
	Body json.RawMessage `json:"body"`
}

// AppendLine appends a letter as one line of a backup, newline included.
func AppendLine(dst []byte, l Letter) ([]byte, error) {
	var ln line
	ln.Attributes.Letter = l
	ln.Attributes.Event, ln.Attributes.Raw = nil, nil
	body := []byte(l.Event)
	if len(body) == 0 {
		ln.Attributes.Encoding = "base64"
		body = []byte(`"` + base64.StdEncoding.EncodeToString(l.Raw) + `"`)
	} else if bytes.IndexByte(body, '\n') >= 0 {
		var b bytes.Buffer
		if err := json.Compact(&b, body); err != nil {
			return dst, fmt.Errorf("letter %s: %w", l.ID, err)
		}
		body = b.Bytes()
	}
	var attributes bytes.Buffer
	e := json.NewEncoder(&attributes)
	e.SetEscapeHTML(false)
	if err := e.Encode(ln.Attributes); err != nil {
		return dst, fmt.Errorf("letter %s: %w", l.ID, err)
	}
	dst = append(dst, `{"attributes":`...)
	dst = append(dst, bytes.TrimSpace(attributes.Bytes())...)
	dst = append(dst, `,"body":`...)
	dst = append(dst, body...)
	return append(dst, "}\n"...), nil
}

// ParseLine reads one line of a backup.
func ParseLine(b []byte) (Letter, error) {
	var ln line
	if err := json.Unmarshal(b, &ln); err != nil {
		return Letter{}, fmt.Errorf("not a line of a backup: %w", err)
	}
	l := ln.Attributes.Letter
	l.Event, l.Raw = nil, nil
	switch ln.Attributes.Encoding {
	case "":
		if len(ln.Body) == 0 {
			return Letter{}, errors.New("not a line of a backup: it has no body")
		}
		l.Event = ln.Body
	case "base64":
		if err := json.Unmarshal(ln.Body, &l.Raw); err != nil {
			return Letter{}, fmt.Errorf("not a line of a backup: body: %w", err)
		}
	default:
		return Letter{}, fmt.Errorf("body has the encoding %q, which is not known", ln.Attributes.Encoding)
	}
	return l, nil
}

// File is what a backup is written to; *os.File is one.
type File interface {
	io.ReadWriteSeeker
	Truncate(size int64) error
	Sync() error
}

// OpenFile opens or makes the file of a backup, for its owner alone: it holds
// events. Its name is durable when it returns.
func OpenFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	if err := errors.Join(dir.Sync(), dir.Close()); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// Source is the part of a Desk that Backup needs.
type Source interface {
	List(ctx context.Context, destination string, f Filter, after uint64, limit int) (Page, error)
	Purge(ctx context.Context, destination string, o Order, report func(Progress)) (Progress, error)
}

// BackupOptions say what a backup holds and what becomes of the letters.
type BackupOptions struct {
	Filter Filter
	// Delete purges the letters once they are safe in the file.
	Delete bool
}

// BackupProgress is how far a backup is. Written were added to the backup, Kept
// were in it already, Deleted have been purged. Batches were gone through.
type BackupProgress struct {
	Written int `json:"written"`
	Kept    int `json:"kept"`
	Deleted int `json:"deleted"`
	Batches int `json:"batches"`
}

// Safe is where a backup is kept.
type Safe interface {
	// Has reports whether a letter is in the backup already.
	Has(l *Letter) bool
	// Add adds letters, one a line, and Sync makes all that were added durable.
	Add(ctx context.Context, lines []byte) error
	Sync(ctx context.Context) error
}

// Backup writes letters to a file and syncs it, and only then purges them, if
// asked to. A backup that was interrupted is gone on with by calling it with
// the same file again: letters that are in the file are not written twice, and
// purged if asked to. A line that was cut off at the end is written anew.
func Backup(ctx context.Context, desk Source, destination string, file File, o BackupOptions, report func(BackupProgress)) (BackupProgress, error) {
	known, err := readBackup(file)
	if err != nil {
		return BackupProgress{}, err
	}
	return BackupTo(ctx, desk, destination, fileSafe{file, known}, o, report)
}

// fileSafe is a Safe made of a file.
type fileSafe struct {
	file  File
	known map[identity]bool
}

func (s fileSafe) Has(l *Letter) bool { return s.known[identify(l)] }

func (s fileSafe) Add(_ context.Context, lines []byte) error {
	_, err := s.file.Write(lines)
	return err
}

func (s fileSafe) Sync(context.Context) error { return s.file.Sync() }

// BackupTo adds letters to a safe, and purges them only after a Sync, if asked
// to.
func BackupTo(ctx context.Context, desk Source, destination string, safe Safe, o BackupOptions, report func(BackupProgress)) (BackupProgress, error) {
	var p BackupProgress
	if report == nil {
		report = func(BackupProgress) {}
	}
	var after uint64
	for {
		page, err := desk.List(ctx, destination, o.Filter, after, walkBatch)
		if err != nil {
			return p, err
		}
		var b []byte
		written := 0
		for i := range page.Letters {
			l := &page.Letters[i]
			if safe.Has(l) {
				p.Kept++
				continue
			}
			if b, err = AppendLine(b, *l); err != nil {
				return p, err
			}
			written++
		}
		if len(b) > 0 {
			if err := safe.Add(ctx, b); err != nil {
				return p, err
			}
			p.Written += written
		}
		if o.Delete && len(page.Letters) > 0 {
			if err := safe.Sync(ctx); err != nil {
				return p, err
			}
			// From here the letters are safe: a crash before they are purged
			// leaves them in both places.
			purged, err := desk.Purge(ctx, destination, exactly(page.Letters), nil)
			p.Deleted += purged.Done
			if err != nil {
				return p, err
			}
		}
		if len(page.Letters) > 0 {
			p.Batches++
		}
		report(p)
		if page.Next == 0 {
			return p, safe.Sync(ctx)
		}
		after = page.Next
	}
}

// exactly selects letters as they were listed: one that has been replayed and
// has died again since is another letter under the same id.
func exactly(letters []Letter) Order {
	var f Filter
	for i := range letters {
		f.IDs = append(f.IDs, letters[i].ID)
		if until := letters[i].LastTry.Add(1); until.After(f.Until) {
			f.Until = until
		}
	}
	return Order{Filter: f}
}

type identity struct {
	id      string
	lastTry int64
}

func identify(l *Letter) identity {
	var lastTry int64
	if !l.LastTry.IsZero() {
		lastTry = l.LastTry.UnixNano()
	}
	return identity{id: l.ID, lastTry: lastTry}
}

// readBackup returns the letters in a file, and leaves it at the end of the
// last complete line.
func readBackup(file File) (map[identity]bool, error) {
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	known := map[identity]bool{}
	r := bufio.NewReaderSize(file, 1<<16)
	var size int64
	for number := 1; ; number++ {
		text, err := r.ReadBytes('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
		if err != nil {
			break // nothing, or the beginning of a line
		}
		l, err := ParseLine(text)
		if err != nil {
			return nil, fmt.Errorf("line %d of the file: %w", number, err)
		}
		known[identify(&l)] = true
		size += int64(len(text))
	}
	if err := file.Truncate(size); err != nil {
		return nil, err
	}
	_, err := file.Seek(size, io.SeekStart)
	return known, err
}
