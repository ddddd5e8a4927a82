package chaos_test

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/locksmith-reboot/locksmith/test/chaos"
)

// TestDisk holds what a disk's faults do against a program that writes.
func TestDisk(t *testing.T) {
	require(t)
	network := chaos.NewNetwork(1)
	defer network.Close()
	node, err := network.NewNode("a", 1)
	must(t, err)
	at, files := t.TempDir(), t.TempDir()
	disk, err := node.Mount(at, files)
	must(t, err)
	write := func(bytes, offset string) string {
		t.Helper()
		return onNode(t, node, "dd", "if=/dev/zero", "of="+filepath.Join(at, "f"), "bs="+bytes, "count=1", "conv=notrunc,fsync", "oflag=seek_bytes", "seek="+offset)
	}
	size := func() int64 {
		t.Helper()
		info, err := os.Stat(filepath.Join(files, "f"))
		must(t, err)
		return info.Size()
	}
	if out := write("10000", "0"); strings.Contains(out, "No space") || size() != 10000 {
		t.Errorf("%d bytes: %s", size(), out)
	}
	free := disk.Fill(5000)
	if out := write("10000", "10000"); !strings.Contains(out, "No space left on device") || size() != 12288 {
		t.Errorf("of 15000 bytes there are %d, want whole blocks: %s", size(), out)
	}
	if out := write("10", "0"); !strings.Contains(out, "No space left on device") {
		t.Errorf("something was overwritten on a full disk: %s", out)
	}
	if out := onNode(t, node, "fallocate", "-l", "100000", filepath.Join(at, "g")); !strings.Contains(out, "No space left on device") {
		t.Errorf("space was reserved on a full disk: %s", out)
	}
	free()
	mend := disk.Slow(300 * time.Millisecond)
	began := time.Now()
	if out := write("10000", "10000"); strings.Contains(out, "No space") || size() != 20000 {
		t.Errorf("%d bytes: %s", size(), out)
	}
	if took := time.Since(began); took < 300*time.Millisecond {
		t.Errorf("an fsync on a slow disk took %v", took)
	}
	mend()
	if _, err := os.Stat(filepath.Join(at, "f")); err == nil {
		t.Error("others see the disk")
	}
}

// TestFullAndSlowDisks has members' disks fill up, the leader's and then two at once, and
// the leader's slow down by more than an election takes. Members fall over that.
func TestFullAndSlowDisks(t *testing.T) {
	require(t)
	const leader = -1
	cfg := site(t)
	cfg.Seed, cfg.Length, cfg.Settle = *seed, 9*time.Second, 40*time.Second
	cfg.Faults = chaos.Schedule{
		{At: time.Second, For: 2 * time.Second, Act: chaos.FillDisk, Who: leader, Left: 20000},
		{At: 3500 * time.Millisecond, For: 2 * time.Second, Act: chaos.SlowDisk, Who: leader, Slow: 1500 * time.Millisecond},
		{At: 6 * time.Second, For: 2 * time.Second, Act: chaos.FillDisk, Who: 0},
		{At: 6 * time.Second, For: 2 * time.Second, Act: chaos.FillDisk, Who: 1, Left: 3000},
	}
	result := run(t, cfg)
	fell := 0
	for _, l := range result.Lines {
		if l.Kind == chaos.KindFault && strings.HasSuffix(l.Note, ": could not write, and is started again") {
			fell++
		}
	}
	if fell < 2 {
		t.Errorf("%d members fell over a full disk: nothing was tested", fell)
	}
	if !slowed(t, cfg.Dir) {
		t.Error("no member has noticed a slow disk: nothing was tested")
	}
	if result.Reboots < len(cfg.Groups) {
		t.Errorf("%d reboots of %d machines", result.Reboots, len(cfg.Groups))
	}
	t.Logf("%d members fell, %d reboots", fell, result.Reboots)
}

// slowed says whether etcd has complained of an fsync of more than a second.
func slowed(t *testing.T, dir string) bool {
	t.Helper()
	logs, err := filepath.Glob(filepath.Join(dir, "etcd*.log"))
	must(t, err)
	return slices.ContainsFunc(logs, func(log string) bool {
		text, err := os.ReadFile(log)
		must(t, err)
		return bytes.Contains(text, []byte("slow fdatasync"))
	})
}

// onNode runs a program and returns what it said.
func onNode(t *testing.T, node *chaos.Node, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	var said bytes.Buffer
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Stdout, cmd.Stderr = &said, &said
	p, err := node.Start(cmd)
	must(t, err)
	<-p.Ended
	if ctx.Err() != nil {
		t.Errorf("%v did not end", args)
	}
	return said.String()
}
