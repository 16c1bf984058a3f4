package event

// traceparentSize is the length of a traceparent: version, trace id, span id
// and flags in hexadecimal digits, with a dash between.
//
//	00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01
const traceparentSize = 55

// IsTraceparent reports whether s is a traceparent of version 00. Source: W3C
// Trace Context, section 3.2.
func IsTraceparent(s string) bool {
	if len(s) != traceparentSize || s[:3] != "00-" || s[35] != '-' || s[52] != '-' {
		return false
	}
	return isHexID(s[3:35]) && isHexID(s[36:52]) && isHex(s[53:])
}

// isHexID reports whether s is hexadecimal in lower case and not all zeros.
func isHexID(s string) bool {
	for i := range len(s) {
		if s[i] != '0' {
			return isHex(s[i:])
		}
	}
	return false
}

func isHex(s string) bool {
	for i := range len(s) {
		if c := s[i]; !(c >= '0' && c <= '9' || c >= 'a' && c <= 'f') {
			return false
		}
	}
	return true
}

// traceparent reports whether a traceparent begins at i, in quotes and without
// escapes.
func (s *scanner) traceparent(i int) bool {
	end := i + traceparentSize + 1
	return s.at(i) == '"' && s.at(end) == '"' && IsTraceparent(text(s.b[i+1:end]))
}
