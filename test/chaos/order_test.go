package chaos_test

import (
	"testing"

	"github.com/locksmith-reboot/locksmith/test/chaos"
)

// Each document of these histories ends with grants; what comes before them is right.
func TestOrder(t *testing.T) {
	for _, c := range []struct {
		name    string
		history []string
		want    string
	}{
		{"the first", []string{"web/@5:b", "web/@5:c", "web/=b web/b:1:acquired:agent web/@5:b:gone"}, ""},
		{"the second", []string{"web/@5:b", "web/@5:c", "web/=c web/c:1:acquired:agent web/@5:c:gone"},
			`revision 3: c was given a slot in "web" and had waited since revision 2, while b had waited since revision 1`},
		{"the second, while the first leaves", []string{"web/@5:b", "web/@5:c", "web/=c web/c:1:acquired:agent web/@5:c:gone web/@5:b:gone"},
			`while b had waited since revision 1`},
		{"the second, after the first left", []string{"web/@5:b", "web/@5:c", "web/@5:b:gone", "web/=c web/c:1:acquired:agent web/@5:c:gone"}, ""},
		{"who left and came back", []string{"web/@5:b", "web/@5:c", "web/@5:b:gone", "web/@5:b", "web/=b web/b:1:acquired:agent web/@5:b:gone"},
			`b was given a slot in "web" and had waited since revision 4, while c had waited since revision 2`},
		{"an entry written anew keeps its place", []string{"web/@5:b", "web/@5:c", "web/@5:b", "web/=c web/c:1:acquired:agent web/@5:c:gone"},
			`while b had waited since revision 1`},
		{"both at once", []string{"web/@5:b", "web/@5:c", "web/=b,c web/b:1:acquired:fleetlock web/c:1:acquired:fleetlock web/@5:b:gone web/@5:c:gone"}, ""},
		{"more urgent, though younger", []string{"web/@5:b", "web/@4:c", "web/=c web/c:1:acquired:agent web/@4:c:gone"}, ""},
		{"less urgent, though older", []string{"web/@5:b", "web/@4:c", "web/=b web/b:1:acquired:agent web/@5:b:gone"},
			`b was given a slot in "web" at level 5 while c waited at level 4`},
		{"in the other group", []string{"web/@5:b", "rack/@5:a web/@5:a",
			"web/=a rack/=a web/a:1:acquired:agent rack/a:1:acquired:agent web/@5:a:gone rack/@5:a:gone"},
			`a was given a slot in "web" and had waited since revision 2, while b had waited since revision 1`},
		{"behind a machine of two groups", []string{"rack/@5:a web/@5:a", "web/@5:b", "web/=b web/b:1:acquired:agent web/@5:b:gone"},
			`while a had waited since revision 1`},
		{"without waiting", []string{"web/=b web/b:1:acquired:agent"}, `b was given a slot in "web" without having waited`},
		{"an administrator's", []string{"web/@5:b", "web/=c web/c:1:acquired:lock"}, ""},
		{"over FleetLock, at once", []string{"web/=c web/c:1:acquired:fleetlock"}, ""},
		{"over FleetLock, at once, while others wait", []string{"web/@5:b", "web/=c web/c:1:acquired:fleetlock"},
			`c was given a slot in "web" and had waited since revision 2, while b had waited since revision 1`},
		{"over FleetLock, at once, while others wait who can wait longer", []string{"web/@6:b", "web/=c web/c:1:acquired:fleetlock"}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, violations := chaos.CheckStore(changes(c.history...), rules)
			found(t, violations, c.want)
		})
	}
}
