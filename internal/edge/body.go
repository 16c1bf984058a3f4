package edge

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

const (
	// firstRead is the room for a body of unknown size, and firstClaim the
	// most that a Content-Length alone gets: more is given as bytes arrive.
	firstRead  = 16 << 10
	firstClaim = 1 << 20
)

// What is taken of Config.MaxInFlight. It is what is really used, or a little
// more: many small requests, and small events, cost more than their bytes.
const (
	// perRequest is an exchange, a goroutine and the buffers of a connection.
	perRequest = 40 << 10
	// perEvents is taken for every eventStep events after the first: their
	// ids, places and fields that the sender did not send. perRejects is that
	// of rejected ones besides: reasons and letters.
	eventStep  = 64
	perEvents  = eventStep * 512
	perRejects = eventStep * 1024
)

// roomFor is what a body of n bytes takes: itself, and the events in their
// stored form, which is of about the same size.
func roomFor(n int64) int64 { return 2 * n }

// reserve takes bytes of the budget until the end of the request. A request
// that is alone gets them in any case: what the other limits allow must not be
// refused for ever.
func (x *exchange) reserve(n int64) bool {
	e := x.edge
	if total := e.inFlight.Add(n); total > e.cfg.MaxInFlight && total > x.reserved+n {
		e.inFlight.Add(-n)
		return false
	}
	x.reserved += n
	return true
}

func (e *Edge) release(n int64) {
	if n != 0 {
		e.inFlight.Add(-n)
	}
}

// setReadDeadline moves the deadline of the sender, which Server sets to
// BodyTimeout for every request: a sender that stalls is given up, also while
// the server reads the rest of a refused body to throw it away. Not every
// writer can move it (those of tests cannot), and then that must do.
func (x *exchange) setReadDeadline(t time.Time) {
	_ = http.NewResponseController(x.ResponseWriter).SetReadDeadline(t)
}

// readBody reads and decompresses the body into x.body, or answers why not.
// limit bounds it before and after decompression.
func (x *exchange) readBody(limit int64) bool {
	length := x.req.ContentLength
	if length > limit {
		return x.tooLarge(limit)
	}
	encoding, ok := contentEncoding(x.req.Header["Content-Encoding"])
	if !ok {
		x.Header()["Accept-Encoding"] = []string{"gzip, zstd"}
		return x.fail(codeUnknownEncoding, "Content-Encoding may be gzip or zstd, not "+clip(strings.Join(x.req.Header["Content-Encoding"], ", ")))
	}
	into := &x.body
	if encoding != identity {
		into = &x.wire
	}
	if !x.readWire(into, length, limit) {
		return false
	}
	switch encoding {
	case gzipped:
		return x.gunzip(limit)
	case zstandard:
		return x.unzstd(limit)
	}
	return true
}

func (x *exchange) tooLarge(limit int64) bool {
	// What is left of the body is not worth reading.
	x.Header()["Connection"] = closeIt
	return x.fail(codeBodyTooLarge, "the body may have "+bytesText(limit)+", before and after decompression")
}

func (x *exchange) overloaded() bool {
	// Free room comes with every answer, so a short wait is an honest one.
	return x.failAfter(codeOverloaded, "too many bytes are in flight; nothing of this request is stored", 2*time.Second)
}

// readWire reads the body as it was sent into *into.
func (x *exchange) readWire(into *[]byte, length, limit int64) bool {
	buf := (*into)[:0]
	defer func() { *into, x.wireSize = buf, int64(len(buf)) }()
	room := int64(firstRead)
	if length >= 0 {
		// One byte more, to see the end without growing.
		room = min(length, firstClaim) + 1
	}
	held := room
	if !x.reserve(perRequest + roomFor(held)) {
		return x.overloaded()
	}
	if int64(cap(buf)) < room {
		buf = make([]byte, 0, room)
	}
	deadline := x.start.Add(x.edge.cfg.BodyTimeout)
	for {
		if int64(len(buf)) > limit {
			return x.tooLarge(limit)
		}
		if int64(len(buf)) >= held || len(buf) == cap(buf) {
			more := min(held, limit+1-held)
			if !x.reserve(roomFor(more)) {
				return x.overloaded()
			}
			held += more
			if int64(cap(buf)) < held {
				buf = append(make([]byte, 0, held), buf...)
			}
		}
		n, err := x.req.Body.Read(buf[len(buf):min(int64(cap(buf)), held)])
		buf = buf[:len(buf)+n]
		switch {
		case err == io.EOF:
			if int64(len(buf)) > limit {
				return x.tooLarge(limit)
			}
			return true
		case errors.Is(err, os.ErrDeadlineExceeded):
			x.Header()["Connection"] = closeIt
			return x.fail(codeBodyTimeout, "the body did not arrive in time: "+bytesText(int64(len(buf)))+" came")
		case err != nil:
			x.Header()["Connection"] = closeIt
			return x.fail(codeIncompleteBody, "the body ended after "+bytesText(int64(len(buf))))
		}
		// What has come buys time, by whole seconds: moving a deadline costs.
		earned := time.Duration(int64(len(buf)) / x.edge.cfg.BodyRate * int64(time.Second))
		if next := x.start.Add(x.edge.cfg.BodyTimeout + earned); next.After(deadline) {
			deadline = next
			x.setReadDeadline(deadline)
		}
	}
}

