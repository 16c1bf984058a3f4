package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/eventsluice/sluice/internal/document"
	"github.com/eventsluice/sluice/internal/edge/limit"
	"github.com/eventsluice/sluice/internal/edge/source"
)

// NewKey is what `sluice keys new` asks for.
type NewKey struct {
	ID      string
	Kind    string
	Source  string
	Origins []string
	Events  []string
	IPs     []string
	Rate    float64
	Burst   int
	// UserRate and EventRate are events a second of each user, and of each name.
	UserRate, EventRate float64
	Expires             time.Duration // zero: never
	// Value is a key that somebody has already; "" makes a new one.
	Value string
	// Signature is where the secret of signatures is, or NewSecret; "" for none.
	Signature string
	Tolerance string
	Modes     map[string]string
	// Token is the id of the key whose tokens must come along.
	Token string
	// Issuer, Audience, JWKS and UserClaim are of kind token.
	Issuer, JWKS, UserClaim string
	Audience                []string
}

// NewSecret as NewKey.Signature makes a new secret and prints it.
const NewSecret = "new"

// CheckUse finds out whether the request makes sense; the document decides
// about the rest.
func (n NewKey) CheckUse() error {
	kind := source.Kind(n.Kind)
	switch {
	case n.ID == "":
		return errors.New("--id is required: it names the key in logs and metrics")
	case kind != source.Write && kind != source.Secret && kind != source.Token:
		return fmt.Errorf("--kind %q: right would be write, secret or token", n.Kind)
	case n.Value != "" && kind != source.Write:
		// A secret that stood on a command line is in the shell's history.
		return errors.New("--value is for write keys, which are public: leave it out, and a new key is made")
	case n.Value != "":
		if err := source.CheckValue(n.Value); err != nil {
			return fmt.Errorf("--value: %w", err)
		}
	}
	return nil
}

// AddKey makes a key, adds its hash to the keys document, and prints the key,
// which nobody can find out again. A key of kind token has none to print.
func AddKey(ctx context.Context, s Settings, n NewKey, out io.Writer) error {
	var expires time.Time
	if n.Expires > 0 {
		expires = time.Now().Add(n.Expires).UTC().Truncate(time.Second)
	}
	entry, key := source.New(n.ID, source.Kind(n.Kind), expires)
	if n.Value != "" {
		key, entry.SHA256 = n.Value, source.Hash(n.Value)
	}
	entry.Source, entry.Origins, entry.Events, entry.IPs, entry.Modes = n.Source, n.Origins, n.Events, n.IPs, n.Modes
	entry.Token, entry.Issuer, entry.Audience, entry.JWKS, entry.UserClaim = n.Token, n.Issuer, n.Audience, n.JWKS, n.UserClaim
	if n.Rate > 0 {
		entry.Rate = &limit.Rate{PerSecond: n.Rate, Burst: n.Burst}
	}
	if n.UserRate > 0 {
		entry.UserRate = &limit.Rate{PerSecond: n.UserRate}
	}
	if n.EventRate > 0 {
		entry.EventRate = &limit.Rate{PerSecond: n.EventRate}
	}
	shown := []string{key}
	if n.Signature != "" {
		secret := source.SecretRef(n.Signature)
		if n.Signature == NewSecret {
			secret = source.NewSecret()
			shown = append(shown, string(secret))
		}
		entry.Signature = &source.Signature{Secret: source.Secrets{secret}, Tolerance: n.Tolerance}
	}
	if !isObject(s.Keys) {
		if err := os.MkdirAll(filepath.Dir(s.Keys), 0o700); err != nil {
			return err
		}
	}
	err := changeKeys(ctx, s.Keys, func(document []byte) ([]byte, error) { return source.Add(document, entry) })
	if err != nil {
		return err
	}
	for _, line := range shown {
		if line == "" {
			line = "key " + n.ID + " added: tokens of " + n.Issuer + " stand for it"
		}
		if _, err := fmt.Fprintln(out, line); err != nil {
			return err
		}
	}
	return nil
}

// RevokeKey disables a key. Running gateways refuse it once they have read the
// document.
func RevokeKey(ctx context.Context, s Settings, id string, out io.Writer) error {
	err := changeKeys(ctx, s.Keys, func(document []byte) ([]byte, error) {
		if len(document) == 0 {
			return nil, noKeys(s)
		}
		return source.Revoke(document, id)
	})
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "key %s is disabled; running gateways know in %s\n", id, interval(s.Keys))
	return err
}

