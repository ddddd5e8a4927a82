package etcdtest

import (
	"crypto/tls"
	"fmt"
	"strings"
	"testing"
)

// StartTLS runs Debian's etcd at an https endpoint until the test ends. args name
// its certificate files; client is what the harness itself connects with.
func StartTLS(t testing.TB, client *tls.Config, args ...string) *Server {
	t.Helper()
	s := &Server{kind: Debian, dir: t.TempDir(), tls: client, extra: args}
	t.Cleanup(s.Stop)
	if err := s.Restart(); err != nil {
		t.Fatal(err)
	}
	return s
}

// StartCluster runs a cluster of n members, each a process of Debian's etcd, until
// the test ends.
func StartCluster(t testing.TB, n int, args ...string) []*Server {
	t.Helper()
	members := make([]*Server, n)
	urls := make([]string, n)
	for i := range members {
		peer, err := freeAddress(ownIP())
		if err != nil {
			t.Fatal(err)
		}
		members[i] = &Server{kind: Debian, dir: t.TempDir(), extra: args, name: fmt.Sprintf("m%d", i), peer: peer}
		urls[i] = members[i].name + "=http://" + peer
	}
	for _, m := range members {
		m.cluster = strings.Join(urls, ",")
		t.Cleanup(m.Stop)
		if err := m.startProcess(); err != nil {
			t.Fatal(err)
		}
	}
	for _, m := range members { // none answers before most run
		if err := m.awaitReady(); err != nil {
			t.Fatal(err)
		}
	}
	return members
}

// Resume starts a stopped Debian server without waiting until it answers: a
// member without the others does not.
func (s *Server) Resume() error { return s.startProcess() }