// encoding is a content encoding that the gateway reads.
type encoding uint8

const (
	identity encoding = iota
	gzipped
	zstandard
)

func contentEncoding(header []string) (encoding, bool) {
	if len(header) == 0 {
		return identity, true
	}
	if len(header) > 1 {
		return identity, false
	}
	switch v := strings.TrimSpace(header[0]); {
	case v == "" || strings.EqualFold(v, "identity"):
		return identity, true
	case strings.EqualFold(v, "gzip") || strings.EqualFold(v, "x-gzip"):
		return gzipped, true
	case strings.EqualFold(v, "zstd"):
		return zstandard, true
	}
	return identity, false
}

// gunzip decompresses x.wire into x.body, member after member.
func (x *exchange) gunzip(limit int64) bool {
	if len(x.wire) == 0 {
		return true
	}
	in := bytes.NewReader(x.wire)
	zr, _ := x.edge.unzip.Get().(*gzip.Reader)
	var err error
	if zr == nil {
		zr, err = gzip.NewReader(in)
	} else {
		err = zr.Reset(in)
	}
	if err != nil {
		return x.badEncoding("gzip", err)
	}
	defer x.edge.unzip.Put(zr)
	return x.inflate("gzip", zr, limit)
}

// gunzipUnlabelled decompresses a body that begins as gzip does and has no
// Content-Encoding, within the limits of one that has. posthog-js compresses in
// the page, where the header would cost a preflight.
func (x *exchange) gunzipUnlabelled(limit int64) bool {
	if len(x.wire) > 0 || len(x.body) < 2 || x.body[0] != 0x1f || x.body[1] != 0x8b {
		return true
	}
	x.wire, x.body = x.body, x.wire
	return x.gunzip(limit)
}

const (
	// maxWindow bounds what a zstd frame may ask for. Source: RFC 9659, which
	// allows no more in the content coding.
	maxWindow = 8 << 20
	// zstdDecoders is how many bodies of zstd are decompressed at once, each
	// with a window of its own, outside of Config.MaxInFlight. The others wait
	// for some milliseconds.
	zstdDecoders = 4
)

// newZstds returns the decoders, none of which is made before it is needed.
func newZstds() chan *zstd.Decoder {
	c := make(chan *zstd.Decoder, zstdDecoders)
	for range zstdDecoders {
		c <- nil
	}
	return c
}

// unzstd decompresses x.wire into x.body, frame after frame.
func (x *exchange) unzstd(limit int64) bool {
	if len(x.wire) == 0 {
		return true
	}
	zr := <-x.edge.unzstd
	if zr == nil {
		var err error
		// With a concurrency of one it has no goroutines.
		zr, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			panic(err) // a fault of the options above
		}
	}
	defer func() {
		_ = zr.Reset(nil) // it lets go of x.wire
		x.edge.unzstd <- zr
	}()
	if err := zr.Reset(bytes.NewReader(x.wire)); err != nil {
		return x.badEncoding("zstd", err)
	}
	return x.inflate("zstd", zr, limit)
}

// inflate reads what a decompressor makes of x.wire into x.body. Room is taken
// of the budget before it is filled.
func (x *exchange) inflate(name string, from io.Reader, limit int64) bool {
	most := min(limit, 1<<20+int64(len(x.wire))*int64(x.edge.cfg.MaxRatio))
	x.body = x.body[:0]
	for held := int64(0); ; {
		if int64(len(x.body)) == held {
			more := min(max(held, int64(4*len(x.wire)), firstRead), most+1-held)
			if !x.reserve(roomFor(more)) {
				return x.overloaded()
			}
			held += more
			if int64(cap(x.body)) < held {
				x.body = append(make([]byte, 0, held), x.body...)
			}
		}
		n, err := from.Read(x.body[len(x.body):held])
		x.body = x.body[:len(x.body)+n]
		switch {
		case int64(len(x.body)) > most || errors.Is(err, zstd.ErrWindowSizeExceeded):
			return x.fail(codeBodyTooLarge, "the body is more than "+bytesText(most)+" after decompression")
		case err == io.EOF:
			return true
		case err != nil:
			return x.badEncoding(name, err)
		}
	}
}

func (x *exchange) badEncoding(name string, err error) bool {
	if errors.Is(err, io.ErrUnexpectedEOF) || err == io.EOF {
		return x.fail(codeInvalidEncoding, "the "+name+" data ends too early")
	}
	x.cause = err
	return x.fail(codeInvalidEncoding, "the body is not "+name)
}
