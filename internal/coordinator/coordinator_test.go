package coordinator_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/locksmith-reboot/locksmith/internal/coordinator"
)

// holdPath makes the test binary a coordinator of the file it names, which it
// holds until its standard input ends.
const holdPath = "COORDINATOR_TEST_PATH"

func TestMain(m *testing.M) {
	if path := os.Getenv(holdPath); path != "" {
		f, err := coordinator.Claim(path, "reboot", "running")
		fmt.Println(err)
		if err == nil {
			bufio.NewReader(os.Stdin).ReadByte()
			f.Close()
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func claim(t *testing.T, path string) *coordinator.File {
	t.Helper()
	f, err := coordinator.Claim(path, "etcd-lock", "starting")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func expect(t *testing.T, path, want string) {
	t.Helper()
	got, err := os.ReadFile(path)
	if err != nil || string(got) != want {
		t.Errorf("%s holds %q (%v), want %q", path, got, err, want)
	}
}

func TestStates(t *testing.T) {
	old := syscall.Umask(0o077)
	defer syscall.Umask(old)
	path := filepath.Join(t.TempDir(), "update-engine", "coordinator.conf")
	f := claim(t, path)
	if info, err := os.Stat(path); err != nil || info.Mode() != 0o644 {
		t.Errorf("got %v, %v", info.Mode(), err)
	}
	expect(t, path, "NAME=locksmithd\nSTRATEGY=etcd-lock\nSTATE=starting\n")
	for _, state := range []string{"reboot-planned", "running", "rebooting"} {
		if err := f.SetState(state); err != nil {
			t.Fatal(err)
		}
		expect(t, path, "NAME=locksmithd\nSTRATEGY=etcd-lock\nSTATE="+state+"\n")
	}
	for range 2 {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("file is left after Close: %v", err)
	}
	if err := f.SetState("running"); err == nil || err.Error() != "coordinator file: it is closed" {
		t.Errorf("got %v", err)
	}
}

func TestValuesThatAShellWouldMisread(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c.conf")
	f := claim(t, path)
	for _, state := range []string{"", "a b", "a\nNAME=x", "$(reboot)", "Rebooting"} {
		want := fmt.Sprintf("coordinator file: %q must be lower-case letters, digits and dashes", state)
		if err := f.SetState(state); err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	expect(t, path, "NAME=locksmithd\nSTRATEGY=etcd-lock\nSTATE=starting\n")
}

// other starts a coordinator in a process of its own and returns what it said.
func other(t *testing.T, path string) (said string, stop, kill func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, "/proc/self/exe")
	cmd.Env = append(os.Environ(), holdPath+"="+path)
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
	wait := sync.OnceFunc(func() { cmd.Wait() })
	t.Cleanup(func() { cancel(); wait() })
	said, err = bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(said), func() { in.Close(); wait() }, func() { cancel(); wait() }
}

func TestSecondProcessIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c.conf")
	f := claim(t, path)
	said, stop, _ := other(t, path)
	defer stop()
	want := "coordinator file " + path + ` is held by another coordinator, "locksmithd": stop it first`
	if said != want {
		t.Errorf("got  %s\nwant %s", said, want)
	}
	// The refused one touched nothing, and the claim outlives it.
	expect(t, path, "NAME=locksmithd\nSTRATEGY=etcd-lock\nSTATE=starting\n")
	if err := f.SetState("running"); err != nil {
		t.Error(err)
	}
	if said, _, _ := other(t, path); said != want {
		t.Errorf("after a change of state: got %s", said)
	}
}

func TestAnotherProgramsClaimIsNamed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c.conf")
	for _, tt := range []struct{ text, want string }{
		{"STRATEGY=x\nNAME=zincati\n", `, "zincati"`}, {"", ""}, {"NAME=a\x1b[31m", `, "a\x1b[31m"`},
	} {
		file, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		file.WriteString(tt.text)
		if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX); err != nil {
			t.Fatal(err)
		}
		_, err = coordinator.Claim(path, "reboot", "starting")
		want := "coordinator file " + path + " is held by another coordinator" + tt.want + ": stop it first"
		if err == nil || err.Error() != want {
			t.Errorf("got  %v\nwant %s", err, want)
		}
		expect(t, path, tt.text)
		file.Close()
	}
}

func TestCrashedAndStoppedCoordinatorsAreReplaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c.conf")
	said, _, kill := other(t, path)
	if said != "<nil>" {
		t.Fatal(said)
	}
	expect(t, path, "NAME=locksmithd\nSTRATEGY=reboot\nSTATE=running\n")
	kill()
	expect(t, path, "NAME=locksmithd\nSTRATEGY=reboot\nSTATE=running\n")
	f := claim(t, path)
	expect(t, path, "NAME=locksmithd\nSTRATEGY=etcd-lock\nSTATE=starting\n")
	f.Close()

	said, stop, _ := other(t, path)
	if said != "<nil>" {
		t.Fatal(said)
	}
	stop()
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("file is left after a clean stop: %v", err)
	}
}

// However claims and withdrawals interleave, no two are held at a time.
func TestOneAtATime(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c.conf")
	held := make(chan struct{}, 1)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for won := 0; won < 20; {
				f, err := coordinator.Claim(path, "reboot", "running")
				if err != nil {
					continue
				}
				won++
				select {
				case held <- struct{}{}:
					if err := f.SetState("rebooting"); err != nil { // holds it for a while
						t.Error(err)
					}
					<-held
				default:
					t.Error("two claims are held at a time")
				}
				if err := f.Close(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

// A reader never sees anything but the whole of one state.
func TestReaderDuringChanges(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c.conf")
	f := claim(t, path)
	done := make(chan struct{})
	defer func() { <-done }()
	go func() {
		defer close(done)
		for range 500 {
			for _, state := range []string{"reboot-planned", "running"} {
				if err := f.SetState(state); err != nil {
					t.Error(err)
					return
				}
			}
		}
	}()
	for {
		select {
		case <-done:
			return
		default:
		}
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		switch state := strings.TrimPrefix(string(text), "NAME=locksmithd\nSTRATEGY=etcd-lock\nSTATE="); state {
		case "starting\n", "reboot-planned\n", "running\n":
		default:
			t.Fatalf("a reader saw %q", text)
		}
	}
}

func TestFileTakenByOthers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c.conf")
	f := claim(t, path)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := f.SetState("running"); err != nil { // removed by an administrator: made again
		t.Error(err)
	}
	expect(t, path, "NAME=locksmithd\nSTRATEGY=etcd-lock\nSTATE=running\n")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("NAME=zincati\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := f.SetState("rebooting"); err == nil || err.Error() != "coordinator file "+path+" was replaced by somebody else" {
		t.Errorf("got %v", err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	expect(t, path, "NAME=zincati\n")
}

func TestLinkIsNotFollowed(t *testing.T) {
	dir := t.TempDir()
	target, link := filepath.Join(dir, "precious"), filepath.Join(dir, "c.conf")
	if err := os.WriteFile(target, []byte("data"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(target, link); err != nil {
		t.Fatal(err)
	}
	if _, err := coordinator.Claim(link, "reboot", "starting"); err == nil {
		t.Error("a symbolic link was followed")
	}
	expect(t, target, "data")
}
