package trigger

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/locksmith-reboot/locksmith/internal/agent"
	"github.com/locksmith-reboot/locksmith/internal/bus"
	"github.com/locksmith-reboot/locksmith/internal/dbustest"
)

const (
	idle    = "UPDATE_STATUS_IDLE"
	signal  = updateIface + ".StatusUpdate"
	version = "1234.0.0"
)

func body(operation, version string) []any {
	return []any{int64(1397496396), 0.5, operation, version, int64(1 << 20)}
}

// engine is an update engine on a test bus.
type engine struct {
	t    *testing.T
	d    *dbustest.Daemon
	conn *dbus.Conn
	asks atomic.Int32 // questions so far
	open atomic.Int32 // questions without an answer

	mu    sync.Mutex
	reply []any
	err   error
	gate  chan struct{} // answers wait for it to be closed
}

func serveEngine(t *testing.T, d *dbustest.Daemon, reply ...any) *engine {
	e := &engine{t: t, d: d, reply: reply}
	e.conn = d.Serve(updateService, e.answer)
	return e
}

func (e *engine) answer(c dbustest.Call) ([]any, error) {
	e.asks.Add(1)
	if e.open.Add(1) > 1 {
		e.t.Error("two questions at once")
	}
	defer e.open.Add(-1)
	if c.Path != updatePath || c.Name != updateIface+".GetStatus" || len(c.Args) > 0 {
		e.t.Errorf("called %s on %s with %v", c.Name, c.Path, c.Args)
	}
	e.mu.Lock()
	reply, err, gate := e.reply, e.err, e.gate
	e.mu.Unlock()
	if gate != nil {
		<-gate
	}
	return reply, err
}

func (e *engine) set(reply ...any) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.reply = reply
}

func (e *engine) refuse(err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.err = err
}

// hold keeps answers back until the returned function is called.
func (e *engine) hold() (release func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	gate := make(chan struct{})
	e.gate = gate
	release = sync.OnceFunc(func() {
		e.mu.Lock()
		e.gate = nil
		e.mu.Unlock()
		close(gate)
	})
	e.t.Cleanup(release)
	return release
}

func (e *engine) emit(body ...any) { e.d.Emit(e.conn, updatePath, signal, body...) }

// reports collects what a trigger reports.
type reports struct {
	t    *testing.T
	ch   chan agent.Need
	stop func() // ends the watch and expects no more reports; the test's end calls it too
}

func watch(t *testing.T, trigger agent.Trigger) *reports {
	r := &reports{t: t, ch: make(chan agent.Need, 1000)}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- trigger.Watch(ctx, func(n agent.Need) { r.ch <- n }) }()
	r.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Watch = %v", err)
		}
		for len(r.ch) > 0 {
			t.Errorf("one report too many: %+v", <-r.ch)
		}
	})
	t.Cleanup(r.stop)
	return r
}

func (r *reports) next() agent.Need {
	r.t.Helper()
	select {
	case n := <-r.ch:
		return n
	case <-time.After(20 * time.Second):
		r.t.Fatal("nothing was reported")
		return agent.Need{}
	}
}

// needed, idle and failed expect the next report to be so.
func (r *reports) needed(reason string) {
	r.t.Helper()
	if n := r.next(); !n.Needed || n.Err != nil || n.Reason != reason {
		r.t.Fatalf("reported %+v, want needed: %s", n, reason)
	}
}

func (r *reports) idle() {
	r.t.Helper()
	if n := r.next(); n.Needed || n.Err != nil {
		r.t.Fatalf("reported %+v, want not needed", n)
	}
}

func (r *reports) failed(text string) {
	r.t.Helper()
	if n := r.next(); n.Needed || n.Err == nil || !strings.Contains(n.Err.Error(), text) {
		r.t.Fatalf("reported %+v, want an error with %q", n, text)
	}
}

func newEngineTrigger(t *testing.T, d *dbustest.Daemon) *UpdateEngine {
	b := bus.New(d.Address(), nil)
	t.Cleanup(func() { b.Close() })
	return NewUpdateEngine(b, nil)
}

const reason = "update engine: version 1234.0.0 is installed"

func TestNeededAtStart(t *testing.T) {
	d := dbustest.New(t)
	serveEngine(t, d, body(needReboot, version)...)
	r := watch(t, newEngineTrigger(t, d))
	r.needed(reason)
}

