package hostile

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// rapidResets open a stream, with all of a request, and reset it at once, by the
// thousand. One of each ten asks for a slot, which nobody gets.
func rapidResets(t *testing.T, s *server) {
	free := s.taken(t, "left")
	peers(t, s, size(4, 30), nil, func(i int, p *peer) error {
		for j := range uint32(2000) {
			e, id := endpoints[int(j)%len(endpoints)], 2*j+1
			if j%10 == 0 {
				e = waiting(fmt.Sprintf("rapid-%d-%d", i, j))
			}
			if err := p.request(id, e); err != nil {
				return err
			}
			if err := p.WriteRSTStream(id, http2.ErrCodeCancel); err != nil {
				return err
			}
		}
		return p.alive()
	})
	eventually(t, func() error { return s.wait("left", 0) })
	free()
	s.neverGranted(t, "left", "rapid-")
	s.peaked(t)
}

// waiting is a machine's request for a slot of the group "left".
func waiting(id string) endpoint {
	return endpoint{method: "POST", path: "/v1/pre-reboot", token: machineToken, headers: lockHeader, body: slotBody(id, "left")}
}

// continuations begin a request's headers and go on with them, for ever: fields, one
// field, or nothing. All but the last make the server hang up; nothing costs it nothing.
func continuations(t *testing.T, s *server) {
	var fields, field bytes.Buffer
	enc := hpack.NewEncoder(&fields)
	enc.SetMaxDynamicTableSize(0)
	for fields.Len() < 16000 {
		_ = enc.WriteField(hpack.HeaderField{Name: "x", Value: strings.Repeat("y", 100)})
	}
	field.Write([]byte{0, 1, 'x', 0x7f, 0xff, 0xff, 0xff, 0xff, 0x01}) // a literal of 512 MiB, not compressed
	peers(t, s, size(30, 150), nil, func(i int, p *peer) error {
		part, frames := [][]byte{fields.Bytes(), bytes.Repeat([]byte("y"), 16000), nil}[i%3], 4000
		beginning := p.begin(endpoints[i/3%len(endpoints)])
		if i%3 == 1 {
			beginning = append(beginning, field.Bytes()...)
		}
		if err := p.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: beginning}); err != nil {
			return err
		}
		for range frames {
			if err := p.WriteContinuation(1, false, part); err != nil {
				return err
			}
		}
		if err := p.flush(); err != nil {
			return err
		}
		if i%3 < 2 {
			return fmt.Errorf("the server took headers of %d MiB", frames*len(part)>>20)
		}
		return nil
	})
	s.peaked(t)
}

// floods are frames that cost little to send, and need no stream but one of those open.
var floods = []func(p *peer, stream uint32) error{
	func(p *peer, _ uint32) error { return p.WritePing(false, [8]byte{}) },
	func(p *peer, _ uint32) error {
		return p.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 16})
	},
	func(p *peer, _ uint32) error {
		return p.WriteSettings(http2.Setting{ID: http2.SettingHeaderTableSize, Val: 1 << 30})
	},
	func(p *peer, id uint32) error { return p.WritePriority(id+2, http2.PriorityParam{StreamDep: id}) },
	func(p *peer, id uint32) error { return p.WriteData(id, false, nil) },
	func(p *peer, id uint32) error { return p.WriteDataPadded(id, false, nil, make([]byte, 100)) },
	func(p *peer, id uint32) error { return p.WriteWindowUpdate(id, 1) },
	func(p *peer, _ uint32) error { return p.WriteWindowUpdate(0, 1) },
	func(p *peer, id uint32) error { return p.WriteRawFrame(0xfa, 0, id, []byte("what is this")) },
}

// controlFloods send frames by the ten thousand, and read what they are answered with on
// every other connection only.
func controlFloods(t *testing.T, s *server) {
	open := endpoint{method: "POST", path: "/sign-in", headers: formHeader}
	peers(t, s, size(2, 10)*len(floods), nil, func(i int, p *peer) error {
		if err := p.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: p.begin(open), EndHeaders: true}); err != nil {
			return err
		}
		flood := floods[i/2%len(floods)]
		if i%2 == 0 {
			if err := tcp(p.c).SetReadBuffer(1 << 10); err != nil {
				return err
			}
			return p.many(flood)
		}
		sent := make(chan error, 1)
		go func() { sent <- p.many(flood) }() // it alone writes, and ends with the connection
		for {
			f, err := p.ReadFrame()
			if err != nil {
				return err
			}
			if ping, ok := f.(*http2.PingFrame); ok && ping.Data != [8]byte{} {
				return <-sent
			}
		}
	})
	s.peaked(t)
}

// many sends a flood, and a ping of which the answer tells its end.
func (p *peer) many(flood func(*peer, uint32) error) error {
	for range 20_000 {
		if err := flood(p, 1); err != nil {
			return err
		}
	}
	if err := p.WritePing(false, [8]byte{'e', 'n', 'd'}); err != nil {
		return err
	}
	return p.flush()
}

// bombs are headers that are small on the wire, and large where they are read: thousands
// of times the same entry of the compression's table.
func bombs(t *testing.T, s *server) {
	large := hpack.HeaderField{Name: "x", Value: strings.Repeat("y", 3900)}
	peers(t, s, size(30, 150), nil, func(i int, p *peer) error {
		for j := range uint32(50) {
			e := endpoints[(i+int(j))%len(endpoints)]
			block := bytes.Clone(p.begin(e, large))
			again := bytes.Repeat([]byte{0x80 | 62}, 8<<10) // the newest entry
			if err := p.WriteHeaders(http2.HeadersFrameParam{StreamID: 2*j + 1, BlockFragment: append(block, again...), EndHeaders: true, EndStream: true}); err != nil {
				return err
			}
		}
		return stays(p.statuses(50, "431"))
	})
	s.peaked(t)
}
