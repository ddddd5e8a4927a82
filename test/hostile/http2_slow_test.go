package hostile

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

// halfHello stop within HTTP/2's first words, or send them a byte at a time: the server
// hangs up, as on whoever is slow with a request's headers.
func halfHello(t *testing.T, s *server) {
	crowd(t, s.secondly(), size(50, 500), func(i int, c stream) error {
		if _, err := c.Write([]byte(http2.ClientPreface[:i%len(http2.ClientPreface)])); err != nil {
			return err
		}
		return hangup(c)
	})
}

// slowFrames begin frames and do not end them: headers that go on, a byte or a frame of
// none at a time, and data. Who does so cannot answer the server's ping, by which it
// finds them after 45 seconds: in the short form they leave before.
func slowFrames(t *testing.T, s *server) {
	peers(t, s, size(60, 600), nil, func(i int, p *peer) error {
		e := endpoints[i%len(endpoints)]
		var beginning error
		next := func() error { _, err := p.out.Write([]byte{' '}); return err }
		switch i % 3 {
		case 0:
			beginning = p.raw(16<<10, http2.FrameHeaders, 4, 1, p.begin(e))
		case 1:
			beginning = p.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: p.begin(e)})
			next = func() error { return p.WriteContinuation(1, false, nil) }
		default:
			beginning = errors.Join(p.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: p.begin(e), EndHeaders: true}),
				p.raw(16<<10, http2.FrameData, 0, 1, nil))
		}
		if beginning != nil {
			return beginning
		}
		over := awaitHangup(p.c)
		if !inNumbers {
			over = after(headerLimit)
		}
		return p.drip(next, over)
	})
}

// drip flushes, and writes what is next every 250 ms, until it is over.
func (p *peer) drip(next func() error, over <-chan error) error {
	every := time.NewTicker(250 * time.Millisecond)
	defer every.Stop()
	for {
		_ = p.flush() // what fails here is what is waited for
		select {
		case err := <-over:
			return err
		case <-every.C:
			_ = next()
		}
	}
}

// slowData send the bodies of many requests at a byte a frame. The server answers before
// their end, or resets them: it has patience for 30 seconds. In the short form they leave
// before.
func slowData(t *testing.T, s *server) {
	const each = 20
	peers(t, s, size(9, 90), nil, func(i int, p *peer) error {
		open := make(map[uint32]bool)
		for j := range uint32(each) {
			id, e := 2*j+1, endpoints[(i+int(j))%len(endpoints)]
			open[id] = true
			if err := p.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: p.begin(e), EndHeaders: true}); err != nil {
				return err
			}
		}
		over := after(headerLimit)
		if inNumbers {
			over = p.allEnd(open)
		}
		return p.drip(func() (err error) {
			for j := range uint32(each) {
				err = errors.Join(err, p.WriteData(2*j+1, false, []byte{' '}))
			}
			return err
		}, over)
	})
}

// allEnd is over when the server has ended these streams.
func (p *peer) allEnd(open map[uint32]bool) <-chan error {
	over := make(chan error, 1)
	go func() { // ends with the connection
		for len(open) > 0 {
			f, err := p.ReadFrame()
			if err != nil {
				over <- fmt.Errorf("%d streams are open: %w", len(open), err)
				return
			}
			if _, reset := f.(*http2.RSTStreamFrame); reset {
				delete(open, f.Header().StreamID)
			}
		}
		over <- nil
	}()
	return over
}
