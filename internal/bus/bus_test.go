package bus

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/locksmith-reboot/locksmith/internal/dbustest"
)

const (
	echoName = "org.example.Echo"
	echoPath = dbus.ObjectPath("/org/example/Echo")
)

var echo = Method{Service: echoName, Path: echoPath, Name: "org.example.Echo.Say"}

// say answers with the arguments, except that "refuse" is an error reply and "hang"
// is not answered before the test ends.
func say(t *testing.T) func(dbustest.Call) ([]any, error) {
	return func(c dbustest.Call) ([]any, error) {
		switch c.Args[0] {
		case "refuse":
			return nil, dbus.NewError("org.example.Refused", []any{"no\nthanks"})
		case "hang":
			<-t.Context().Done()
		}
		return c.Args, nil
	}
}

func newBus(t *testing.T, address string) *Bus {
	b := New(address, nil)
	t.Cleanup(func() { b.Close() })
	return b
}

func TestCall(t *testing.T) {
	d := dbustest.New(t)
	d.Serve(echoName, say(t))
	b := newBus(t, d.Address())

	reply, err := b.Call(t.Context(), echo, "hello", int64(5))
	if err != nil || !slices.Equal(reply, []any{"hello", int64(5)}) {
		t.Errorf("Call = %v, %v", reply, err)
	}

	_, err = b.Call(t.Context(), echo, "refuse")
	if ErrorName(err) != "org.example.Refused" || err.Error() != "no thanks" || NotRunning(err) {
		t.Errorf("a refused call: %q, name %q", err, ErrorName(err))
	}

	_, err = b.Call(t.Context(), Method{Service: "org.example.Nobody", Path: "/", Name: "org.example.X.Y"})
	if !NotRunning(err) || errors.Is(err, ErrAway) {
		t.Errorf("a call to nobody: %v", err)
	}

	// What cannot be sent is the caller's fault, not the bus's.
	_, err = b.Call(t.Context(), Method{Service: echoName, Path: "no path", Name: "org.example.X.Y"})
	if err == nil || errors.Is(err, ErrAway) {
		t.Errorf("a call to an invalid path: %v", err)
	}
	if _, err := b.Call(t.Context(), echo, "still there"); err != nil {
		t.Errorf("the call after it: %v", err)
	}
}

func TestOwner(t *testing.T) {
	d := dbustest.New(t)
	conn := d.Serve(echoName, say(t))
	b := newBus(t, d.Address())
	owner, err := b.Owner(t.Context(), echoName)
	if err != nil || owner != conn.Names()[0] {
		t.Errorf("Owner = %q, %v, want %q", owner, err, conn.Names()[0])
	}
	if _, err := b.Owner(t.Context(), "org.example.Nobody"); !NotRunning(err) {
		t.Errorf("Owner of a name without one: %v", err)
	}
}

func TestCallEndsWithItsContext(t *testing.T) {
	d := dbustest.New(t)
	d.Serve(echoName, say(t))
	b := newBus(t, d.Address())
	b.callTimeout = 20 * time.Millisecond

	_, err := b.Call(t.Context(), echo, "hang")
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "no answer within 20ms") {
		t.Errorf("without a deadline: %v", err)
	}
	why := errors.New("changed my mind")
	ctx, cancel := context.WithCancelCause(t.Context())
	time.AfterFunc(5*time.Millisecond, func() { cancel(why) })
	b.callTimeout = time.Minute
	if _, err := b.Call(ctx, echo, "hang"); err != why {
		t.Errorf("cancelled: %v", err)
	}
	if _, err := b.Call(ctx, echo, "hello"); err != why {
		t.Errorf("cancelled before it began: %v", err)
	}
}

func TestBusAway(t *testing.T) {
	d := dbustest.Stopped(t)
	b := newBus(t, d.Address())
	_, err := b.Call(t.Context(), echo, "hello")
	if !errors.Is(err, ErrAway) || strings.Contains(err.Error(), "\n") {
		t.Errorf("before the bus was there: %v", err)
	}
	for range 3 {
		d.Start()
		d.Serve(echoName, say(t))
		if _, err := b.Call(t.Context(), echo, "hello"); err != nil {
			t.Fatalf("with the bus there: %v", err)
		}
		hung := make(chan error)
		started := make(chan struct{})
		go func() {
			close(started)
			_, err := b.Call(t.Context(), echo, "hang")
			hung <- err
		}()
		<-started
		d.Stop()
		if err := <-hung; !errors.Is(err, ErrAway) {
			t.Errorf("the bus went away during a call: %v", err)
		}
		if _, err := b.Call(t.Context(), echo, "hello"); !errors.Is(err, ErrAway) {
			t.Errorf("after the bus went away: %v", err)
		}
	}
}

