package fleetlock

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"
)

const (
	maxBody = 16 << 10 // bytes of a request's body
	maxName = 253      // bytes of an id and of a group

	protocolHeader = "fleet-lock-protocol"

	shape = `{"client_params":{"id":"<machine id>","group":"<group>"}}`
)

func invalid(format string, args ...any) *Error {
	return &Error{Kind: KindInvalid, Value: fmt.Sprintf(format, args...)}
}

// accept reads a request as far as it has to be read to know what is wrong with it.
// Afterwards the server's time-outs are off. It is a function of its own so that the
// stack of who waits is small.
//
//go:noinline
func accept(w http.ResponseWriter, r *http.Request, call string) (Request, error) {
	if err := checkHead(r, call); err != nil {
		// Nobody waits for a body that nobody wants.
		if r.ContentLength < 0 || r.ContentLength > maxBody {
			w.Header()["Connection"] = []string{"close"}
		}
		return Request{}, err
	}
	buf := buffers.Get().(*bytes.Buffer)
	defer func() {
		if buf.Cap() <= keptBuffer {
			buffers.Put(buf)
		}
	}()
	buf.Reset()
	if err := readBody(buf, r); err != nil {
		w.Header()["Connection"] = []string{"close"}
		return Request{}, err
	}
	// net/http ends the first by itself, but does not promise to.
	rc := http.NewResponseController(w)
	_ = rc.SetReadDeadline(time.Time{})
	_ = rc.SetWriteDeadline(time.Time{})
	return parseRequest(buf.Bytes())
}

// checkHead is what can be said before the body is read.
func checkHead(r *http.Request, call string) error {
	switch {
	case call == callOther:
		return &Error{Kind: KindNotFound, Value: fmt.Sprintf("there is nothing at this path; FleetLock's are %s and %s", PreRebootPath, SteadyStatePath)}
	case r.Method != http.MethodPost:
		return &Error{Kind: KindMethod, Value: "the method must be POST"}
	}
	if v := r.Header.Values(protocolHeader); len(v) != 1 || v[0] != "true" {
		return invalid("the header %s: true is missing, or has another value", protocolHeader)
	}
	if r.ContentLength > maxBody {
		return tooLarge()
	}
	return nil
}

func tooLarge() *Error {
	return &Error{Kind: KindTooLarge, Value: fmt.Sprintf("the body has more than %d bytes; expected is %s", maxBody, shape)}
}

// Bodies are small, and who sends slowly has only the memory of what arrived.
const keptBuffer = 2 << 10

var buffers = sync.Pool{New: func() any { return bytes.NewBuffer(make([]byte, 0, bytes.MinRead)) }}

// readBody reads all of the body, to its end: net/http looks whether a client is still
// there only from then on.
func readBody(buf *bytes.Buffer, r *http.Request) error {
	_, err := buf.ReadFrom(io.LimitReader(r.Body, maxBody+1))
	var tooMany *http.MaxBytesError
	switch {
	case buf.Len() > maxBody, errors.As(err, &tooMany):
		return tooLarge()
	case errors.Is(err, os.ErrDeadlineExceeded):
		return invalid("the body did not arrive in time; expected is %s", shape)
	case err != nil:
		return invalid("the body cannot be read: %v", err)
	}
	return nil
}

// parseRequest reads a body. Its error is an *Error. What it returns shares no memory
// with body.
func parseRequest(body []byte) (req Request, err error) {
	doc := bytes.Trim(body, " \t\r\n")
	switch {
	case len(doc) == 0:
		return req, invalid("the body is empty; expected is %s", shape)
	case !utf8.Valid(doc):
		return req, invalid("the body is not UTF-8; expected is %s", shape)
	case !json.Valid(doc):
		return req, invalid("the body is no JSON: %v; expected is %s", json.Unmarshal(doc, new(any)), shape)
	case doc[0] != '{':
		return req, invalid("the body is %s; expected is %s", typeOf(doc), shape)
	}
	params, err := field(doc, "client_params", '{')
	if err != nil {
		return req, err
	}
	id, err := field(params, "id", '"')
	if err != nil {
		return req, err
	}
	group, err := field(params, "group", '"')
	if err != nil {
		return req, err
	}
	req = Request{ID: unquote(id), Group: unquote(group)}
	if err := checkID(req.ID); err != nil {
		return Request{}, err
	}
	if err := checkGroup(req.Group); err != nil {
		return Request{}, err
	}
	return req, nil
}

