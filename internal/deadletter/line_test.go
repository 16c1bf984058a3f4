package deadletter_test

import (
	"bytes"
	"encoding/json"
	"reflect"
	"testing"
	"time"

	"github.com/eventsluice/sluice/internal/deadletter"
)

func full() deadletter.Letter {
	return deadletter.Letter{
		ID: "17.0.2", Destination: "crm", EventID: "e1", EventName: "order <paid> & done",
		PartitionKey: "u1", Position: 17, Attempts: 4, FirstSeen: died, LastTry: died.Add(time.Minute), NotBefore: died.Add(time.Hour),
		Class: "permanent", Code: "E7", Message: "line one\nline two \u2028", Status: 422,
		Request: "POST / <body>", Response: `{"error":"no"}`, Rule: "rules[2] crm", Connector: "webhook@1", Source: "web",
	}
}

func TestALetterComesBackFromItsLine(t *testing.T) {
	t.Parallel()
	for name, body := range map[string]struct {
		event string
		raw   []byte
		want  string // of the event, if it is not the same
	}{
		"bytes that an encoder would change": {event: `{"id": "e1" ,"data":{"total": 1.50e+00,"big":12345678901234567890,"text":"<&>\u00e9 \u2028"},"data":{}}`},
		"an object over several lines":       {event: "{\"id\":\n \"a\\nb\",\r\n\"data\":{ }}", want: `{"id":"a\nb","data":{}}`},
		"bytes that are no event":            {raw: []byte("\x00\xff not\nJSON \"")},
		"no bytes at all":                    {raw: []byte{}},
	} {
		l := full()
		l.Event, l.Raw = json.RawMessage(body.event), body.raw
		if body.event == "" {
			l.Event = nil
		}
		text, err := deadletter.AppendLine([]byte("before\n"), l)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		text, ok := bytes.CutPrefix(text, []byte("before\n"))
		if !ok || bytes.IndexByte(text, '\n') != len(text)-1 {
			t.Errorf("%s: not one line: %q", name, text)
		}
		if body.want != "" {
			l.Event = json.RawMessage(body.want)
		}
		got, err := deadletter.ParseLine(text)
		if err != nil || !reflect.DeepEqual(got, l) {
			t.Errorf("%s: %v\n got %+v\nwant %+v", name, err, got, l)
		}
	}
}

func TestALineIsWhatTheFormatSays(t *testing.T) {
	t.Parallel()
	l := deadletter.Letter{ID: "1.0.0", Destination: "crm", Event: json.RawMessage(`{"id":"e1"}`), Attempts: 1, Class: "permanent", Position: 1}
	const wantEvent = `{"attributes":{"id":"1.0.0","destination":"crm","position":1,"attempts":1,"class":"permanent"},"body":{"id":"e1"}}` + "\n"
	if got, err := deadletter.AppendLine(nil, l); err != nil || string(got) != wantEvent {
		t.Errorf("%v\n got %s\nwant %s", err, got, wantEvent)
	}
	l.Event, l.Raw = nil, []byte("\xff\xfe")
	const wantRaw = `{"attributes":{"id":"1.0.0","destination":"crm","position":1,"attempts":1,"class":"permanent","encoding":"base64"},"body":"//4="}` + "\n"
	if got, err := deadletter.AppendLine(nil, l); err != nil || string(got) != wantRaw {
		t.Errorf("%v\n got %s\nwant %s", err, got, wantRaw)
	}
}

func TestWhatIsNoLineIsRefused(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"nothing":             ``,
		"half a line":         `{"attributes":{"id":"1.0.0"},"bo`,
		"no body":             `{"attributes":{"id":"1.0.0"}}`,
		"an unknown encoding": `{"attributes":{"encoding":"rot13"},"body":"x"}`,
		"base64 that is none": `{"attributes":{"encoding":"base64"},"body":"***"}`,
		"raw that is no text": `{"attributes":{"encoding":"base64"},"body":{}}`,
		"a list":              `[]`,
		"two lines":           `{"attributes":{},"body":{}}` + "\n" + `{"attributes":{},"body":{}}`,
	} {
		if l, err := deadletter.ParseLine([]byte(text)); err == nil {
			t.Errorf("%s: taken as %+v", name, l)
		}
	}
}

// FuzzParseLine: what is taken as a line can be written as one again, and is
// the same letter then.
func FuzzParseLine(f *testing.F) {
	for _, text := range []string{
		`{"attributes":{"id":"1.0.0","destination":"crm","attempts":1,"class":"permanent"},"body":{"id":"e1"}}`,
		`{"attributes":{"id":"1.0.0","encoding":"base64","class":"permanent"},"body":"//4="}`,
		`{"attributes":{"last_try":"2026-11-23T10:00:00.000000001+05:30","event":{"a":1},"raw":"AAAA"},"body":[1, 2]}`,
		`{"attributes":{},"body":null}`, `{"attributes":{"encoding":"base64"},"body":""}`, `{"body":"\ud800"}`, `{`, ``,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		l, err := deadletter.ParseLine(text)
		if err != nil {
			return
		}
		line, err := deadletter.AppendLine(nil, l)
		if err != nil {
			t.Fatalf("%+v cannot be written: %v", l, err)
		}
		if bytes.IndexByte(line, '\n') != len(line)-1 {
			t.Fatalf("not one line: %q", line)
		}
		again, err := deadletter.ParseLine(line)
		if err != nil {
			t.Fatalf("%s cannot be read: %v", line, err)
		}
		second, err := deadletter.AppendLine(nil, again)
		if err != nil || !bytes.Equal(line, second) {
			t.Fatalf("%v\nfirst  %s\nsecond %s", err, line, second)
		}
		if bytes.IndexByte(l.Event, '\n') < 0 && !bytes.Equal(l.Event, again.Event) || !bytes.Equal(l.Raw, again.Raw) {
			t.Fatalf("the event %q (%q) became %q (%q)", l.Event, l.Raw, again.Event, again.Raw)
		}
	})
}
