package trigger

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/locksmith-reboot/locksmith"
)

// tree lays out files and directories ("…/") below a new root. "path -> target" is a
// symbolic link.
func tree(t *testing.T, entries ...string) string {
	t.Helper()
	root := t.TempDir()
	grow(t, root, entries...)
	return root
}

func grow(t *testing.T, root string, entries ...string) {
	t.Helper()
	for _, e := range entries {
		path, link, isLink := strings.Cut(e, " -> ")
		full := filepath.Join(root, path)
		mkdir(t, filepath.Dir(full))
		switch {
		case isLink:
			must(t, os.Symlink(link, full))
		case strings.HasSuffix(path, "/"):
			mkdir(t, full)
		default:
			put(t, full, "x")
		}
	}
}

func newKernel(root, running string) *Kernel {
	k := NewKernel(root, nil)
	k.running = func() (string, error) { return running, nil }
	quickly(&k.f)
	return k
}

// The ways in which distributions install kernels.
func debianKernel(release string) []string {
	return []string{"/boot/vmlinuz-" + release, "/usr/lib/modules/" + release + "/modules.dep"}
}

func fedoraKernel(release string) []string {
	return append(debianKernel(release), "/usr/lib/modules/"+release+"/vmlinuz")
}

func suseKernel(release string) []string {
	return []string{"/boot/vmlinuz-" + release + " -> ../usr/lib/modules/" + release + "/vmlinuz",
		"/usr/lib/modules/" + release + "/vmlinuz", "/usr/lib/modules/" + release + "/modules.dep"}
}

func archKernel(release string) []string {
	return []string{"/boot/vmlinuz-linux", "/usr/lib/modules/" + release + "/vmlinuz", "/usr/lib/modules/" + release + "/modules.dep"}
}

func together(lists ...[]string) []string {
	var all []string
	for _, l := range lists {
		all = append(all, l...)
	}
	return all
}

