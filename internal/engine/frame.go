package engine

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/eventsluice/sluice/internal/stream"
)

// The payload of a message of the event stream holds the records of one write.
// Numbers are unsigned varints (encoding/binary), least significant group
// first, in their shortest form:
//
//	┌─────────┬─────────┬─────────────────────────────────────────────┬───
//	│ version │ records │ record 1                                    │ …
//	│ 1 byte  │ varint  ├────────┬────────────┬─────────────┬────┬────┤
//	│ 0x01    │ ≥ 1     │ events │ key length │ data length │ key│data│
//	└─────────┴─────────┴────────┴────────────┴─────────────┴────┴────┴───
//	                      varint   varint       varint        bytes
//
// Nothing follows the last record. The number of events of the whole message
// is in its header as well (eventsHeader), so that counting needs no payload.
const frameVersion = 0x01

var errFrame = errors.New("not a frame of records")

// keepFrame returns the payload for records, and the records as parseFrame
// would return them: their data is part of it.
func keepFrame(records []stream.Record) (frame []byte, kept []stream.Record) {
	// What the numbers of a record take at most; those of the head take less
	// than one of them.
	const numbers = 3 * binary.MaxVarintLen64
	frame = append(make([]byte, 0, (len(records)+1)*numbers+recordBytes(records)), frameVersion)
	frame = binary.AppendUvarint(frame, uint64(len(records)))
	kept = make([]stream.Record, len(records))
	for i := range records {
		frame = appendRecord(frame, &records[i])
		end := len(frame)
		kept[i] = stream.Record{
			PartitionKey: records[i].PartitionKey,
			Data:         frame[end-len(records[i].Data) : end : end],
			Events:       max(records[i].Events, 0),
		}
	}
	return frame, kept
}

func appendRecord(dst []byte, r *stream.Record) []byte {
	dst = binary.AppendUvarint(dst, uint64(max(r.Events, 0)))
	dst = binary.AppendUvarint(dst, uint64(len(r.PartitionKey)))
	dst = binary.AppendUvarint(dst, uint64(len(r.Data)))
	dst = append(dst, r.PartitionKey...)
	return append(dst, r.Data...)
}

// minRecordSize is the smallest record: three varints of one byte, no bytes.
const minRecordSize = 3

// parseFrame returns the records in a payload. Their data is part of it.
func parseFrame(payload []byte) ([]stream.Record, error) {
	if len(payload) == 0 || payload[0] != frameVersion {
		return nil, fmt.Errorf("%w: unknown version", errFrame)
	}
	p := payload[1:]
	count, ok := takeUvarint(&p)
	// Every record takes some bytes: a count beyond them must not allocate.
	if !ok || count == 0 || count > uint64(len(p)/minRecordSize) {
		return nil, fmt.Errorf("%w: impossible number of records", errFrame)
	}
	records := make([]stream.Record, 0, count)
	for i := range count {
		events, ok1 := takeUvarint(&p)
		keyLen, ok2 := takeUvarint(&p)
		dataLen, ok3 := takeUvarint(&p)
		if !ok1 || !ok2 || !ok3 || events > maxEventsPerRecord ||
			keyLen > uint64(len(p)) || dataLen > uint64(len(p))-keyLen {
			return nil, fmt.Errorf("%w: record %d is cut", errFrame, i)
		}
		end := keyLen + dataLen
		records = append(records, stream.Record{
			PartitionKey: string(p[:keyLen]),
			Data:         p[keyLen:end:end],
			Events:       int(events),
		})
		p = p[end:]
	}
	if len(p) != 0 {
		return nil, fmt.Errorf("%w: %d bytes after the last record", errFrame, len(p))
	}
	return records, nil
}

// maxEventsPerRecord keeps counts far from overflow; it is more than a record
// of any host can hold.
const maxEventsPerRecord = 1 << 31

func takeUvarint(p *[]byte) (uint64, bool) {
	v, n := binary.Uvarint(*p)
	// A longer form of the same number ends in a zero group.
	if n <= 0 || n > 1 && (*p)[n-1] == 0 {
		return 0, false
	}
	*p = (*p)[n:]
	return v, true
}

// maxRecords is the most records in one frame. It bounds what the frame adds to
// their bytes to less than messageOverhead.
const maxRecords = 1000

// recordBytes returns what the records take, keys included.
func recordBytes(records []stream.Record) int {
	size := 0
	for i := range records {
		size += len(records[i].PartitionKey) + len(records[i].Data)
	}
	return size
}
