package event

import "bytes"

// spliceExtra appends context with the unknown members in extra under its
// member "extra". If the sender's context has an extra of its own, nothing of
// either may be lost:
//
//   - an object with none of the names in extra takes the members in, behind
//     its own;
//   - otherwise (not an object, or a name stands in both) it stays as it is
//     and the members go under "extra_", or, if the context has that as well,
//     under extra with one underscore more than any member of that kind.
//
// All other bytes of the context stay as they are. Context is a valid object
// or empty, and extra valid members with different names.
func spliceExtra(dst, context, extra []byte) []byte {
	if context = bytes.TrimSpace(context); len(context) == 0 {
		return append(append(append(dst, `{"extra":{`...), extra...), "}}"...)
	}
	s := borrow(context)
	defer s.giveBack()
	var (
		own         span // the sender's extra
		empty       = true
		underscores = 0 // of the longest of extra, extra_, extra__, …
	)
	s.members(func(name []byte, value span) bool {
		empty = false
		if rest, ok := bytes.CutPrefix(name, []byte("extra")); ok && len(bytes.Trim(rest, "_")) == 0 {
			underscores = max(underscores, len(rest))
			if len(rest) == 0 {
				own = value
			}
		}
		return true
	})
	last := len(context) - 1 // the closing brace
	if own.end > 0 {
		if s.at(own.start) == '{' {
			if merged, ok := s.merge(dst, own, extra); ok {
				return merged
			}
		}
		underscores++
	}
	dst = append(dst, context[:last]...)
	if !empty {
		dst = append(dst, ',')
	}
	dst = append(dst, `"extra`...)
	if own.end > 0 {
		dst = append(dst, bytes.Repeat([]byte{'_'}, underscores)...)
	}
	dst = append(append(append(dst, `":{`...), extra...), '}')
	return append(dst, context[last:]...)
}

// merge appends s.b with extra at the end of its object own. It returns false
// if a name would stand twice in there.
func (s *scanner) merge(dst []byte, own span, extra []byte) ([]byte, bool) {
	context, before := s.b, len(dst)
	brace := own.end - 1
	dst = append(dst, context[:brace]...)
	if _, c := s.token(own.start + 1); c != '}' {
		dst = append(dst, ',')
	}
	dst = append(append(dst, extra...), '}')
	s.b = dst[before+own.start:]
	end, _ := s.members(func([]byte, span) bool { return true })
	s.b = context
	return append(dst, context[own.end:]...), end >= 0
}
