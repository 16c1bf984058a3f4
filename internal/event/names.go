package event

import (
	"encoding/binary"
	"hash/maphash"
	"math/bits"
)

// names finds duplicate names of members while objects are being read.
//
// The names of all open objects stand in one list, those of the innermost
// object last; closing an object cuts them off. A new name is compared with
// those before it in its object, as far as a filter of 64 bits cannot tell
// them apart. An object with many names gets a hash table instead, or it would
// cost a sender little and us quadratic time.
type names struct {
	list  []name
	arena []byte // names that were spelled with escapes, unescaped

	table  []slot // open addressing; the length is a power of two
	used   int
	serial uint32 // of the object that went to the table last
}

// name is the place of a name, without quotes: in the scanned bytes, or in the
// arena if it was spelled with escapes.
type name struct {
	start  uint32
	length uint32 // the top bit says arena
}

const inArena = 1 << 31

// nameSet is the names of one open object.
type nameSet struct {
	first  int    // in list
	filter uint64 // a bit for each name
	serial uint32 // in the table; 0 if it is not there
}

// slot is a name in the table. The names of objects that were closed stay
// behind, told apart by serial.
type slot struct {
	hash   uint64
	serial uint32 // 0 is an empty slot
	name   name
}

const (
	// fewNames is how many names of an object are compared one by one.
	fewNames = 24
	// What is kept of each for other events, at most: 96, 32, 32 and 4 KiB.
	keptSlots  = 4096
	keptNames  = 4096
	keptArena  = 32 << 10
	keptNested = 512
)

// seed makes the table's hashes unpredictable, so that nobody can send names
// that collide.
var seed = maphash.MakeSeed()

// empty forgets all names.
func (t *names) empty() {
	t.list, t.arena = t.list[:0], t.arena[:0]
	if t.used > 0 {
		t.used, t.serial = 0, 0
		if len(t.table) > keptSlots {
			t.table = nil
		}
		clear(t.table)
	}
}

func (t *names) trim() {
	if cap(t.list) > keptNames || cap(t.arena) > keptArena {
		t.list, t.arena = nil, nil
	}
	if len(t.table) > keptSlots {
		t.table, t.used = nil, 0
	}
}

func (t *names) open() nameSet { return nameSet{first: len(t.list)} }

func (t *names) close(set *nameSet) { t.list = t.list[:set.first] }

// add adds the name b[start:end] to the innermost open object. It returns
// false if the object has a member of that name already.
func (t *names) add(set *nameSet, b []byte, start, end int, escaped bool) bool {
	n := name{start: uint32(start), length: uint32(end - start)}
	if escaped {
		before := len(t.arena)
		t.arena = unquoted(t.arena, b[start:end])
		n = name{start: uint32(before), length: uint32(len(t.arena)-before) | inArena}
	}
	text := t.text(b, n)
	if set.serial != 0 || len(t.list)-set.first >= fewNames {
		if !t.addToTable(set, b, n, text) {
			return false
		}
	} else {
		bit := filterBit(text)
		if set.filter&bit != 0 {
			for _, other := range t.list[set.first:] {
				if (other.length^n.length)&^inArena == 0 && string(t.text(b, other)) == string(text) {
					return false
				}
			}
		}
		set.filter |= bit
	}
	t.list = append(t.list, n)
	return true
}

func (t *names) text(b []byte, n name) []byte {
	if n.length&inArena != 0 {
		b = t.arena
	}
	return b[n.start : n.start+n.length&^inArena]
}

// filterBit picks one of 64 bits by the length, the first and the last bytes
// of a name.
func filterBit(text []byte) uint64 {
	var x uint64
	if n := len(text); n >= 8 {
		x = binary.LittleEndian.Uint64(text) ^ bits.RotateLeft64(binary.LittleEndian.Uint64(text[n-8:]), 31)
	} else {
		for _, c := range text {
			x = x<<8 | uint64(c)
		}
	}
	return 1 << ((x + uint64(len(text))) * 0x9e3779b97f4a7c15 >> 58)
}

// addToTable is add for an object with many names.
func (t *names) addToTable(set *nameSet, b []byte, n name, text []byte) bool {
	if set.serial == 0 {
		t.serial++
		set.serial = t.serial
		for _, other := range t.list[set.first:] {
			t.insert(set.serial, b, other, t.text(b, other))
		}
	}
	return t.insert(set.serial, b, n, text)
}

func (t *names) insert(serial uint32, b []byte, n name, text []byte) bool {
	if t.used >= len(t.table)/2 {
		t.grow()
	}
	// The serial goes into the hash, so that objects with the same names do
	// not collide.
	hash := maphash.Bytes(seed, text) + uint64(serial)*0x9e3779b97f4a7c15
	mask := uint64(len(t.table) - 1)
	for i := hash & mask; ; i = (i + 1) & mask {
		switch other := &t.table[i]; {
		case other.serial == 0:
			*other = slot{hash: hash, serial: serial, name: n}
			t.used++
			return true
		case other.hash == hash && other.serial == serial && string(t.text(b, other.name)) == string(text):
			return false
		}
	}
}

func (t *names) grow() {
	old := t.table
	t.table = make([]slot, max(128, 2*len(old)))
	mask := uint64(len(t.table) - 1)
	for _, s := range old {
		if s.serial != 0 {
			i := s.hash & mask
			for t.table[i].serial != 0 {
				i = (i + 1) & mask
			}
			t.table[i] = s
		}
	}
}
