package bus

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/godbus/dbus/v5"
)

// How long a watch waits before it dials again, growing from the first to the
// second and spread at random, so that a fleet whose buses restart together does
// not act together.
const (
	firstRedial = 50 * time.Millisecond
	lastRedial  = 10 * time.Second
)

// Signals names the signals of one object of a service.
type Signals struct {
	Service   string          // the well-known name: "com.coreos.update1"
	Path      dbus.ObjectPath // the object
	Interface string          // "com.coreos.update1.Manager"
	Members   []string        // "StatusUpdate"
}

// Watch calls changed after anything that may matter to whoever asks the service:
// the watch began, or began again after the bus was away; one of the signals came
// from the name's present owner; the name changed its owner; the bus went away or
// was not there. Several at once make one call. Calls come from this goroutine and
// never overlap. Watch returns nil when ctx has ended, and an error when the Bus
// was closed.
func (b *Bus) Watch(ctx context.Context, s Signals, changed func()) error {
	sub := newSubscription(s)
	b.mu.Lock()
	b.subs[sub] = struct{}{}
	b.mu.Unlock()
	defer func() {
		b.mu.Lock()
		delete(b.subs, sub)
		b.mu.Unlock()
	}()

	pause, told := firstRedial, false
	for {
		watched, err := b.watchOnce(ctx, sub, changed)
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, errClosed):
			return err
		case watched:
			pause, told = firstRedial, false
		}
		if !told {
			b.log.Warn("message bus is away, trying again", "service", s.Service, "error", err)
			changed()
			told = true
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause/2 + rand.N(pause)):
		}
		pause = min(2*pause, lastRedial)
	}
}

// watchOnce watches for as long as one connection lasts. It says whether the watch
// was established.
func (b *Bus) watchOnce(ctx context.Context, sub *subscription, changed func()) (watched bool, err error) {
	conn, err := b.connect(ctx)
	if err != nil {
		return false, err
	}
	defer unsubscribe(conn, sub.rules())
	if err := sub.subscribe(ctx, conn); err != nil {
		return false, err
	}
	for {
		changed()
		select {
		case <-ctx.Done():
			return true, nil
		case <-conn.Context().Done():
			if _, err := b.alive(); err != nil {
				return true, err
			}
			return true, fmt.Errorf("%w: the connection was lost", ErrAway)
		case <-sub.wake:
		}
	}
}

// subscription is one watch.
type subscription struct {
	Signals
	names []string      // the signals with their interface
	wake  chan struct{} // holds one: something happened

	mu    sync.Mutex
	owner string // unique name of the service's owner, as of the last subscription; empty: nobody
	moves int    // how often the bus said that the owner changed
}

func newSubscription(s Signals) *subscription {
	sub := &subscription{Signals: s, wake: make(chan struct{}, 1)}
	for _, member := range s.Members {
		sub.names = append(sub.names, s.Interface+"."+member)
	}
	return sub
}

func (sub *subscription) rules() []string {
	rules := []string{fmt.Sprintf("type='signal',sender='org.freedesktop.DBus',path='/org/freedesktop/DBus',"+
		"interface='org.freedesktop.DBus',member='NameOwnerChanged',arg0='%s'", sub.Service)}
	for _, member := range sub.Members {
		rules = append(rules, fmt.Sprintf("type='signal',sender='%s',path='%s',interface='%s',member='%s'",
			sub.Service, sub.Path, sub.Interface, member))
	}
	return rules
}

func (sub *subscription) subscribe(ctx context.Context, conn *dbus.Conn) error {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	for _, rule := range sub.rules() {
		if _, err := callOn(ctx, conn, driver("AddMatch"), rule); err != nil {
			return fmt.Errorf("subscribing to signals of %s: %w", sub.Service, err)
		}
	}
	sub.mu.Lock()
	moves := sub.moves
	sub.mu.Unlock()
	owner := ""
	reply, err := callOn(ctx, conn, driver("GetNameOwner"), sub.Service)
	if err == nil {
		owner, err = Value[string](reply, 0)
	}
	if err != nil && !NotRunning(err) {
		return fmt.Errorf("looking for %s: %w", sub.Service, err)
	}
	sub.mu.Lock()
	defer sub.mu.Unlock()
	if moves == sub.moves { // else the bus has said something newer meanwhile
		sub.owner = owner
	}
	return nil
}

// driver is a method of the message bus itself.
func driver(name string) Method {
	return Method{
		Service: "org.freedesktop.DBus",
		Path:    "/org/freedesktop/DBus",
		Name:    "org.freedesktop.DBus." + name,
	}
}

// unsubscribe takes the rules back without waiting for the answers: where that
// fails, signals that nobody listens to are dropped on arrival.
func unsubscribe(conn *dbus.Conn, rules []string) {
	if !conn.Connected() {
		return
	}
	for _, rule := range rules {
		conn.BusObject().Go(driver("RemoveMatch").Name, dbus.FlagNoReplyExpected, nil, rule)
	}
}

// deliver looks at one signal, on the connection's reading goroutine: it must not
// block. Rules alone do not protect from forgery, since anybody may send a signal
// straight to this connection.
func (sub *subscription) deliver(signal *dbus.Signal) {
	sub.mu.Lock()
	defer sub.mu.Unlock()
	switch {
	case signal.Sender == "org.freedesktop.DBus":
		owner, ok := newOwner(signal, sub.Service)
		if !ok {
			return
		}
		sub.owner = owner
		sub.moves++
	case sub.owner == "" || signal.Sender != sub.owner || signal.Path != sub.Path:
		return
	case !slices.Contains(sub.names, signal.Name):
		return
	}
	select {
	case sub.wake <- struct{}{}:
	default: // a call of changed is due anyway
	}
}

// newOwner reads the bus's own NameOwnerChanged, whose values are the name, its old
// and its new owner.
func newOwner(signal *dbus.Signal, service string) (owner string, ok bool) {
	if signal.Name != driver("NameOwnerChanged").Name {
		return "", false
	}
	name, err := Value[string](signal.Body, 0)
	if err != nil || name != service {
		return "", false
	}
	owner, err = Value[string](signal.Body, 2)
	return owner, err == nil
}

// signals hands a connection's signals to the subscriptions.
type signals struct{ b *Bus }

// DeliverSignal implements dbus.SignalHandler.
func (s signals) DeliverSignal(_, _ string, signal *dbus.Signal) {
	s.b.mu.Lock()
	defer s.b.mu.Unlock()
	for sub := range s.b.subs {
		sub.deliver(signal)
	}
}
