package hostile

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// figures are what a server has at one moment.
type figures struct {
	goroutines population
	sockets    int // open, by /proc
}

// Goroutines that may be there after an attack and were not before, by their function and
// how many of them.
var (
	// Once somebody has waited for a slot, the server keeps a lease for those who do, in
	// a stream that begins some seconds later: what it costs in the client and in the
	// etcd inside.
	staying = map[string]int{
		"google.golang.org/grpc.newClientStreamWithParams.func4":                             1,
		"google.golang.org/grpc.(*Server).serveStreams.func2.1":                              1,
		"go.etcd.io/etcd/server/v3/etcdserver/api/v3rpc.(*LeaseServer).LeaseKeepAlive.func1": 1,
	}
	// What serves a group is kept at hand for a minute, for each that the attacks ask
	// for: good, half, cut and left.
	lingering = with(staying, "github.com/locksmith-reboot/locksmith/internal/etcd.(*desk).run", groups)
	// Some seconds longer than anybody waits in them their queues are followed.
	rightAfter = with(lingering, "go.etcd.io/etcd/client/v3.(*watchGRPCStream).serveSubstream", groups)
)

const groups = 4

func with(allowed map[string]int, function string, n int) map[string]int {
	allowed = maps.Clone(allowed)
	allowed[function] += n
	return allowed
}

// exceeds is an error that says what a server has more than before and may have.
func (f figures) exceeds(before figures, allowed map[string]int) error {
	if more := f.goroutines.more(before.goroutines, allowed); more != "" {
		return errors.New(more)
	}
	if f.sockets > before.sockets {
		return fmt.Errorf("%d sockets are open, and before there were %d", f.sockets, before.sockets)
	}
	return nil
}

func (s *server) figures() (f figures, err error) {
	if f.goroutines, err = s.goroutines(); err == nil {
		f.sockets, err = s.sockets()
	}
	return f, err
}

// sockets is how many the process has. What else is open are etcd's files, which come
// and go.
func (s *server) sockets() (n int, err error) {
	dir := fmt.Sprintf("/proc/%d/fd", s.pid)
	files, err := os.ReadDir(dir)
	for _, f := range files {
		// One that is closed meanwhile is none.
		if to, err := os.Readlink(filepath.Join(dir, f.Name())); err == nil && strings.HasPrefix(to, "socket:") {
			n++
		}
	}
	return n, err
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
func (s *server) get(path string) ([]byte, error) {
	return fetch(s.client, http.MethodGet, s.url+path, adminToken, "")
}

// nobody says who holds or waits in any group, if anybody does.
func (s *server) nobody() error {
	text, err := s.get("/api/v1/groups")
	if err != nil {
		return err
	}
	var list struct{ Groups []struct{ Group string } }
	if err := json.Unmarshal(text, &list); err != nil || len(list.Groups) == 0 {
		return fmt.Errorf("no groups in %s (%v)", text, err)
	}
	for _, g := range list.Groups {
		text, err := s.get("/api/v1/status?group=" + g.Group)
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
func eventually(t testing.TB, wrong func() error) {
	t.Helper()
	late := time.After(limit)
	for pause := 10 * time.Millisecond; ; pause = min(2*pause, time.Second) { // asking is work for who should rest
		err := wrong()
		if err == nil {
			return
		}
		select {
		case <-time.After(pause):
		case <-late:
			t.Errorf("after %v: %v", limit, err)
			return
		}
	}
}

// settled waits until nobody holds or waits, and the server has what it had before.
func (s *server) settled(t testing.TB, before figures, allowed map[string]int) {
	t.Helper()
	eventually(t, s.nobody)
	eventually(t, func() error { // without a connection of ours
		now, err := s.figures()
		if err != nil {
			return err
		}
		return now.exceeds(before, allowed)
	})
}

// What a server may have more in use after a second round of the same attacks than after
// the first, in bytes. What its first round took to its height, such as tables that do not
// shrink, is there already.
const (
	moreOurs = 128 << 10
	moreEtcd = 2 << 20 // its log and index: some hundred bytes for each of the changes
)

// grownSince is an error where the server has more memory in use than at before.
func (s *server) grownSince(before heap) error {
	now, err := s.heap()
	switch {
	case err != nil:
		return err
	case now.total() > before.total()+moreOurs:
		return fmt.Errorf("%d KiB are in use, and before there were %d; most was added by%s", now.total()>>10, before.total()>>10, now.grown(before))
	case now.etcd > before.etcd+moreEtcd:
		return fmt.Errorf("etcd has %d KiB in use, and before it had %d", now.etcd>>10, before.etcd>>10)
	}
	return nil
}
