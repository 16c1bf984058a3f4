package schema

import (
	"bytes"
	"math/bits"
	"strconv"
)

// decimal is a number of JSON, exactly: 0.d1d2d3… × 10^exp. Its digits begin and
// end with one that is not zero; zero has none.
type decimal struct {
	digits []byte // '0' to '9'
	exp    int
	neg    bool
}

const (
	// longNumber is the most bytes of a number that are taken as they are. One
	// that is longer is rounded to a 64-bit float first, as every reader of the
	// event does: a million digits must not cost a million times as much.
	longNumber = 400
	// nearZero is the power of ten below which a number is zero, to us as to
	// all that read 64-bit floats (the smallest is 4.9e-324).
	nearZero = -400
	// farExponent bounds exponents while they are being read.
	farExponent = 1 << 20
)

// rounded returns the text of a number that is worked with. It is text, unless
// that is too long.
func rounded(text []byte) []byte {
	if len(text) <= longNumber {
		return text
	}
	f, _ := strconv.ParseFloat(view(text), 64) // what is out of range is ±Inf, which no event has
	return strconv.AppendFloat(nil, f, 'g', -1, 64)
}

// parseDecimal reads a number of correct grammar; the digits are appended to
// buf.
func parseDecimal(buf, text []byte) decimal {
	text = rounded(text)
	var d decimal
	if len(text) > 0 && text[0] == '-' {
		d.neg, text = true, text[1:]
	}
	start, point := len(buf), -1
	i := 0
	for ; i < len(text); i++ {
		c := text[i]
		if c == '.' {
			point = len(buf) - start
			continue
		}
		if c < '0' || c > '9' {
			break
		}
		buf = append(buf, c)
	}
	if point < 0 {
		point = len(buf) - start
	}
	d.exp = point + exponent(text[i:])
	d.digits = buf[start:]
	for len(d.digits) > 0 && d.digits[0] == '0' {
		d.digits, d.exp = d.digits[1:], d.exp-1
	}
	d.digits = bytes.TrimRight(d.digits, "0")
	if len(d.digits) == 0 || d.exp < nearZero {
		return decimal{}
	}
	return d
}

// exponent reads what follows the digits of a number: nothing, or e and a
// whole number.
func exponent(text []byte) int {
	if len(text) < 2 {
		return 0
	}
	text = text[1:]
	neg := text[0] == '-'
	n := 0
	for _, c := range bytes.TrimLeft(text, "+-") {
		n = min(n*10+int(c-'0'), farExponent)
	}
	if neg {
		return -n
	}
	return n
}

// isInteger reports whether d has no fraction.
func (d decimal) isInteger() bool { return len(d.digits) == 0 || len(d.digits) <= d.exp }

// cmp is -1, 0 or 1 if d is less than, equal to or more than o.
func (d decimal) cmp(o decimal) int {
	switch {
	case len(d.digits) == 0 && len(o.digits) == 0:
		return 0
	case len(d.digits) == 0:
		return o.sign(-1)
	case len(o.digits) == 0:
		return d.sign(1)
	case d.neg != o.neg:
		return d.sign(1)
	case d.exp != o.exp:
		if d.exp < o.exp {
			return d.sign(-1)
		}
		return d.sign(1)
	}
	return d.sign(bytes.Compare(d.digits, o.digits))
}

// sign returns n, or -n if d is negative.
func (d decimal) sign(n int) int {
	if d.neg {
		return -n
	}
	return n
}

func (d decimal) equal(o decimal) bool {
	return d.neg == o.neg && d.exp == o.exp && bytes.Equal(d.digits, o.digits)
}

// divisor is the value of multipleOf: coef × 10^exp, where coef does not end
// with a zero.
type divisor struct {
	coef uint64
	exp  int
}

// asDivisor returns d as a divisor; ok is false if it has too many digits.
func (d decimal) asDivisor() (divisor, bool) {
	coef, err := strconv.ParseUint(view(d.digits), 10, 64)
	return divisor{coef: coef, exp: d.exp - len(d.digits)}, err == nil && coef > 0
}

// divides reports whether d is a whole number of times m.
//
// The digits of d as a whole number n do not end with a zero, and d is
// n × 10^e. If e is less than the exponent of m, n would have to be divisible
// by ten; otherwise n × 10^(e - m.exp) has to be divisible by m.coef.
func (m divisor) divides(d decimal) bool {
	if len(d.digits) == 0 {
		return true
	}
	e := d.exp - len(d.digits) - m.exp
	if e < 0 {
		return false
	}
	var rest uint64
	for _, c := range d.digits {
		rest = m.timesTen(rest, uint64(c-'0'))
	}
	for ; e > 0 && rest != 0; e-- {
		rest = m.timesTen(rest, 0)
	}
	return rest == 0
}

// timesTen returns (rest × 10 + digit) modulo m.coef.
func (m divisor) timesTen(rest, digit uint64) uint64 {
	hi, lo := bits.Mul64(rest, 10)
	lo, carry := bits.Add64(lo, digit, 0)
	return bits.Rem64(hi+carry, lo, m.coef)
}

// small reads a whole number of up to 18 digits without exponent or fraction,
// which most numbers are.
func small(text []byte) (n int64, ok bool) {
	digits := text
	if len(digits) > 0 && digits[0] == '-' {
		digits = digits[1:]
	}
	if len(digits) == 0 || len(digits) > 18 {
		return 0, false
	}
	for _, c := range digits {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int64(c-'0')
	}
	if len(digits) != len(text) {
		n = -n
	}
	return n, true
}
