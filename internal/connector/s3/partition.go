package s3

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"time"

	"github.com/eventsluice/sluice/internal/event"
)

// undated is the value of a partition for events without a time that can be
// read, as Hive calls it.
const undated = "__HIVE_DEFAULT_PARTITION__"

// partitioner says in which partition an event is. It remembers the last one,
// for most events that stand side by side are in the same.
type partitioner struct {
	byDay, byEvent bool

	hour, path  string
	escapedFrom string
	escaped     string
}

// pathOf returns the partition of an event, such as "dt=2026-11-23/hh=10/".
func (p *partitioner) pathOf(e *event.Event) string {
	hour := hourOf(e.ReceivedAt)
	if p.path == "" || hour != p.hour {
		p.hour, p.path = hour, p.timePath(hour)
	}
	if !p.byEvent {
		return p.path
	}
	if p.escaped == "" || e.Name != p.escapedFrom {
		p.escapedFrom, p.escaped = e.Name, escape(e.Name)
	}
	return "event=" + p.escaped + "/" + p.path
}

func (p *partitioner) timePath(hour string) string {
	date, hh := undated, undated
	if hour != "" {
		date, hh = hour[:len(time.DateOnly)], hour[len(time.DateOnly)+1:]
	}
	if p.byDay {
		return "dt=" + date + "/"
	}
	return "dt=" + date + "/hh=" + hh + "/"
}

// hourOf returns the hour of a time in UTC, such as "2026-11-23T10", "" if it is
// no time by RFC 3339, or one that years of four digits do not have.
func hourOf(text string) string {
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return ""
	}
	const layout = "2006-01-02T15"
	if strings.HasSuffix(text, "Z") {
		return text[:len(layout)] // as it stands: the gateway's times are in UTC
	}
	t = t.UTC()
	if y := t.Year(); y < 0 || y > 9999 {
		return ""
	}
	return t.Format(layout)
}

// maxEscaped bounds the name of an event in a key, so that the key has at most
// 1024 bytes.
const maxEscaped = 200

// escape returns the name of an event as the value of a partition. Letters,
// digits and the marks that neither S3, Hive nor a URL gives a meaning to stand
// for themselves; other bytes are %XX, as Hive writes them. A name that is too
// long is cut and ends in a digest of the whole.
func escape(name string) string {
	const hexDigits = "0123456789ABCDEF"
	if name == "" {
		return undated
	}
	var b strings.Builder
	for i := 0; i < len(name); i++ {
		c := name[i]
		if c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'z' || c == '_' || c == '-' || c == '.' {
			b.WriteByte(c)
		} else {
			b.WriteByte('%')
			b.WriteByte(hexDigits[c>>4])
			b.WriteByte(hexDigits[c&15])
		}
	}
	if b.Len() <= maxEscaped {
		return b.String()
	}
	sum := sha256.Sum256([]byte(name))
	digest := "~" + hex.EncodeToString(sum[:8])
	cut := b.String()[:maxEscaped-len(digest)]
	if i := strings.LastIndexByte(cut, '%'); i > len(cut)-3 {
		cut = cut[:i] // not in the middle of %XX
	}
	return cut + digest
}
