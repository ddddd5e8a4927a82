package login1

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/godbus/dbus/v5"

	"github.com/locksmith-reboot/locksmith/internal/agent"
	"github.com/locksmith-reboot/locksmith/internal/bus"
)

// userClasses are logind's classes of sessions in which somebody works, on the
// console, over the network or graphically. The "early" ones are root's since
// systemd 256. Not among them: greeters, lock screens, service managers and
// background jobs such as cron's.
var userClasses = []string{"user", "user-early", "user-light", "user-early-light"}

// textLimit bounds user names and terminals, in bytes.
const textLimit = 256

// Sessions lists the logins of users, in the order in which logind has them.
// Sessions that are closing are left out. One malformed answer makes the whole an
// error, since what it hides may be a user.
func (m *Machine) Sessions(ctx context.Context) ([]agent.Session, error) {
	reply, err := m.bus.Call(ctx, manager("ListSessions"))
	if err != nil {
		if bus.NotRunning(err) {
			return nil, fmt.Errorf("listing sessions: logind is not running: %w", err)
		}
		return nil, fmt.Errorf("listing sessions: %w", err)
	}
	paths, err := decodeList(reply)
	if err != nil {
		return nil, fmt.Errorf("listing sessions: %w", err)
	}
	var sessions []agent.Session
	for _, path := range paths {
		session, ok, err := m.session(ctx, path)
		if err != nil {
			return nil, fmt.Errorf("reading session %s: %w", bus.Clean(string(path), textLimit), err)
		}
		if ok {
			sessions = append(sessions, session)
		}
	}
	return sessions, nil
}

// session reads one session; ok says that a user works in it.
func (m *Machine) session(ctx context.Context, path dbus.ObjectPath) (s agent.Session, ok bool, err error) {
	reply, err := m.bus.Call(ctx, bus.Method{
		Service: service,
		Path:    path,
		Name:    "org.freedesktop.DBus.Properties.GetAll",
	}, sessionIface)
	if gone(err) {
		return agent.Session{}, false, nil // logged out since the list was made
	}
	if err != nil {
		return agent.Session{}, false, err
	}
	return decodeSession(reply)
}

func gone(err error) bool {
	name := bus.ErrorName(err)
	return name == bus.ErrorUnknownObject || strings.HasSuffix(name, ".NoSuchSession")
}

// decodeList reads the paths out of a(susso): id, user's number, user's name, seat,
// path.
func decodeList(reply []any) ([]dbus.ObjectPath, error) {
	entries, err := bus.Value[[][]any](reply, 0)
	if err != nil {
		return nil, err
	}
	paths := make([]dbus.ObjectPath, len(entries))
	for i, entry := range entries {
		if paths[i], err = bus.Value[dbus.ObjectPath](entry, 4); err != nil {
			return nil, err
		}
	}
	return paths, nil
}

// decodeSession reads a{sv}, the properties of a session.
func decodeSession(reply []any) (s agent.Session, ok bool, err error) {
	properties, err := bus.Value[map[string]dbus.Variant](reply, 0)
	if err != nil {
		return agent.Session{}, false, err
	}
	values := map[string]string{}
	for _, name := range []string{"Id", "Name", "Class", "State", "TTY"} {
		value, ok := properties[name].Value().(string)
		if !ok {
			return agent.Session{}, false, fmt.Errorf("malformed reply: property %s is %T, string expected",
				name, properties[name].Value())
		}
		values[name] = bus.Clean(value, textLimit)
	}
	if !slices.Contains(userClasses, values["Class"]) || values["State"] == "closing" {
		return agent.Session{}, false, nil
	}
	return agent.Session{ID: values["Id"], User: values["Name"], TTY: values["TTY"]}, true, nil
}
