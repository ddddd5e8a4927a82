package journal_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/locksmith-reboot/locksmith/internal/journal"
)

func TestWithoutJournal(t *testing.T) {
	s := listen(t)
	log, _, text := logger(t, s)
	s.stop()
	log.With("machine", "m1").WithGroup("g").Warn("nobody\nhere", "a", 1)
	if got := text.String(); !strings.HasSuffix(got, ` level=WARN msg="nobody\nhere" machine=m1 g.a=1`+"\n") {
		t.Errorf("got %q", got)
	}
	text.Reset()
	s.open(t) // journald was started again
	log.Info("back")
	if got := s.next(t).one("MESSAGE"); got != "back" || text.Len() > 0 {
		t.Errorf("got %q, %q", got, text)
	}
}

func TestNothingIsHeldOpen(t *testing.T) {
	s := listen(t)
	log, h, _ := logger(t, s)
	log.Info("one")
	for range 2 {
		if err := h.Close(); err != nil {
			t.Fatal(err)
		}
	}
	log.Info("two")
	if a, b := s.next(t).one("MESSAGE"), s.next(t).one("MESSAGE"); a+b != "onetwo" {
		t.Errorf("got %s, %s", a, b)
	}
}

// A journald that lives but does not read costs the daemon one short wait, not one
// for each record.
func TestJournalThatDoesNotRead(t *testing.T) {
	s := listen(t)
	log, _, text := logger(t, s)
	before := time.Now()
	sent := 0
	for ; text.Len() == 0; sent++ { // as many as its queue takes
		log.Info("fill", "n", sent)
	}
	for range 200 {
		log.Info("more")
	}
	if took := time.Since(before); took > 5*time.Second {
		t.Errorf("%d records took %v", sent+200, took)
	}
	if got := bytes.Count(text.Bytes(), []byte("\n")); got != 201 {
		t.Errorf("%d records went to the fallback, want 201", got)
	}
	for n := range sent - 1 {
		if e := s.next(t); e.one("LOCKSMITH_N") != fmt.Sprint(n) {
			t.Fatalf("record %d: got %q", n, e)
		}
	}
	text.Reset()
	log.Info("reads again")
	if got := s.next(t).one("MESSAGE"); got != "reads again" || text.Len() > 0 {
		t.Errorf("got %q, %q", got, text)
	}
}

// Standard error may be a pipe that nobody reads.
func TestFallbackThatDoesNotRead(t *testing.T) {
	s := listen(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	h := journal.New(journal.Config{Path: s.path, Fallback: w})
	defer h.Close()
	log := slog.New(h)
	s.stop()
	before := time.Now()
	const records = 1000
	for range records {
		log.Info("lost", "text", strings.Repeat("x", 10<<10))
	}
	if took := time.Since(before); took > 5*time.Second {
		t.Errorf("%d records took %v", records, took)
	}
	s.open(t)
	log.Info("back")
	if got := s.next(t).one("MESSAGE"); got != "back" {
		t.Errorf("got %q", got)
	}
	e := s.next(t)
	var lost int
	fmt.Sscan(e.one("LOCKSMITH_RECORDS"), &lost)
	w.Close()
	text, err := io.ReadAll(r)
	written := bytes.Count(text, []byte("…\n"))
	if err != nil || written == 0 || written+lost != records || e.one("PRIORITY") != "4" {
		t.Errorf("%d records written and %d reported as lost, of %d; %q; %v", written, lost, records, e.one("MESSAGE"), err)
	}
	for line := range strings.Lines(string(text)) {
		if len(line) > 4<<10 {
			t.Errorf("a line of %d bytes", len(line))
		}
	}
	if e, err := s.read(false); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("told twice: %q, %v", e, err)
	}
}

func TestUnder(t *testing.T) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	stderr, other := os.NewFile(uintptr(pair[0]), "stderr"), os.NewFile(uintptr(pair[1]), "other")
	defer stderr.Close()
	defer other.Close()
	var st unix.Stat_t
	if err := unix.Fstat(pair[0], &st); err != nil {
		t.Fatal(err)
	}
	stream := fmt.Sprintf("%d:%d", st.Dev, st.Ino)
	tests := []struct {
		stream string
		file   *os.File
		want   bool
	}{
		{stream, stderr, true},
		{stream, other, false}, // redirected
		{stream, nil, false},
		{"", stderr, false},
		{"x", stderr, false},
		{stream + "0", stderr, false},
	}
	for _, tt := range tests {
		t.Setenv("JOURNAL_STREAM", tt.stream)
		if got := journal.Under(tt.file); got != tt.want {
			t.Errorf("%q: got %t", tt.stream, got)
		}
	}
	closed, err := os.Create(filepath.Join(t.TempDir(), "closed"))
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	t.Setenv("JOURNAL_STREAM", stream)
	if journal.Under(closed) {
		t.Error("a closed file goes nowhere")
	}
}

// Nothing here may be a socket of another kind than journald's.
func TestPathOfAnotherSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "stream")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var text bytes.Buffer
	h := journal.New(journal.Config{Path: path, Fallback: &text})
	defer h.Close()
	slog.New(h).Info("hello")
	if !strings.Contains(text.String(), "msg=hello") {
		t.Errorf("got %q", &text)
	}
}
