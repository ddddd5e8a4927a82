package lockclient_test

import (
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/fleetlock"
	"github.com/locksmith-reboot/locksmith/internal/lockclient"
)

// waiting is an Acquire under way.
type waiting struct {
	slots locksmith.Slots
	err   error
	mu    sync.Mutex
	told  []string
	end   context.CancelCauseFunc
	done  chan struct{}
}

var errEnough = errors.New("enough")

// acquiring starts an Acquire.
func acquiring(l *lockclient.Lock) *waiting {
	ctx, cancel := context.WithCancelCause(context.Background())
	w := &waiting{end: cancel, done: make(chan struct{})}
	go func() {
		defer close(w.done)
		w.slots, w.err = l.Acquire(ctx, request("boot-1"), func(text string) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.told = append(w.told, text)
		})
	}()
	return w
}

// said is what it has reported so far.
func (w *waiting) said() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.told)
}

// A server that holds requests hands its slot over without a pause.
func TestHandoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, m := newServer(t), newMachine(t)
		s.hold = 55 * time.Second
		s.take("web/other")
		w := acquiring(m.open(s))
		time.Sleep(time.Hour + 7*time.Second)
		s.drop("web/other")
		synctest.Wait()
		<-w.done
		if w.err != nil || w.slots.Record.StartTime != time.Now().Unix() {
			t.Errorf("%+v, %v", w.slots, w.err)
		}
		// Asked again at once, 55 s and a moment apart.
		if n := len(s.requests()); n < 63 || n > 67 {
			t.Errorf("%d requests in an hour", n)
		}
		if !slices.Equal(w.said(), []string{"no slot is free: every slot is taken"}) {
			t.Errorf("it said %q", w.said())
		}
		m.expectFile("held")
	})
}

// How often servers are asked that answer at once, by what they answer.
func TestAskedAgain(t *testing.T) {
	for _, tt := range []struct {
		name     string
		refuse   error
		away     error
		from, to int // requests in the first hour
		said     string
	}{
		{"full", errFull, nil, 12, 20, "no slot is free: every slot is taken"},
		{"paused", &fleetlock.Error{Kind: fleetlock.KindPaused, Value: "by alice"}, nil, 12, 20, "the FleetLock server says that reboots are paused: by alice"},
		{"full, as locksmith-server says it", &fleetlock.Error{Kind: fleetlock.KindFull, Value: "no slot of group web is free: held by a"}, nil, 12, 20,
			"no slot of group web is free: held by a"},
		{"a full one with another status", &fleetlock.Error{Kind: fleetlock.KindFull, Value: "x", Status: 500}, nil, 12, 20, "no slot is free: x"},
		{"no group", &fleetlock.Error{Kind: fleetlock.KindNoGroup, Value: "create it"}, nil, 11, 18, "the FleetLock server refuses this machine: 404 unknown_group: create it"},
		{"no credentials", &fleetlock.Error{Kind: fleetlock.KindUnauthorized, Value: "who?"}, nil, 11, 18, "the FleetLock server refuses this machine: 401 unauthorized: who?"},
		{"in trouble", &fleetlock.Error{Kind: fleetlock.KindStore, Value: "etcd\nis away\x00"}, nil, 50, 80, "the FleetLock server is in trouble: 503 store_unavailable: etcd is away"},
		{"away", nil, errors.New("connection refused"), 50, 80, "the FleetLock server https://server:1: connection refused"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, m := newServer(t), newMachine(t)
				s.refuse, s.away = tt.refuse, tt.away
				w := acquiring(m.open(s))
				time.Sleep(time.Hour)
				if n := len(s.requests()); n < tt.from || n > tt.to {
					t.Errorf("%d requests in an hour, want %d to %d", n, tt.from, tt.to)
				}
				if !slices.Equal(w.said(), []string{tt.said}) {
					t.Errorf("it said %q", w.said())
				}
				s.change(func() { s.refuse, s.away = nil, nil })
				<-w.done
				if w.err != nil {
					t.Errorf("it gave up: %v", w.err)
				}
				s.expectHeld("web/id")
			})
		})
	}
}

// What was in the way is not said any more once a request waits in line.
func TestSaysWhatIsNow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, m := newServer(t), newMachine(t)
		s.hold, s.away = 55*time.Second, errors.New("connection refused")
		s.take("web/other")
		w := acquiring(m.open(s))
		time.Sleep(10 * time.Second)
		s.change(func() { s.away = nil })
		time.Sleep(40 * time.Second)
		s.drop("web/other")
		<-w.done
		if !slices.Equal(w.said(), []string{"the FleetLock server https://server:1: connection refused", ""}) || w.err != nil {
			t.Errorf("it said %q, %v", w.said(), w.err)
		}
	})
}

