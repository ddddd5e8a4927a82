package clock_test

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/locksmith-reboot/locksmith/internal/skip"
	"github.com/locksmith-reboot/locksmith/test/chaos/clock"
)

const follower = "LOCKSMITH_CLOCK_FOLLOWER"

func TestMain(m *testing.M) {
	if path := os.Getenv(follower); path != "" {
		if err := follow(path); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// follow says for each line that it reads what time it is by its wall clock, and how
// long it has been running by the monotonic one.
func follow(path string) error {
	if err := clock.Follow(path); err != nil {
		return err
	}
	began := time.Now()
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		now := time.Now()
		fmt.Println(now.Unix(), int64(now.Sub(began)), int64(time.Since(began)))
	}
	return nil
}

// TestFollow steps the clock of a process forth and back: its wall clock goes along, and
// its monotonic one does not.
func TestFollow(t *testing.T) {
	if !clock.Supported {
		skip.Loudly(t, "clocks are set on amd64 only")
	}
	path := filepath.Join(t.TempDir(), "clock")
	steps := []time.Duration{-time.Hour, 0, 72 * time.Hour, -40 * 24 * time.Hour, 90 * time.Second, 0}
	must(t, clock.Set(path, steps[0]))
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.run=^$")
	cmd.Env, cmd.Stderr = append(os.Environ(), follower+"="+path), os.Stderr
	in, err := cmd.StdinPipe()
	must(t, err)
	out, err := cmd.StdoutPipe()
	must(t, err)
	began := time.Now()
	must(t, cmd.Start())
	for _, by := range steps {
		must(t, clock.Set(path, by))
		before := time.Now()
		_, err := fmt.Fprintln(in)
		must(t, err)
		var wall, ran, since int64
		if _, err := fmt.Fscan(out, &wall, &ran, &since); err != nil {
			t.Fatal("it says nothing:", err)
		}
		after := time.Now()
		if from, to := before.Add(by).Unix(), after.Add(by).Unix(); wall < from || wall > to {
			t.Errorf("set by %v it is %v there, want %v to %v", by, wall, from, to)
		}
		for _, d := range []int64{ran, since} {
			if most := after.Sub(began); d < 0 || d > int64(most) {
				t.Errorf("set by %v it ran for %v, want at most %v", by, time.Duration(d), most)
			}
		}
	}
	must(t, in.Close())
	must(t, cmd.Wait())
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
