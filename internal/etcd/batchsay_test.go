package etcd

import (
	"context"
	"fmt"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/locksmith-reboot/locksmith"
)

// What clients of a server read when etcd is away has neither gRPC's nor Go's words in it.
func TestSay(t *testing.T) {
	s := &Store{cfg: Config{Endpoints: []string{"http://e:2379"}, Timeout: 3 * time.Second}}
	const tried = " (tried http://e:2379)"
	for _, c := range []struct {
		err  error
		want string
	}{
		{context.DeadlineExceeded, "no answer from etcd within 3s" + tried},
		{status.Error(codes.DeadlineExceeded, "context deadline exceeded"), "no answer from etcd within 3s" + tried},
		{fmt.Errorf("opening: %w", context.Canceled), "no answer from etcd within 3s" + tried},
		{status.Error(codes.Unavailable, `connection error: desc = "transport: Error while dialing: dial tcp 10.0.0.1:2379: connect: connection refused"`),
			"no answer from etcd: connection refused" + tried},
		{status.Error(codes.Unavailable, "error reading from server: EOF"), "no answer from etcd: the connection was closed" + tried},
		{status.Error(codes.Unavailable, "error reading from server: read tcp 10.0.0.1:2->10.0.0.2:3: read: connection reset by peer"),
			"no answer from etcd: connection reset by peer" + tried},
		{errDisconnected, "no answer from etcd: the connection is lost" + tried},
		{rpctypes.ErrNoLeader, "etcd has no leader or lost its quorum: no leader" + tried},
		{locksmith.ErrUnknownGroup, "unknown group"},
	} {
		if got := s.say(c.err).Error(); got != c.want {
			t.Errorf("%v is told as %q, want %q", c.err, got, c.want)
		}
	}
}