func checkID(id string) error {
	switch {
	case id == "":
		return invalid("id is empty; expected is %s", shape)
	case len(id) > maxName:
		return invalid("id is %d bytes long, at most %d are allowed", len(id), maxName)
	case strings.ContainsRune(id, utf8.RuneError): // what half of a surrogate pair becomes: two ids would be one
		return invalid("id %q is not valid Unicode", id)
	case strings.ContainsFunc(id, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }):
		return invalid("id %q holds a space or a control character", id)
	}
	return nil
}

func checkGroup(group string) error {
	switch {
	case group == "":
		return invalid("group is empty; expected is %s", shape)
	case len(group) > maxName:
		return invalid("group is %d bytes long, at most %d are allowed", len(group), maxName)
	case strings.ContainsFunc(group, notInGroup):
		return invalid("group %q is no group's name: letters, digits, . and - are allowed", group)
	}
	return nil
}

func notInGroup(r rune) bool {
	return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '.' || r == '-')
}

// field is the value of an object's member, which must be there once, spelled exactly so
// (encoding/json would take ID for id), and begin with first.
func field(object []byte, name string, first byte) (value []byte, err error) {
	for key, v := range members(object) {
		if unquote(key) != name {
			continue
		}
		if value != nil {
			return nil, invalid("%s is given twice; expected is %s", name, shape)
		}
		value = v
	}
	switch {
	case value == nil:
		return nil, invalid("%s is missing; expected is %s", name, shape)
	case value[0] != first:
		return nil, invalid("%s is %s; expected is %s", name, typeOf(value), shape)
	}
	return value, nil
}

func typeOf(value []byte) string {
	switch value[0] {
	case '{':
		return "an object"
	case '[':
		return "an array"
	case '"':
		return "a string"
	case 't', 'f':
		return "a boolean"
	case 'n':
		return "null"
	}
	return "a number"
}

// unquote is the text of a JSON string that is known to be valid.
func unquote(quoted []byte) string {
	if bytes.IndexByte(quoted, '\\') < 0 {
		return string(quoted[1 : len(quoted)-1])
	}
	var s string
	_ = json.Unmarshal(quoted, &s)
	return s
}

// members walks over the names and values of an object that is known to be valid JSON,
// without the spaces around them.
func members(object []byte) iter.Seq2[[]byte, []byte] {
	return func(yield func(key, value []byte) bool) {
		i := skipSpace(object, 1)
		for object[i] != '}' {
			key := object[i:valueEnd(object, i)]
			i = skipSpace(object, i+len(key))
			i = skipSpace(object, i+1) // the colon
			value := object[i:valueEnd(object, i)]
			if !yield(key, value) {
				return
			}
			if i = skipSpace(object, i+len(value)); object[i] == ',' {
				i = skipSpace(object, i+1)
			}
		}
	}
}

func skipSpace(doc []byte, i int) int {
	for doc[i] == ' ' || doc[i] == '\t' || doc[i] == '\r' || doc[i] == '\n' {
		i++
	}
	return i
}

// valueEnd is where the value ends that begins at i, in an object.
func valueEnd(doc []byte, i int) int {
	for depth := 0; ; i++ {
		switch doc[i] {
		case '"':
			for i++; doc[i] != '"'; i++ {
				if doc[i] == '\\' {
					i++
				}
			}
		case '{', '[':
			depth++
			continue
		case '}', ']':
			depth--
		default: // of a number, true, false or null; or between values, if depth is not 0
			if depth == 0 && strings.IndexByte(" \t\r\n,}", doc[i+1]) < 0 {
				continue
			}
		}
		if depth == 0 {
			return i + 1
		}
	}
}
