package dedup

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
)

// The journal is a folder of files, each a row of blocks:
//
//	0000000000000001.ids  0000000000000002.ids  …
//
// A block is written at once and synced. It holds the ids of events that were
// stored since the block before it, and says up to which position of the stream
// the blocks until here hold all of them. Numbers are little endian:
//
//	 0  "SLID" and the version, 1    4+4 bytes
//	 8  serial                       8  one more than that of the block before
//	16  position                     8  on the stream
//	24  at                           8  when it was written; no event in it is newer
//	32  whole                        8  since when all ids are known
//	40  lost                         8  before then ids had to leave the memory early
//	48  window                       8  how far back they are kept
//	56  stream                       8  a hash of its name
//	64  clean                        1  1: the process has ended, and this is all
//	65  zero                         3
//	68  count                        4  of ids
//	72  CRC-32C of the above         4
//	76  CRC-32C of the ids           4
//	80  ids                          16 each, the last two bits zero
//
// Times are nanoseconds since 1970. A crash may leave the last block torn. A
// write that failed is repeated in a new file under the same serial, perhaps
// with more ids; so a block is missing only where a serial is.
const (
	headBytes  = 80
	idBytes    = 16
	mostIDs    = 1 << 16 // in a block
	fileSuffix = ".ids"
	// filesPerMemory is how many files hold as many ids as the memory.
	filesPerMemory = 8
	// filesPerWindow is how many files there are of a window, at least.
	filesPerWindow = 8
)

var (
	blockMagic = [8]byte{'S', 'L', 'I', 'D', 1}
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
)

// block is the head of a block.
type block struct {
	serial    uint64
	position  uint64
	at, whole int64
	lost      int64
	window    int64
	stream    uint64
	clean     bool
	count     int
}

// appendBlock appends a block to dst; ids are its ids, 16 bytes each.
func appendBlock(dst []byte, b block, ids []byte) []byte {
	start := len(dst)
	dst = append(dst, blockMagic[:]...)
	for _, n := range []uint64{b.serial, b.position, uint64(b.at), uint64(b.whole), uint64(b.lost), uint64(b.window), b.stream} {
		dst = binary.LittleEndian.AppendUint64(dst, n)
	}
	var clean byte
	if b.clean {
		clean = 1
	}
	dst = append(dst, clean, 0, 0, 0)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(ids)/idBytes))
	dst = binary.LittleEndian.AppendUint32(dst, crc32.Checksum(dst[start:], castagnoli))
	dst = binary.LittleEndian.AppendUint32(dst, crc32.Checksum(ids, castagnoli))
	return append(dst, ids...)
}

// errDamaged is of bytes that are no block, or of a block that is torn.
var errDamaged = errors.New("damaged")

// readBlock reads the next block. ids are valid until the next call with buf,
// whose memory they use. It returns io.EOF at the end, and errDamaged where
// something else is than a whole block.
func readBlock(r io.Reader, buf *[]byte) (b block, ids []byte, err error) {
	var head [headBytes]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		if errors.Is(err, io.ErrUnexpectedEOF) {
			err = errDamaged
		}
		return b, nil, err
	}
	word := func(at int) uint64 { return binary.LittleEndian.Uint64(head[at:]) }
	count := binary.LittleEndian.Uint32(head[68:])
	if [8]byte(head[:8]) != blockMagic || head[64] > 1 || head[65]|head[66]|head[67] != 0 || count > mostIDs ||
		crc32.Checksum(head[:72], castagnoli) != binary.LittleEndian.Uint32(head[72:]) {
		return b, nil, errDamaged
	}
	b = block{
		serial: word(8), position: word(16), at: int64(word(24)), whole: int64(word(32)), lost: int64(word(40)),
		window: int64(word(48)), stream: word(56), clean: head[64] == 1, count: int(count),
	}
	size := b.count * idBytes
	*buf = slices.Grow((*buf)[:0], size)[:size]
	if _, err := io.ReadFull(r, *buf); err != nil {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			err = errDamaged
		}
		return b, nil, err
	}
	if crc32.Checksum(*buf, castagnoli) != binary.LittleEndian.Uint32(head[76:]) {
		return b, nil, errDamaged
	}
	return b, *buf, nil
}

