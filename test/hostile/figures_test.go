package hostile

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// figures are what a server has at one moment.
type figures struct {
	goroutines int // as its metrics say
	files      int // open, by /proc
	memory     int // resident, in KiB
}

func (f figures) String() string {
	return fmt.Sprintf("%d goroutines, %d files, %d MiB", f.goroutines, f.files, f.memory>>10)
}

// What a server may have more than before. Right after an attack it still keeps at hand
// what serves each group that was asked for (some of it for a minute), and memory, which it gives back when it has
// been at rest for some seconds; the store's housekeeping comes and goes.
var (
	rightAfter = figures{goroutines: 20, files: 3, memory: 64 << 10}
	atRest     = figures{goroutines: 12, files: 1, memory: 32 << 10}
)

// exceeds says what a server has more than before and may be.
func (f figures) exceeds(before, more figures) string {
	switch {
	case f.goroutines > before.goroutines+more.goroutines:
		return "goroutines"
	case f.files > before.files+more.files:
		return "open files"
	case f.memory > before.memory+more.memory:
		return "memory"
	}
	return ""
}

var goroutines = regexp.MustCompile(`(?m)^go_goroutines (\d+)$`)

func (s *server) figures() (f figures, err error) {
	text, err := s.get("/metrics", adminToken)
	if err != nil {
		return f, err
	}
	m := goroutines.FindSubmatch(text)
	if m == nil {
		return f, fmt.Errorf("no go_goroutines among %d bytes of metrics", len(text))
	}
	f.goroutines, _ = strconv.Atoi(string(m[1]))
	files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", s.pid))
	f.files = len(files)
	if err == nil {
		f.memory, err = s.memory("VmRSS")
	}
	return f, err
}

// memory is a line of /proc/PID/status, in KiB.
func (s *server) memory(name string) (int, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, name+":"); ok {
			return strconv.Atoi(strings.Fields(rest)[0])
		}
	}
	return 0, fmt.Errorf("no %s in /proc", name)
}

// get reads a document of the server's.
func (s *server) get(path, token string) ([]byte, error) {
	req, err := http.NewRequest(http.MethodGet, s.url+path, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := s.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: status %d: %s", path, resp.StatusCode, bytes.TrimSpace(text))
	}
	return text, err
}

// nobody says who holds or waits in any group, if anybody does.
func (s *server) nobody() error {
	text, err := s.get("/api/v1/groups", adminToken)
	if err != nil {
		return err
	}
	var list struct{ Groups []struct{ Group string } }
	if err := json.Unmarshal(text, &list); err != nil || len(list.Groups) == 0 {
		return fmt.Errorf("no groups in %s (%v)", text, err)
	}
	for _, g := range list.Groups {
		text, err := s.get("/api/v1/status?group="+g.Group, adminToken)
		if err != nil {
			return err
		}
		var status struct{ Holders, Queue []json.RawMessage }
		if err := json.Unmarshal(text, &status); err != nil {
			return err
		}
		if len(status.Holders)+len(status.Queue) > 0 {
			return fmt.Errorf("in group %q %d hold and %d wait: %.300s", g.Group, len(status.Holders), len(status.Queue), text)
		}
	}
	return nil
}

// eventually asks until there is nothing wrong any more, or fails the test with what is.
func eventually(t testing.TB, within time.Duration, wrong func() error) {
	t.Helper()
	limit := time.After(within)
	for pause := 50 * time.Millisecond; ; pause = min(2*pause, 3*time.Second) { // asking is work for who should rest
		err := wrong()
		if err == nil {
			return
		}
		select {
		case <-time.After(pause):
		case <-limit:
			t.Errorf("after %v: %v", within, err)
			return
		}
	}
}

// settled waits until the server is as it was before, and nobody holds or waits.
func (s *server) settled(before, more figures, within time.Duration) {
	s.t.Helper()
	var now figures
	eventually(s.t, within, func() (err error) {
		if now, err = s.figures(); err != nil {
			return err
		}
		if what := now.exceeds(before, more); what != "" {
			return fmt.Errorf("more %s than before: %v, and before %v", what, now, before)
		}
		return s.nobody()
	})
	s.t.Logf("before: %v; after: %v", before, now)
}
