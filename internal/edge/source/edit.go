package source

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/eventsluice/sluice/internal/document"
)

// ChangeFile replaces the document in a file by what change makes of it. A file
// that does not exist is an empty document. The file is replaced whole: a
// reader, or a crash, finds the old document or the new one. Two that change it
// at the same moment may lose one of the two changes.
func ChangeFile(path string, change func(doc []byte) ([]byte, error)) error {
	doc, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	changed, err := change(doc)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return document.WriteFile(path, changed)
}

// Revoke returns the document with a key disabled, and every other byte as it
// was. A key that is disabled already is no error.
func Revoke(document []byte, id string) ([]byte, error) {
	_, at, err := find(document, id)
	if err != nil {
		return nil, err
	}
	changed := at.set(document, "disabled", []byte("true"), "")
	return changed, check(changed, id, func(k *Key) bool { return k.Disabled })
}

// Rotate returns the document with a key's value replaced by the one with this
// hash, and every other byte as it was but for the older values: the one that
// is replaced works until now plus overlap, and those that have ended leave. A
// key that is not active cannot be rotated, nor one of kind token.
func Rotate(document []byte, id, hash string, overlap time.Duration, now time.Time) ([]byte, error) {
	key, at, err := find(document, id)
	switch {
	case err != nil:
		return nil, err
	case key.Kind == Token:
		return nil, fmt.Errorf("key %q is of kind token and has no value: its issuer rotates", id)
	case key.State(now) != Active:
		return nil, fmt.Errorf("key %q is %s", id, key.State(now))
	}
	older := []Previous{}
	if overlap > 0 {
		older = append(older, Previous{SHA256: key.SHA256, ExpiresAt: now.Add(overlap).UTC().Truncate(time.Second)})
	}
	for _, p := range key.Previous {
		if now.Before(p.ExpiresAt) {
			older = append(older, p)
		}
	}
	changed := at.set(document, "sha256", []byte(`"`+hash+`"`), "")
	if len(older)+len(key.Previous) > 0 {
		list, err := json.Marshal(older)
		if err != nil {
			return nil, err
		}
		if _, at, err = find(changed, id); err != nil {
			return nil, fmt.Errorf("with the new value: %w", err)
		}
		changed = at.set(changed, "previous", list, "sha256")
	}
	return changed, check(changed, id, func(k *Key) bool {
		return k.SHA256 == strings.ToLower(hash) && len(k.Previous) == len(older)
	})
}

// check makes sure that a change of the text is the change that was meant.
func check(changed []byte, id string, meant func(*Key) bool) error {
	keys, err := Parse(changed, nil)
	if err != nil {
		return fmt.Errorf("after the change: %w", err)
	}
	for _, k := range keys.list {
		if k.ID == id && meant(k) {
			return nil
		}
	}
	return fmt.Errorf("key %q cannot be changed in this document; change it by hand", id)
}

// span is a part of the document.
type span struct{ from, to int }

// place is where a key stands in the document.
type place struct {
	members map[string]span // their values; of two with one name the last, which counts
	end     int             // the closing brace
}

// find returns a key of a document and where it stands.
func find(document []byte, id string) (*Key, place, error) {
	keys, err := Parse(document, nil)
	if err != nil {
		return nil, place{}, err
	}
	i := slices.IndexFunc(keys.list, func(k *Key) bool { return k.ID == id })
	if i < 0 {
		return nil, place{}, fmt.Errorf("there is no key %q", id)
	}
	places, err := locate(document)
	if err != nil || i >= len(places) {
		return nil, place{}, errors.Join(fmt.Errorf("key %q cannot be found in the text", id), err)
	}
	return keys.list[i], places[i], nil
}

// locate returns where the keys of a document stand. The document must be one.
func locate(document []byte) (places []place, err error) {
	d := json.NewDecoder(bytes.NewReader(document))
	// value reads the next value and returns where it stands.
	value := func() (raw json.RawMessage, s span, err error) {
		err = d.Decode(&raw)
		end := int(d.InputOffset())
		return raw, span{end - len(raw), end}, err
	}
	if _, err := d.Token(); err != nil { // the brace of the document
		return nil, err
	}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return nil, err
		}
		raw, keys, err := value()
		if err != nil {
			return nil, err
		}
		if name != "keys" {
			continue
		}
		if places, err = locateKeys(raw, keys.from); err != nil {
			return nil, err
		}
	}
	return places, nil
}

// locateKeys returns where the keys of a list stand, which begins at offset.
func locateKeys(list []byte, offset int) (places []place, err error) {
	d := json.NewDecoder(bytes.NewReader(list))
	if _, err := d.Token(); err != nil { // the bracket
		return nil, err
	}
	for d.More() {
		if _, err := d.Token(); err != nil { // the brace of a key
			return nil, err
		}
		p := place{members: map[string]span{}}
		for d.More() {
			name, err := d.Token()
			if err != nil {
				return nil, err
			}
			var raw json.RawMessage
			if err := d.Decode(&raw); err != nil {
				return nil, err
			}
			end := offset + int(d.InputOffset())
			p.members[name.(string)] = span{end - len(raw), end}
		}
		if _, err := d.Token(); err != nil {
			return nil, err
		}
		p.end = offset + int(d.InputOffset()) - 1
		places = append(places, p)
	}
	return places, nil
}

// set returns the document with a member of the key set to a value. One that is
// not there is put behind the member after, or at the end of the key.
func (p place) set(document []byte, name string, value []byte, after string) []byte {
	if at, ok := p.members[name]; ok {
		return slices.Concat(document[:at.from], value, document[at.to:])
	}
	at := len(bytes.TrimRight(document[:p.end], " \t\r\n"))
	if m, ok := p.members[after]; ok {
		at = m.to
	}
	return slices.Concat(document[:at], []byte(`,"`+name+`":`), value, document[at:])
}
