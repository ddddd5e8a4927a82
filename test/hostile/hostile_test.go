package hostile

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/locksmith-reboot/locksmith/internal/skip"
)

// attack is one kind of hostile client. It returns once it is over: all its connections
// are closed by then.
type attack struct {
	name string
	run  func(t *testing.T, s *server)
}

// One after the other, on the same server: what one leaves behind would add up.
var attacks = []attack{
	{"huge headers", hugeHeaders},
	{"huge bodies", hugeBodies},
	{"idle connections", idle},
	{"thousands at once", thousands},
	{"half-closed connections", halfClosed},
	{"garbage", garbage},
	{"garbage inside", garbageInside},
	{"garbage in bodies", garbageBodies},
	{"pipelined floods", pipelined},
	{"streams that nobody reads", unread},
	{"disconnects at every point", disconnects},
	{"disconnects while waiting", leavesQueue},
	{"wrong tokens", wrongTokens},
}

// What only a port with TLS speaks, and what one in plain text must not.
var (
	plainOnly  = []attack{{"HTTP/2 in plain text", inPlainText}}
	secureOnly = []attack{
		{"HTTP/2: rapid resets", rapidResets},
		{"HTTP/2: floods", controlFloods},
		{"HTTP/2: header bombs", bombs},
		{"HTTP/2: what ends the connection", together(continuations, wrongFrames, largeFrames, garbageFrames, farewells)},
		{"HTTP/2: idle connections", idlePeers},
		{"HTTP/2: too many streams", manyStreams},
		{"HTTP/2: windows opened byte by byte", tinyWindows},
		{"HTTP/2: waiting streams are reset", resetWaiting},
	}
)

// together makes attacks at once of which each waits for the server.
func together(attacks ...func(*testing.T, *server)) func(*testing.T, *server) {
	return func(t *testing.T, s *server) {
		var all sync.WaitGroup
		for _, run := range attacks {
			all.Go(func() { run(t, s) })
		}
		all.Wait()
	}
}

// These wait for the server's own limits of time, so they come all at once.
var (
	patient       = []attack{{"slow headers", slowHeaders}, {"slow bodies", slowBodies}}
	patientSecure = append(patient[:2:2], attack{"half of a TLS handshake", halfHandshakes}, attack{"HTTP/2: half a hello", halfHello}, attack{"HTTP/2: a hello and no more", hello},
		attack{"HTTP/2: slow headers", slowFrames}, attack{"HTTP/2: slow bodies", slowData}, attack{"HTTP/2: windows that stay shut", shutWindows})
)

// ports are the two ways to reach a server.
var ports = []struct {
	name             string
	secure, secondly bool // secondly: only what HTTP/2 has of its own
	slow             []attack
}{{"plain", false, false, patient}, {"TLS", true, false, patientSecure[:3]}, {"HTTP2", true, true, patientSecure[3:]}}

func TestHostile(t *testing.T) {
	t.Parallel() // with those who are patient
	for _, port := range ports {
		t.Run(port.name, func(t *testing.T) {
			t.Parallel()
			hostile(t, port.secure, port.secondly)
		})
	}
}

// longForm is set in the environment where there is time for the long form.
const longForm = "LOCKSMITH_HOSTILE_LONG"

// inNumbers is set while the long form runs: nothing else runs beside it.
var inNumbers bool

// TestHostileInNumbers is TestHostile with some ten times as many clients, five times
// over, one port after the other, until even what lingers has gone.
func TestHostileInNumbers(t *testing.T) {
	inTheLongForm(t)
	for _, port := range ports {
		t.Run(port.name, func(t *testing.T) { hostile(t, port.secure, port.secondly) })
	}
}

func inTheLongForm(t *testing.T) {
	t.Helper()
	if os.Getenv(longForm) == "" {
		skip.LongForm(t, "make hostile")
	}
	inNumbers = true
	t.Cleanup(func() { inNumbers = false })
}

// size is how many clients an attack has: few in the short form, many in the long one.
func size(short, long int) int {
	if inNumbers {
		return long
	}
	return short
}

// forgets is how long net/http keeps the memory of a connection of HTTP/2 that ended with
// streams open: as long as an idle one may stay, and then some.
const forgets = 80 * time.Second

