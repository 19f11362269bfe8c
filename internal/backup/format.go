package backup

import (
	"bufio"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"time"
	"unicode/utf8"

	"github.com/contrail-mesos/contrail/internal/store"
)

const (
	// kind is what a header says that it is.
	kind = "contrail-db-dump"
	// formatVersion is the newest format that this version reads and writes.
	formatVersion = 1
	// maxLine bounds one line: etcd's own limit of a value is far below.
	maxLine = 32 << 20
)

// Header is the first line of a dump.
type Header struct {
	Kind   string `json:"kind"`
	Format int    `json:"format"`
	// Program is the version that wrote the dump, for people.
	Program string    `json:"program,omitempty"`
	Created time.Time `json:"created"`
	// Epoch and Revision are the store's at the moment of the dump.
	Epoch    uint64 `json:"epoch"`
	Revision int64  `json:"revision"`
}

// Trailer is the last line.
type Trailer struct {
	End  bool `json:"end"`
	Keys int  `json:"keys"`
	// Spaces counts the keys of each space.
	Spaces map[store.Space]int `json:"spaces"`
	// SHA256 is that of all lines before, in hexadecimal digits.
	SHA256 string `json:"sha256"`
}

// Record is one key.
type Record struct {
	Key store.Key
	// Value of the key.
	Value []byte
	// SecondsLeft of its lease, 0 for a key without one.
	SecondsLeft int64
}

// line is a record, or the trailer.
type line struct {
	recordLine
	Trailer
}

type recordLine struct {
	Key string `json:"k,omitempty"`
	// KeyBytes is a key that is not UTF-8: no key of ours, but whoever damaged
	// a store may have left it.
	KeyBytes []byte `json:"kb,omitempty"`
	// Text is a value that is UTF-8, Bytes any other.
	Text  string `json:"v,omitempty"`
	Bytes []byte `json:"b,omitempty"`
	Left  int64  `json:"left,omitempty"`
}

// Writer writes a dump.
type Writer struct {
	zip     *gzip.Writer
	buffer  *bufio.Writer
	sum     hash.Hash
	trailer Trailer
}

// NewWriter begins a dump with its header.
func NewWriter(w io.Writer, h Header) (*Writer, error) {
	zip, err := gzip.NewWriterLevel(w, gzip.BestSpeed)
	if err != nil {
		return nil, fmt.Errorf("write dump: %w", err)
	}
	out := &Writer{zip: zip, sum: sha256.New(), trailer: Trailer{End: true, Spaces: map[store.Space]int{}}}
	out.buffer = bufio.NewWriterSize(io.MultiWriter(zip, out.sum), 64<<10)
	h.Kind, h.Format = kind, formatVersion
	return out, out.line(h)
}

func (w *Writer) line(v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("write dump: %w", err)
	}
	if _, err := w.buffer.Write(append(data, '\n')); err != nil {
		return fmt.Errorf("write dump: %w", err)
	}
	return nil
}

// Write adds a record.
func (w *Writer) Write(r Record) error {
	l := recordLine{Left: r.SecondsLeft}
	if utf8.ValidString(string(r.Key)) {
		l.Key = string(r.Key)
	} else {
		l.KeyBytes = []byte(r.Key)
	}
	if utf8.Valid(r.Value) {
		l.Text = string(r.Value)
	} else {
		l.Bytes = r.Value
	}
	w.trailer.Keys++
	w.trailer.Spaces[r.Key.Space()]++
	return w.line(l)
}

// Close writes the trailer. Without it the dump is one that was cut off.
func (w *Writer) Close() (Trailer, error) {
	if err := w.buffer.Flush(); err != nil {
		return Trailer{}, fmt.Errorf("write dump: %w", err)
	}
	w.trailer.SHA256 = hex.EncodeToString(w.sum.Sum(nil))
	if err := w.line(w.trailer); err != nil {
		return Trailer{}, err
	}
	if err := errors.Join(w.buffer.Flush(), w.zip.Close()); err != nil {
		return Trailer{}, fmt.Errorf("write dump: %w", err)
	}
	return w.trailer, nil
}

// Reader reads a dump. What it has returned is only to be trusted when Next
// has returned io.EOF: then the checksum was right.
type Reader struct {
	Header Header

	raw     *bufio.Reader
	scanner *bufio.Scanner
	sum     hash.Hash
	trailer Trailer
	done    bool
}

