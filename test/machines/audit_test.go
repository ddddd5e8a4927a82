package machines_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/locksmith-reboot/locksmith/test/machines"
)

const semaphoreKey = "coreos.com/updateengine/rebootlock/groups/rack+7/semaphore"

// TestAudit has a machine break each guarantee, with documents written by hand,
// and wants the audit to see it; and keep them, and wants it to say nothing.
func TestAudit(t *testing.T) {
	t.Parallel()
	f := machines.ForTest(t, machines.Config{})
	etcd, err := f.StartEtcd(within(t, limit))
	must(t, err)
	audit, err := f.StartAudit(within(t, limit), etcd)
	must(t, err)
	m := add(t, f, "a1")[0]
	m.Groups = []string{"rack 7"}
	must(t, f.Start(within(t, 3*limit), m))

	put := func(doc string) {
		t.Helper()
		_, err := etcd.Client.Put(within(t, limit), semaphoreKey, doc)
		must(t, err)
	}
	held := fmt.Sprintf(`{"semaphore":0,"max":1,"holders":[%q]}`, m.ID)
	const free = `{"semaphore":1,"max":1,"holders":[]}`
	seen := 0
	expect := func(what string) {
		t.Helper()
		must(t, machines.Poll(within(t, limit), "the audit to say: "+what, func() (bool, error) {
			return len(audit.Violations()) > seen, nil
		}))
		if v := audit.Violations()[seen:]; len(v) != 1 || !strings.Contains(v[0], what) {
			t.Errorf("violations are %q, want one: %s", v, what)
		}
		seen = len(audit.Violations())
	}
	reboot := func(command ...string) {
		t.Helper()
		boots := machines.Boots(f.Events(), "a1")
		// The machine may be gone before the command is done.
		m.Exec(within(t, limit), command...)
		must(t, f.Wait(within(t, limit), "the reboot", func(e []machines.Event) bool {
			return machines.Boots(e, "a1") == boots+1
		}))
	}
	// A change that the audit has surely judged: it takes them one by one.
	settle := func(doc string) {
		t.Helper()
		put(doc)
		must(t, audit.Wait(within(t, limit), "the last change", func(s machines.Store) bool {
			return s[semaphoreKey] == doc
		}))
		put(doc + " ")
		must(t, audit.Wait(within(t, limit), "the one after it", func(s machines.Store) bool {
			return s[semaphoreKey] == doc+" "
		}))
	}

	// As it should be.
	put(held)
	reboot("systemctl", "reboot")
	settle(free)
	if v := audit.Violations(); len(v) != 0 {
		t.Fatalf("everything was right, and the audit says %q", v)
	}
	reboot("systemctl", "reboot")
	expect("without a slot")
	reboot("systemctl", "reboot", "--force", "--force")
	expect("without a slot")

	put(held)
	must(t, m.PowerOff(within(t, limit)))
	put(free)
	expect("lost its slot while it was down")

	put(`{"semaphore":1,"max":1,"holders":["x"]}`)
	expect("inconsistent")
	put("}")
	expect("invalid character")

	put(held)
	audit.Allow(m)
	settle(free)
	if v := audit.Violations(); len(v) != seen {
		t.Errorf("the administrator took the slot, and the audit says %q", v[seen:])
	}
}