func TestKernel(t *testing.T) {
	const cannot = "error: cannot tell whether a newer kernel is installed: "
	for _, test := range []struct {
		name, running string
		files         []string
		want          string
	}{
		{"Debian, up to date", "6.1.0-31-amd64", together(debianKernel("6.1.0-28-amd64"), debianKernel("6.1.0-31-amd64")), "not needed"},
		{"Debian, updated", "6.1.0-28-amd64", together(debianKernel("6.1.0-28-amd64"), debianKernel("6.1.0-31-amd64"), debianKernel("6.1.0-9-amd64")),
			"needed: kernel 6.1.0-31-amd64 is installed, 6.1.0-28-amd64 runs"},
		{"Debian, another flavour is newer", "6.1.0-28-amd64",
			together(debianKernel("6.1.0-28-amd64"), debianKernel("6.1.0-31-cloud-amd64"), debianKernel("6.1.0-31-rt-amd64")), "not needed"},
		{"Debian, upgraded", "6.1.0-37-amd64", together(debianKernel("6.1.0-37-amd64"), debianKernel("6.12.38+deb13-amd64")),
			"needed: kernel 6.12.38+deb13-amd64 is installed, 6.1.0-37-amd64 runs"},
		{"Debian, a removed kernel's modules stay", "6.1.0-28-amd64",
			append(debianKernel("6.1.0-28-amd64"), "/usr/lib/modules/6.1.0-31-amd64/modules.dep"), "not needed"},
		{"Debian, /lib not merged", "6.1.0-28-amd64",
			[]string{"/boot/vmlinuz-6.1.0-28-amd64", "/boot/vmlinuz-6.1.0-31-amd64", "/lib/modules/6.1.0-28-amd64/modules.dep", "/lib/modules/6.1.0-31-amd64/modules.dep"},
			"needed: kernel 6.1.0-31-amd64 is installed, 6.1.0-28-amd64 runs"},
		{"half installed", "6.1.0-28-amd64",
			append(debianKernel("6.1.0-28-amd64"), "/boot/vmlinuz-6.1.0-31-amd64", "/usr/lib/modules/6.1.0-31-amd64/"), "not needed"},
		{"less than half installed", "6.1.0-28-amd64", append(debianKernel("6.1.0-28-amd64"), "/boot/vmlinuz-6.1.0-31-amd64"), "not needed"},
		{"backups of images", "6.1.0-28-amd64",
			append(debianKernel("6.1.0-28-amd64"), "/boot/vmlinuz-6.1.0-31-amd64.dpkg-new", "/boot/vmlinuz-6.1.0-31-amd64.old", "/boot/vmlinuz", "/boot/vmlinuz.old"), "not needed"},
		{"the running kernel was removed", "6.1.0-28-amd64", debianKernel("6.1.0-31-amd64"), "needed: kernel 6.1.0-31-amd64 is installed, 6.1.0-28-amd64 runs"},
		{"a newer one runs than is installed", "6.1.0-31-amd64", debianKernel("6.1.0-28-amd64"), "not needed"},

		{"Ubuntu", "5.15.0-91-generic", together(debianKernel("5.15.0-91-generic"), debianKernel("5.15.0-101-generic"), debianKernel("6.5.0-18-lowlatency")),
			"needed: kernel 5.15.0-101-generic is installed, 5.15.0-91-generic runs"},
		{"RHEL", "5.14.0-503.11.1.el9_5.x86_64", append(together(fedoraKernel("5.14.0-503.11.1.el9_5.x86_64"), fedoraKernel("5.14.0-503.14.1.el9_5.x86_64"),
			fedoraKernel("5.14.0-503.15.1.el9_5.x86_64+debug"), fedoraKernel("6.9.1-1.el9.elrepo.x86_64")), "/boot/vmlinuz-0-rescue-2a3c8ba19d0a4d638f9c6f1c7f0b4c11"),
			"needed: kernel 5.14.0-503.14.1.el9_5.x86_64 is installed, 5.14.0-503.11.1.el9_5.x86_64 runs"},
		{"Fedora with images only beside the modules", "6.8.9-300.fc40.x86_64",
			[]string{"/usr/lib/modules/6.8.9-300.fc40.x86_64/vmlinuz", "/usr/lib/modules/6.8.9-300.fc40.x86_64/modules.dep",
				"/usr/lib/modules/6.8.11-300.fc40.x86_64/vmlinuz", "/usr/lib/modules/6.8.11-300.fc40.x86_64/modules.dep"},
			"needed: kernel 6.8.11-300.fc40.x86_64 is installed, 6.8.9-300.fc40.x86_64 runs"},
		{"Fedora, the index not written yet", "6.8.9-300.fc40.x86_64",
			append(fedoraKernel("6.8.9-300.fc40.x86_64"), "/boot/vmlinuz-6.8.11-300.fc40.x86_64", "/usr/lib/modules/6.8.11-300.fc40.x86_64/vmlinuz"), "not needed"},
		{"SUSE", "6.4.0-150600.21-default", append(together(suseKernel("6.4.0-150600.21-default"), suseKernel("6.4.0-150600.23.7-default"), suseKernel("6.4.0-150600.23.9-rt")),
			"/boot/vmlinux-6.4.0-150600.23.30-default.xz"), "needed: kernel 6.4.0-150600.23.7-default is installed, 6.4.0-150600.21-default runs"},
		{"SUSE, a link to nothing", "6.4.0-150600.21-default",
			append(suseKernel("6.4.0-150600.21-default"), "/boot/vmlinuz-6.4.0-150600.23.7-default -> ../usr/lib/modules/6.4.0-150600.23.7-default/vmlinuz"), "not needed"},
		{"Arch, the old modules are gone", "6.9.1-arch1-1", archKernel("6.9.2-arch1-1"), "needed: kernel 6.9.2-arch1-1 is installed, 6.9.1-arch1-1 runs"},
		{"Arch with two kernels", "6.6.30-1-lts", together(archKernel("6.9.2-arch1-1"), archKernel("6.6.30-1-lts")), "not needed"},
		{"only modules", "6.1.20-v8+", []string{"/boot/kernel8.img", "/usr/lib/modules/6.1.20-v8+/modules.dep", "/usr/lib/modules/6.1.21-v8+/modules.dep",
			"/usr/lib/modules/6.1.22-v8+/", "/usr/lib/modules/6.1.23-v7+/modules.dep"}, "needed: kernel 6.1.21-v8+ is installed, 6.1.20-v8+ runs"},
		{"without modules", "6.6.30-gentoo", []string{"/boot/vmlinuz-6.6.30-gentoo", "/boot/vmlinuz-6.6.30-gentoo-r1"},
			"needed: kernel 6.6.30-gentoo-r1 is installed, 6.6.30-gentoo runs"},

		{"a container", "6.1.0-28-amd64", nil, cannot + "no kernel is installed in /boot and /usr/lib/modules"},
		{"empty directories", "6.1.0-28-amd64", []string{"/boot/", "/usr/lib/modules/"}, cannot + "no kernel is installed in /boot and /usr/lib/modules"},
		{"booted from elsewhere", "6.18.44-fc", together(debianKernel("6.1.0-31-cloud-amd64"), debianKernel("6.1.0-28-cloud-amd64")),
			cannot + "6.18.44-fc runs, and no kernel like it is installed, the newest other one is 6.1.0-31-cloud-amd64"},
		{"no release", "linux\x1b", debianKernel("6.1.0-31-amd64"), cannot + `the running kernel's release "linux" has no version`},
		{"a file for a directory", "6.1.0-28-amd64", []string{"/boot"}, cannot + "not a directory"},
	} {
		t.Run(test.name, func(t *testing.T) {
			need := newKernel(tree(t, test.files...), test.running).answer()
			got := text(need)
			if need.Err != nil { // without the path of the test's directory
				var path *os.PathError
				if errors.As(need.Err, &path) {
					got = cannot + path.Err.Error()
				}
			}
			if got != test.want {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
			if need.Needed != (need.Method == locksmith.MethodReboot) {
				t.Errorf("method %q", need.Method)
			}
		})
	}
}

func TestKernelIsWatched(t *testing.T) {
	root := tree(t, debianKernel("6.1.0-28-amd64")...)
	r := watch(t, newKernel(root, "6.1.0-28-amd64"))
	r.idle()
	// As dpkg does it: image and modules first, the index last.
	grow(t, root, "/boot/vmlinuz-6.1.0-31-amd64", "/usr/lib/modules/6.1.0-31-amd64/kernel/x.ko", "/usr/lib/modules/6.1.0-31-amd64/modules.dep.new")
	must(t, os.Rename(filepath.Join(root, "usr/lib/modules/6.1.0-31-amd64/modules.dep.new"), filepath.Join(root, "usr/lib/modules/6.1.0-31-amd64/modules.dep")))
	r.needed("kernel 6.1.0-31-amd64 is installed, 6.1.0-28-amd64 runs")
	grow(t, root, debianKernel("6.1.0-32-amd64")...)
	for n := r.next(); n.Reason != "kernel 6.1.0-32-amd64 is installed, 6.1.0-28-amd64 runs"; n = r.next() {
	}
	for _, name := range []string{"31", "32"} { // both are removed again
		must(t, os.Remove(filepath.Join(root, "boot/vmlinuz-6.1.0-"+name+"-amd64")))
	}
	for n := r.next(); n.Needed || n.Err != nil; n = r.next() {
	}
	must(t, os.RemoveAll(filepath.Join(root, "boot")))
	must(t, os.RemoveAll(filepath.Join(root, "usr")))
	for n := r.next(); n.Err == nil || !strings.Contains(n.Err.Error(), "no kernel is installed"); n = r.next() {
	}
	// Directories and all. The image comes last, lest it be half installed for a while.
	grow(t, root, "/usr/lib/modules/6.1.0-28-amd64/modules.dep", "/boot/vmlinuz-6.1.0-28-amd64")
	r.idle()
}

func TestRunningKernel(t *testing.T) {
	text, err := runningKernel()
	if err != nil {
		t.Fatal(err)
	}
	if data, err := os.ReadFile("/proc/sys/kernel/osrelease"); err != nil || strings.TrimSpace(string(data)) != text {
		t.Errorf("uname says %q, /proc says %q, %v", text, data, err)
	}
	if _, ok := parseRelease(text); !ok {
		t.Errorf("%q is no release", text)
	}
}
