package trigger

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode"

	"golang.org/x/sys/unix"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/internal/agent"
	"github.com/locksmith-reboot/locksmith/internal/skip"
)

// quickly makes the times of a trigger on files short enough for tests. Looking again
// from time to time is as good as off, unless a test turns it on.
func quickly(f *follower) {
	f.quiet, f.most, f.again, f.poll = 10*time.Millisecond, 100*time.Millisecond, time.Hour, time.Hour
}

func newFile(path string) *File {
	t := NewFile(path, time.Time{}, nil)
	quickly(&t.f)
	return t
}

func put(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func mkdir(t *testing.T, path string) string {
	t.Helper()
	if err := os.MkdirAll(path, 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "needed")
	r := watch(t, newFile(path))
	r.idle()
	for range 3 {
		put(t, path, "anything")
		r.needed(path)
		must(t, os.Remove(path))
		r.idle()
	}
	// By a rename, as careful programs make files, and away by one.
	put(t, path+".new", "")
	must(t, os.Rename(path+".new", path))
	r.needed(path)
	must(t, os.Rename(path, path+".old"))
	r.idle()

	put(t, path, "")
	r.needed(path)
	watch(t, newFile(path)).needed(path) // there from the beginning
}

func TestRebootRequired(t *testing.T) {
	path := filepath.Join(t.TempDir(), "reboot-required")
	r := watch(t, newFile(path))
	r.idle()
	put(t, path, "*** System restart required ***\n")
	r.needed(path)
	put(t, path+".pkgs", "linux-image-6.1.0-31-amd64\n")
	r.needed(path + ": linux-image-6.1.0-31-amd64")
	put(t, path+".pkgs", "linux-image-6.1.0-31-amd64\nlibc6\n\n  linux-image-6.1.0-31-amd64 \n")
	r.needed(path + ": libc6, linux-image-6.1.0-31-amd64")
	must(t, os.Remove(path+".pkgs"))
	r.needed(path)
	put(t, path+".pkgs", "dbus\n")
	r.needed(path + ": dbus")
	must(t, os.Remove(path)) // the packages alone need nothing
	r.idle()
	put(t, path, "")
	if n := r.next(); n.Method != "" || n.Reason != path+": dbus" {
		t.Errorf("reported %+v", n)
	}
}

func TestRebootNeeded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "reboot-needed")
	put(t, path, "")
	r := watch(t, newFile(path))
	for _, step := range []struct {
		content string
		want    locksmith.Method
	}{
		{"", locksmith.MethodReboot}, // from before the watch
		{"kexec\n", locksmith.MethodKexec},
		{"  soft-reboot", locksmith.MethodSoftReboot},
		{"reboot\n", locksmith.MethodReboot},
		{"soft-reboot\n", locksmith.MethodSoftReboot},
		{"soft-reb", locksmith.MethodReboot}, // half written
	} {
		put(t, path, step.content)
		if n := r.next(); !n.Needed || n.Method != step.want || n.Reason != path {
			t.Fatalf("%q: reported %+v", step.content, n)
		}
	}
	for _, content := range []string{"", "command", "kexec reboot", "soft-reboot\nkexec", "KEXEC", "\x00",
		strings.Repeat(" ", maxSentinel) + "kexec"} {
		if m := sentinelMethod([]byte(content[:min(len(content), maxSentinel)])); m != locksmith.MethodReboot {
			t.Errorf("%.20q asks for %s", content, m)
		}
	}
}

// No other file says how to reboot.
func TestOtherFileHasNoMethod(t *testing.T) {
	path := filepath.Join(t.TempDir(), "reboot-wanted")
	put(t, path, "soft-reboot")
	if n := newFile(path).answer(); !n.Needed || n.Method != "" || n.Reason != path {
		t.Errorf("%+v", n)
	}
}

