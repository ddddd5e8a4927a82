package login1

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/godbus/dbus/v5"

	"github.com/locksmith-reboot/locksmith/internal/agent"
	"github.com/locksmith-reboot/locksmith/internal/bus"
	"github.com/locksmith-reboot/locksmith/internal/dbustest"
)

// held is an entry of ListInhibitors as it goes over the bus.
type held struct {
	What, Who, Why, Mode string
	UID, PID             uint32
}

// found is what a check found, one "by: reason" per veto.
func found(t *testing.T, err error) []string {
	t.Helper()
	var all []string
	switch err := err.(type) {
	case nil:
	case *agent.Veto:
		all = append(all, err.Error())
	case interface{ Unwrap() []error }:
		for _, e := range err.Unwrap() {
			all = append(all, found(t, e)...)
		}
	default:
		t.Errorf("%v is no veto", err)
	}
	return all
}

func TestInhibitors(t *testing.T) {
	many := make([]held, 100)
	for i := range many {
		many[i] = held{"shutdown", fmt.Sprintf("program %03d", i), "busy", "block", 0, 1}
	}
	long := strings.Repeat("very ", 100)
	for _, test := range []struct {
		name string
		list []held
		want []string
	}{
		{"none", []held{}, nil},
		{"a block inhibitor", []held{{"shutdown", "apt", "installing", "block", 0, 812}}, []string{"apt: installing"}},
		{"among others of its holder", []held{{"idle:shutdown:sleep", "apt", "installing", "block", 0, 812}}, []string{"apt: installing"}},
		{"a weak one, which root could pass", []held{{"shutdown", "apt", "installing", "block-weak", 0, 812}}, []string{"apt: installing"}},
		{"a mode of a newer systemd", []held{{"shutdown", "apt", "installing", "block-hard", 0, 812}}, []string{"apt: installing"}},
		{"one that only delays", []held{{"shutdown", "agent", "stopping", "delay", 0, 3}}, nil},
		{"one against something else", []held{{"sleep:idle", "backup", "running", "block", 0, 3}}, nil},
		{"one against something that only sounds so", []held{{"handle-shutdown-key:shutdowns", "x", "y", "block", 0, 3}}, nil},
		{"without a name or a reason", []held{{"shutdown", " ", "\n", "block", 0, 812}}, []string{"pid 812: gives no reason"}},
		{"several, in the order of their names", []held{
			{"shutdown", "yum", "installing", "block", 0, 3},
			{"shutdown", "backup", "writing", "block", 0, 2},
			{"sleep", "music", "playing", "block", 0, 9},
			{"shutdown", "backup", "reading", "block", 0, 2},
			{"shutdown", "backup", "writing", "block", 0, 4},
		}, []string{"backup: reading; writing", "yum: installing"}},
		{"texts made to deceive", []held{{"shutdown", "a\x1b[2Jb\nc", "d\r\ne\u202ef", "block", 1000, 3}}, []string{"a [2Jb c: d e f"}},
		{"long texts", []held{{"shutdown", long, long, "block", 0, 3}},
			[]string{bus.Clean(long, whoLimit) + ": " + bus.Clean(long, whyLimit)}},
		{"many", many, []string{
			"program 000: busy", "program 001: busy", "program 002: busy", "program 003: busy", "program 004: busy",
			"program 005: busy", "program 006: busy", "program 007: busy",
			"inhibitors: 92 more programs hold one, see systemd-inhibit --list"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			d := dbustest.New(t)
			d.Serve(service, func(c dbustest.Call) ([]any, error) {
				if c.Path != managerPath || c.Name != managerIface+".ListInhibitors" || len(c.Args) > 0 {
					t.Errorf("called %s on %s with %v", c.Name, c.Path, c.Args)
				}
				return []any{test.list}, nil
			})
			check := newMachine(t, d).Inhibitors()
			if check.Name() != "inhibitors" {
				t.Errorf("the check is named %q", check.Name())
			}
			if got := found(t, check.Run(t.Context(), agent.About{})); !slices.Equal(got, test.want) {
				t.Errorf("found %q, want %q", got, test.want)
			}
		})
	}
}

