package login1

import (
	"fmt"
	"slices"
	"testing"

	"github.com/godbus/dbus/v5"

	"github.com/locksmith-reboot/locksmith/internal/agent"
	"github.com/locksmith-reboot/locksmith/internal/dbustest"
)

func TestUsers(t *testing.T) {
	type login struct{ user, class, state, tty string }
	var many []login
	for i := range 9 {
		many = append(many, login{"core", "user", "active", fmt.Sprintf("pts/%d", 8-i)})
	}
	for _, test := range []struct {
		name   string
		logins []login
		want   []string
	}{
		{"nobody", nil, nil},
		{"nobody who works", []login{
			{"gdm", "greeter", "active", "tty1"}, {"bob", "user", "closing", "pts/1"}, {"core", "manager", "active", ""},
		}, nil},
		{"one", []login{{"core", "user", "active", "pts/0"}}, []string{"users: core on pts/0 is logged in"}},
		{"without a terminal", []login{{"core", "user", "active", ""}}, []string{"users: core is logged in"}},
		{"two", []login{{"core", "user", "active", "pts/0"}, {"alice", "user", "online", "tty1"}},
			[]string{"users: alice on tty1, core on pts/0 are logged in"}},
		{"twice in the same way", []login{{"core", "user", "active", ""}, {"core", "user", "active", ""}},
			[]string{"users: core is logged in"}},
		{"many", many, []string{"users: core on pts/0, core on pts/1, core on pts/2, core on pts/3, core on pts/4 and 4 more are logged in"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			l := &logind{sessions: map[dbus.ObjectPath][]any{}}
			list := []listed{}
			for i, in := range test.logins {
				id := fmt.Sprintf("_3%d", i)
				path := "/org/freedesktop/login1/session/" + dbus.ObjectPath(id)
				list = append(list, listed{id, 1000, in.user, "", path})
				l.sessions[path] = []any{properties(id, in.user, in.class, in.state, in.tty)}
			}
			l.list = []any{list}
			d := dbustest.New(t)
			d.Serve(service, l.answer)
			check := newMachine(t, d).Users()
			if check.Name() != "users" {
				t.Errorf("the check is named %q", check.Name())
			}
			if got := found(t, check.Run(t.Context(), agent.About{})); !slices.Equal(got, test.want) {
				t.Errorf("found %q, want %q", got, test.want)
			}
		})
	}
}
