package deadletter

import (
	"slices"
	"strings"
)

// Match reports whether the filter selects a letter.
func (f *Filter) Match(l *Letter) bool {
	switch {
	case f.Class != "" && f.Class != l.Class,
		f.EventID != "" && f.EventID != l.EventID,
		f.EventName != "" && !matchName(f.EventName, l.EventName),
		!f.Since.IsZero() && l.LastTry.Before(f.Since),
		!f.Until.IsZero() && !l.LastTry.Before(f.Until),
		len(f.IDs) > 0 && !slices.Contains(f.IDs, l.ID):
		return false
	}
	return true
}

func matchName(pattern, name string) bool {
	if prefix, ok := strings.CutSuffix(pattern, "*"); ok {
		return strings.HasPrefix(name, prefix)
	}
	return pattern == name
}

// IsZero reports whether the filter selects everything.
func (f *Filter) IsZero() bool {
	return f.Class == "" && f.EventName == "" && f.EventID == "" && f.Since.IsZero() && f.Until.IsZero() && len(f.IDs) == 0
}