func TestNeededBySignal(t *testing.T) {
	d := dbustest.New(t)
	e := serveEngine(t, d, body(idle, "")...)
	r := watch(t, newEngineTrigger(t, d))
	r.idle()
	e.set(body(needReboot, version)...)
	e.emit(body(needReboot, version)...)
	r.needed(reason)
	e.set(body(needReboot, "")...)
	e.emit(body(needReboot, "")...)
	r.needed("update engine: an update is installed")
	e.set(body("UPDATE_STATUS_CHECKING_FOR_UPDATE", version)...)
	e.emit(body("UPDATE_STATUS_CHECKING_FOR_UPDATE", version)...)
	r.idle()
}

// What a signal says does not matter, whoever sent it and however it is made.
func TestSignalsAreNotBelieved(t *testing.T) {
	d := dbustest.New(t)
	e := serveEngine(t, d, body(idle, "")...)
	r := watch(t, newEngineTrigger(t, d))
	r.idle()

	forger := d.Connect()
	d.Emit(forger, updatePath, signal, body(needReboot, version)...)
	for _, b := range [][]any{
		body(needReboot, version),
		{},
		{needReboot},
		{"now", "half", int64(3), false, []string{needReboot}},
		{int64(0), 0.5, dbus.MakeVariant(needReboot), version, int64(0)},
		append(body(needReboot, version), "more"),
	} {
		e.emit(b...)
	}
	if err := forger.BusObject().Call("org.freedesktop.DBus.GetId", 0).Err; err != nil {
		t.Fatal(err)
	}
	// If one of them had been believed, this would not be the next report.
	e.set(body(needReboot, "5.0.0")...)
	e.emit()
	r.needed("update engine: version 5.0.0 is installed")
}

func TestMalformedReplies(t *testing.T) {
	d := dbustest.New(t)
	e := serveEngine(t, d)
	u := newEngineTrigger(t, d)
	for _, test := range []struct {
		reply []any
		want  string
	}{
		{nil, "asking update engine: malformed reply: 0 values, 5 expected"},
		{[]any{needReboot}, "asking update engine: malformed reply: 1 values, 5 expected"},
		{append(body(needReboot, version), "more"), "asking update engine: malformed reply: 6 values, 5 expected"},
		{[]any{int32(0), 0.5, needReboot, version, int64(0)}, "asking update engine: malformed reply: value 0 is int32, int64 expected"},
		{[]any{int64(0), "0.5", needReboot, version, int64(0)}, "asking update engine: malformed reply: value 1 is string, float64 expected"},
		{[]any{int64(0), 0.5, []string{needReboot}, version, int64(0)}, "asking update engine: malformed reply: value 2 is []string, string expected"},
		{[]any{int64(0), 0.5, needReboot, int64(7), int64(0)}, "asking update engine: malformed reply: value 3 is int64, string expected"},
		{[]any{int64(0), 0.5, needReboot, version, 1.5}, "asking update engine: malformed reply: value 4 is float64, int64 expected"},
	} {
		e.set(test.reply...)
		n := u.ask(t.Context())
		if n.Needed || n.Err == nil || n.Err.Error() != test.want {
			t.Errorf("%v: %+v, want %s", test.reply, n, test.want)
		}
	}
	e.refuse(dbus.NewError("org.example.Broken", []any{"two\nlines"}))
	if n := u.ask(t.Context()); n.Needed || n.Err == nil || n.Err.Error() != "asking update engine: two lines" {
		t.Errorf("an error reply: %+v", n)
	}
}

func TestUntrustedVersion(t *testing.T) {
	d := dbustest.New(t)
	serveEngine(t, d, body(needReboot, "\x1b[31m9\n"+strings.Repeat("0", 1000))...)
	n := newEngineTrigger(t, d).ask(t.Context())
	if !n.Needed || len(n.Reason) > 120 || strings.ContainsAny(n.Reason, "\x1b\n") {
		t.Errorf("reason %q", n.Reason)
	}
}

func TestEngineGoesAndComesBack(t *testing.T) {
	d := dbustest.New(t)
	r := watch(t, newEngineTrigger(t, d))
	defer r.stop() // before the services below leave with the test
	r.failed("update engine is not running")
	e := serveEngine(t, d, body(needReboot, version)...)
	r.needed(reason)
	e.conn.Close()
	r.failed("update engine is not running")
	serveEngine(t, d, body(idle, "")...)
	r.idle()
}

