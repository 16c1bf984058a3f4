package event

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"strconv"

	"github.com/google/uuid"
)

func init() {
	// 16 random bytes per id are a system call each without the pool.
	uuid.EnableRandPool()
}

// NewID returns a new event id: a UUIDv7. Ids of one process grow in the order
// of the calls. It is safe for concurrent use.
func NewID() string {
	return string(AppendID(make([]byte, 0, 36)))
}

// AppendID appends a new event id to dst.
func AppendID(dst []byte) []byte {
	// It fails only if the system has no randomness, and then crypto/rand has
	// ended the process already.
	id := uuid.Must(uuid.NewV7())
	return appendUUID(dst, id)
}

// appendUUID is the library's String without the allocation.
func appendUUID(dst []byte, id uuid.UUID) []byte {
	dst = append(hex.AppendEncode(dst, id[0:4]), '-')
	dst = append(hex.AppendEncode(dst, id[4:6]), '-')
	dst = append(hex.AppendEncode(dst, id[6:8]), '-')
	dst = append(hex.AppendEncode(dst, id[8:10]), '-')
	return hex.AppendEncode(dst, id[10:])
}

// derived is the namespace of ids that DeriveID makes. It never changes.
var derived = uuid.MustParse("5b1dbd2b-8f0e-4c07-9a53-0f4f4a1a7f60")

// DeriveID returns the id of an event that came to the stream without one: the
// same place gives the same id, so that a second reading of the stream makes
// no second event. It is a UUIDv8: the first 16 bytes of SHA-256 over a
// namespace of Sluice, the shard, the sequence number of the record and the
// decimal index of the event in an aggregated record (0 for a plain one),
// separated by zero bytes, with version and variant set (RFC 9562, 5.8 and
// B.2).
func DeriveID(shard, sequence string, sub int) string {
	var buf [256]byte
	b := append(buf[:0], derived[:]...)
	b = append(append(b, shard...), 0)
	b = append(append(b, sequence...), 0)
	b = strconv.AppendInt(b, int64(sub), 10)
	id := hashed(b)
	return id.String()
}

// named is the namespace of ids that AppendNamedID makes. It never changes.
var named = uuid.MustParse("c9a5f9f2-64a0-4d1b-8b0e-6d3f5d0c3f7e")

// AppendNamedID appends the id of an event that its sender names by a source
// and an id within that source, as CloudEvents does: the same pair gives the
// same id, and different pairs different ones. It is a UUIDv8 like that of
// DeriveID, over another namespace, the length of the source in eight bytes,
// the source and the id.
func AppendNamedID(dst []byte, source, id string) []byte {
	var buf [256]byte
	b := append(buf[:0], named[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(len(source)))
	b = append(append(b, source...), id...)
	return appendUUID(dst, hashed(b))
}

// hashed is the UUIDv8 of the first 16 bytes of SHA-256.
func hashed(b []byte) uuid.UUID {
	sum := sha256.Sum256(b)
	id := uuid.UUID(sum[:16])
	id[6] = id[6]&0x0f | 0x80
	id[8] = id[8]&0x3f | 0x80
	return id
}
