package hostile

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// peer is a client of HTTP/2 that says what no library would. What it writes goes out
// with flush.
type peer struct {
	*http2.Framer // of what is read, header blocks are decoded
	c             stream
	out           *bufio.Writer
	fields        *hpack.Encoder // of header blocks, which it writes to block
	block         bytes.Buffer
}

// secondly is the server for clients that speak HTTP/2.
func (s *server) secondly() *server {
	of := *s
	of.tls = s.tls.Clone()
	of.tls.NextProtos = []string{http2.NextProtoTLS}
	return &of
}

// peers is a crowd of clients that have said hello, with these settings.
func peers(t testing.TB, s *server, n int, settings []http2.Setting, client func(i int, p *peer) error, absent ...func()) {
	t.Helper()
	crowd(t, s.secondly(), n, func(i int, c stream) error {
		p := newPeer(c)
		_, _ = p.out.WriteString(http2.ClientPreface) // its errors stay until flush
		if err := p.WriteSettings(settings...); err != nil {
			return err
		}
		if err := c.SetDeadline(time.Now().Add(limit)); err != nil {
			return err
		}
		return client(i, p)
	}, absent...)
}

func newPeer(c stream) *peer {
	p := &peer{c: c, out: bufio.NewWriterSize(c, 16<<10)}
	p.Framer = http2.NewFramer(p.out, bufio.NewReader(c))
	p.AllowIllegalWrites = true
	p.ReadMetaHeaders = hpack.NewDecoder(4<<10, nil)
	p.fields = hpack.NewEncoder(&p.block)
	return p
}

func (p *peer) flush() error { return p.out.Flush() }

// raw writes a frame that no library would, said to be of length bytes.
func (p *peer) raw(length int, kind http2.FrameType, flags http2.Flags, id uint32, payload []byte) error {
	_, err := p.out.Write(append([]byte{byte(length >> 16), byte(length >> 8), byte(length), byte(kind), byte(flags),
		byte(id >> 24), byte(id >> 16), byte(id >> 8), byte(id)}, payload...))
	return err
}

// begin is a request's header block, with more fields.
func (p *peer) begin(e endpoint, more ...hpack.HeaderField) []byte {
	p.block.Reset()
	fields := []hpack.HeaderField{{Name: ":method", Value: e.method}, {Name: ":scheme", Value: "https"}, {Name: ":authority", Value: "h"}, {Name: ":path", Value: e.path}}
	for line := range bytes.Lines([]byte(e.headers)) {
		name, value, _ := bytes.Cut(bytes.TrimSpace(line), []byte(": "))
		fields = append(fields, hpack.HeaderField{Name: string(bytes.ToLower(name)), Value: string(value)})
	}
	if e.token != "" {
		fields = append(fields, hpack.HeaderField{Name: "authorization", Value: "Bearer " + e.token})
	}
	for i := range fields {
		fields[i].Sensitive = true // in no table, where a bomb has its place
	}
	for _, f := range append(fields, more...) {
		_ = p.fields.WriteField(f) // to a buffer
	}
	return p.block.Bytes()
}

// request writes all of a request.
func (p *peer) request(id uint32, e endpoint) error {
	err := p.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: p.begin(e), EndHeaders: true, EndStream: e.body == ""})
	if err != nil || e.body == "" {
		return err
	}
	return p.WriteData(id, true, []byte(e.body))
}

// ended is an error that says how the server ended a connection.
type ended struct{ code http2.ErrCode }

func (e *ended) Error() string { return fmt.Sprintf("the server ended the connection: %v", e.code) }

// Unwrap has crowd take it for what it is: the server hung up.
func (e *ended) Unwrap() error { return io.EOF }

// until writes what is still to be written, and reads until it has seen what is looked
// for. What the server wants acknowledged is. A GOAWAY is an error, an *ended.
func (p *peer) until(seen func(http2.Frame) (bool, error)) error {
	for {
		if err := p.flush(); err != nil {
			return err
		}
		f, err := p.ReadFrame()
		if err != nil {
			return err
		}
		switch f := f.(type) {
		case *http2.GoAwayFrame:
			return &ended{f.ErrCode}
		case *http2.SettingsFrame:
			if !f.IsAck() {
				err = p.WriteSettingsAck()
			}
		case *http2.PingFrame:
			if !f.IsAck() {
				err = p.WritePing(true, f.Data)
			}
		}
		if err != nil {
			return err
		}
		if over, err := seen(f); over || err != nil {
			return err
		}
	}
}

// alive sends a ping and wants it back, and so all before it carried out, unless the
// server hangs up.
func (p *peer) alive() error {
	last := [8]byte{'l', 'a', 's', 't'}
	if err := p.WritePing(false, last); err != nil {
		return err
	}
	return p.until(func(f http2.Frame) (bool, error) {
		ping, ok := f.(*http2.PingFrame)
		return ok && ping.IsAck() && ping.Data == last, nil
	})
}

// statuses reads until so many streams have been answered, each with one of these.
func (p *peer) statuses(n int, allowed ...string) error {
	return p.until(func(f http2.Frame) (bool, error) {
		switch f := f.(type) {
		case *http2.MetaHeadersFrame:
			if status := f.PseudoValue("status"); !slices.Contains(allowed, status) {
				return true, fmt.Errorf("stream %d is answered with %s", f.StreamID, status)
			}
			n--
		case *http2.RSTStreamFrame:
			return true, fmt.Errorf("stream %d is reset: %v", f.StreamID, f.ErrCode)
		}
		return n <= 0, nil
	})
}

// wants is an error unless the server ended the connection and said why. That it hung up
// is not enough: so it does with whoever is silent for long.
func wants(err error, code http2.ErrCode) error {
	if e, ok := errors.AsType[*ended](err); ok && e.code == code {
		return nil
	}
	return fmt.Errorf("the server does not end the connection with %v: %v", code, fmt.Sprint(err)) // not wrapped: crowd would forgive it
}

// stays is an error also where the server hung up, which crowd would forgive.
func stays(err error) error {
	if err != nil && hungUp(err) {
		return fmt.Errorf("the server hung up on somebody whom it has to bear: %v", err)
	}
	return err
}
