package trigger

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// follow runs a follower for path. Each look sends whether the file is there.
func follow(t *testing.T, path string, quiet time.Duration) <-chan bool {
	f := &follower{
		targets: func() []target { return []target{{path: path}} },
		log:     discard,
	}
	quickly(f)
	f.quiet = quiet
	looks := make(chan bool, 1000)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		f.run(ctx, func() {
			_, err := os.Stat(path)
			looks <- err == nil
		})
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
	return looks
}

// expect waits for a look that finds the file there, or not, and returns how many
// looks it took.
func expect(t *testing.T, looks <-chan bool, there bool) (n int) {
	t.Helper()
	limit := time.After(20 * time.Second)
	for n = 1; ; n++ {
		select {
		case got := <-looks:
			if got == there {
				return n
			}
		case <-limit:
			t.Fatalf("nobody looked and found the file there=%v", there)
		}
	}
}

// Others write to /run all the time: nothing is looked at for them.
func TestOthersFiles(t *testing.T) {
	path := filepath.Join(t.TempDir(), "reboot-required")
	looks := follow(t, path, 0) // every event counts
	expect(t, looks, false)
	for i := range 50 {
		put(t, fmt.Sprint(path, i), "x")
	}
	put(t, path, "x")                                    // comes after them
	if n := expect(t, looks, true) + len(looks); n > 3 { // it was made, and then written to
		t.Errorf("looked %d times", n)
	}
}

// A directory that was moved away and back, faster than anybody looked, is the same
// one under the same name, but the kernel watches it no more.
func TestAwayAndBack(t *testing.T) {
	root := t.TempDir()
	dir := mkdir(t, filepath.Join(root, "run"))
	path := filepath.Join(dir, "reboot-required")
	looks := follow(t, path, 100*time.Millisecond)
	expect(t, looks, false)
	for range 3 {
		must(t, os.Rename(dir, dir+".away"))
		must(t, os.Rename(dir+".away", dir))
		expect(t, looks, false)
		put(t, path, "")
		expect(t, looks, true)
		must(t, os.Remove(path))
		expect(t, looks, false)
	}
}

// A filesystem that was unmounted and mounted again has the same numbers, and is
// watched no more either. Nothing tells; so it is watched anew from time to time.
func TestLookingAgainWatchesAnew(t *testing.T) {
	path := filepath.Join(t.TempDir(), "reboot-required")
	f := NewFile(path, time.Time{}, nil).f
	defer f.disarm()
	must(t, f.arm())
	if !f.wait(t.Context(), time.Millisecond) || f.inotify != nil {
		t.Error("what was watched before is still relied on")
	}
	must(t, f.arm())
	put(t, path, "")
	if !f.wait(t.Context(), time.Hour) || f.inotify == nil {
		t.Error("a change was not seen, or everything was watched anew for it")
	}
}
