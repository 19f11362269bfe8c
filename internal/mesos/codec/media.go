package codec

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	"google.golang.org/protobuf/proto"
)

// Type is one of the two ways to write a message.
type Type int

// The types. JSON wins where a client takes both.
const (
	JSON Type = iota
	Protobuf
)

// String is the media type.
func (t Type) String() string {
	if t == Protobuf {
		return "application/x-protobuf"
	}
	return "application/json"
}

// Marshal returns the message in this type.
func (t Type) Marshal(m proto.Message) ([]byte, error) {
	if t == JSON {
		return MarshalJSON(m), nil
	}
	data, err := proto.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", m.ProtoReflect().Descriptor().FullName(), err)
	}
	return data, nil
}

// Unmarshal reads the message from this type; texts of errors are Mesos's.
func (t Type) Unmarshal(data []byte, m proto.Message) error {
	if t == JSON {
		return UnmarshalJSON(data, m)
	}
	if proto.Unmarshal(data, m) != nil {
		//lint:ignore ST1005 the text is Mesos's
		return fmt.Errorf("Failed to parse body into %s protobuf", m.ProtoReflect().Descriptor().Name())
	}
	return nil
}

// HTTPError is an answer other than success, with Mesos's text.
type HTTPError struct {
	Status int
	Text   string
}

func (e *HTTPError) Error() string { return e.Text }

// Errorf makes an HTTPError.
func Errorf(status int, format string, args ...any) *HTTPError {
	return &HTTPError{status, fmt.Sprintf(format, args...)}
}

// WriteError answers with err: an HTTPError as it is, anything else as 500.
func WriteError(w http.ResponseWriter, err error) {
	answer := &HTTPError{http.StatusInternalServerError, err.Error()}
	errors.As(err, &answer)
	if answer.Status == http.StatusMethodNotAllowed {
		w.Header().Set("Allow", http.MethodPost)
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Content-Length", strconv.Itoa(len(answer.Text)))
	w.WriteHeader(answer.Status)
	io.WriteString(w, answer.Text)
}

// RequestType reads Content-Type. It must be one of the two, without
// parameters.
func RequestType(r *http.Request) (Type, error) {
	switch contentType := r.Header.Get("Content-Type"); contentType {
	case "":
		return 0, Errorf(http.StatusBadRequest, "Expecting 'Content-Type' to be present")
	case JSON.String():
		return JSON, nil
	case Protobuf.String():
		return Protobuf, nil
	default:
		return 0, Errorf(http.StatusUnsupportedMediaType, "Expecting 'Content-Type' of %s or %s", JSON, Protobuf)
	}
}

// ResponseType picks the type of the answer by the Accept headers.
func ResponseType(r *http.Request) (Type, error) {
	return accepted(r, "Accept", JSON, Protobuf)
}

// MessageType picks the type of records by the Message-Accept headers of
// requests that have application/recordio in Accept.
func MessageType(r *http.Request) (Type, error) {
	return accepted(r, "Message-Accept", JSON, Protobuf)
}

func accepted(r *http.Request, header string, types ...Type) (Type, error) {
	values := r.Header.Values(header)
	if len(values) == 0 {
		return types[0], nil
	}
	for _, t := range types {
		if Accepts(values, t.String()) {
			return t, nil
		}
	}
	return 0, Errorf(http.StatusNotAcceptable, "Expecting '%s' to allow '%s' or '%s'", header, Protobuf, JSON)
}

// Accepts tells whether the values of an Accept header allow the media type.
func Accepts(values []string, mediaType string) bool {
	family, _, _ := strings.Cut(mediaType, "/")
	for _, value := range values {
		for part := range strings.SplitSeq(value, ",") {
			name, parameters, _ := strings.Cut(part, ";")
			name = strings.TrimSpace(name)
			if name != mediaType && name != "*/*" && name != family+"/*" {
				continue
			}
			if quality, ok := strings.CutPrefix(strings.TrimSpace(parameters), "q="); ok {
				if q, err := strconv.ParseFloat(strings.TrimSpace(quality), 64); err == nil && q == 0 {
					continue
				}
			}
			return true
		}
	}
	return false
}

// ReadCall checks method and media type and reads the call from the body of at
// most limit bytes. The error is an HTTPError.
func ReadCall(w http.ResponseWriter, r *http.Request, limit int64, call proto.Message) error {
	if r.Method != http.MethodPost {
		return Errorf(http.StatusMethodNotAllowed,
			"405 Method Not Allowed. Expecting one of { 'POST' }, but received '%s'.", r.Method)
	}
	mediaType, err := RequestType(r)
	if err != nil {
		return err
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	if err != nil {
		if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
			return Errorf(http.StatusRequestEntityTooLarge, "The body is larger than %d bytes", limit)
		}
		return Errorf(http.StatusBadRequest, "Failed to read the body: %v", err)
	}
	if err := mediaType.Unmarshal(body, call); err != nil {
		return Errorf(http.StatusBadRequest, "%s", err.Error())
	}
	return nil
}

// WriteMessage answers 200 with the message.
func WriteMessage(w http.ResponseWriter, t Type, m proto.Message) {
	data, err := t.Marshal(m)
	if err != nil {
		WriteError(w, err)
		return
	}
	w.Header().Set("Content-Type", t.String())
	w.Header().Set("Content-Length", strconv.Itoa(len(data)))
	w.Write(data)
}
