package bus

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/godbus/dbus/v5"
)

// writeTimeout bounds handing one message to the bus. A bus that does not even
// read is as good as gone; without a limit, a full socket would hold its callers
// past the end of their contexts.
const writeTimeout = 10 * time.Second

// dial connects to the first of address's servers that answers.
func dial(ctx context.Context, address string, handler dbus.SignalHandler) (*dbus.Conn, error) {
	sockets, err := parseAddress(address)
	if err != nil {
		return nil, err
	}
	var texts []string
	for _, socket := range sockets {
		conn, err := dialSocket(ctx, socket, handler)
		if err == nil {
			return conn, nil
		}
		texts = append(texts, err.Error())
	}
	// One line, whatever the number of sockets.
	return nil, errors.New(strings.Join(texts, "; "))
}

func dialSocket(ctx context.Context, socket string, handler dbus.SignalHandler) (*dbus.Conn, error) {
	nc, err := (&net.Dialer{}).DialContext(ctx, "unix", socket)
	if err != nil {
		return nil, err
	}
	// Authentication takes no context, so its end closes the socket under it.
	stop := context.AfterFunc(ctx, func() { nc.Close() })
	conn, err := handshake(nc, handler)
	if !stop() {
		nc.Close()
		return nil, fmt.Errorf("%s accepts connections but does not answer: %v", socket, context.Cause(ctx))
	}
	if err != nil {
		nc.Close()
		return nil, fmt.Errorf("authenticating to %s: %v", socket, err)
	}
	return conn, nil
}

func handshake(nc net.Conn, handler dbus.SignalHandler) (*dbus.Conn, error) {
	// A plain stream instead of godbus's own transport: it refuses file
	// descriptors, which godbus would receive from anybody and never close.
	conn, err := dbus.NewConn(&stream{Conn: nc, r: bufio.NewReader(nc)},
		dbus.WithSignalHandler(handler), dbus.WithHandler(noObjects{}))
	if err != nil {
		return nil, err
	}
	err = conn.Auth(nil)
	if err == nil {
		err = conn.Hello()
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

// stream is a socket with buffered reading and a limit on writing.
type stream struct {
	net.Conn
	r *bufio.Reader
}

func (s *stream) Read(p []byte) (int, error) { return s.r.Read(p) }

func (s *stream) Write(p []byte) (int, error) {
	if err := s.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return 0, err
	}
	n, err := s.Conn.Write(p)
	if err != nil {
		// Half a message may be out; nothing that follows could be understood.
		s.Close()
	}
	return n, err
}

// noObjects answers that there is nothing here to call.
type noObjects struct{}

func (noObjects) LookupObject(dbus.ObjectPath) (dbus.ServerObject, bool) { return nil, false }

// parseAddress reads the sockets out of a D-Bus address, a list separated by
// semicolons. Only unix sockets are known: no other kind is used for system buses
// on Linux. An abstract socket begins with "@", as package net has it.
func parseAddress(address string) ([]string, error) {
	var sockets []string
	for server := range strings.SplitSeq(address, ";") {
		if server == "" {
			continue
		}
		options, ok := strings.CutPrefix(server, "unix:")
		if !ok {
			return nil, fmt.Errorf("bus address %q: only unix: addresses are supported", address)
		}
		socket, err := parseSocket(options)
		if err != nil {
			return nil, fmt.Errorf("bus address %q: %v", address, err)
		}
		sockets = append(sockets, socket)
	}
	if len(sockets) == 0 {
		return nil, fmt.Errorf("bus address %q names no server; give unix:path=… or unix:abstract=…", address)
	}
	return sockets, nil
}

func parseSocket(options string) (string, error) {
	socket := ""
	for option := range strings.SplitSeq(options, ",") {
		key, value, _ := strings.Cut(option, "=")
		if key != "path" && key != "abstract" { // "guid" and what may come
			continue
		}
		value, err := dbus.UnescapeBusAddressValue(value)
		switch {
		case err != nil:
			return "", err
		case value == "":
			return "", fmt.Errorf("%s is empty", key)
		case socket != "":
			return "", errors.New("give either path or abstract, once")
		case key == "path" && (value[0] != '/' || strings.ContainsRune(value, 0)):
			// Package net would take one with "@" for an abstract socket, and the
			// system one with a NUL for what is before it.
			return "", fmt.Errorf("path %q is no absolute path; give unix:path=/… or unix:abstract=…", value)
		case key == "path":
			socket = value
		default:
			socket = "@" + value
		}
	}
	if socket == "" {
		return "", errors.New("give unix:path=… or unix:abstract=…")
	}
	return socket, nil
}
