package codec

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"google.golang.org/protobuf/proto"
)

// MaxFrame is the largest record, in bytes, that readers of unknown streams
// should take: the state of a cluster is one record.
const MaxFrame = 64 << 20

// RecordWriter writes records to a streaming response, each as one HTTP chunk,
// at once. It is not safe for concurrent use.
type RecordWriter struct {
	w       io.Writer
	control *http.ResponseController
	t       Type
	buffer  []byte
}

// NewRecordWriter sends the head of the response, 200 with Content-Type
// contentType and what is in w.Header, and returns the writer of its records.
// A record that the client does not take within a minute fails.
func NewRecordWriter(w http.ResponseWriter, t Type, contentType string) *RecordWriter {
	w.Header().Set("Content-Type", contentType)
	w.WriteHeader(http.StatusOK)
	return &RecordWriter{w: w, control: http.NewResponseController(w), t: t}
}

// Write sends one record.
func (rw *RecordWriter) Write(m proto.Message) error {
	payload, err := rw.t.Marshal(m)
	if err != nil {
		return err
	}
	rw.buffer = AppendRecord(rw.buffer[:0], payload)
	if err := rw.control.SetWriteDeadline(time.Now().Add(time.Minute)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return fmt.Errorf("write record: %w", err)
	}
	if _, err := rw.w.Write(rw.buffer); err != nil {
		return fmt.Errorf("write record: %w", err)
	}
	if err := rw.control.Flush(); err != nil {
		return fmt.Errorf("write record: %w", err)
	}
	return nil
}

// AppendRecord appends a record: length in decimal, newline, payload.
func AppendRecord(to, payload []byte) []byte {
	to = strconv.AppendInt(to, int64(len(payload)), 10)
	to = append(to, '\n')
	return append(to, payload...)
}

// RecordReader reads records from a stream.
type RecordReader struct {
	r   *bufio.Reader
	max int
}

// NewRecordReader returns a reader of records of at most max bytes.
func NewRecordReader(r io.Reader, max int) *RecordReader {
	return &RecordReader{bufio.NewReader(r), max}
}

// Next returns the payload of the next record. It returns io.EOF at an end
// between records and io.ErrUnexpectedEOF at one inside a record.
func (rr *RecordReader) Next() ([]byte, error) {
	length, err := rr.length()
	if err != nil {
		return nil, err
	}
	// A length is a promise: memory is taken as the bytes come.
	payload := make([]byte, 0, min(length, 64<<10))
	for len(payload) < length {
		part := min(length-len(payload), max(64<<10, len(payload)))
		start := len(payload)
		payload = append(payload, make([]byte, part)...)
		if _, err := io.ReadFull(rr.r, payload[start:]); err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
	}
	return payload, nil
}

func (rr *RecordReader) length() (int, error) {
	length, digits := 0, 0
	for {
		c, err := rr.r.ReadByte()
		switch {
		case err != nil && errors.Is(err, io.EOF) && digits > 0:
			return 0, io.ErrUnexpectedEOF
		case err != nil:
			return 0, err
		case c == '\n' && digits > 0:
			return length, nil
		case c < '0' || c > '9':
			return 0, fmt.Errorf("read record: %q in the length of a record", c)
		}
		length = length*10 + int(c-'0')
		if digits++; length > rr.max {
			return 0, fmt.Errorf("read record: longer than %d bytes", rr.max)
		} else if digits > 10 {
			return 0, errors.New("read record: length of a record has more than 10 digits")
		}
	}
}

// Read reads the next record into m, which is reset before.
func (rr *RecordReader) Read(t Type, m proto.Message) error {
	payload, err := rr.Next()
	if err != nil {
		return err
	}
	proto.Reset(m)
	return t.Unmarshal(payload, m)
}