func TestBusGoesAndComesBack(t *testing.T) {
	d := dbustest.Stopped(t)
	r := watch(t, newEngineTrigger(t, d))
	defer r.stop() // before the services below leave with the test
	r.failed("the message bus is away")
	d.Start()
	// Whether the trigger or the update engine is first on the bus is open.
	next := func() agent.Need {
		n := r.next()
		for n.Err != nil {
			n = r.next()
		}
		return n
	}
	serveEngine(t, d, body(needReboot, version)...)
	if n := next(); !n.Needed {
		t.Errorf("after the bus came: %+v", n)
	}
	d.Stop()
	r.failed("the message bus is away")
	d.Start()
	e := serveEngine(t, d, body(idle, "")...)
	if n := next(); n.Needed {
		t.Errorf("after the bus came back: %+v", n)
	}
	e.set(body(needReboot, version)...)
	e.emit()
	r.needed(reason)
}

func TestSilentEngine(t *testing.T) {
	d := dbustest.New(t)
	e := serveEngine(t, d, body(needReboot, version)...)
	release := e.hold()
	u := newEngineTrigger(t, d)
	u.timeout, u.retry = 50*time.Millisecond, 10*time.Millisecond
	n := u.ask(t.Context())
	if n.Needed || n.Err == nil || n.Err.Error() != "update engine did not answer within 50ms" {
		t.Errorf("no answer: %+v", n)
	}
	release()
}

// An error is not the last word: the question is asked again without a signal.
func TestErrorIsRetried(t *testing.T) {
	d := dbustest.New(t)
	e := serveEngine(t, d)
	u := newEngineTrigger(t, d)
	u.retry = 10 * time.Millisecond
	r := watch(t, u)
	r.failed("malformed reply")
	e.set(body(needReboot, version)...)
	r.needed(reason)
}

func TestBurstOfSignals(t *testing.T) {
	d := dbustest.New(t)
	e := serveEngine(t, d, body(idle, "")...)
	u := newEngineTrigger(t, d)
	release := e.hold()
	r := watch(t, u)
	for range 1000 {
		e.emit(body("UPDATE_STATUS_DOWNLOADING", version)...)
	}
	// Once this is answered, every signal has arrived.
	if err := e.conn.BusObject().Call("org.freedesktop.DBus.GetId", 0).Err; err != nil {
		t.Fatal(err)
	}
	if _, err := u.bus.Owner(t.Context(), updateService); err != nil {
		t.Fatal(err)
	}
	release()
	r.idle()
	e.set(body(needReboot, version)...)
	e.emit()
	r.needed(reason)
	// One at first, at most two for what had collected, one for the last signal.
	if n := e.asks.Load(); n > 4 {
		t.Errorf("1001 signals made %d questions", n)
	}
}

func TestClosedBus(t *testing.T) {
	d := dbustest.New(t)
	serveEngine(t, d, body(idle, "")...)
	u := newEngineTrigger(t, d)
	done := make(chan error, 1)
	reported := make(chan agent.Need, 10)
	go func() { done <- u.Watch(t.Context(), func(n agent.Need) { reported <- n }) }()
	<-reported
	u.bus.Close()
	if err := <-done; !errors.Is(err, bus.ErrAway) {
		t.Errorf("Watch = %v", err)
	}
}

// FuzzStatus decodes arbitrary bodies, as they come off the wire: a signature and
// the bytes of the values.
func FuzzStatus(f *testing.F) {
	add := func(values ...any) {
		var buf bytes.Buffer
		msg := &dbus.Message{Type: dbus.TypeSignal, Body: values, Headers: map[dbus.HeaderField]dbus.Variant{
			dbus.FieldPath:      dbus.MakeVariant(updatePath),
			dbus.FieldInterface: dbus.MakeVariant(updateIface),
			dbus.FieldMember:    dbus.MakeVariant("StatusUpdate"),
			dbus.FieldSignature: dbus.MakeVariant(dbus.SignatureOf(values...)),
		}}
		if err := msg.EncodeTo(&buf, binary.LittleEndian); err != nil {
			f.Fatal(err)
		}
		f.Add(buf.Bytes())
	}
	add(body(needReboot, version)...)
	add(body(idle, "\x1b[2J"+strings.Repeat("9", 200))...)
	add()
	add(int64(0), 0.5, []string{needReboot}, dbus.MakeVariant(version), map[string]int64{"size": 0})
	f.Fuzz(func(t *testing.T, data []byte) {
		msg, err := dbus.DecodeMessage(bytes.NewReader(data))
		if err != nil {
			return
		}
		s, err := decodeStatus(msg.Body)
		wellFormed := dbus.SignatureOf(msg.Body...).String() == "xdssx"
		if (err == nil) != wellFormed {
			t.Errorf("%v: %v", msg.Body, err)
		}
		if len(s.version) > versionLimit || strings.ContainsAny(s.version, "\n\r\x1b") {
			t.Errorf("version %q", s.version)
		}
	})
}
