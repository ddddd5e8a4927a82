package login1

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/godbus/dbus/v5"

	"github.com/locksmith-reboot/locksmith/internal/agent"
	"github.com/locksmith-reboot/locksmith/internal/bus"
	"github.com/locksmith-reboot/locksmith/internal/dbustest"
)

func newMachine(t *testing.T, d *dbustest.Daemon) *Machine {
	b := bus.New(d.Address(), nil)
	t.Cleanup(func() { b.Close() })
	return New(b)
}

func properties(id, user, class, state, tty string) map[string]dbus.Variant {
	return map[string]dbus.Variant{
		"Id":     dbus.MakeVariant(id),
		"Name":   dbus.MakeVariant(user),
		"Class":  dbus.MakeVariant(class),
		"State":  dbus.MakeVariant(state),
		"TTY":    dbus.MakeVariant(tty),
		"Remote": dbus.MakeVariant(true),
		"VTNr":   dbus.MakeVariant(uint32(0)),
	}
}

// logind is a login1 on a test bus: the answer to ListSessions and, by path, those
// of the sessions.
type logind struct {
	list     []any
	sessions map[dbus.ObjectPath][]any
}

type listed struct {
	ID   string
	UID  uint32
	User string
	Seat string
	Path dbus.ObjectPath
}

func (l *logind) answer(c dbustest.Call) ([]any, error) {
	if c.Name == managerIface+".ListSessions" {
		return l.list, nil
	}
	reply, ok := l.sessions[c.Path]
	if !ok || c.Name != "org.freedesktop.DBus.Properties.GetAll" || !slices.Equal(c.Args, []any{sessionIface}) {
		return nil, dbus.NewError("org.freedesktop.DBus.Error.UnknownObject", []any{"Unknown object"})
	}
	return reply, nil
}

func TestSessions(t *testing.T) {
	const base = "/org/freedesktop/login1/session/"
	l := &logind{sessions: map[dbus.ObjectPath][]any{}}
	var list []listed
	add := func(id, user, class, state, tty string) {
		path := dbus.ObjectPath(base + id)
		list = append(list, listed{id, 1000, user, "", path})
		l.sessions[path] = []any{properties(id, user, class, state, tty)}
	}
	add("_31", "ada", "user", "active", "tty1")
	add("_32", "ada", "user", "online", "pts/0")
	add("_33", "gdm", "greeter", "active", "tty1")
	add("_34", "bob", "user", "closing", "pts/1")
	add("_35", "ada", "manager", "active", "")
	add("_36", "root", "user-early", "active", "pts/2")
	add("_37", "eve", "user", "active", "")
	add("_38", "cron", "background", "active", "")
	add("_39", "m\nallory", "user", "opening", "pts/3\x1b")
	list = append(list, listed{"gone", 1000, "dan", "", base + "gone"})
	l.list = []any{list}

	d := dbustest.New(t)
	d.Serve(service, l.answer)
	got, err := newMachine(t, d).Sessions(t.Context())
	want := []agent.Session{
		{ID: "_31", User: "ada", TTY: "tty1"},
		{ID: "_32", User: "ada", TTY: "pts/0"},
		{ID: "_36", User: "root", TTY: "pts/2"},
		{ID: "_37", User: "eve"},
		{ID: "_39", User: "m allory", TTY: "pts/3"},
	}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("Sessions = %v, %v, want %v", got, err, want)
	}
}

func TestNoSessions(t *testing.T) {
	d := dbustest.New(t)
	d.Serve(service, (&logind{list: []any{[]listed{}}}).answer)
	if got, err := newMachine(t, d).Sessions(t.Context()); err != nil || len(got) != 0 {
		t.Errorf("Sessions = %v, %v", got, err)
	}
}

func TestMalformedSessions(t *testing.T) {
	const path = dbus.ObjectPath("/org/freedesktop/login1/session/_31")
	one := []any{[]listed{{"1", 1000, "ada", "", path}}}
	ada := func(change func(p map[string]dbus.Variant)) []any {
		p := properties("1", "ada", "user", "active", "tty1")
		change(p)
		return []any{p}
	}
	for name, l := range map[string]*logind{
		"no value":             {list: nil},
		"a number":             {list: []any{int32(7)}},
		"an array of strings":  {list: []any{[]string{"1"}}},
		"structures too short": {list: []any{[]struct{ ID string }{{"1"}}}},
		"structures of other types": {list: []any{[]struct {
			A, B, C, D, E string
		}{{"1", "1000", "ada", "", string(path)}}}},
		"no properties":            {list: one, sessions: map[dbus.ObjectPath][]any{path: {}}},
		"properties of other type": {list: one, sessions: map[dbus.ObjectPath][]any{path: {map[string]string{"Id": "1"}}}},
		"a property missing": {list: one, sessions: map[dbus.ObjectPath][]any{
			path: ada(func(p map[string]dbus.Variant) { delete(p, "Class") })}},
		"a property of another type": {list: one, sessions: map[dbus.ObjectPath][]any{
			path: ada(func(p map[string]dbus.Variant) { p["State"] = dbus.MakeVariant(int32(1)) })}},
	} {
		t.Run(name, func(t *testing.T) {
			d := dbustest.New(t)
			d.Serve(service, l.answer)
			got, err := newMachine(t, d).Sessions(t.Context())
			if err == nil || !strings.Contains(err.Error(), "malformed reply") {
				t.Errorf("Sessions = %v, %v", got, err)
			}
		})
	}
}

func TestSessionsWithoutLogind(t *testing.T) {
	d := dbustest.New(t)
	m := newMachine(t, d)
	if _, err := m.Sessions(t.Context()); err == nil || !strings.HasPrefix(err.Error(), "listing sessions: logind is not running: ") {
		t.Errorf("without logind: %v", err)
	}
	// Then nothing of logind's is under way.
	if down, err := m.GoingDown(t.Context()); down || err != nil {
		t.Errorf("whether the machine goes down, without logind: %t, %v", down, err)
	}
	d.Stop()
	if _, err := m.Sessions(t.Context()); !errors.Is(err, bus.ErrAway) {
		t.Errorf("without a bus: %v", err)
	}
}

func TestSessionChanges(t *testing.T) {
	d := dbustest.New(t)
	serve := func() *dbus.Conn { return d.Serve(service, (&logind{}).answer) }
	conn := serve()
	m := newMachine(t, d)
	ctx, cancel := context.WithCancel(t.Context())
	changed, done := make(chan struct{}), make(chan error)
	go func() {
		done <- m.SessionChanges(ctx, func() {
			select {
			case changed <- struct{}{}:
			case <-ctx.Done():
			}
		})
	}()
	<-changed // the watch has begun

	const path = dbus.ObjectPath("/org/freedesktop/login1/session/_31")
	d.Emit(conn, managerPath, managerIface+".SessionNew", "1", path)
	<-changed
	d.Emit(conn, managerPath, managerIface+".SessionRemoved", "1", path)
	<-changed
	d.Emit(conn, managerPath, managerIface+".SessionRemoved") // malformed
	<-changed
	conn.Close()
	<-changed
	serve()
	<-changed
	d.Stop()
	<-changed
	d.Start()
	conn = serve()
	<-changed // the watch has begun again
	// Perhaps once more, if logind came only then; either way a signal still counts.
	d.Emit(conn, managerPath, managerIface+".SessionNew", "1", path)
	<-changed
	cancel()
	if err := <-done; err != nil {
		t.Errorf("SessionChanges = %v", err)
	}
}