// A socket that accepts and stays silent must not hold up a call for longer than
// its context.
func TestSilentBus(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	b := newBus(t, "unix:path="+socket)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := b.Call(ctx, echo, "hello"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Call = %v", err)
	}
}

func TestClosed(t *testing.T) {
	d := dbustest.New(t)
	d.Serve(echoName, say(t))
	b := New(d.Address(), nil)
	changed := make(chan struct{}, 10)
	watch := make(chan error)
	go func() {
		watch <- b.Watch(t.Context(), Signals{Service: echoName, Path: echoPath, Interface: "org.example.Echo"},
			func() { changed <- struct{}{} })
	}()
	<-changed
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-watch; err == nil {
		t.Error("Watch ended without an error")
	}
	if _, err := b.Call(t.Context(), echo, "hello"); !errors.Is(err, ErrAway) {
		t.Errorf("Call on a closed Bus: %v", err)
	}
}

func TestDefaultAddress(t *testing.T) {
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/elsewhere")
	if b := New("", nil); b.address != "unix:path=/elsewhere" {
		t.Errorf("with the variable: %s", b.address)
	}
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", "")
	if b := New("", nil); b.address != DefaultAddress {
		t.Errorf("without: %s", b.address)
	}
}

func TestParseAddress(t *testing.T) {
	for _, test := range []struct {
		address string
		want    []string // nil: refused
	}{
		{DefaultAddress, []string{"/run/dbus/system_bus_socket"}},
		{"unix:path=/a%20b,guid=12", []string{"/a b"}},
		{"unix:guid=12,path=/a", []string{"/a"}},
		{"unix:abstract=/tmp/x", []string{"@/tmp/x"}},
		{"unix:path=/a;unix:path=/b;", []string{"/a", "/b"}},
		{"", nil},
		{";", nil},
		{"unix:", nil},
		{"unix:path=", nil},
		{"unix:path=@/tmp/x", nil},
		{"unix:path=run/bus", nil},
		{"unix:path=/run%00/bus", nil},
		{"unix:path=/a,abstract=b", nil},
		{"unix:path=%zz", nil},
		{"tcp:host=localhost,port=1", nil},
		{"unix:path=/a;tcp:host=h", nil},
		{"/run/dbus/system_bus_socket", nil},
	} {
		got, err := parseAddress(test.address)
		if !slices.Equal(got, test.want) || (err == nil) != (test.want != nil) {
			t.Errorf("parseAddress(%q) = %q, %v, want %q", test.address, got, err, test.want)
		}
	}
}

func TestValue(t *testing.T) {
	values := []any{"text", int64(5)}
	if v, err := Value[string](values, 0); v != "text" || err != nil {
		t.Errorf("a string: %q, %v", v, err)
	}
	_, err := Value[string](values, 1)
	if err == nil || err.Error() != "malformed reply: value 1 is int64, string expected" {
		t.Errorf("a number for a string: %v", err)
	}
	_, err = Value[string](values, 2)
	if err == nil || err.Error() != "malformed reply: 2 values, at least 3 expected" {
		t.Errorf("a value that is missing: %v", err)
	}
	if _, err := Value[string]([]any{nil}, 0); err == nil {
		t.Error("nil was taken for a string")
	}
}

func TestClean(t *testing.T) {
	for in, want := range map[string]string{
		"":               "",
		"1234.0.0":       "1234.0.0",
		" a\tb\r\nc ":    "a b c",
		"\x1b[2Jred\x00": "[2Jred",
		"\xff\xfe":       "",
		"a\u202eb":       "a b",
		"0123456789":     "0123456789",
		"0123456789a":    "0123456…",
		"äöüäöü":         "äöü…",
	} {
		if got := Clean(in, 10); got != want {
			t.Errorf("Clean(%q) = %q, want %q", in, got, want)
		}
	}
}

func FuzzClean(f *testing.F) {
	f.Add("0123456789ä", 10)
	f.Fuzz(func(t *testing.T, text string, limit int) {
		limit = 3 + max(limit, -limit, 0)%1000
		got := Clean(text, limit)
		if len(got) > limit || strings.ContainsAny(got, "\r\n\x1b\x00") {
			t.Errorf("Clean(%q, %d) = %q", text, limit, got)
		}
	})
}

// The pause between attempts grows, and a bus that stays away costs little.
func TestWatchBacksOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New("unix:path=/nonexistent/bus", nil)
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		calls := 0
		start := time.Now()
		if err := b.Watch(ctx, Signals{Service: echoName}, func() { calls++ }); err != nil {
			t.Errorf("Watch = %v", err)
		}
		if calls != 1 || time.Since(start) != time.Hour {
			t.Errorf("changed was called %d times in %v, want once in an hour", calls, time.Since(start))
		}
	})
}
