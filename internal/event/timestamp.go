package event

// IsTimestamp reports whether s is a time as events may carry it, by RFC 3339.
func IsTimestamp(s string) bool { return isTimestamp([]byte(s)) }

// isTimestamp reports whether s is a time by RFC 3339, with any number of
// digits of a second, of a day that exists. Capital T and Z are needed and
// there are no leap seconds: what it accepts, time.Time.UnmarshalText reads.
func isTimestamp(s []byte) bool {
	if len(s) < len("2006-01-02T15:04:05Z") ||
		s[4] != '-' || s[7] != '-' || s[10] != 'T' || s[13] != ':' || s[16] != ':' {
		return false
	}
	year, month, day := twoDigits(s, 0)*100+twoDigits(s, 2), twoDigits(s, 5), twoDigits(s, 8)
	hour, minute, second := twoDigits(s, 11), twoDigits(s, 14), twoDigits(s, 17)
	// A part that is no number is negative: at least -1 × 100 + 99.
	if twoDigits(s, 0) < 0 || twoDigits(s, 2) < 0 || month < 1 || month > 12 || day < 1 || day > daysIn(month, year) ||
		hour < 0 || hour > 23 || minute < 0 || minute > 59 || second < 0 || second > 59 {
		return false
	}
	s = s[19:]
	if s[0] == '.' {
		n := 1
		for n < len(s) && isDigit(s[n]) {
			n++
		}
		if n == 1 || n == len(s) {
			return false
		}
		s = s[n:]
	}
	if len(s) == 1 {
		return s[0] == 'Z'
	}
	if len(s) != len("+01:00") || s[0] != '+' && s[0] != '-' || s[3] != ':' {
		return false
	}
	hour, minute = twoDigits(s, 1), twoDigits(s, 4)
	return hour >= 0 && hour <= 23 && minute >= 0 && minute <= 59
}

// twoDigits returns the number in s[i:i+2], -1 if it is none.
func twoDigits(s []byte, i int) int {
	if !isDigit(s[i]) || !isDigit(s[i+1]) {
		return -1
	}
	return int(s[i]-'0')*10 + int(s[i+1]-'0')
}

func daysIn(month, year int) int {
	switch month {
	case 4, 6, 9, 11:
		return 30
	case 2:
		if year%4 == 0 && (year%100 != 0 || year%400 == 0) {
			return 29
		}
		return 28
	}
	return 31
}
