package trigger

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// busTimeout bounds asking the bus for update engine.
const busTimeout = 5 * time.Second

// updateEngineFiles are what an installed update engine has on the bus, whether it
// runs at this moment or not: at boot it may come after those who ask.
var updateEngineFiles = []string{
	"/usr/share/dbus-1/system-services/com.coreos.update1.service",
	"/usr/share/dbus-1/system.d/com.coreos.update1.conf",
	"/etc/dbus-1/system.d/com.coreos.update1.conf",
}

// Pick is one trigger that fits a machine, and why.
type Pick struct {
	Spec Spec
	Why  string
}

// picks is what fits a machine, and what was looked for in vain where that may
// surprise.
type picks struct {
	list []Pick
	not  []string
}

func (p *picks) add(spec Spec, why string) { p.list = append(p.list, Pick{spec, why}) }

// pick looks at the machine for what says there that a reboot is needed.
//
// Not zypper: "zypper needs-rebooting" looks for the same file as file:/run/reboot-needed
// and does not tell its content, so that it would make a whole reboot of every kexec.
func (d Deps) pick(ctx context.Context) picks {
	var p picks
	engine, why := d.updateEngine(ctx)
	told := engine // whose images have one kernel
	if engine {
		p.add(Spec{kind: kindUpdateEngine}, why)
	} else if why != "" {
		p.not = append(p.not, why)
	}
	if d.has("/var/lib/dpkg") {
		p.add(Spec{kind: kindFile, path: "/run/" + rebootRequired}, "dpkg is here")
	}
	for _, path := range []string{"/usr/bin/zypper", "/usr/sbin/transactional-update", "/usr/bin/transactional-update"} {
		if d.has(path) {
			p.add(Spec{kind: kindFile, path: "/run/" + rebootNeeded}, filepath.Base(path)+" is here")
			told = true // of new kernels too, and whether kexec is enough for them
			break
		}
	}
	if d.has(needsRestarting.Path) {
		p.add(Spec{kind: kindNeedsRestarting}, needsRestarting.Path+" is here")
	}
	if told {
		return p
	}
	switch _, _, err := d.kernel().kernels(); {
	case d.has("/run/systemd/container"):
		p.not = append(p.not, "no kernel: this is a container")
	case err != nil:
		p.not = append(p.not, "no kernel: "+err.Error())
	default:
		p.add(Spec{kind: kindKernel}, "kernels are installed here")
	}
	return p
}

// updateEngine says whether the machine has an update engine, and why; where that
// is not known, why not.
func (d Deps) updateEngine(ctx context.Context) (bool, string) {
	for _, path := range updateEngineFiles {
		if d.has(path) {
			return true, path + " is here"
		}
	}
	if d.Bus == nil {
		return false, ""
	}
	ctx, cancel := context.WithTimeout(ctx, busTimeout)
	defer cancel()
	known, err := d.Bus.Known(ctx, updateService)
	switch {
	case err != nil:
		return false, fmt.Sprintf("no update-engine: not installed, and the bus cannot be asked: %v", err)
	case known:
		return true, updateService + " is on the bus"
	}
	return false, ""
}

func (d Deps) has(path string) bool {
	_, err := os.Stat(filepath.Join(d.Root, path))
	return err == nil
}

// text says what was picked, in one line.
func (p picks) text() string {
	var texts []string
	for _, one := range p.list {
		texts = append(texts, fmt.Sprintf("%s (%s)", one.Spec, one.Why))
	}
	text := "auto: " + strings.Join(texts, ", ")
	if len(texts) == 0 {
		text = "auto: nothing on this machine says that a reboot is needed, only requests on the control socket count"
	}
	return strings.Join(slices.Concat([]string{text}, p.not), "; ")
}