// keyAt returns an id of a block.
func keyAt(ids []byte, i int) (k key) {
	for w := range k {
		k[w] = binary.LittleEndian.Uint32(ids[i*idBytes+4*w:])
	}
	k[3] &^= stateMask
	return k
}

// writer is what the journal needs of a file.
type writer interface {
	Write(data []byte) (int, error)
	Sync() error
}

// journal is the folder while it is in use.
type journal struct {
	dir    string
	most   int // ids in a file
	length int64
	write  func(writer, []byte) error
	// last is the newest block that is on the disk.
	last  block
	files []journalFile // oldest first; the last one is open if file is not nil
	file  *os.File
	// number is that of the newest file, whether it is good or not.
	number uint64
	buf    []byte
	ids    []byte
}

// journalFile is one file of a journal.
type journalFile struct {
	name  string
	count int   // of its ids
	from  int64 // when it was begun
	at    int64 // when its newest block was written
}

func writeAndSync(w writer, data []byte) error {
	if _, err := w.Write(data); err != nil {
		return err
	}
	return w.Sync()
}

// newJournal returns the journal in a folder, which is made if need be, and the
// names of its files, oldest first.
func newJournal(dir string, capacity int, window int64) (*journal, []string, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, nil, err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, nil, err
	}
	j := &journal{
		dir: dir, most: max(1, capacity/filesPerMemory), length: window / filesPerWindow, write: writeAndSync,
	}
	var names []string
	for _, e := range entries {
		digits, ok := strings.CutSuffix(e.Name(), fileSuffix)
		n, err := strconv.ParseUint(digits, 10, 64)
		if ok && err == nil && e.Type().IsRegular() {
			names = append(names, e.Name())
			j.number = max(j.number, n)
		}
	}
	slices.SortFunc(names, func(a, b string) int { return cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(a, b)) })
	return j, names, nil
}

// add writes a block, after the last one.
func (j *journal) add(b block, ids []byte) error {
	if n := len(j.files); j.file != nil && n > 0 {
		if f := &j.files[n-1]; f.count >= j.most || b.at-f.from >= j.length {
			if err := j.close(); err != nil {
				return err
			}
		}
	}
	if j.file == nil {
		if err := j.create(b.at); err != nil {
			return err
		}
	}
	b.serial = j.last.serial + 1
	j.buf = appendBlock(j.buf[:0], b, ids)
	if err := j.write(j.file, j.buf); err != nil {
		// What is in the file now is not known: the next block begins another.
		return errors.Join(fmt.Errorf("write %s: %w", j.files[len(j.files)-1].name, err), j.close())
	}
	j.last = b
	f := &j.files[len(j.files)-1]
	f.count += len(ids) / idBytes
	f.at = b.at
	return nil
}

// create begins a new file, durably.
func (j *journal) create(at int64) error {
	name := fmt.Sprintf("%016d%s", j.number+1, fileSuffix)
	file, err := os.OpenFile(filepath.Join(j.dir, name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	j.number++
	if err := syncDir(j.dir); err != nil {
		return errors.Join(err, file.Close(), os.Remove(file.Name()))
	}
	j.file = file
	j.files = append(j.files, journalFile{name: name, from: at, at: at})
	return nil
}

// prune removes the files whose ids are of no use: those whose window is over,
// and the oldest when the others hold as many ids as the memory.
func (j *journal) prune(now, window int64, capacity int) error {
	total := 0
	for _, f := range j.files {
		total += f.count
	}
	for len(j.files) > 1 {
		f := j.files[0]
		total -= f.count
		if total < capacity && now < f.at+window {
			return nil
		}
		if err := os.Remove(filepath.Join(j.dir, f.name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		j.files = slices.Delete(j.files, 0, 1)
	}
	return nil
}

func (j *journal) close() error {
	if j.file == nil {
		return nil
	}
	err := j.file.Close()
	j.file = nil
	return err
}

// remove removes files from the folder.
func (j *journal) remove(names []string) error {
	var faults []error
	for _, name := range names {
		faults = append(faults, os.Remove(filepath.Join(j.dir, name)))
	}
	return errors.Join(faults...)
}

// syncDir makes durable which files are in a folder, where a system needs it.
func syncDir(dir string) error {
	if runtime.GOOS == "windows" {
		return nil // it cannot sync a folder, and does not have to
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
