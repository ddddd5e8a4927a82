package login1

import (
	"strings"
	"testing"
	"unicode"

	"github.com/godbus/dbus/v5"
)

// FuzzSessions takes any texts, in a list and properties of any shape: what is missing
// or of another type is an error in one line, and what is there is fit to be shown.
func FuzzSessions(f *testing.F) {
	f.Add("1", "alice", "user", "active", "pts/0", byte(0))
	f.Add("c1", "\x1b[2J\n", "user", "online", "\xff", byte(0))
	f.Add("1", "gdm", "greeter", "closing", "", byte(3))
	f.Add("1", "", "", "", "", byte(64+2))
	f.Fuzz(func(t *testing.T, id, name, class, state, tty string, shape byte) {
		texts := []string{id, name, class, state, tty}
		properties, broken := map[string]dbus.Variant{}, false
		for i, key := range []string{"Id", "Name", "Class", "State", "TTY"} {
			switch {
			case int(shape&7) != i+1:
				properties[key] = dbus.MakeVariant(texts[i])
			case shape&64 != 0:
				properties[key], broken = dbus.MakeVariant(uint32(shape)), true
			default:
				broken = true
			}
		}
		s, ok, err := decodeSession([]any{properties})
		if broken != (err != nil) || err != nil && strings.ContainsAny(err.Error(), "\r\n") {
			t.Fatalf("%v: %v", properties, err)
		}
		if ok && (state == "closing" || broken) {
			t.Fatalf("%v is a session: %+v", properties, s)
		}
		for _, shown := range []string{s.ID, s.User, s.TTY} {
			if strings.ContainsFunc(shown, func(r rune) bool { return !unicode.IsPrint(r) }) || len(shown) > textLimit {
				t.Fatalf("%q is not fit to be shown", shown)
			}
		}
		entry := []any{id, uint32(0), name, "", dbus.ObjectPath("/session")}
		if shape != 0 {
			entry = entry[:int(shape)%len(entry)]
		}
		paths, err := decodeList([]any{[][]any{entry}})
		if (shape == 0) != (err == nil && len(paths) == 1) {
			t.Fatalf("%v is read as %q, %v", entry, paths, err)
		}
	})
}
