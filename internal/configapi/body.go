package configapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"reflect"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"connectrpc.com/connect"

	"github.com/contrail-mesos/contrail/internal/model"
)

const (
	// bodyTime bounds how long a client may take to send its body.
	bodyTime = 20 * time.Second
	// maxReferences of one object in one request: each is a key and a guard of
	// one transaction.
	maxReferences = 500
)

// timedBody is a request body that is bounded in time. The time ends
// with the body: what reads on, such as a stream of events, is not cut off.
type timedBody struct {
	io.ReadCloser
	control *http.ResponseController
	ended   bool
}

// bounded bounds the body of a request.
func bounded(w http.ResponseWriter, r *http.Request) io.ReadCloser {
	return timed(w, r, http.MaxBytesReader(w, r.Body, maxBody), bodyTime)
}

// timely bounds the time of the bodies of RPCs, whose size connect bounds. All
// of them are one message each way: none is a stream that this would cut off.
func timely(patience time.Duration, h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Body = timed(w, r, r.Body, patience)
		h.ServeHTTP(w, r)
	})
}

func timed(w http.ResponseWriter, r *http.Request, body io.ReadCloser, patience time.Duration) io.ReadCloser {
	if r.ContentLength == 0 {
		return body
	}
	b := &timedBody{ReadCloser: body, control: http.NewResponseController(w)}
	// Where it is not supported, as in tests without a connection, nobody waits.
	_ = b.control.SetReadDeadline(time.Now().Add(patience))
	return b
}

func (b *timedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && !b.ended {
		b.ended = true
		if errors.Is(err, io.EOF) {
			_ = b.control.SetReadDeadline(time.Time{})
		}
	}
	return n, err
}

// body reads a JSON body into v. An empty one leaves v as it is.
func body(r *http.Request, v any) error {
	data, err := io.ReadAll(r.Body)
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return tooLarge()
	case errors.Is(err, os.ErrDeadlineExceeded):
		return refuse(http.StatusRequestTimeout, connect.CodeDeadlineExceeded, "request body did not arrive within %v", bodyTime)
	case err != nil:
		return invalid("Bad Request, body cannot be read: %v", err)
	case len(bytes.TrimSpace(data)) == 0:
		return nil
	}
	if err := model.CheckJSON("the body", data); err != nil {
		var bad *model.PropertyError
		if errors.As(err, &bad) && strings.Contains(bad.Property, "fq_name") && strings.Contains(bad.Value, "control character") {
			return invalid("Bad Request, name has one of invalid chars: %v", err)
		}
		return invalid("Bad Request, %v", err)
	}
	if err := typed("the body", data, v); err != nil {
		return invalid("Bad Request, %v", err)
	}
	return nil
}

// typed decodes JSON into v; its errors name the place and the value. root is
// what the whole is called.
func typed(root string, data []byte, v any) error {
	err := json.Unmarshal(data, v)
	var wrong *json.UnmarshalTypeError
	if !errors.As(err, &wrong) {
		return err
	}
	path, value := root, json.RawMessage(data)
	for part := range strings.SplitSeq(wrong.Field, ".") {
		var inside map[string]json.RawMessage
		if part == "" || json.Unmarshal(value, &inside) != nil || inside[part] == nil {
			break
		}
		value = inside[part]
	}
	switch {
	case wrong.Field != "" && root == "the body":
		path = brief(wrong.Field)
	case wrong.Field != "":
		path = root + "." + brief(wrong.Field)
	}
	return &model.PropertyError{Property: path, Value: brief(string(value)), Want: jsonName(wrong.Type)}
}

// jsonName is what JSON calls the values of a Go type.
func jsonName(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Bool:
		return "true or false"
	case reflect.String:
		return "a string"
	case reflect.Slice, reflect.Array:
		return "a list"
	case reflect.Map, reflect.Struct:
		return "an object"
	case reflect.Pointer:
		return jsonName(t.Elem())
	default:
		return "a number of the type " + t.String()
	}
}

// known is typed that also refuses what v has no field for.
func known(root string, data []byte, v any) error {
	if err := typed(root, data, v); err != nil {
		return err
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return &model.PropertyError{Property: root, Value: brief(string(data)), Want: "only fields that it has (" + err.Error() + ")"}
	}
	return nil
}

// fields reads the body {"<type>": {...}}; nil when the body is empty.
func fields(r *http.Request, t *model.Type) (map[string]json.RawMessage, error) {
	var envelope map[string]json.RawMessage
	if err := body(r, &envelope); err != nil {
		return nil, err
	}
	if envelope == nil {
		return nil, nil
	}
	raw, ok := envelope[string(t.Kind)]
	if !ok || isAbsent(raw) {
		return nil, invalid(`Bad Request, no "%s" in the body`, t.Kind)
	}
	var inner map[string]json.RawMessage
	if err := typed(string(t.Kind), raw, &inner); err != nil {
		return nil, invalid("Bad Request, %v", err)
	}
	return inner, nil
}

// checkPerms finds what is no id_perms or perms2. Most of what is in them is
// not the client's to say, and is left out later.
func checkPerms(name string, raw json.RawMessage) error {
	var access []*int64
	switch name {
	case "id_perms":
		return known(name, raw, &model.IdPermsType{})
	case "perms2":
		var p model.PermType2
		if err := known(name, raw, &p); err != nil {
			return err
		}
		access = append(access, p.OwnerAccess, p.GlobalAccess)
		for i := range p.Share {
			access = append(access, &p.Share[i].TenantAccess)
		}
	}
	for _, a := range access {
		if a != nil && (*a < 0 || *a > 7) {
			return &model.PropertyError{Property: name, Value: fmt.Sprintf("with the access %d", *a), Want: "an integer from 0 to 7"}
		}
	}
	return nil
}

// checkURL refuses a path or query that is no clean text: the standard library
// leaves out quietly what it cannot read of a query.
func checkURL(r *http.Request) error {
	if !cleanText(r.URL.Path) {
		return invalid("Bad Request, the path %s has characters that no name has; write it in UTF-8 without control characters", quoteText(r.URL.Path))
	}
	q, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return invalid("Bad Request, the query cannot be read: %v", err)
	}
	for name, values := range q {
		if !cleanText(name) {
			return invalid("Bad Request, the query has a parameter %s; write it in UTF-8 without control characters", quoteText(name))
		}
		for _, v := range values {
			if !cleanText(v) {
				return invalid("Bad Request, the query parameter %s is %s; write it in UTF-8 without control characters", name, quoteText(v))
			}
		}
	}
	return nil
}

func cleanText(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool {
		return unicode.IsControl(r) && r != '\t' && r != '\n' && r != '\r'
	})
}

func quoteText(s string) string { return fmt.Sprintf("%+q", brief(s)) }

// tooLarge is the answer to a body of more than maxBody bytes.
func tooLarge() error {
	return refuse(http.StatusRequestEntityTooLarge, connect.CodeInvalidArgument, "request body is larger than %d bytes", maxBody)
}
