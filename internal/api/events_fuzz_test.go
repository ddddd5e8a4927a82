package api

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"testing/iotest"
)

// Whatever a stream of events holds, and however it is cut: an event is never longer
// than what was agreed, and what a server writes is read as it was.
func FuzzEvents(f *testing.F) {
	f.Add([]byte("event: change\ndata: {}\n\n: ping\n\n"), "change", "a\nb")
	f.Add([]byte("data\ndata:\n\nevent\n\n"), "", "")
	f.Add([]byte("data: 1\r\ndata:2\r\n\r\n"), "x", " y")
	f.Add([]byte(strings.Repeat("data: 0123456789\n", 100)+"\n"), "x", "y")
	f.Fuzz(func(t *testing.T, stream []byte, name, text string) {
		const longest = 512
		var heard int
		err := readEvents(iotest.HalfReader(bytes.NewReader(stream)), longest, func() { heard++ }, func(name string, data []byte) error {
			if len(data) > longest || len(name) > longest {
				t.Fatalf("%q: an event of %d bytes", stream, len(data))
			}
			return nil
		})
		if lines := bytes.Count(stream, []byte("\n")) + 1; heard > lines {
			t.Fatalf("%q: %d lines were heard, there are %d", stream, heard, lines)
		}
		if err != nil && strings.ContainsAny(err.Error(), "\r\n") {
			t.Fatalf("%q: %q", stream, err)
		}
		name = strings.NewReplacer("\r", "", "\n", "").Replace(name)
		doc, err := json.Marshal(text)
		if err != nil || len(doc) > longest/2 || len(name) > longest/2 {
			return
		}
		got := 0
		err = readEvents(strings.NewReader("event: "+name+"\ndata: "+string(doc)+"\n\n"), longest, func() {}, func(as string, data []byte) error {
			if got++; as != name || !bytes.Equal(data, doc) {
				t.Fatalf("%q with %s is read as %q with %s", name, doc, as, data)
			}
			return nil
		})
		if err != nil || got != 1 {
			t.Fatalf("%q with %s is read as %d events, %v", name, doc, got, err)
		}
	})
}

// Times and durations from the other side are read, or refused in one line, and written
// as they were read.
func FuzzTimes(f *testing.F) {
	for _, text := range []string{`"2026-12-24T18:00:00Z"`, `"9999-12-31T23:59:59-24:00"`, `null`, `""`, `[` + "\n" + `1]`, `1e300`, `-0.0005`, `1.5`, `"\n"`, `0`} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		if !json.Valid(text) {
			return // encoding/json asks for no more than that
		}
		var at Time
		if err := json.Unmarshal(text, &at); err != nil {
			notOneLine(t, text, err)
		} else {
			through(t, at)
		}
		var d Duration
		if err := json.Unmarshal(text, &d); err != nil {
			notOneLine(t, text, err)
		} else {
			through(t, d)
		}
	})
}

func notOneLine(t *testing.T, text []byte, err error) {
	t.Helper()
	if strings.ContainsAny(err.Error(), "\r\n") {
		t.Fatalf("%q: more than one line: %q", text, err)
	}
}