// NewReader reads the header.
func NewReader(r io.Reader) (*Reader, error) {
	raw := bufio.NewReaderSize(r, 64<<10)
	zip, err := gzip.NewReader(raw)
	if err != nil {
		return nil, fmt.Errorf("not a dump of `contrail db dump`: %w", err)
	}
	zip.Multistream(false)
	in := &Reader{raw: raw, scanner: bufio.NewScanner(zip), sum: sha256.New(), trailer: Trailer{Spaces: map[store.Space]int{}}}
	in.scanner.Buffer(make([]byte, 0, 64<<10), maxLine)
	first, err := in.next()
	if err != nil {
		return nil, fmt.Errorf("not a dump of `contrail db dump`: %w", err)
	}
	if err := json.Unmarshal(first, &in.Header); err != nil || in.Header.Kind != kind {
		return nil, errors.New("not a dump of `contrail db dump`: its first line is no header of one")
	}
	if in.Header.Format < 1 || in.Header.Format > formatVersion {
		return nil, fmt.Errorf("the dump has format %d (written by contrail %s) and this version reads up to format %d; restore it with a version that is not older than the one that wrote it",
			in.Header.Format, in.Header.Program, formatVersion)
	}
	if in.Header.Epoch == 0 || in.Header.Revision <= 0 {
		return nil, fmt.Errorf("the dump's header has epoch %d and revision %d, which no store has", in.Header.Epoch, in.Header.Revision)
	}
	in.add(first)
	return in, nil
}

// add counts a line in for the checksum.
func (r *Reader) add(text []byte) {
	r.sum.Write(text)
	r.sum.Write([]byte{'\n'})
}

func (r *Reader) next() ([]byte, error) {
	if r.scanner.Scan() {
		return r.scanner.Bytes(), nil
	}
	switch err := r.scanner.Err(); {
	case errors.Is(err, bufio.ErrTooLong):
		return nil, fmt.Errorf("a line is longer than %d bytes", maxLine)
	case err != nil:
		return nil, err
	}
	return nil, errNoMore
}

// errNoMore is the end of the lines, where the compressed data ends as it should.
var errNoMore = errors.New("it has no trailer")

// Next returns the next record, and io.EOF when the dump has ended as it should.
func (r *Reader) Next() (Record, error) {
	if r.done {
		return Record{}, io.EOF
	}
	text, err := r.next()
	if err != nil {
		return Record{}, fmt.Errorf("the dump is cut off or damaged after %d keys: %w", r.trailer.Keys, err)
	}
	var l line
	if err := json.Unmarshal(text, &l); err != nil {
		if cut := r.scanner.Err(); cut != nil {
			return Record{}, fmt.Errorf("the dump is cut off or damaged after %d keys: %w", r.trailer.Keys, cut)
		}
		return Record{}, fmt.Errorf("the dump is damaged after %d keys: %w", r.trailer.Keys, err)
	}
	if l.End {
		return Record{}, r.end(l.Trailer)
	}
	r.add(text)
	record := Record{Key: store.Key(l.Key), Value: l.Bytes, SecondsLeft: l.Left}
	if l.Bytes == nil {
		record.Value = []byte(l.Text)
	}
	if l.KeyBytes != nil {
		record.Key = store.Key(l.KeyBytes)
	}
	if err := checkRecord(record); err != nil {
		return Record{}, fmt.Errorf("the dump is damaged after %d keys: %w", r.trailer.Keys, err)
	}
	r.trailer.Keys++
	r.trailer.Spaces[record.Key.Space()]++
	return record, nil
}

func checkRecord(r Record) error {
	switch space := r.Key.Space(); {
	case r.Key == "" || string(space) == string(r.Key) || len(r.Key) > 16<<10:
		return fmt.Errorf("%.64q is no key", r.Key)
	case !isDumped(space):
		return fmt.Errorf("key %.64q does not belong into a dump", r.Key)
	case r.SecondsLeft < 0:
		return fmt.Errorf("key %.64q has %d seconds left", r.Key, r.SecondsLeft)
	}
	return nil
}

// end compares the trailer with what was read.
func (r *Reader) end(want Trailer) error {
	sum := hex.EncodeToString(r.sum.Sum(nil))
	switch {
	case want.SHA256 != sum:
		return fmt.Errorf("the dump was altered: its checksum is %s, and its trailer says %.80s", sum, want.SHA256)
	case want.Keys != r.trailer.Keys:
		return fmt.Errorf("the dump was altered: it has %d keys, and its trailer says %d", r.trailer.Keys, want.Keys)
	}
	if text, err := r.next(); err == nil {
		return fmt.Errorf("the dump was altered: %.40q comes after its end", text)
	} else if !errors.Is(err, errNoMore) {
		return fmt.Errorf("the dump is damaged at its end: %w", err)
	}
	if _, err := r.raw.ReadByte(); !errors.Is(err, io.EOF) {
		return errors.New("the dump was altered: something comes after its end")
	}
	r.trailer, r.done = want, true
	return io.EOF
}

// Trailer of a dump that was read to its end.
func (r *Reader) Trailer() Trailer { return r.trailer }

// isDumped tells whether a space belongs to the intent. The epoch is a dump's
// own; how far a restore is belongs to the store, fences and marks to its
// present writers, and control nodes announce themselves. Who has a backup shall not be able to sign users' tokens.
func isDumped(space store.Space) bool {
	switch space {
	case "", store.SpaceEpoch, store.SpaceRestore, store.SpaceFence, store.SpaceMark, store.SpaceToken, store.SpaceControl:
		return false
	}
	return true
}