// RotateKey gives a key a new value, which it prints once. The value that is
// replaced works for overlap.
func RotateKey(ctx context.Context, s Settings, id string, overlap time.Duration, out, errs io.Writer) error {
	var value, replaced string
	now := time.Now()
	err := changeKeys(ctx, s.Keys, func(document []byte) ([]byte, error) {
		if len(document) == 0 {
			return nil, noKeys(s)
		}
		keys, err := source.Parse(document, nil)
		if err != nil {
			return nil, err
		}
		for _, k := range keys.List() {
			if k.ID == id {
				value, replaced = source.Generate(k.Kind), k.SHA256
			}
		}
		return source.Rotate(document, id, source.Hash(value), overlap, now)
	})
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintln(out, value); err != nil {
		return err
	}
	until := "ended just now"
	if overlap > 0 {
		until = "works until " + now.Add(overlap).UTC().Format(time.RFC3339)
	}
	fmt.Fprintf(errs, "the value that was replaced %s; running gateways know in %s\n", until, interval(s.Keys))
	return keepWriteKey(s, replaced, value)
}

// keepWriteKey puts the new value of the first run's write key, which stands in
// clear in the data folder, where the old one was.
func keepWriteKey(s Settings, replaced, value string) error {
	name := filepath.Join(s.DataDir, writeKeyFile)
	known, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) || err == nil && source.Hash(strings.TrimSpace(string(known))) != replaced {
		return nil
	}
	if err != nil {
		return err
	}
	return document.WriteFile(name, []byte(value+"\n"))
}

func noKeys(s Settings) error {
	return fmt.Errorf("no keys document at %s: `sluice up` or `sluice keys new` makes one", s.Keys)
}

// ListKeys prints the keys document without anything secret.
func ListKeys(ctx context.Context, s Settings, out io.Writer) error {
	doc, err := ReadDocument(ctx, s.Keys)
	if errors.Is(err, fs.ErrNotExist) {
		return noKeys(s)
	}
	if err != nil {
		return err
	}
	keys, err := source.Parse(doc, nil)
	if err != nil {
		return fmt.Errorf("%s: %w", s.Keys, err)
	}
	now := time.Now()
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "ID\tKIND\tSOURCE\tSTATE\tEXPIRES\tROTATION\tORIGINS\tEVENTS\tRATE\tRESTRICTIONS")
	for _, k := range keys.List() {
		expires := "-"
		if k.ExpiresAt != nil {
			expires = k.ExpiresAt.UTC().Format(time.RFC3339)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", k.ID, k.Kind, k.Source, k.State(now), expires,
			rotation(k, now), list(k.Origins), list(k.Events), rates(k), restrictions(k))
	}
	return w.Flush()
}

// rates says how much may be sent with a key.
func rates(k *source.Key) string {
	var all []string
	for _, r := range []struct {
		of   string
		rate *limit.Rate
	}{{"", k.Rate}, {"address ", k.AddressRate}, {"user ", k.UserRate}, {"event ", k.EventRate}} {
		if r.rate == nil {
			continue
		}
		text := fmt.Sprintf("%s%g/s", r.of, r.rate.PerSecond)
		if r.rate.Burst > 0 {
			text += fmt.Sprintf(", burst %d", r.rate.Burst)
		}
		all = append(all, text)
	}
	if len(all) == 0 {
		return "-"
	}
	return strings.Join(all, "; ")
}

// rotation says how many older values of a key work, and until when the last
// of them does.
func rotation(k *source.Key, now time.Time) string {
	var last time.Time
	n := 0
	for _, p := range k.Previous {
		if now.Before(p.ExpiresAt) {
			if n++; p.ExpiresAt.After(last) {
				last = p.ExpiresAt
			}
		}
	}
	if n == 0 {
		return "-"
	}
	return fmt.Sprintf("%d older until %s", n, last.UTC().Format(time.RFC3339))
}

// restrictions says what else the key demands, and the modes that are not
// enforce.
func restrictions(k *source.Key) string {
	var all []string
	if len(k.IPs) > 0 {
		all = append(all, "ips="+strings.Join(k.IPs, ","))
	}
	if k.Signs() {
		all = append(all, "signed")
	}
	if k.Kind == source.Token {
		all = append(all, "issuer="+k.Issuer, "audience="+strings.Join(k.Audience, ","))
	}
	if k.Token != "" {
		all = append(all, "token="+k.Token)
	}
	for r := range source.Restrictions {
		if mode := k.Mode(r); mode != source.Enforce {
			all = append(all, fmt.Sprintf("%s:%s", r, mode))
		}
	}
	if len(all) == 0 {
		return "-"
	}
	return strings.Join(all, " ")
}

func list(values []string) string {
	if len(values) == 0 {
		return "any"
	}
	return strings.Join(values, ",")
}
