package model

import (
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/locksmith-reboot/locksmith/internal/etcd"
	"github.com/locksmith-reboot/locksmith/internal/etcdtest"
)

// servers are etcds for walks, each for one at a time: a pause of all groups, or of a
// machine, would be one for all others there.
type servers struct {
	dir  string
	mu   sync.Mutex
	free []*etcdtest.Server
	all  []*etcdtest.Server
}

// take is an etcd with nothing in it, for as long as the test runs.
func (s *servers) take(t *testing.T) *etcdtest.Server {
	t.Helper()
	one, err := s.get()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // the last thing to do for the test
		client := one.Client(t)
		everything := &pb.DeleteRangeRequest{Key: []byte{0}, RangeEnd: []byte{0}}
		if _, err := pb.NewKVClient(client.ActiveConnection()).DeleteRange(client.Ctx(), everything); err != nil {
			t.Error(err)
			return // nobody gets it again
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		s.free = append(s.free, one)
	})
	return one
}

func (s *servers) get() (*etcdtest.Server, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := len(s.free); n > 0 {
		one := s.free[n-1]
		s.free = s.free[:n-1]
		return one, nil
	}
	dir := filepath.Join(s.dir, fmt.Sprintf("walks-%d", len(s.all)))
	one, err := etcdtest.New(etcdtest.Embedded, dir)
	if err != nil {
		return nil, errors.Join(errors.New("an etcd for walks"), err)
	}
	s.all = append(s.all, one)
	return one, nil
}

func (s *servers) stop() {
	for _, one := range s.all {
		one.Stop()
	}
}

// at has a store use an etcd.
func at(server *etcdtest.Server) func(*etcd.Config) {
	return func(cfg *etcd.Config) { cfg.Endpoints = []string{server.Endpoint} }
}
