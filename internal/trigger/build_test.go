package trigger

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/locksmith-reboot/locksmith/internal/agent"
	"github.com/locksmith-reboot/locksmith/internal/bus"
	"github.com/locksmith-reboot/locksmith/internal/command"
	"github.com/locksmith-reboot/locksmith/internal/dbustest"
)

func specs(t *testing.T, texts ...string) []Spec {
	t.Helper()
	var list []Spec
	for _, text := range texts {
		s, err := Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, s)
	}
	return list
}

func names(b Built) []string {
	var list []string
	for _, t := range b.Triggers {
		list = append(list, t.Name())
	}
	return list
}

func deps(root, running string) Deps {
	return Deps{Runner: &answers{}, Root: root, running: func() (string, error) { return running, nil }}
}

func TestAuto(t *testing.T) {
	const noKernels = "; no kernel: no kernel is installed in /boot and /usr/lib/modules"
	suse := append(suseKernel("6.4.0-150600.21-default"), "/usr/bin/zypper")
	for _, test := range []struct {
		name, running string
		files         []string
		names, text   string
	}{
		{"Debian", "6.1.0-31-amd64", append(debianKernel("6.1.0-31-amd64"), "/var/lib/dpkg/"),
			"file:/run/reboot-required kernel", "file:/run/reboot-required (dpkg is here), kernel (kernels are installed here)"},
		{"Ubuntu", "6.8.0-31-generic", append(debianKernel("6.8.0-31-generic"), "/var/lib/dpkg/"),
			"file:/run/reboot-required kernel", "file:/run/reboot-required (dpkg is here), kernel (kernels are installed here)"},
		{"RHEL", "5.14.0-503.11.1.el9_5.x86_64", append(fedoraKernel("5.14.0-503.11.1.el9_5.x86_64"), "/usr/bin/needs-restarting"),
			"needs-restarting kernel", "needs-restarting (/usr/bin/needs-restarting is here), kernel (kernels are installed here)"},
		{"Fedora without yum-utils", "6.8.9-300.fc40.x86_64", fedoraKernel("6.8.9-300.fc40.x86_64"), "kernel", "kernel (kernels are installed here)"},
		{"SUSE", "6.4.0-150600.21-default", suse,
			"file:/run/reboot-needed", "file:/run/reboot-needed (zypper is here)"},
		{"SUSE MicroOS", "6.9.1-1-default", append(suseKernel("6.9.1-1-default"), "/usr/sbin/transactional-update"),
			"file:/run/reboot-needed", "file:/run/reboot-needed (transactional-update is here)"},
		{"Flatcar", "6.6.54-flatcar", []string{"/usr/share/dbus-1/system.d/com.coreos.update1.conf", "/usr/lib/modules/6.6.54-flatcar/modules.dep"},
			"update-engine", "update-engine (/usr/share/dbus-1/system.d/com.coreos.update1.conf is here)"},
		{"CoreOS", "4.19.0-coreos", []string{"/etc/dbus-1/system.d/com.coreos.update1.conf"},
			"update-engine", "update-engine (/etc/dbus-1/system.d/com.coreos.update1.conf is here)"},
		{"Arch", "6.9.1-arch1-1", archKernel("6.9.1-arch1-1"), "kernel", "kernel (kernels are installed here)"},
		{"a Debian container", "6.1.0-31-amd64", append(debianKernel("6.1.0-31-amd64"), "/var/lib/dpkg/", "/run/systemd/container"),
			"file:/run/reboot-required", "file:/run/reboot-required (dpkg is here); no kernel: this is a container"},
		{"Debian with another's kernel", "6.18.44-fc", append(debianKernel("6.1.0-31-amd64"), "/var/lib/dpkg/"), "file:/run/reboot-required",
			"file:/run/reboot-required (dpkg is here); no kernel: 6.18.44-fc runs, and no kernel like it is installed, the newest other one is 6.1.0-31-amd64"},
		{"nothing", "6.1.0-31-amd64", nil, "", "nothing on this machine says that a reboot is needed, only requests on the control socket count" + noKernels},
	} {
		t.Run(test.name, func(t *testing.T) {
			d := deps(tree(t, test.files...), test.running)
			if strings.Contains(test.names, "update-engine") {
				d.Bus = bus.New("unix:path=/nowhere", nil) // is not asked
			}
			b, err := Build(t.Context(), []Spec{Auto}, d)
			if err != nil {
				t.Fatal(err)
			}
			if got := strings.Join(names(b), " "); got != test.names || b.Text != "auto: "+test.text {
				t.Errorf("picked %s\n%s\nwant %s\nauto: %s", got, b.Text, test.names, test.text)
			}
		})
	}
}

