package packages

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/locksmith-reboot/locksmith/internal/agent"
)

// The test binary plays the package manager: with holdEnv set it takes the lock on
// the named file, says so, and keeps it until its standard input ends.
const holdEnv = "LOCKSMITH_TEST_HOLD"

func TestMain(m *testing.M) {
	if spec := os.Getenv(holdEnv); spec != "" {
		kind, path, _ := strings.Cut(spec, ":")
		if err := hold(kind, path); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println("held")
		io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func hold(kind, path string) error {
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CREAT, 0o640)
	if err != nil {
		return err
	}
	lock := unix.Flock_t{Type: unix.F_WRLCK}
	switch kind {
	case "write":
		return unix.FcntlFlock(uintptr(fd), unix.F_SETLK, &lock)
	case "part": // lockf(3), as transactional-update does it
		lock.Len = 10000
		return unix.FcntlFlock(uintptr(fd), unix.F_SETLK, &lock)
	case "read":
		lock.Type = unix.F_RDLCK
		return unix.FcntlFlock(uintptr(fd), unix.F_SETLK, &lock)
	case "open": // of the open file, not of the process
		return unix.FcntlFlock(uintptr(fd), unix.F_OFD_SETLK, &lock)
	case "pid":
		_, err := unix.Write(fd, []byte(strconv.Itoa(os.Getpid())+"\n"))
		return err
	}
	return errors.New("no such kind of lock: " + kind)
}

// manager starts a process that holds a lock of some kind on path, below root.
func manager(t *testing.T, root, kind, path string) (pid int, end func()) {
	t.Helper()
	path = root + path
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	// With the race detector, a process otherwise sleeps for a second before it ends.
	cmd.Env = append(os.Environ(), holdEnv+"="+kind+":"+path, "GORACE=atexit_sleep_ms=0")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	end = sync.OnceFunc(func() {
		in.Close()
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(end)
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "held\n" {
		t.Fatalf("the lock was not taken: %q, %v", line, err)
	}
	return cmd.Process.Pid, end
}

// machine is a root directory with nothing but processes.
func machine(t *testing.T) (root string, c *Check) {
	root = t.TempDir()
	if err := os.Symlink("/proc", filepath.Join(root, "proc")); err != nil {
		t.Fatal(err)
	}
	return root, New(root)
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func run(t *testing.T, c *Check) error { return c.Run(t.Context(), agent.About{}) }

// comm is this program's name as the kernel has it.
func comm() string {
	base := filepath.Base(os.Args[0])
	return base[:min(len(base), 15)]
}

func passes(t *testing.T, c *Check) {
	t.Helper()
	if err := run(t, c); err != nil {
		t.Errorf("blocked: %v", err)
	}
}

func blocked(t *testing.T, c *Check, reason string) {
	t.Helper()
	var veto *agent.Veto
	if err := run(t, c); !errors.As(err, &veto) || veto.By != "package-manager" || veto.Reason != reason {
		t.Errorf("got %v, want blocked because %s", err, reason)
	}
}

func TestNoPackageManager(t *testing.T) {
	_, c := machine(t)
	passes(t, c)
	passes(t, New(t.TempDir())) // not even processes
	if c.Name() != "package-manager" {
		t.Errorf("Name() = %s", c.Name())
	}
}

// Locks of which nobody is the holder lie around on every machine.
func TestNobodyHolds(t *testing.T) {
	root, c := machine(t)
	for _, path := range recordLocks {
		write(t, root+path, "")
	}
	for _, path := range pidFiles {
		write(t, root+path, "")
	}
	passes(t, c)
}

func TestHeldForWriting(t *testing.T) {
	for _, path := range recordLocks {
		for _, kind := range []string{"write", "part"} {
			t.Run(kind+path, func(t *testing.T) {
				root, c := machine(t)
				pid, end := manager(t, root, kind, path)
				blocked(t, c, fmt.Sprintf("%s (pid %d) holds %s", comm(), pid, path))
				blocked(t, c, fmt.Sprintf("%s (pid %d) holds %s", comm(), pid, path)) // looking took nothing
				end()
				passes(t, c)
			})
		}
	}
}

func TestReadersPass(t *testing.T) {
	root, c := machine(t)
	manager(t, root, "read", "/var/lib/rpm/.rpm.lock")
	passes(t, c)
}

func TestHolderWithoutProcess(t *testing.T) {
	root, c := machine(t)
	manager(t, root, "open", "/var/lib/dpkg/lock")
	blocked(t, c, "a process that cannot be seen from here holds /var/lib/dpkg/lock")
}

// One process that holds several locks is named once, two are both named.
func TestSeveralLocks(t *testing.T) {
	root, c := machine(t)
	first, _ := manager(t, root, "pid", "/var/lib/dnf/rpmdb_lock.pid")
	write(t, root+"/var/cache/dnf/download_lock.pid", strconv.Itoa(first))
	second, _ := manager(t, root, "write", "/var/lib/rpm/.rpm.lock")
	blocked(t, c, fmt.Sprintf("%[1]s (pid %[2]d) holds /var/lib/rpm/.rpm.lock; %[1]s (pid %[3]d) holds /var/lib/dnf/rpmdb_lock.pid",
		comm(), second, first))
}

func TestPidFiles(t *testing.T) {
	for _, path := range pidFiles {
		t.Run(path, func(t *testing.T) {
			root, c := machine(t)
			pid, end := manager(t, root, "pid", path)
			blocked(t, c, fmt.Sprintf("%s (pid %d) holds %s", comm(), pid, path))
			end() // and leaves its file behind
			passes(t, c)
		})
	}
}

// The id in the file may have been given to another process since.
func TestOutdatedPidFile(t *testing.T) {
	root, c := machine(t)
	path := root + "/run/zypp.pid"
	write(t, path, strconv.Itoa(os.Getpid()))
	blocked(t, c, fmt.Sprintf("%s (pid %d) holds /run/zypp.pid", comm(), os.Getpid()))
	// Longer ago than this process, and still in this boot.
	before := time.Now().Add(-age(t) - 2*slack)
	if err := os.Chtimes(path, before, before); err != nil {
		t.Fatal(err)
	}
	passes(t, c)
}

// age is how long ago this process was started.
func age(t *testing.T) time.Duration {
	data, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		t.Fatal(err)
	}
	_, start, err := parseStat(data)
	if err != nil {
		t.Fatal(err)
	}
	var up unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &up); err != nil {
		t.Fatal(err)
	}
	return time.Duration(up.Nano()) - time.Duration(start)*10*time.Millisecond
}

// The start that is read is right: between the start of this test and a moment ago.
func TestAge(t *testing.T) {
	root, c := machine(t)
	from := time.Now()
	pid, _ := manager(t, root, "pid", "/run/zypp.pid")
	for want, since := range map[bool]time.Time{true: time.Now(), false: from.Add(-slack - time.Second)} {
		if alive, err := c.aliveSince(pid, since); alive != want || err != nil {
			t.Errorf("alive since %v: %v, %v", since, alive, err)
		}
	}
}

func TestZombie(t *testing.T) {
	root, c := machine(t)
	cmd := exec.Command("true")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	// Ended, not waited for: the kernel says when.
	if err := unix.Waitid(unix.P_PID, cmd.Process.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil); err != nil {
		t.Fatal(err)
	}
	write(t, root+"/run/zypp.pid", strconv.Itoa(cmd.Process.Pid))
	passes(t, c)
}

func TestCannotLook(t *testing.T) {
	for content, want := range map[string]string{
		"zypper": `cannot look at /run/zypp.pid: it holds "zypper", not a process id; remove it once no package manager is at work`,
		"-5":     `cannot look at /run/zypp.pid: it holds "-5", not a process id; remove it once no package manager is at work`,
		"1\n2":   `cannot look at /run/zypp.pid: it holds "1\n2", not a process id; remove it once no package manager is at work`,
	} {
		root, c := machine(t)
		write(t, root+"/run/zypp.pid", content)
		blocked(t, c, want)
	}
	for _, path := range []string{"/var/lib/dpkg/lock", "/run/zypp.pid"} {
		root, c := machine(t)
		if err := os.MkdirAll(root+path, 0o755); err != nil {
			t.Fatal(err)
		}
		blocked(t, c, "cannot look at "+path+": it is no regular file")
	}
	root, c := machine(t)
	write(t, root+"/var/lib/dpkg", "") // a file where a directory should be
	blocked(t, c, "cannot look at /var/lib/dpkg/lock-frontend: not a directory; "+
		"cannot look at /var/lib/dpkg/lock: not a directory")

	// A lock that is known to be held says more than one that is not known.
	pid, _ := manager(t, root, "write", "/run/dnf/rpmtransaction.lock")
	blocked(t, c, fmt.Sprintf("%s (pid %d) holds /run/dnf/rpmtransaction.lock", comm(), pid))
}

func TestPipe(t *testing.T) {
	root, c := machine(t)
	write(t, root+"/run/other", "")
	if err := unix.Mkfifo(root+"/run/zypp.pid", 0o600); err != nil {
		t.Fatal(err)
	}
	blocked(t, c, "cannot look at /run/zypp.pid: it is no regular file")
}

// A process chooses its own name.
func TestNames(t *testing.T) {
	root := t.TempDir()
	c := New(root)
	for comm, want := range map[string]string{
		"apt-get\n":         "apt-get (pid 812)",
		"a\x1b[31mb\nc\n":   "a [31mb c (pid 812)",
		"\xff\xfe":          "a process (pid 812)",
		"":                  "a process (pid 812)",
		"packagekitd (x)\n": "packagekitd (x) (pid 812)",
	} {
		write(t, root+"/proc/812/comm", comm)
		if got := c.describe(holder{held: true, pid: 812}); got != want {
			t.Errorf("%q is described as %q, want %q", comm, got, want)
		}
	}
}

func FuzzParseStat(f *testing.F) {
	f.Add([]byte("812 (apt-get) S 1 812 812 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 4242 1 1"))
	f.Add([]byte("812 (a) R) ) Z 1 812 812 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 4242"))
	f.Add([]byte(")"))
	f.Fuzz(func(t *testing.T, data []byte) {
		state, start, err := parseStat(data)
		if err == nil && (!strings.ContainsRune("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz", rune(state)) || start < 0) {
			t.Errorf("%q: %q %d", data, state, start)
		}
	})
}
