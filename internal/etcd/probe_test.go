package etcd

import (
	"net"
	"sync"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// A fleet whose etcd is too busy to answer does not open a connection at every failure to
// find out why.
func TestDiagnosisIsShared(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var looks atomic.Int64
	accepting := make(chan struct{})
	go func() {
		defer close(accepting)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			looks.Add(1)
			conn.Close()
		}
	}()
	s, err := Dial(Config{Endpoints: []string{"http://" + l.Addr().String()}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var failing sync.WaitGroup
	for range 50 {
		failing.Go(func() {
			if msg, transient := s.diagnose(status.Error(codes.Unavailable, "busy")); msg == "" || !transient {
				t.Errorf("%q, transient %v", msg, transient)
			}
		})
	}
	failing.Wait()
	if _, transient := s.diagnose(status.Error(codes.DeadlineExceeded, "silent")); !transient {
		t.Error("not transient")
	}
	l.Close()
	<-accepting
	// One look for each kind of failure.
	if got := looks.Load(); got != 2 {
		t.Errorf("%d connections were made to explain 51 failures of 2 kinds, want 2", got)
	}
}