func TestAutoAsksTheBus(t *testing.T) {
	root := tree(t, "/var/lib/dpkg/", "/run/systemd/container")
	d := dbustest.New(t)
	auto := func() Built {
		t.Helper()
		b := bus.New(d.Address(), nil)
		t.Cleanup(func() { b.Close() })
		deps := deps(root, "6.1.0")
		deps.Bus = b
		built, err := Build(t.Context(), []Spec{Auto}, deps)
		if err != nil {
			t.Fatal(err)
		}
		return built
	}
	if b := auto(); slices.Contains(names(b), "update-engine") {
		t.Errorf("picked %s", b.Text)
	}
	conn := serveEngine(t, d, body(idle, "")...).conn
	if b := auto(); names(b)[0] != "update-engine" || !strings.Contains(b.Text, "update-engine (com.coreos.update1 is on the bus)") {
		t.Errorf("picked %s", b.Text)
	}
	conn.Close()
	d.Stop()
	if b := auto(); slices.Contains(names(b), "update-engine") ||
		!strings.Contains(b.Text, "; no update-engine: not installed, and the bus cannot be asked: the message bus is away") {
		t.Errorf("picked %s", b.Text)
	}
	d.Startable(updateService)
	d.Start()
	if b := auto(); names(b)[0] != "update-engine" {
		t.Errorf("picked %s", b.Text)
	}
}

// A bus that does not answer holds up the start for a while, not for ever.
func TestAutoWithSilentBus(t *testing.T) {
	d := dbustest.New(t)
	thaw := d.Freeze()
	defer thaw()
	b := bus.New(d.Address(), nil)
	defer b.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 0)
	defer cancel()
	if known, why := (Deps{Bus: b}).updateEngine(ctx); known || why == "" {
		t.Errorf("%v, %q", known, why)
	}
}

func TestBuild(t *testing.T) {
	d := deps(tree(t, "/var/lib/dpkg/"), "6.1.0")
	d.Bus = bus.New("unix:path=/nowhere", nil)
	defer d.Bus.Close()
	b, err := Build(t.Context(), specs(t, "file:/run/reboot-required", "auto", "update-engine", "needs-restarting", "zypper", "kernel", "uptime:30d", "kernel",
		"command:yes=1,no=0:/bin/ask a", "command:yes=1,no=0:/bin/ask b", "command:yes=1,no=0:/bin/ask b", "command:yes=1,no=0,interval=2h:/bin/ask b"), d)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"file:/run/reboot-required", "update-engine", "needs-restarting", "zypper", "kernel", "uptime",
		"command:/bin/ask", "command:/bin/ask (2)", "command:/bin/ask (3)"}
	if got := names(b); !slices.Equal(got, want) {
		t.Errorf("built %q, want %q", got, want)
	}
	if start := "file:/run/reboot-required; auto: file:/run/reboot-required (dpkg is here); no update-engine: "; !strings.HasPrefix(b.Text, start) ||
		!strings.HasSuffix(b.Text, "; uptime:30d; kernel; command:yes=1,no=0:/bin/ask a; command:yes=1,no=0:/bin/ask b; "+
			"command:yes=1,no=0:/bin/ask b; command:yes=1,no=0,interval=2h:/bin/ask b") {
		t.Errorf("said %s", b.Text)
	}
	var units []string
	for _, one := range b.Triggers {
		if c, ok := one.(*Command); ok {
			units = append(units, unitName(c.Name()))
		}
	}
	slices.Sort(units)
	if len(slices.Compact(units)) != 5 {
		t.Errorf("the commands' units: %q", units)
	}
	if b, err := Build(t.Context(), nil, Deps{}); err != nil || len(b.Triggers) != 0 || b.Text != "" {
		t.Errorf("nothing: %+v, %v", b, err)
	}
}

func TestBuildRefuses(t *testing.T) {
	for want, list := range map[string][]Spec{
		"trigger uptime:60d: another uptime is given, give one":                                specs(t, "uptime:30d", "uptime:60d"),
		"trigger update-engine: there is no bus":                                               specs(t, "update-engine"),
		`trigger zypper: command "zypper": there is nothing to run it with`:                    specs(t, "zypper"),
		`trigger command:yes=1,no=0:/x: command "command:/x": there is nothing to run it with`: specs(t, "command:yes=1,no=0:/x"),
		"trigger : it comes from no text, use Parse":                                           {{}},
	} {
		if b, err := Build(t.Context(), list, Deps{}); err == nil || err.Error() != want {
			t.Errorf("%v: %+v, %v, want %s", list, b, err, want)
		}
	}
}

func TestRecheckAll(t *testing.T) {
	asked := make(chan string, 10)
	run := runnerFunc(func(_ context.Context, s command.Spec) (command.Result, error) {
		asked <- s.Path
		return command.Result{}, nil
	})
	b, err := Build(t.Context(), specs(t, "kernel", "command:yes=1,no=0:/bin/ask"), Deps{Runner: run, Root: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	watch(t, b.Triggers[1]).idle()
	<-asked
	Recheck(b.Triggers)
	if path := <-asked; path != "/bin/ask" {
		t.Errorf("asked %s", path)
	}
	Recheck([]agent.Trigger{NewUptime(MinUptime)})
}