func TestDirectoryComesAndGoes(t *testing.T) {
	root := t.TempDir()
	dir := filepath.Join(root, "a", "b", "c")
	path := filepath.Join(dir, "reboot-required")
	r := watch(t, newFile(path))
	r.idle()
	for range 3 {
		mkdir(t, dir)
		put(t, path, "")
		r.needed(path)
		must(t, os.RemoveAll(filepath.Join(root, "a")))
		r.idle()
	}
	mkdir(t, dir)
	put(t, path, "")
	r.needed(path)
	// Away and back: the same directory under the same name, but not a moment watched.
	must(t, os.Rename(filepath.Join(root, "a"), filepath.Join(root, "away")))
	r.idle()
	must(t, os.Rename(filepath.Join(root, "away"), filepath.Join(root, "a")))
	r.needed(path)
	must(t, os.Remove(path))
	r.idle()
	// Another directory takes the place of one in the middle.
	mkdir(t, filepath.Join(root, "other", "c"))
	put(t, filepath.Join(root, "other", "c", "reboot-required"), "")
	must(t, unix.Renameat2(unix.AT_FDCWD, filepath.Join(root, "other"), unix.AT_FDCWD, filepath.Join(root, "a", "b"), unix.RENAME_EXCHANGE))
	r.needed(path)
	put(t, path+".pkgs", "dbus")
	r.needed(path + ": dbus")
	must(t, os.Remove(path))
	r.idle()
}

// /var/run is a link to /run.
func TestLinks(t *testing.T) {
	root := t.TempDir()
	run, other := mkdir(t, filepath.Join(root, "run")), mkdir(t, filepath.Join(root, "other"))
	mkdir(t, filepath.Join(root, "var"))
	link := filepath.Join(root, "var", "run")
	path := filepath.Join(link, "reboot-required")
	r := watch(t, newFile(path))
	r.idle()
	must(t, os.Symlink("../run", link))
	put(t, filepath.Join(run, "reboot-required"), "")
	r.needed(path)
	must(t, os.Remove(filepath.Join(run, "reboot-required")))
	r.idle()

	// The link turns to where the file is.
	put(t, filepath.Join(other, "reboot-required"), "")
	must(t, os.Symlink(other, link+".new"))
	must(t, os.Rename(link+".new", link))
	r.needed(path)
	must(t, os.Remove(filepath.Join(other, "reboot-required")))
	r.idle()

	// The file itself is a link, first to nowhere.
	target := filepath.Join(root, "target")
	must(t, os.Symlink(target, filepath.Join(other, "reboot-required")))
	put(t, target, "")
	r.needed(path)
	must(t, os.Remove(target))
	r.idle()
}

func TestFileErrors(t *testing.T) {
	root := t.TempDir()
	path := filepath.Join(root, "reboot-required")
	mkdir(t, path)
	r := watch(t, newFile(path))
	r.failed(path + " is no regular file")
	must(t, os.Remove(path))
	r.idle()
	must(t, unix.Mkfifo(path, 0o600)) // which is not opened
	r.failed(path + " is no regular file")
	must(t, os.Remove(path))
	r.idle()
	must(t, os.Symlink("reboot-required", path))
	r.failed("too many levels of symbolic links")
	must(t, os.Remove(path))
	r.idle()
	put(t, path, "")
	mkdir(t, path+".pkgs") // the file is there all the same
	r.needed(path)

	below := filepath.Join(path, "reboot-needed")
	watch(t, newFile(below)).failed("not a directory")
}

// watchAs watches with the permissions of another user.
func watchAs(t *testing.T, uid int, trigger agent.Trigger) *reports {
	if os.Getuid() != 0 {
		skip.Loudly(t, "acting with another user's permissions needs root")
	}
	r := &reports{t: t, ch: make(chan agent.Need, 1000)}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		if _, _, errno := syscall.RawSyscall(unix.SYS_SETFSUID, uintptr(uid), 0, 0); errno != 0 {
			t.Error(errno)
		}
		done <- trigger.Watch(ctx, func(n agent.Need) { r.ch <- n })
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	return r
}

func TestNoPermission(t *testing.T) {
	root := t.TempDir()
	must(t, os.Chmod(root, 0o755))
	must(t, os.Chmod(filepath.Dir(root), 0o755))
	dir := mkdir(t, filepath.Join(root, "closed"))
	path := filepath.Join(dir, "reboot-needed")
	put(t, path, "kexec")
	must(t, os.Chmod(dir, 0o700))
	f := newFile(path)
	f.f.poll = 20 * time.Millisecond // what cannot be watched is looked at
	r := watchAs(t, 65534, f)
	r.failed("permission denied")
	must(t, os.Chmod(dir, 0o711)) // may be searched, not watched
	r.needed(path)
	must(t, os.Remove(path))
	r.idle()
	must(t, os.Chmod(dir, 0o755))
	put(t, path, "kexec")
	r.needed(path)
	must(t, os.Chmod(path, 0o600))
	r.failed("permission denied")
}