// hostile makes attacks in rounds. For what HTTP/2 has of its own the short form does not
// wait until the memory is free after the first round, so it finds only larger leaks.
func hostile(t *testing.T, secure, secondly bool) {
	all := append(attacks[:len(attacks):len(attacks)], plainOnly...)
	switch {
	case secondly:
		all = secureOnly
	case secure:
		all = attacks
	}
	s := start(t, secure)
	before := s.warm(t)
	s.round(t, before, all)
	if secondly && inNumbers {
		<-time.After(forgets) // of the server: there is nothing to be seen of it
	}
	first, err := s.heap()
	if err != nil {
		t.Fatal(err)
	}
	for range size(1, 4) {
		s.round(t, before, all)
	}
	s.settled(t, before, lingering)
	if inNumbers {
		s.settled(t, before, staying)
	}
	eventually(t, func() error { return s.grownSince(first) })
	s.peaked(t)
}

// round makes attacks, one after the other.
func (s *server) round(t *testing.T, before figures, attacks []attack) {
	t.Helper()
	for _, a := range attacks {
		t.Run(a.name, func(t *testing.T) { s.under(t, before, a) })
	}
}

func TestPatient(t *testing.T) {
	t.Parallel()
	for _, port := range ports {
		t.Run(port.name, func(t *testing.T) {
			t.Parallel()
			slow(t, port.secure, port.slow)
		})
	}
}

// TestPatientInNumbers is TestPatient with ten times as many clients, who stay until the
// server hangs up on the last of them.
func TestPatientInNumbers(t *testing.T) {
	inTheLongForm(t)
	for _, port := range ports {
		t.Run(port.name, func(t *testing.T) { slow(t, port.secure, port.slow) })
	}
}

func slow(t *testing.T, secure bool, attacks []attack) {
	s := start(t, secure)
	s.under(t, s.warm(t), attacks...)
}

// warm has the server do each thing once, and returns what it has then. Somebody has
// waited, so that it has its lease for those who wait, which it keeps.
func (s *server) warm(t testing.TB) figures {
	t.Helper()
	b := s.behaved()
	for range 5 {
		b.round()
	}
	b.none(t)
	free := s.taken(t, "good")
	crowd(t, s, 1, func(_ int, c stream) error {
		if _, err := c.Write(fleetLock("/v1/pre-reboot", "warm", "good")); err != nil {
			return err
		}
		eventually(t, func() error { return s.wait("good", 1) })
		return nil
	})
	eventually(t, func() error { return s.wait("good", 0) })
	free()
	return s.atRest(t)
}

// atRest is what the server has once it is the same at two looks in a row, without a
// connection.
func (s *server) atRest(t testing.TB) figures {
	t.Helper()
	const connection = "net/http.(*conn).serve"
	var last figures
	eventually(t, func() error {
		now, err := s.figures()
		if err != nil {
			return err
		}
		same := maps.Equal(now.goroutines.count, last.goroutines.count) && now.sockets == last.sockets
		last = now
		if n := now.goroutines.count[connection]; n > 0 || !same {
			return fmt.Errorf("%d connections are served, and the figures are the same: %v", n, same)
		}
		return nil
	})
	return last
}

// under makes attacks, all at once, and looks what is left of them.
func (s *server) under(t *testing.T, before figures, attacks ...attack) {
	began := time.Now()
	b := s.during(t, func() {
		var all sync.WaitGroup
		for _, a := range attacks {
			all.Go(func() { a.run(t, s) })
		}
		all.Wait()
	})
	took := time.Since(began)
	s.settled(t, before, rightAfter)
	t.Logf("%s: %v, and %v until it was over; a client that behaves: %v", attacks[0].name, took.Round(time.Millisecond), (time.Since(began) - took).Round(time.Millisecond), b)
}

// crowd runs n clients at a time on a connection each, which is closed when they are
// done. A client's error fails the test; that the server hangs up on it is none. For
// each that cannot come absent is called.
func crowd(t testing.TB, s *server, n int, client func(i int, c stream) error, absent ...func()) {
	t.Helper()
	var all sync.WaitGroup
	var mu sync.Mutex
	var wrong []error
	for i := range n {
		all.Go(func() {
			c, err := s.open()
			if err == nil {
				err = client(i, c)
				tcp(c).Close() // with TLS Close would wait for those who do not read
			} else {
				for _, say := range absent {
					say()
				}
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

// gathering is where so many wait for each other.
type gathering struct {
	missing atomic.Int64
	here    context.Context // ends when all have come
	begin   context.CancelFunc
}

func gather(n int) *gathering {
	g := &gathering{}
	g.here, g.begin = context.WithCancel(context.Background())
	g.missing.Store(int64(n))
	return g
}

// arrive says that one more has come.
func (g *gathering) arrive() {
	if g.missing.Add(-1) == 0 {
		g.begin()
	}
}

// await waits for all.
func (g *gathering) await() error {
	select {
	case <-g.here.Done():
		return nil
	case <-time.After(limit):
		return fmt.Errorf("%d have not come within %v", g.missing.Load(), limit)
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
