package spool

import (
	"strconv"
	"strings"

	"github.com/eventsluice/sluice/internal/stream"
)

// While there is a barrier, the partition key of what is written to the log is
// followed by it:
//
//	key 00 position
//
// The entries up to that position, in decimal digits, must be on the stream
// before this one: they are from a process that may have had other buckets.
// So a later process knows the walls between those before it as well.
const wallMark = "\x00"

func withWall(key string, position uint64) string {
	return key + wallMark + strconv.FormatUint(position, 10)
}

// Key returns the partition key of a record in the log.
func Key(r stream.Record) string {
	key, _ := keyAndWall(r.PartitionKey)
	return key
}

// keyAndWall returns the parts of a partition key in the log. The wall is 0 if
// there is none.
func keyAndWall(text string) (key string, wall uint64) {
	key, digits, _ := strings.Cut(text, wallMark)
	wall, _ = strconv.ParseUint(digits, 10, 64) // 0 of what is no number
	return key, wall
}

// wallOf returns the last wall in the keys of an entry.
func wallOf(e stream.Entry) (wall uint64) {
	for i := range e.Records {
		_, w := keyAndWall(e.Records[i].PartitionKey)
		wall = max(wall, w)
	}
	return wall
}
