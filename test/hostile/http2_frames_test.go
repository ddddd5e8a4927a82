package hostile

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"golang.org/x/net/http2"
)

// wrong are frames after which a connection has to end, and how.
var wrong = []struct {
	name string
	code http2.ErrCode
	send func(p *peer) error
}{
	{"data of no stream", http2.ErrCodeProtocol, func(p *peer) error { return p.WriteData(0, false, []byte("x")) }},
	{"data of a stream that is not open", http2.ErrCodeProtocol, func(p *peer) error { return p.WriteData(7, false, []byte("x")) }},
	{"headers of the connection", http2.ErrCodeProtocol, func(p *peer) error { return p.raw(1, http2.FrameHeaders, 4, 0, []byte{0x82}) }},
	{"headers of a server's stream", http2.ErrCodeProtocol, func(p *peer) error {
		return p.WriteHeaders(http2.HeadersFrameParam{StreamID: 2, BlockFragment: p.begin(endpoints[8]), EndHeaders: true, EndStream: true})
	}},
	{"headers that cannot be read", http2.ErrCodeCompression, func(p *peer) error {
		return p.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte{0xff, 0xff, 0xff, 0xff, 0x7f}, EndHeaders: true})
	}},
	{"more of headers that did not begin", http2.ErrCodeProtocol, func(p *peer) error { return p.WriteContinuation(1, false, nil) }},
	{"something else amid headers", http2.ErrCodeProtocol, func(p *peer) error {
		return errors.Join(p.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte{0x82}}), p.WritePing(false, [8]byte{}))
	}},
	{"more padding than frame", http2.ErrCodeProtocol, func(p *peer) error { return p.raw(1, http2.FrameHeaders, 8, 1, []byte{200}) }},
	{"a promise", http2.ErrCodeProtocol, func(p *peer) error {
		return p.WritePushPromise(http2.PushPromiseParam{StreamID: 1, PromiseID: 2, EndHeaders: true})
	}},
	{"settings of a stream", http2.ErrCodeProtocol, func(p *peer) error { return p.raw(0, http2.FrameSettings, 0, 1, nil) }},
	{"half a setting", http2.ErrCodeFrameSize, func(p *peer) error { return p.raw(3, http2.FrameSettings, 0, 0, make([]byte, 3)) }},
	{"an acknowledgement of nothing", http2.ErrCodeProtocol, func(p *peer) error { return errors.Join(p.WriteSettingsAck(), p.WriteSettingsAck()) }},
	{"a window too large to be", http2.ErrCodeFlowControl, func(p *peer) error {
		return p.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 31})
	}},
	{"a window that overflows", http2.ErrCodeFlowControl, func(p *peer) error { return p.WriteWindowUpdate(0, 1<<31-1) }},
	{"a window opened by nothing", http2.ErrCodeProtocol, func(p *peer) error { return p.WriteWindowUpdate(0, 0) }},
	{"half a window update", http2.ErrCodeFrameSize, func(p *peer) error { return p.raw(2, http2.FrameWindowUpdate, 0, 0, make([]byte, 2)) }},
	{"half a ping", http2.ErrCodeFrameSize, func(p *peer) error { return p.raw(4, http2.FramePing, 0, 0, make([]byte, 4)) }},
	{"a reset of no stream", http2.ErrCodeProtocol, func(p *peer) error { return p.WriteRSTStream(9, http2.ErrCodeCancel) }},
	{"half a reset", http2.ErrCodeFrameSize, func(p *peer) error { return p.raw(2, http2.FrameRSTStream, 0, 1, make([]byte, 2)) }},
	{"a stream number that is not higher", http2.ErrCodeProtocol, func(p *peer) error {
		return errors.Join(p.request(5, endpoints[8]), p.request(3, endpoints[8]))
	}},
}

// wrongFrames send one of them each, and the server ends the connection and says why.
func wrongFrames(t *testing.T, s *server) {
	peers(t, s, size(3, 20)*len(wrong), nil, func(i int, p *peer) error {
		w := wrong[i%len(wrong)]
		if err := w.send(p); err != nil {
			return err
		}
		err := p.until(func(http2.Frame) (bool, error) { return false, nil })
		if err = wants(err, w.code); err != nil {
			err = fmt.Errorf("%s: %w", w.name, err)
		}
		return err
	})
}

// largeFrames announce a frame of a byte more than the server takes, or as many as can
// be said, and send none of them: the server must not wait for them, nor make room.
func largeFrames(t *testing.T, s *server) {
	kinds := []http2.FrameType{http2.FrameData, http2.FrameHeaders, http2.FrameSettings, http2.FramePing, 0xfa}
	lengths := []int{16<<10 + 1, 1 << 20, 1<<24 - 1}
	peers(t, s, size(150, 900), nil, func(i int, p *peer) error {
		if err := p.raw(lengths[i/len(kinds)%len(lengths)], kinds[i%len(kinds)], 0, 1, nil); err != nil {
			return err
		}
		err := p.until(func(http2.Frame) (bool, error) { return false, nil })
		return wants(err, http2.ErrCodeFrameSize)
	})
	s.peaked(t)
}

// garbageFrames send random bytes after a hello, and frames of random bytes, on streams
// that are open and that are not.
func garbageFrames(t *testing.T, s *server) {
	random := seeded(t)
	peers(t, s, size(200, 2000), nil, func(i int, p *peer) error {
		random := random(i)
		if err := p.request(1, endpoints[i%len(endpoints)]); err != nil {
			return err
		}
		if i%2 == 0 {
			_, _ = p.out.Write(noise(random, 1+random.IntN(8<<10))) // its error stays until flush
		}
		for range 50 {
			body := noise(random, random.IntN(100))
			if err := p.raw(len(body), http2.FrameType(random.IntN(11)), http2.Flags(random.Uint32()), uint32(random.IntN(5)), body); err != nil {
				return err
			}
		}
		if err := p.flush(); err != nil {
			return err
		}
		if err := p.c.CloseWrite(); err != nil {
			return err
		}
		return hangup(p.c)
	})
}

// hello send HTTP/2's first words and no more, not even their settings: two seconds
// later the server hangs up.
func hello(t *testing.T, s *server) {
	crowd(t, s.secondly(), size(60, 600), func(_ int, c stream) error {
		if _, err := io.WriteString(c, http2.ClientPreface); err != nil {
			return err
		}
		return hangup(c)
	})
}

// inPlainText speak HTTP/2 to a port without TLS, at once or by an upgrade: the server
// speaks HTTP/1 or hangs up.
func inPlainText(t *testing.T, s *server) {
	crowd(t, s, size(100, 1000), func(i int, c stream) error {
		e := endpoints[i%len(endpoints)]
		if i/len(endpoints)%2 == 0 {
			p := newPeer(c)
			_, _ = p.out.WriteString(http2.ClientPreface) // its errors stay until flush
			if err := errors.Join(p.WriteSettings(), p.request(1, e), p.flush()); err != nil {
				return err
			}
			return answered(c, http.StatusHTTPVersionNotSupported, http.StatusBadRequest)
		}
		if _, err := io.WriteString(c, e.request("Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n")); err != nil {
			return err
		}
		line, err := bufio.NewReader(c).ReadString('\n')
		if err == nil && (!strings.HasPrefix(line, "HTTP/1.1 ") || strings.HasPrefix(line, "HTTP/1.1 101")) {
			err = fmt.Errorf("who wants to go on in HTTP/2 without TLS is answered with %q", line)
		}
		return err
	})
}