// Who gives up while waiting holds nothing and has left the line.
func TestGivesUp(t *testing.T) {
	for _, hold := range []time.Duration{0, 55 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			s, m := newServer(t), newMachine(t)
			s.hold = hold
			s.take("web/other")
			w := acquiring(m.open(s))
			time.Sleep(10 * time.Second)
			m.expectFile("asking")
			began := time.Now()
			w.end(errEnough)
			<-w.done
			synctest.Wait()
			if !errors.Is(w.err, errEnough) || time.Since(began) != 0 || s.waiting != 0 {
				t.Errorf("%v after %v, %d wait", w.err, time.Since(began), s.waiting)
			}
			s.expectHeld("web/other")
			m.expectFile("")
			// Only where the request was left without an answer is there something to settle.
			want := []string{"0s pre-reboot"}
			if hold > 0 {
				want = append(want, "10s steady-state")
			}
			s.expectRequests(want...)
		})
	}
}

// A grant under way wins: a server that answers at once is not left while it grants.
func TestGrantUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, m := newServer(t), newMachine(t)
		s.before = func(string) { time.Sleep(time.Second) }
		w := acquiring(m.open(s))
		synctest.Wait()
		w.end(errEnough)
		<-w.done
		if w.err != nil || len(w.slots.Groups) != 1 {
			t.Errorf("%+v, %v", w.slots, w.err)
		}
		m.expectFile("held")
		s.expectHeld("web/id")
	})
}

// An answer that is lost changes nothing: the next request finds the slot held. Who gives
// up in between gives it back.
func TestLostAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, m := newServer(t), newMachine(t)
		s.after = func(string) bool { return len(s.log) == 1 }
		m.acquire(m.open(s), "boot-1")
		s.expectHeld("web/id")
	})
	synctest.Test(t, func(t *testing.T) {
		s, m := newServer(t), newMachine(t)
		s.after = func(call string) bool { return call == "pre-reboot" }
		w := acquiring(m.open(s))
		synctest.Wait()
		s.expectHeld("web/id")
		w.end(errEnough)
		<-w.done
		if !errors.Is(w.err, errEnough) {
			t.Error(w.err)
		}
		s.expectHeld()
		m.expectFile("")
	})
}

// Where the server is away just then, Run gives back what may be held, as soon as it is
// there again; and not what is asked for anew.
func TestGivesBackLater(t *testing.T) {
	for _, again := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			s, m := newServer(t), newMachine(t)
			l := m.open(s)
			m.run(l)
			s.after = func(call string) bool { return call == "pre-reboot" }
			w := acquiring(l)
			synctest.Wait()
			s.change(func() { s.away, s.after = errors.New("no route to host"), nil })
			w.end(errEnough)
			<-w.done
			m.expectFile("asking")
			time.Sleep(time.Hour)
			s.expectHeld("web/id")
			if n := len(s.requests()); n < 50 || n > 80 {
				t.Errorf("%d requests in an hour", n)
			}
			if again {
				w = acquiring(l)
				synctest.Wait()
			}
			s.change(func() { s.away = nil })
			time.Sleep(2 * time.Minute)
			if again {
				<-w.done
				s.expectHeld("web/id")
				m.expectFile("held")
				return
			}
			s.expectHeld()
			m.expectFile("")
		})
	}
}

// Nothing is asked for that could not be remembered, and what was granted goes back.
func TestCannotRemember(t *testing.T) {
	for _, call := range []string{"", "pre-reboot"} {
		synctest.Test(t, func(t *testing.T) {
			s, m := newServer(t), newMachine(t)
			l := m.open(s)
			remove := func() {
				if err := os.RemoveAll(filepath.Dir(m.path)); err != nil {
					t.Error(err)
				}
			}
			if call == "" {
				remove()
			} else {
				s.before = func(c string) {
					if c == call {
						remove()
					}
				}
			}
			_, err := l.Acquire(t.Context(), request("b"), nil)
			if err == nil || !strings.HasPrefix(err.Error(), "storing the machine's FleetLock slot: ") {
				t.Errorf("got %v", err)
			}
			s.expectHeld()
		})
	}
}

