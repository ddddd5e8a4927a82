package hostile

import (
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"

	"golang.org/x/net/http2"
)

// idlePeers open connections, say hello and no more, and hold them until all are there.
func idlePeers(t *testing.T, s *server) {
	n := size(300, 3000)
	all := gather(n)
	peers(t, s, n, nil, func(_ int, p *peer) error {
		err := p.alive()
		all.arrive()
		return errors.Join(stays(err), all.await())
	}, all.arrive)
	s.peaked(t)
}

// mostStreams is how many streams at a time the server may allow on a connection.
const mostStreams = 250

// manyStreams open as many streams that do not end as the server lets a connection have,
// which it has to say, and then more, of which it takes none.
func manyStreams(t *testing.T, s *server) {
	endless := those(func(e endpoint) bool { return e.endless })
	peers(t, s, 2, nil, func(i int, p *peer) error {
		var let uint32
		err := p.until(func(f http2.Frame) (bool, error) {
			settings, ok := f.(*http2.SettingsFrame)
			if ok && !settings.IsAck() {
				let, _ = settings.Value(http2.SettingMaxConcurrentStreams)
			}
			return ok && settings.IsAck(), nil // after its own, to which it has our answer with what follows
		})
		if err == nil && (let == 0 || let > mostStreams) {
			err = fmt.Errorf("the server lets a connection have %d streams", let)
		}
		if err != nil {
			return err
		}
		const above = 100
		for j := range let + above {
			if err := p.request(2*j+1, endless[i]); err != nil {
				return err
			}
		}
		return stays(p.oneEach(let, above))
	})
	s.peaked(t)
}

// oneEach reads until the first so many streams have been answered, and those above
// reset.
func (p *peer) oneEach(let, above uint32) error {
	var in, out uint32
	return p.until(func(f http2.Frame) (bool, error) {
		switch id := f.Header().StreamID; f := f.(type) {
		case *http2.MetaHeadersFrame:
			if status := f.PseudoValue("status"); status != "200" || id > 2*let {
				return true, fmt.Errorf("stream %d is answered with %s", id, status)
			}
			in++
		case *http2.RSTStreamFrame:
			if id < 2*let {
				return true, fmt.Errorf("stream %d is reset: %v", id, f.ErrCode)
			}
			out++
		}
		return in == let && out == above, nil
	})
}

// tinyWindows let the server send one byte at a time, and not more than some.
func tinyWindows(t *testing.T, s *server) {
	shut := []http2.Setting{{ID: http2.SettingInitialWindowSize, Val: 0}}
	kinds := those(func(e endpoint) bool { return e.name != "form" }) // which answers without a body
	peers(t, s, size(40, 200), shut, func(i int, p *peer) error {
		if err := p.request(1, kinds[i%len(kinds)]); err != nil {
			return err
		}
		got := 0
		return stays(p.until(func(f http2.Frame) (bool, error) {
			switch f := f.(type) {
			case *http2.MetaHeadersFrame:
				return f.StreamEnded(), p.WriteWindowUpdate(1, 1)
			case *http2.DataFrame:
				got += len(f.Data())
				if len(f.Data()) > 1 {
					return true, fmt.Errorf("the server sent %d bytes where one was allowed", len(f.Data()))
				}
				return f.StreamEnded() || got == 30, p.WriteWindowUpdate(1, 1)
			case *http2.RSTStreamFrame:
				return true, fmt.Errorf("%s: reset after %d bytes: %v", kinds[i%len(kinds)].name, got, f.ErrCode)
			}
			return false, nil
		}))
	})
}