// Inhibitors that cannot be read may be inhibitors that block.
func TestMalformedInhibitors(t *testing.T) {
	for name, reply := range map[string][]any{
		"no value":          {},
		"a text":            {"shutdown"},
		"an array of texts": {[]string{"shutdown"}},
		"structures too short": {[]struct{ What, Who string }{
			{"shutdown", "apt"}}},
		"a mode that is a number": {[]struct {
			What, Who, Why string
			Mode, UID, PID uint32
		}{{"idle", "apt", "installing", 1, 0, 3}}},
		"a process that is a text": {[]struct {
			What, Who, Why, Mode string
			UID                  uint32
			PID                  string
		}{{"idle", "apt", "installing", "delay", 0, "3"}}},
		"a user that is a text": {[]struct {
			What, Who, Why, Mode, UID string
			PID                       uint32
		}{{"idle", "apt", "installing", "delay", "0", 3}}},
	} {
		t.Run(name, func(t *testing.T) {
			d := dbustest.New(t)
			d.Serve(service, func(dbustest.Call) ([]any, error) { return reply, nil })
			err := newMachine(t, d).Inhibitors().Run(t.Context(), agent.About{})
			if err == nil || !strings.HasPrefix(err.Error(), "listing inhibitors: malformed reply: ") {
				t.Errorf("Run = %v", err)
			}
		})
	}
}

// Both checks fail where logind cannot be asked.
func TestChecksWithoutLogind(t *testing.T) {
	refuse := func(dbustest.Call) ([]any, error) {
		return nil, dbus.NewError("org.freedesktop.DBus.Error.AccessDenied", []any{"no"})
	}
	for name, check := range map[string]func(*Machine) agent.Check{
		"listing inhibitors": (*Machine).Inhibitors,
		"listing sessions":   (*Machine).Users,
	} {
		t.Run(name, func(t *testing.T) {
			d := dbustest.New(t)
			m := newMachine(t, d)
			run := func() error { return check(m).Run(t.Context(), agent.About{}) }
			if err := run(); err == nil || !strings.HasPrefix(err.Error(), name+": logind is not running: ") {
				t.Errorf("without logind: %v", err)
			}
			logind := d.Serve(service, refuse)
			if err := run(); err == nil || err.Error() != name+": no" {
				t.Errorf("refused: %v", err)
			}
			logind.Close()
			_, asked := silent(t, d)
			m.checkLimit = 50 * time.Millisecond
			if err := run(); !errors.Is(err, context.DeadlineExceeded) || !strings.HasPrefix(err.Error(), name+": no answer within 50ms") {
				t.Errorf("not answered: %v", err)
			}
			<-asked
			m.checkLimit = time.Minute
			d.Stop()
			if err := run(); !errors.Is(err, bus.ErrAway) {
				t.Errorf("without a bus: %v", err)
			}
		})
	}
}

// FuzzInhibitors takes any texts, in an entry of any shape: every value can be
// missing or of another type.
func FuzzInhibitors(f *testing.F) {
	f.Add("shutdown", "apt", "installing", "block", uint32(812), byte(0))
	f.Add("sleep:shutdown", "\x1b[2J", "\xff\n", "block-weak", uint32(0), byte(0))
	f.Add("idle", "", "", "delay", uint32(1), byte(3))
	f.Fuzz(func(t *testing.T, what, who, why, mode string, pid uint32, shape byte) {
		entry := []any{what, who, why, mode, uint32(0), pid}
		switch field := int(shape) % len(entry); {
		case shape == 0:
		case shape&1 == 0:
			entry = entry[:field]
		default:
			entry[field] = []any{int64(shape)}
		}
		list, err := decodeInhibitors([]any{[][]any{entry, {"shutdown", "other", "busy", "block", uint32(0), uint32(2)}}})
		if shape != 0 {
			if err == nil {
				t.Fatalf("a malformed entry %v is no error", entry)
			}
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		vetoed := found(t, vetoes(list))
		blocks := mode != "delay" && slices.Contains(strings.Split(what, ":"), "shutdown")
		by := cmp.Or(bus.Clean(who, whoLimit), fmt.Sprintf("pid %d", pid))
		want := 1
		if blocks && by != "other" {
			want = 2
		}
		if len(vetoed) != want {
			t.Fatalf("%q, want %d", vetoed, want)
		}
		for _, v := range vetoed {
			if len(v) > whoLimit+2+2*whyLimit || strings.ContainsFunc(v, func(r rune) bool { return !unicode.IsPrint(r) }) {
				t.Errorf("%q is not fit to be shown", v)
			}
			// A name may have ": " in it.
			if why, ok := strings.CutPrefix(v, by+": "); ok && why != "" {
				continue
			}
			if v != "other: busy" {
				t.Errorf("%q does not say who or why", v)
			}
		}
	})
}
