package journal_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// standIn takes datagrams where journald would, and reads them as strictly as the
// protocol is written down.
type standIn struct {
	path string
	conn *net.UnixConn
}

// entry is one record: the values of each field, in order.
type entry map[string][]string

func listen(t *testing.T) *standIn {
	t.Helper()
	s := &standIn{path: filepath.Join(t.TempDir(), "socket")}
	s.open(t)
	return s
}

// open takes the place at the path, as journald does when it is started.
func (s *standIn) open(t *testing.T) {
	t.Helper()
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: s.path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	s.conn = conn
	t.Cleanup(func() { conn.Close() })
}

// stop leaves no socket behind.
func (s *standIn) stop() { s.conn.Close(); os.Remove(s.path) }

// next is the next record, which must have come: sending is synchronous.
func (s *standIn) next(t *testing.T) entry {
	t.Helper()
	e, err := s.read(true)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// read reads one record. A test that does not wait gets os.ErrDeadlineExceeded
// where there is none.
func (s *standIn) read(wait bool) (entry, error) {
	limit := 10 * time.Second
	if !wait {
		limit = time.Millisecond
	}
	s.conn.SetReadDeadline(time.Now().Add(limit))
	buf, oob := make([]byte, 1<<20), make([]byte, unix.CmsgSpace(4))
	n, oobn, _, _, err := s.conn.ReadMsgUnix(buf, oob)
	if err != nil {
		return nil, err
	}
	data := buf[:n]
	if oobn > 0 {
		if data, err = passed(oob[:oobn]); err != nil {
			return nil, err
		}
	}
	return parse(data)
}

// passed reads the file that came along, which has to be sealed.
func passed(oob []byte) ([]byte, error) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil || len(messages) != 1 {
		return nil, fmt.Errorf("%d control messages, %v", len(messages), err)
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		return nil, fmt.Errorf("%d files, %v", len(fds), err)
	}
	file := os.NewFile(uintptr(fds[0]), "passed")
	defer file.Close()
	seals, err := unix.FcntlInt(uintptr(fds[0]), unix.F_GET_SEALS, 0)
	const all = unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE | unix.F_SEAL_SEAL
	if err != nil || seals != all {
		return nil, fmt.Errorf("seals are %#x, want %#x; %v", seals, all, err)
	}
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	return io.ReadAll(file)
}

func parse(b []byte) (entry, error) {
	e := make(entry)
	for len(b) > 0 {
		end := bytes.IndexByte(b, '\n')
		if end < 0 {
			return nil, fmt.Errorf("the last line does not end: %q", b)
		}
		name, value, short := strings.Cut(string(b[:end]), "=")
		b = b[end+1:]
		if !short {
			if len(b) < 8 {
				return nil, fmt.Errorf("%s has no length", name)
			}
			n := binary.LittleEndian.Uint64(b)
			if b = b[8:]; uint64(len(b)) <= n || b[n] != '\n' {
				return nil, fmt.Errorf("%s is not %d bytes long", name, n)
			}
			value, b = string(b[:n]), b[n+1:]
		}
		if name == "" || len(name) > 64 || strings.Trim(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") != "" || name[0] == '_' {
			return nil, fmt.Errorf("journald takes no field of the name %q", name)
		}
		e[name] = append(e[name], value)
	}
	return e, nil
}

func (e entry) one(name string) string {
	if len(e[name]) != 1 {
		return fmt.Sprintf("%d values: %q", len(e[name]), e[name])
	}
	return e[name][0]
}

// ours is the record without the fields that all of them have.
func (e entry) ours() map[string]string {
	m := make(map[string]string)
	for _, k := range slices.Sorted(maps.Keys(e)) {
		if strings.HasPrefix(k, "LOCKSMITH_") {
			m[k] = e.one(k)
		}
	}
	return m
}
