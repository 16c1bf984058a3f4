package app

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/eventsluice/sluice/internal/document"
	"github.com/eventsluice/sluice/internal/edge/source"
	"github.com/eventsluice/sluice/internal/schema"
)

// The names of what a first run leaves in the data folder, besides the
// documents that Settings names.
const (
	// writeKeyFile holds the write key of the first run in clear, so that
	// later starts can show it too. It is public by nature: pages and apps
	// carry it. The secret key is printed once and kept nowhere.
	writeKeyFile  = "write.key"
	warehouseName = "warehouse"
)

const firstRules = `[
  {
    "destination_name": "` + warehouseName + `",
    "enabled_events": ["*"]
  }
]
`

const firstDestinations = `[
  {
    "destination_name": "` + warehouseName + `",
    "connector": "sqlite"
  }
]
`

// firstRun is what the first run made; its fields are empty where the files
// were there already.
type firstRun struct {
	writeKey  string // of this run or an earlier one; "" if it is not known
	secretKey string // only at the run that made it
}

// prepare makes the data folder and the documents that are not there yet. It
// overwrites nothing, and a crash in between leaves nothing half written: the
// next start goes on where this one ended.
func prepare(s Settings) (firstRun, error) {
	var made firstRun
	if err := os.MkdirAll(s.DataDir, 0o700); err != nil {
		return made, fmt.Errorf("SLUICE_DATA_DIR=%q: %w", s.DataDir, err)
	}
	for name, content := range map[string]string{s.Rules: firstRules, s.Destinations: firstDestinations, s.Schemas: schema.Empty} {
		if err := createDocument(name, content, s.DataDir); err != nil {
			return made, err
		}
	}
	keyFile := filepath.Join(s.DataDir, writeKeyFile)
	err := exists(s.Keys)
	switch {
	case err == nil:
		known, err := os.ReadFile(keyFile)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return made, err
		}
		if key := strings.TrimSpace(string(known)); works(s.Keys, key) {
			made.writeKey = key
		}
		return made, nil
	case !errors.Is(err, fs.ErrNotExist) || !inside(s.Keys, s.DataDir):
		return made, fmt.Errorf("SLUICE_KEYS=%q: %w", s.Keys, err)
	}

	writeEntry, writeKey := source.New("web", source.Write, time.Time{})
	secretEntry, secretKey := source.New("backend", source.Secret, time.Time{})
	if err := document.WriteFile(keyFile, []byte(writeKey+"\n")); err != nil {
		return made, err
	}
	// The document appears whole, with both keys: it is what says that the
	// first run is over.
	next := s.Keys + ".next"
	if err := os.Remove(next); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return made, err
	}
	for _, entry := range []source.Key{writeEntry, secretEntry} {
		if err := source.AddToFile(next, entry); err != nil {
			return made, err
		}
	}
	if err := os.Rename(next, s.Keys); err != nil {
		return made, err
	}
	return firstRun{writeKey: writeKey, secretKey: secretKey}, nil
}

// works reports whether a key is one of the document in a file, and in force: it
// may have been rotated or revoked. Where that cannot be known it is.
func works(name, key string) bool {
	if isObject(name) {
		return true
	}
	doc, err := os.ReadFile(name)
	if err != nil {
		return true
	}
	keys, err := source.Parse(doc, nil)
	if err != nil {
		return true // the start ends with what is wrong with it
	}
	k := keys.Find([]byte(key))
	return k != nil && k.State(time.Now()) == source.Active
}

// createDocument writes a document that is not there, if its place is in the
// data folder; elsewhere it is the operator's to provide.
func createDocument(name, content, dataDir string) error {
	err := exists(name)
	if err == nil {
		return nil
	}
	if !errors.Is(err, fs.ErrNotExist) || !inside(name, dataDir) {
		return fmt.Errorf("document %q: %w", name, err)
	}
	return document.WriteFile(name, []byte(content))
}

func inside(name, dir string) bool {
	rel, err := filepath.Rel(dir, name)
	return err == nil && filepath.IsLocal(rel)
}
