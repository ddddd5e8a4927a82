// Package bus keeps one connection to a D-Bus message bus that may come and go.
//
// A Bus dials when it is first needed and again whenever the connection was lost.
// Calls fail while the bus is away and are never repeated by this package, since
// it cannot know whether a lost call was carried out. Watches outlive the
// connection: they subscribe again and then say so, so that nothing that happened
// in between is missed.
//
// It is the one package that internal/login1, internal/systemd and
// internal/trigger share. It must not know what any service on the bus means, and
// it believes nobody: signals are passed on as "something happened" and only if
// the service's present owner sent them, never with their contents; texts from the
// bus are cleaned before they become part of an error.
package bus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/godbus/dbus/v5"
)

// DefaultAddress is the system bus where DBUS_SYSTEM_BUS_ADDRESS names no other.
const DefaultAddress = "unix:path=/run/dbus/system_bus_socket"

// ErrAway says that the message bus could not be reached, or went away before the
// reply came. In the second case the call may have been carried out.
var ErrAway = errors.New("the message bus is away")

var errClosed = errors.New("the connection was closed for good")

// dialTimeout bounds connecting and authenticating, which a healthy bus does in a
// millisecond. A socket that accepts and stays silent must not hold up anybody.
const dialTimeout = 10 * time.Second

// Bus is a connection to a message bus that is dialled again when it was lost. Its
// methods may be called concurrently.
type Bus struct {
	address string
	log     *slog.Logger

	callTimeout time.Duration // of calls without a deadline; a field for tests

	dialing chan struct{} // held by whoever dials; a channel, so that waiting ends with a context

	mu     sync.Mutex
	conn   *dbus.Conn // nil before the first dial; may be dead
	closed bool
	subs   map[*subscription]struct{}
}

// New makes a Bus for address, in D-Bus's own notation ("unix:path=/run/…"). The
// empty address means the system bus: DBUS_SYSTEM_BUS_ADDRESS, or DefaultAddress.
// A nil log discards. New does no I/O; the bus need not be there.
func New(address string, log *slog.Logger) *Bus {
	if address == "" {
		address = os.Getenv("DBUS_SYSTEM_BUS_ADDRESS")
	}
	if address == "" {
		address = DefaultAddress
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Bus{
		address:     address,
		log:         log,
		callTimeout: callTimeout,
		dialing:     make(chan struct{}, 1),
		subs:        map[*subscription]struct{}{},
	}
}

// Close ends the connection, and every call and watch with it. The Bus cannot be
// used again.
func (b *Bus) Close() error {
	b.mu.Lock()
	b.closed = true
	conn := b.conn
	b.mu.Unlock()
	if conn == nil {
		return nil
	}
	return conn.Close()
}

// connect returns the living connection, dialling where there is none. Its errors
// wrap ErrAway or are ctx's cause.
func (b *Bus) connect(ctx context.Context) (*dbus.Conn, error) {
	if conn, err := b.alive(); conn != nil || err != nil {
		return conn, err
	}
	select {
	case b.dialing <- struct{}{}:
		defer func() { <-b.dialing }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	// Somebody else may have dialled while this call waited.
	if conn, err := b.alive(); conn != nil || err != nil {
		return conn, err
	}
	dialCtx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	conn, err := dial(dialCtx, b.address, signals{b})
	if err != nil {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, fmt.Errorf("%w: %v", ErrAway, err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		conn.Close()
		return nil, fmt.Errorf("%w: %w", ErrAway, errClosed)
	}
	b.conn = conn
	b.log.Debug("connected to the message bus", "address", b.address)
	return conn, nil
}

// alive returns the connection if it lives, and an error if there will be none.
func (b *Bus) alive() (*dbus.Conn, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil, fmt.Errorf("%w: %w", ErrAway, errClosed)
	}
	if b.conn != nil && b.conn.Connected() {
		return b.conn, nil
	}
	return nil, nil
}
