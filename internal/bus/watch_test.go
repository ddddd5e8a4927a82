package bus

import (
	"bytes"
	"context"
	"log/slog"
	"testing"

	"github.com/godbus/dbus/v5"

	"github.com/locksmith-reboot/locksmith/internal/dbustest"
)

var echoSignals = Signals{
	Service:   echoName,
	Path:      echoPath,
	Interface: "org.example.Echo",
	Members:   []string{"Heard", "Said"},
}

// watcher runs a Watch whose calls of changed are held until the test lets them go,
// so that what happens meanwhile collects in the subscription, where it can be seen.
type watcher struct {
	t       *testing.T
	bus     *Bus
	entered chan struct{} // a call of changed began
	leave   chan struct{} // lets it end
	stop    func() error
}

func watch(t *testing.T, b *Bus) *watcher {
	ctx, cancel := context.WithCancel(t.Context())
	w := &watcher{t: t, bus: b, entered: make(chan struct{}), leave: make(chan struct{})}
	done := make(chan error, 1)
	go func() {
		done <- b.Watch(ctx, echoSignals, func() {
			for _, step := range []chan struct{}{w.entered, w.leave} {
				select {
				case step <- struct{}{}:
				case <-ctx.Done():
				}
			}
		})
	}()
	w.stop = func() error { cancel(); return <-done }
	t.Cleanup(cancel)
	<-w.entered
	return w
}

// next lets the present call of changed end and waits for the next one.
func (w *watcher) next() {
	<-w.leave
	<-w.entered
}

// pending waits until the connection has read everything that the bus had for it,
// and says whether the subscription was woken. The watch must be inside changed.
func (w *watcher) pending() bool {
	w.t.Helper()
	if _, err := w.bus.Owner(w.t.Context(), "org.freedesktop.DBus"); err != nil {
		w.t.Fatal(err)
	}
	w.bus.mu.Lock()
	defer w.bus.mu.Unlock()
	for sub := range w.bus.subs {
		return len(sub.wake) > 0
	}
	w.t.Fatal("nobody watches")
	return false
}

// flush returns once the bus has passed on what conn sent.
func flush(t *testing.T, conn *dbus.Conn) {
	t.Helper()
	if err := conn.BusObject().Call("org.freedesktop.DBus.GetId", 0).Err; err != nil {
		t.Fatal(err)
	}
}

// unicast sends a signal to one connection, which gets it whether it wants it or not.
func unicast(conn *dbus.Conn, to string, path dbus.ObjectPath, iface, member string, body ...any) {
	msg := &dbus.Message{Type: dbus.TypeSignal, Body: body, Headers: map[dbus.HeaderField]dbus.Variant{
		dbus.FieldDestination: dbus.MakeVariant(to),
		dbus.FieldPath:        dbus.MakeVariant(path),
		dbus.FieldInterface:   dbus.MakeVariant(iface),
		dbus.FieldMember:      dbus.MakeVariant(member),
	}}
	if len(body) > 0 {
		msg.Headers[dbus.FieldSignature] = dbus.MakeVariant(dbus.SignatureOf(body...))
	}
	conn.Send(msg, nil)
}

func TestWatchSignals(t *testing.T) {
	d := dbustest.New(t)
	service := d.Serve(echoName, say(t))
	b := newBus(t, d.Address())
	w := watch(t, b)

	d.Emit(service, echoPath, "org.example.Echo.Said")
	w.next()
	d.Emit(service, echoPath, "org.example.Echo.Heard", "with a body")
	w.next()

	for range 100 {
		d.Emit(service, echoPath, "org.example.Echo.Said")
	}
	flush(t, service)
	if !w.pending() {
		t.Error("not woken by a burst of signals")
	}
	w.next()
	if w.pending() {
		t.Error("a burst of signals is more than one call of changed")
	}
	if err := w.stop(); err != nil {
		t.Errorf("Watch = %v", err)
	}
	if n := len(b.subs); n != 0 {
		t.Errorf("%d subscriptions are left", n)
	}
}

func TestWatchIgnoresForgeries(t *testing.T) {
	d := dbustest.New(t)
	service, forger := d.Serve(echoName, say(t)), d.Connect()
	w := watch(t, newBus(t, d.Address()))
	us := w.bus.conn.Names()[0]

	for name, send := range map[string]func(){
		"from another sender":             func() { d.Emit(forger, echoPath, "org.example.Echo.Said") },
		"from another sender, to us only": func() { unicast(forger, us, echoPath, "org.example.Echo", "Said") },
		"that forges a change of owner": func() {
			unicast(forger, us, "/org/freedesktop/DBus", "org.freedesktop.DBus", "NameOwnerChanged",
				echoName, service.Names()[0], forger.Names()[0])
		},
		"of another object":    func() { unicast(service, us, "/elsewhere", "org.example.Echo", "Said") },
		"of another interface": func() { unicast(service, us, echoPath, "org.example.Other", "Said") },
		"of another name":      func() { unicast(service, us, echoPath, "org.example.Echo", "Whispered") },
	} {
		send()
		flush(t, forger)
		flush(t, service)
		if w.pending() {
			t.Fatalf("woken by a signal %s", name)
		}
	}
	// The same way, so that what is asserted above can be seen to be possible.
	unicast(service, us, echoPath, "org.example.Echo", "Said")
	flush(t, service)
	if !w.pending() {
		t.Error("not woken by the service's own signal")
	}
}

func TestWatchFollowsTheOwner(t *testing.T) {
	d := dbustest.New(t)
	var warnings bytes.Buffer
	b := New(d.Address(), slog.New(slog.NewTextHandler(&warnings, &slog.HandlerOptions{Level: slog.LevelWarn})))
	defer b.Close()
	w := watch(t, b) // nobody owns the name yet

	first := d.Serve(echoName, say(t))
	w.next() // it came
	d.Emit(first, echoPath, "org.example.Echo.Said")
	w.next()
	first.Close()
	w.next() // it went
	second := d.Serve(echoName, say(t))
	w.next() // another came
	d.Emit(second, echoPath, "org.example.Echo.Said")
	w.next()
	if err := w.stop(); err != nil || warnings.Len() > 0 {
		t.Errorf("Watch = %v, and warned: %s", err, &warnings)
	}
}

func TestWatchOutlivesTheBus(t *testing.T) {
	d := dbustest.Stopped(t)
	b := newBus(t, d.Address())
	w := watch(t, b) // told that the bus is away
	for range 3 {
		d.Start()
		service := d.Serve(echoName, say(t))
		// The watch is established, before or after the service came.
		for {
			w.next()
			if owner(b) == service.Names()[0] {
				break
			}
		}
		d.Emit(service, echoPath, "org.example.Echo.Said")
		w.next()
		d.Stop()
		w.next() // told once that the bus went away
	}
}

// Match rules that are left behind add up until the bus refuses more.
func TestWatchRemovesItsRules(t *testing.T) {
	d := dbustest.New(t)
	service := d.Serve(echoName, say(t))
	b := newBus(t, d.Address())
	for i := range 50 {
		w := watch(t, b)
		if owner(b) != service.Names()[0] {
			t.Fatalf("watch %d was not established", i+1)
		}
		if err := w.stop(); err != nil {
			t.Fatal(err)
		}
	}
}

// owner is whom the only watch takes for the service.
func owner(b *Bus) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	for sub := range b.subs {
		sub.mu.Lock()
		defer sub.mu.Unlock()
		return sub.owner
	}
	return ""
}