// Right before the reboot the server has the last word.
func TestConfirm(t *testing.T) {
	paused := &fleetlock.Error{Kind: fleetlock.KindPaused, Value: "by alice"}
	for _, tt := range []struct {
		name   string
		change func(*server)
		want   string
		lost   bool
	}{
		{"held", func(s *server) {}, "", false},
		{"taken away, and free", func(s *server) { s.holders = nil }, "", false},
		{"taken away", func(s *server) { s.holders = []string{"web/other"} }, locksmith.ErrSlotLost.Error(), true},
		{"taken away, at a server that lets wait", func(s *server) { s.holders, s.hold = []string{"web/other"}, 55*time.Second }, locksmith.ErrSlotLost.Error(), true},
		{"paused", func(s *server) { s.refuse = paused }, "group web paused: by alice", false},
		{"paused, as locksmith-server says it", func(s *server) {
			s.refuse = &fleetlock.Error{Kind: fleetlock.KindPaused, Value: "group web paused by alice: why"}
		}, "group web paused: by alice: why", false},
		{"held by somebody else", func(s *server) { s.refuse = &fleetlock.Error{Kind: fleetlock.KindHeld, Value: "x"} }, locksmith.ErrSlotLost.Error(), true},
		{"away", func(s *server) { s.away = errors.New("no route to host") }, "the FleetLock server https://server:1: no route to host", false},
		{"in trouble", func(s *server) { s.refuse = &fleetlock.Error{Kind: fleetlock.KindBusy, Value: "x"} },
			"the FleetLock server is in trouble: 503 too_many_requests: x", false},
		{"slow", func(s *server) { s.before = func(string) { time.Sleep(8 * time.Second) } },
			"the FleetLock server took 8s to confirm it; everything is looked at once more", false},
		{"silent", func(s *server) {
			s.handler = http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
		}, "the FleetLock server https://server:1: no answer within 1m30s", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, m := newServer(t), newMachine(t)
				l := m.open(s)
				slots := m.acquire(l, "boot-1")
				s.change(func() { tt.change(s) })
				got, err := l.Advance(t.Context(), slots, locksmith.PhaseRebooting, "now")
				text := ""
				if err != nil {
					text = err.Error()
				}
				if text != tt.want || errors.Is(err, locksmith.ErrSlotLost) != tt.lost || (err == nil) != (got.Record.Phase == locksmith.PhaseRebooting) {
					t.Errorf("%+v\ngot  %s\nwant %s", got, text, tt.want)
				}
				if _, is := errors.AsType[*locksmith.PausedError](err); is != strings.HasPrefix(tt.name, "paused") {
					t.Errorf("a pause: %t", is)
				}
				if !tt.lost {
					m.expectFile("held")
					return
				}
				m.expectFile("asking")
				s.change(func() { s.refuse = nil })
				m.run(l)
				synctest.Wait()
				m.expectFile("")
				for _, phase := range []locksmith.Phase{locksmith.PhaseRebooting, locksmith.PhaseFailed} {
					if _, err := l.Advance(t.Context(), slots, phase, ""); !errors.Is(err, locksmith.ErrSlotLost) {
						t.Errorf("after that: %v", err)
					}
				}
			})
		})
	}
}

// Settings changed while the slot is held: it goes back to where it was taken, without
// the credentials of another server, before the next one is asked for.
func TestOtherSettings(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*lockclient.Config)
		auth   string
	}{
		{"another server", func(c *lockclient.Config) {
			c.Client = &fleetlock.Client{URL: "https://new", HTTP: c.Client.HTTP, Token: "t"}
		}, "server:1 "},
		{"the same without TLS", func(c *lockclient.Config) {
			c.Client = &fleetlock.Client{URL: "http://server:1", HTTP: c.Client.HTTP, Token: "t"}
		}, "server:1 "},
		{"another path", func(c *lockclient.Config) {
			c.Client = &fleetlock.Client{URL: "https://server:1/x/..", HTTP: c.Client.HTTP, Token: "t"}
		}, "server:1 Bearer t"},
		{"another id", func(c *lockclient.Config) { c.ID = "zincati" }, "server:1 Basic dXNlcjpzZWNyZXQ="},
		{"another group", func(c *lockclient.Config) { c.Group = "db" }, "server:1 Basic dXNlcjpzZWNyZXQ="},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, m := newServer(t), newMachine(t)
				m.acquire(m.open(s), "boot-1")
				l := m.open(s, tt.change)
				now := groups
				if tt.name == "another group" {
					now = []locksmith.Group{"db"}
				}
				slots, err := l.Find(t.Context(), "m", now)
				if err != nil || !slices.Equal(slots.Groups, groups) {
					t.Fatalf("%+v, %v", slots, err)
				}
				if !strings.Contains(l.Place(), "https://server:1, in its group web as id") {
					t.Errorf("place is %s", l.Place())
				}
				s.change(func() { s.auth = nil })
				m.release(l, slots)
				s.expectHeld()
				if got := s.auth[len(s.auth)-1]; got != tt.auth {
					t.Errorf("sent %q, want %q", got, tt.auth)
				}
				m.expectFile("")
			})
		})
	}
}

// A former server that is gone for good does not keep the machine for ever.
func TestFormerServerIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, m := newServer(t), newMachine(t)
		slots := m.acquire(m.open(s), "boot-1")
		fresh := newServer(t)
		l := m.open(s, func(c *lockclient.Config) {
			c.Client = &fleetlock.Client{URL: "https://new", HTTP: &http.Client{Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
				if r.URL.Host == "new" {
					return fresh.RoundTrip(r)
				}
				return nil, errors.New("no such host")
			})}}
		})
		m.find(l)
		if _, err := l.Advance(t.Context(), slots, locksmith.PhaseRebooting, ""); !errors.Is(err, locksmith.ErrSlotLost) {
			t.Errorf("nobody confirms the slot: %v", err)
		}
		w := acquiring(l)
		time.Sleep(9 * time.Minute)
		fresh.expectHeld()
		const want = "the slot that earlier settings took at the FleetLock server https://server:1, in its group web as id: " +
			"the FleetLock server https://server:1: no such host"
		if !slices.Equal(w.said(), []string{want}) {
			t.Errorf("it said %q", w.said())
		}
		began := time.Now()
		<-w.done
		if took := time.Since(began); w.err != nil || took > 3*time.Minute {
			t.Errorf("after %v: %v", took, w.err)
		}
		fresh.expectHeld("web/id")
	})
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
