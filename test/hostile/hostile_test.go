package hostile

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/locksmith-reboot/locksmith/internal/skip"
)

// attack is one kind of hostile client. It returns once it is over: all its connections
// are closed by then.
type attack struct {
	name   string
	secure bool // against the port with TLS
	run    func(t *testing.T, s *server)
}

// One after the other, on the same two servers: what one leaves behind would add up.
var attacks = []attack{
	{"huge headers", false, hugeHeaders},
	{"huge bodies", false, hugeBodies},
	{"idle connections", false, idle},
	{"idle connections, TLS", true, idle},
	{"half-closed connections", false, halfClosed},
	{"garbage", false, garbage},
	{"garbage, TLS", true, garbage},
	{"pipelined floods", false, pipelined},
	{"events that nobody reads", false, unreadEvents},
	{"disconnects at every point", false, disconnects},
	{"disconnects while waiting", false, leavesQueue},
	{"wrong tokens", false, wrongTokens},
}

// These wait for the server's own limits of time, so they come all at once.
var patient = []attack{
	{"slow headers", false, slowHeaders},
	{"slow bodies", false, slowBodies},
	{"half of a TLS handshake", true, halfHandshakes},
}

func TestHostile(t *testing.T) {
	t.Parallel() // with those who are patient
	hostile(t)
}

// longForm is set in the environment where there is time for the long form.
const longForm = "LOCKSMITH_HOSTILE_LONG"

// inNumbers is set while the long form runs: nothing else runs beside it.
var inNumbers bool

// TestHostileInNumbers is TestHostile with ten times as many clients, five times over.
func TestHostileInNumbers(t *testing.T) {
	if os.Getenv(longForm) == "" {
		skip.LongForm(t, "make hostile")
	}
	inNumbers = true
	defer func() { inNumbers = false }()
	hostile(t)
}

// size is how many clients an attack has: few in the short form, many in the long one.
func size(short, long int) int {
	if inNumbers {
		return long
	}
	return short
}

func hostile(t *testing.T) {
	rounds := size(1, 5)
	servers := map[bool]*server{}
	before := map[bool]figures{}
	for _, secure := range []bool{false, true} {
		servers[secure] = start(t, secure)
		before[secure] = servers[secure].warm(t)
	}
	for range rounds {
		for _, a := range attacks {
			t.Run(a.name, func(t *testing.T) { servers[a.secure].under(t, a, before[a.secure]) })
		}
	}
	for secure, s := range servers {
		s.settled(before[secure], atRest, 40*time.Second)
	}
}

func TestPatient(t *testing.T) {
	t.Parallel()
	var all sync.WaitGroup
	for _, secure := range []bool{false, true} {
		s := start(t, secure)
		before := s.warm(t)
		all.Go(func() {
			s.under(t, attack{"patient", secure, func(t *testing.T, s *server) {
				var same sync.WaitGroup
				for _, a := range patient {
					if a.secure == secure {
						same.Go(func() { a.run(t, s) })
					}
				}
				same.Wait()
			}}, before)
		})
	}
	all.Wait()
}

// warm has the server do each thing once, and returns what it has then.
func (s *server) warm(t testing.TB) figures {
	t.Helper()
	b := &behaved{url: s.url, client: newClient(s.tls)}
	for range 20 {
		b.round()
	}
	if len(b.wrong) > 0 {
		t.Fatal(b.wrong[0])
	}
	f, err := s.figures()
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// under runs an attack and looks what is left of it.
func (s *server) under(t *testing.T, a attack, before figures) {
	began := time.Now()
	of := *s
	of.t = t
	s.during(t, func() { a.run(t, s) })
	took := time.Since(began)
	of.settled(before, rightAfter, 30*time.Second)
	t.Logf("%v, and %v until it was over", took.Round(time.Millisecond), (time.Since(began) - took).Round(time.Millisecond))
}

// crowd runs n clients at a time on a connection each, which is closed when they are
// done. A client's error fails the test; that the server hangs up on it is none.
func crowd(t testing.TB, s *server, n int, client func(i int, c *net.TCPConn) error) {
	t.Helper()
	var all sync.WaitGroup
	var mu sync.Mutex
	var wrong []error
	for i := range n {
		all.Go(func() {
			c, err := s.dial()
			if err == nil {
				err = client(i, c)
				c.Close()
			}
			if err != nil && !hungUp(err) {
				mu.Lock()
				defer mu.Unlock()
				wrong = append(wrong, fmt.Errorf("client %d: %w", i, err))
			}
		})
	}
	all.Wait()
	for _, err := range wrong[:min(len(wrong), 5)] {
		t.Error(err)
	}
}

// hungUp says whether an error is that the other side has closed the connection.
func hungUp(err error) bool {
	for _, is := range []error{io.EOF, io.ErrUnexpectedEOF, syscall.ECONNRESET, syscall.EPIPE, syscall.ENOTCONN} {
		if errors.Is(err, is) {
			return true
		}
	}
	return false
}
