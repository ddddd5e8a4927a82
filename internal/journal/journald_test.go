package journal_test

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/locksmith-reboot/locksmith/internal/journal"
	"github.com/locksmith-reboot/locksmith/internal/skip"
)

// A journald of the test's own, with a /run and a journal that nobody else sees.
const ownJournald = `set -e
mount -t tmpfs tmpfs /run
mkdir -p /run/systemd/journal.locksmith /run/log/journal /var/log/journal
mount -t tmpfs tmpfs /var/log/journal
exec %s locksmith`

// realJournald starts journald and returns the path of its socket and what
// journalctl prints, with the options given, of its journal.
func realJournald(t *testing.T) (socket string, journalctl func(...string) string) {
	t.Helper()
	const program = "/usr/lib/systemd/systemd-journald"
	if _, err := os.Stat(program); err != nil {
		skip.Loudly(t, "what journald itself makes of records: install Debian's systemd")
	}
	if os.Geteuid() != 0 {
		skip.Loudly(t, "what journald itself makes of records: needs root, to start one")
	}
	cmd := exec.CommandContext(t.Context(), "unshare", "--mount", "--propagation", "private", "sh", "-c", fmt.Sprintf(ownJournald, program))
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { defer close(ended); _ = cmd.Wait() }()
	t.Cleanup(func() { _ = cmd.Process.Kill(); <-ended })
	root := fmt.Sprintf("/proc/%d/root", cmd.Process.Pid)
	socket = filepath.Join(root, "run/systemd/journal.locksmith/socket")
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(20 * time.Second); ; {
		if info, err := os.Stat(socket); err == nil && info.Mode().Type() == fs.ModeSocket {
			break
		}
		select {
		case <-ended:
			t.Fatalf("journald ended: %s", &out)
		case <-tick.C:
		}
		if time.Now().After(deadline) {
			t.Fatalf("journald is not ready: %s", &out)
		}
	}
	return socket, func(options ...string) string {
		t.Helper()
		args := append([]string{"--mount", "--target", fmt.Sprint(cmd.Process.Pid), "journalctl", "--namespace", "locksmith", "--no-pager", "--quiet"}, options...)
		got, err := exec.CommandContext(t.Context(), "nsenter", args...).CombinedOutput()
		if err != nil {
			t.Fatalf("journalctl: %v: %s", err, got)
		}
		return string(got)
	}
}

// What docs/journal.md tells people to type works with the real journal.
func TestRealJournal(t *testing.T) {
	socket, journalctl := realJournald(t)
	h := journal.New(journal.Config{Path: socket, Fallback: t.Output()})
	defer h.Close()
	log := slog.New(h).With("machine", "m1")
	log.Info("phase", "event", "phase", "phase", "queued", "from", "needed", "reason", "kernel 6.1")
	output := "first line\nsecond line\n" + strings.Repeat("x", 50<<10)
	args := []any{"event", "failed", "reason", output}
	for i := range 10 { // more than a datagram takes
		args = append(args, fmt.Sprintf("part%d", i), output)
	}
	log.Error("check failed", args...)
	journalctl("--sync")

	if got, want := journalctl("-t", "locksmithd", "-o", "cat", "LOCKSMITH_PHASE=queued"), "phase queued: kernel 6.1 (from needed)\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	var record map[string]any
	got := journalctl("-o", "json", "--all", "-p", "err", "MESSAGE_ID=528d2db65f3543c592022729ee338955")
	if err := json.Unmarshal([]byte(got), &record); err != nil {
		t.Fatalf("%v: %.200s", err, got)
	}
	if record["LOCKSMITH_REASON"] != output || record["LOCKSMITH_PART9"] != output || record["LOCKSMITH_MACHINE"] != "m1" || record["PRIORITY"] != "3" {
		t.Errorf("got %.400s", got)
	}
}
