package bus

import (
	"strings"
	"testing"
)

// An address of a bus names sockets, each of them, or is refused in one line.
func FuzzAddress(f *testing.F) {
	for _, address := range []string{"unix:path=/run/dbus/system_bus_socket", "unix:abstract=a%2fb,guid=1;unix:path=/x", "tcp:host=h", "unix:", ";;",
		"unix:path=/a,path=/b", "unix:path=%zz", "unix:path=", "unix:path=%0a", "tcp:\n"} {
		f.Add(address)
	}
	f.Fuzz(func(t *testing.T, address string) {
		sockets, err := parseAddress(address)
		if err != nil {
			if len(sockets) > 0 || strings.ContainsAny(err.Error(), "\r\n") {
				t.Fatalf("%q: %q, %q", address, sockets, err)
			}
			return
		}
		servers := 0
		for server := range strings.SplitSeq(address, ";") {
			if server != "" {
				servers++
			}
		}
		if len(sockets) != servers || servers == 0 {
			t.Fatalf("%q is read as %q", address, sockets)
		}
		for _, socket := range sockets {
			// A path never turns into an abstract socket, which anybody may have made.
			abstract := strings.HasPrefix(socket, "@") && len(socket) > 1 && strings.Contains(address, "abstract=")
			file := strings.HasPrefix(socket, "/") && !strings.Contains(socket, "\x00")
			if !abstract && !file {
				t.Fatalf("%q is read as %q", address, sockets)
			}
		}
	})
}