// A mount is not told to those who watch what it covers.
func TestMount(t *testing.T) {
	root := t.TempDir()
	dir := mkdir(t, filepath.Join(root, "run"))
	path := filepath.Join(dir, "reboot-required")
	put(t, path, "")
	f := newFile(path)
	f.f.again = 50 * time.Millisecond
	r := watch(t, f)
	r.needed(path)
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, ""); err != nil {
		skip.Loudly(t, fmt.Sprintf("mounting: %v", err))
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	r.idle()
	put(t, path, "")
	r.needed(path)
	must(t, os.Remove(path))
	r.idle()
	must(t, unix.Unmount(dir, 0))
	r.needed(path)
}

// What was asked for before the present userspace began is done.
func TestSince(t *testing.T) {
	path := filepath.Join(t.TempDir(), "reboot-required")
	since := time.Now().Add(-time.Minute)
	before, after := since.Add(-time.Second), since.Add(time.Second)
	f := NewFile(path, since, nil)
	quickly(&f.f)
	put(t, path, "")
	put(t, path+".pkgs", "dbus")
	must(t, os.Chtimes(path+".pkgs", before, before))
	must(t, os.Chtimes(path, before, before))
	r := watch(t, f)
	r.idle()
	must(t, os.Chtimes(path, since, since))
	r.needed(path + ": dbus")
	must(t, os.Chtimes(path, before, before))
	r.idle()
	must(t, os.Chtimes(path+".pkgs", after, after)) // more packages ask for the next one
	r.needed(path + ": dbus")
}

// However often it comes and goes, the last report is how it is in the end.
func TestFileChurn(t *testing.T) {
	for range 3 {
		dir := filepath.Join(t.TempDir(), "run")
		path := filepath.Join(dir, "reboot-required")
		r := watch(t, newFile(path))
		for range 300 {
			switch rand.IntN(5) {
			case 0:
				os.RemoveAll(dir)
			case 1:
				os.Remove(path)
			case 2:
				os.MkdirAll(dir, 0o755)
				os.WriteFile(path+".pkgs", []byte("dbus"), 0o644)
			case 3:
				os.MkdirAll(dir, 0o755)
				os.WriteFile(path, nil, 0o644)
			case 4:
				runtime.Gosched()
			}
		}
		os.RemoveAll(dir)
		mkdir(t, dir)
		put(t, path, "")
		put(t, path+".pkgs", "the-last")
		for n := r.next(); n.Reason != path+": the-last"; n = r.next() {
		}
		r.stop()
	}
}

func TestPackageNames(t *testing.T) {
	var many bytes.Buffer
	for i := range 17 {
		fmt.Fprintf(&many, "package-%02d\n", 16-i)
	}
	long := strings.Repeat("x", nameLimit+1)
	huge := bytes.Repeat([]byte("package-with-a-name\n"), 5000)
	for _, test := range []struct{ data, want string }{
		{"", ""},
		{"\n \n\t\n", ""},
		{"libc6", "libc6"},
		{"b\na\nb\n", "a, b"},
		{"evil\x1b[31m\x00name\n\xff\xfe\n", "evil [31m name"},
		{long, strings.Repeat("x", nameLimit-len("…")) + "…"},
		{many.String(), "package-00, package-01, package-02, package-03, package-04, package-05, " +
			"package-06, package-07, package-08, package-09 and 7 more"},
		{string(huge[:maxSentinel]), "package-with-a-name"}, // without the one that is cut
	} {
		if got := packageNames([]byte(test.data)); got != test.want {
			t.Errorf("%.30q: %q, want %q", test.data, got, test.want)
		}
	}
}

func FuzzSentinel(f *testing.F) {
	f.Add([]byte("linux-image-6.1.0-31-amd64\nlibc6\n"))
	f.Add([]byte("soft-reboot\n"))
	f.Add([]byte("\x1b[2J\x00\xff\n\u2028"))
	f.Fuzz(func(t *testing.T, data []byte) {
		data = data[:min(len(data), maxSentinel)]
		names := packageNames(data)
		if len(names) > (maxNames+1)*(nameLimit+2) || strings.ContainsFunc(names, unicode.IsControl) {
			t.Errorf("%q: %q", data, names)
		}
		method := sentinelMethod(data)
		if method != locksmith.MethodReboot && strings.TrimSpace(string(data)) != string(method) {
			t.Errorf("%q asks for %s", data, method)
		}
	})
}
