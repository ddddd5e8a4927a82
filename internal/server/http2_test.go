package server

import (
	"crypto/tls"
	"io"
	"net/http/httptest"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

// framed is a connection of HTTP/2 that has said hello.
func framed(t *testing.T, s *served) (*tls.Conn, *http2.Framer) {
	t.Helper()
	c, err := tls.Dial("tcp", s.address, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{http2.NextProtoTLS}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.WriteString(c, http2.ClientPreface); err != nil {
		t.Fatal(err)
	}
	f := http2.NewFramer(c, c)
	if err := f.WriteSettings(); err != nil {
		t.Fatal(err)
	}
	return c, f
}

func servingTLS(t *testing.T, limits limits) *served {
	t.Helper()
	pair := httptest.NewTLSServer(nil)
	pair.Close()
	return serving(t, says("here"), ServeConfig{TLS: &tls.Config{Certificates: pair.TLS.Certificates}}, limits)
}

// A frame that is only announced costs no memory: one that is larger than any has to be
// is refused before the server makes room for it, and waits.
func TestLargeFrames(t *testing.T) {
	c, f := framed(t, servingTLS(t, defaultLimits))
	if _, err := c.Write([]byte{0, 0x40, 0x01, byte(http2.FrameData), 0, 0, 0, 0, 1}); err != nil { // 16 KiB and a byte
		t.Fatal(err)
	}
	for {
		frame, err := f.ReadFrame()
		if err != nil {
			t.Fatal(err)
		}
		if bye, ok := frame.(*http2.GoAwayFrame); ok {
			if bye.ErrCode != http2.ErrCodeFrameSize {
				t.Errorf("the connection ends with %v", bye.ErrCode)
			}
			return
		}
	}
}