// farewells say that they go, some of them with a request that waits: it is answered, or
// they are gone, and the server hangs up.
func farewells(t *testing.T, s *server) {
	free := s.taken(t, "left")
	kinds := append(those(ending), waiting("farewell"))
	peers(t, s, size(90, 600), nil, func(i int, p *peer) error {
		k := i % (len(kinds) + 1)
		var err error
		if k < len(kinds) {
			err = p.request(1, kinds[k])
		}
		code := []http2.ErrCode{http2.ErrCodeNo, http2.ErrCodeInternal}[i%2]
		if err = errors.Join(err, p.WriteGoAway(0, code, []byte("good-bye")), p.flush()); err != nil {
			return err
		}
		if k == len(kinds)-1 { // waits, and leaves the connection behind while it does
			return nil
		}
		answered := k == len(kinds)
		err = p.untilGone(func(f http2.Frame) { answered = answered || f.Header().Type == http2.FrameHeaders })
		if err == nil && !answered {
			err = fmt.Errorf("%s: not answered", kinds[k].name)
		}
		return err
	})
	eventually(t, func() error { return s.wait("left", 0) })
	free()
	s.neverGranted(t, "left", "farewell")
}

// untilGone reads until the server hangs up.
func (p *peer) untilGone(seen func(http2.Frame)) error {
	for {
		f, err := p.ReadFrame()
		if err != nil && !hungUp(err) {
			return err
		} else if err != nil {
			return nil
		}
		seen(f)
	}
}

// resetWaiting has as many machines wait on a connection as it lets, and resets all at
// once. They leave the queue, nobody gets the slot, and the connection goes on.
func resetWaiting(t *testing.T, s *server) {
	free := s.taken(t, "left")
	conns := size(2, 10)
	all, gone := gather(conns), make(chan struct{})
	var lost atomic.Bool
	go func() {
		defer close(gone)
		if err := all.await(); err != nil {
			t.Error(err)
		}
		if !lost.Load() {
			eventually(t, func() error { return s.wait("left", conns*mostStreams) })
		}
	}()
	peers(t, s, conns, nil, func(i int, p *peer) error {
		err := p.openWaiting(i)
		if err != nil {
			lost.Store(true)
		}
		all.arrive()
		<-gone
		for j := range uint32(mostStreams) {
			err = errors.Join(err, p.WriteRSTStream(2*j+1, http2.ErrCodeCancel))
		}
		return errors.Join(err, stays(p.alive()), p.request(2*mostStreams+1, endpoints[0]), stays(p.statuses(1, "200")))
	}, func() { lost.Store(true); all.arrive() })
	eventually(t, func() error { return s.wait("left", 0) })
	free()
	s.neverGranted(t, "left", "reset-")
}

// openWaiting sends all requests for a slot, and returns once the server has them.
func (p *peer) openWaiting(i int) error {
	for j := range uint32(mostStreams) {
		if err := p.request(2*j+1, waiting(fmt.Sprintf("reset-%d-%d", i, j))); err != nil {
			return err
		}
	}
	return p.alive()
}

// shutWindows ask for everything, let the server send nothing of it, and are there. The
// server gives up each stream after a limit, of which the short form waits for those of
// ten seconds: whoever waits for a slot, or listens to what changes.
func shutWindows(t *testing.T, s *server) {
	shut := []http2.Setting{{ID: http2.SettingInitialWindowSize, Val: 0}}
	kinds := those(func(e endpoint) bool { return inNumbers || e.endless || e.name == "FleetLock" })
	const each = 10 // of each kind
	peers(t, s, size(8, 40), shut, func(_ int, p *peer) error {
		for j := range each * len(kinds) {
			if err := p.request(uint32(2*j+1), kinds[j/each]); err != nil {
				return err
			}
		}
		var over []uint32 // streams
		return stays(p.until(func(f http2.Frame) (bool, error) {
			id := f.Header().StreamID
			switch f := f.(type) {
			case *http2.DataFrame:
				if len(f.Data()) > 0 {
					return true, fmt.Errorf("the server sent %d bytes where none was allowed", len(f.Data()))
				}
			case *http2.MetaHeadersFrame:
				if f.StreamEnded() {
					over = append(over, id)
				}
			case *http2.RSTStreamFrame:
				if !slices.Contains(over, id) {
					over = append(over, id)
				}
			}
			return len(over) == each*len(kinds), nil
		}))
	})
	s.peaked(t)
}
