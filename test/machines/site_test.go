package machines_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/test/machines"
)

// What a site brings with it: hooks, and settings that change.

// gates are hooks that write down when they begin and end, and wait, or block,
// while their gate is closed.
const (
	hookLog = "/var/log/hooks"
	gateDir = "/etc/gates/"

	waitingHook = `#!/bin/sh
echo "$LOCKSMITH_STEP begun" >>` + hookLog + `
while [ -e ` + gateDir + `$LOCKSMITH_STEP ]; do sleep 0.05; done
echo "$LOCKSMITH_STEP done" >>` + hookLog + `
`
	blockingHook = `#!/bin/sh
[ ! -e ` + gateDir + `check ] && exit 0
echo "somebody is at work"
exit 1
`
)

// hook puts a hook into place: "prepare.d/50-x".
func (c *cluster) hook(m *machines.Machine, name, script string) {
	c.t.Helper()
	must(c.t, m.WriteProgram("/etc/locksmith/hooks/"+name, []byte(script)))
}

// gates gives m hooks that can be held in each step.
func (c *cluster) gates(m *machines.Machine) {
	c.t.Helper()
	c.hook(m, "check.d/50-gate", blockingHook)
	for _, step := range []string{"prepare", "verify", "restore"} {
		c.hook(m, step+".d/50-gate", waitingHook)
	}
}

func (c *cluster) closeGate(m *machines.Machine, step string) {
	c.t.Helper()
	must(c.t, m.WriteFile(gateDir+step, nil))
}

func (c *cluster) openGate(m *machines.Machine, step string) {
	c.t.Helper()
	must(c.t, m.Remove(gateDir+step))
}

// hooks counts what m's hooks have written down: "prepare begun", "prepare done".
func (c *cluster) hooks(m *machines.Machine) map[string]int {
	c.t.Helper()
	text, err := m.ReadFile(hookLog)
	if err != nil && !os.IsNotExist(err) {
		c.t.Fatal(err)
	}
	counts := map[string]int{}
	for line := range strings.Lines(string(text)) {
		counts[strings.TrimSpace(line)]++
	}
	return counts
}

// waitHook waits until m's hooks have written line n times.
func (c *cluster) waitHook(m *machines.Machine, line string, n int) {
	c.t.Helper()
	must(c.t, machines.Poll(within(c.t, limit), fmt.Sprintf("%q in %s's %s for the %d. time", line, m.Name, hookLog, n), func() (bool, error) {
		return c.hooks(m)[line] >= n, nil
	}))
}

// exec runs a command on m and returns its standard output.
func (c *cluster) exec(m *machines.Machine, command ...string) string {
	c.t.Helper()
	out, err := m.Exec(within(c.t, limit), command...)
	must(c.t, err)
	return string(out)
}

// why is what locksmithctl says on the machine.
func (c *cluster) why(m *machines.Machine) string {
	c.t.Helper()
	return c.exec(m, "/usr/bin/locksmithctl", "why")
}

// whySays fails unless locksmithctl why, on m, has all of words, wherever it breaks its
// lines.
func (c *cluster) whySays(m *machines.Machine, words ...string) {
	c.t.Helper()
	why := c.why(m)
	text := strings.Join(strings.Fields(why), " ")
	for _, w := range words {
		if !strings.Contains(text, w) {
			c.t.Errorf("why does not say %q:\n%s", w, why)
		}
	}
}

// waits waits until m's locksmithd is in phase and says text of it.
func (c *cluster) waits(m *machines.Machine, phase locksmith.Phase, text string) {
	c.t.Helper()
	ctx := within(c.t, limit)
	must(c.t, machines.Poll(ctx, fmt.Sprintf("%s to be %s: %s", m.Name, phase, text), func() (bool, error) {
		s, err := c.status(ctx, m)
		if err == nil && (s.Phase != phase || !strings.Contains(s.Waiting, text)) {
			err = fmt.Errorf("it is %s: %s", s.Phase, s.Waiting)
		}
		return err == nil, err
	}))
}

// noNeed has m's update engine say that no reboot is needed.
func (c *cluster) noNeed(m *machines.Machine) {
	c.t.Helper()
	must(c.t, m.Remove("/run/update-engine-test/operation"))
	must(c.t, m.Kill(engine, syscall.SIGHUP))
}

// waitReleased waits until m holds no slot, and fails if it went down for that.
func (c *cluster) waitReleased(m *machines.Machine, boots int) {
	c.t.Helper()
	c.waitStore(m.Name+"'s slots to be free", func(s machines.Store) bool {
		return !slices.ContainsFunc(m.Groups, func(g string) bool { return slices.Contains(s.Holders(g), m.ID) })
	})
	c.stillUp(m, boots)
}

// part runs one part of a test on one cluster. Each begins and ends with
// idle machines. After one that failed the machines are anywhere, and what follows
// would say nothing.
func (c *cluster) part(name string, test func(t *testing.T)) {
	whole := c.t
	if whole.Failed() {
		return
	}
	whole.Run(name, func(t *testing.T) {
		c.t = t
		defer func() { c.t = whole }()
		test(t)
	})
}

// quickRestart has systemd start a killed locksmithd again at once, where what is
// tested is not that pause.
func (c *cluster) quickRestart(m *machines.Machine) {
	c.t.Helper()
	must(c.t, m.WriteFile("/etc/systemd/system/locksmithd.service.d/quick.conf", []byte("[Service]\nRestartSec=100ms\n")))
	c.exec(m, "systemctl", "daemon-reload")
}

// lastOutcome is what the history says of the last slot that was given back.
func (c *cluster) lastOutcome() string {
	c.t.Helper()
	return lineWith(c.ctl("history"), " "+string(locksmith.ActionUnlock)+" ") // the newest is first
}

func countLines(text []byte, line string) (n int) {
	for l := range strings.Lines(string(text)) {
		if strings.TrimSpace(l) == line {
			n++
		}
	}
	return n
}
