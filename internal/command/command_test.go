package command

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// script makes an executable sh script of the test's own.
func script(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(file, []byte("#!/bin/sh\n"+text), 0o755); err != nil {
		t.Fatal(err)
	}
	return file
}

func spec(file string, args ...string) Spec {
	return Spec{Name: "test", Path: file, Args: args, Timeout: time.Minute}
}

// gone fails the test if the process whose id is in file does not end soon.
func gone(t *testing.T, file string) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	// Killed, it is a zombie until process 1 reaps it.
	for deadline := time.Now().Add(10 * time.Second); ; {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil || strings.Contains(string(stat), ") Z ") {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("process %d still runs: %s", pid, stat)
		}
	}
}

func TestDirect(t *testing.T) {
	t.Setenv("SECRET", "of the daemon")
	r := New(Direct, nil)
	if got := r.Describe(); got != "child processes" {
		t.Error(got)
	}
	s := spec(script(t, `echo "$@"; pwd >&2; echo "$A/$HOME/$PATH/$LANG/$SECRET"; read x || echo no input; exit 3`), "a b", "$HOME")
	s.Env = []string{"A=1 2", "LANG=C"}
	got, err := r.Run(t.Context(), s)
	want := "a b $HOME\n/\n1 2//root/" + path + "/C/\nno input\n"
	if err != nil || got.ExitCode != 3 || got.Output != want || got.Duration <= 0 {
		t.Errorf("got %+v, %v, want status 3 and %q", got, err, want)
	}
	if got, err := r.Run(t.Context(), spec("/bin/true")); err != nil || got.ExitCode != 0 {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestNotStarted(t *testing.T) {
	r := New(Direct, nil)
	noInterpreter := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(noInterpreter, []byte("#!/nowhere/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	ok := spec("/bin/true")
	with := func(change func(*Spec)) Spec { s := ok; change(&s); return s }
	tests := map[string]Spec{
		"no such file or directory": spec("/nowhere"),
		"no such file":              spec(noInterpreter),
		"permission denied":         spec("/etc/passwd"),
		"it has no name":            with(func(s *Spec) { s.Name = "" }),
		`"true" is no absolute`:     spec("true"),
		`directory "tmp" is no abs`: with(func(s *Spec) { s.Dir = "tmp" }),
		"it has no time limit":      with(func(s *Spec) { s.Timeout = 0 }),
		`variable "A" must be`:      with(func(s *Spec) { s.Env = []string{"A"} }),
		`variable "1A=x" must be`:   with(func(s *Spec) { s.Env = []string{"1A=x"} }),
		`variable "=x" must be`:     with(func(s *Spec) { s.Env = []string{"=x"} }),
		"NUL":                       spec("/bin/true", "a\x00b"),
	}
	for want, s := range tests {
		if _, err := r.Run(t.Context(), s); !errors.Is(err, ErrNotStarted) || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

func TestTimeout(t *testing.T) {
	pid := filepath.Join(t.TempDir(), "pid")
	s := spec(script(t, `echo begun; sleep 99 & echo $! >`+pid+`; wait`))
	s.Timeout = 300 * time.Millisecond
	began := time.Now()
	got, err := New(Direct, nil).Run(t.Context(), s)
	if !errors.Is(err, ErrTimeout) || err.Error() != "timed out after 300ms" || got.Output != "begun\n" {
		t.Errorf("got %+v, %v", got, err)
	}
	if d := time.Since(began); d > 4*time.Second {
		t.Errorf("ending it took %s, though SIGTERM was enough", d)
	}
	gone(t, pid)
}

// Programs that ignore SIGTERM, and whose children do.
func TestStubborn(t *testing.T) {
	pid := filepath.Join(t.TempDir(), "pid")
	r := New(Direct, nil)
	r.grace = 200 * time.Millisecond
	s := spec(script(t, `trap '' TERM; sh -c 'echo $$ >`+pid+`; while :; do sleep 1; done' & while :; do sleep 1; done`))
	s.Timeout = 300 * time.Millisecond
	if _, err := r.Run(t.Context(), s); !errors.Is(err, ErrTimeout) {
		t.Error(err)
	}
	gone(t, pid)
}

// What a program leaves running that holds its output open neither keeps Run from
// returning nor goes on.
func TestLeftBehind(t *testing.T) {
	pid := filepath.Join(t.TempDir(), "pid")
	r := New(Direct, nil)
	r.grace = 200 * time.Millisecond
	stays := script(t, `trap '' TERM; echo $$ >`+pid+`; while :; do sleep 1; done`)
	got, err := r.Run(t.Context(), spec(script(t, stays+` & while [ ! -s `+pid+` ]; do :; done; echo done; exit 4`)))
	if err != nil || got.ExitCode != 4 || got.Output != "done\n" {
		t.Errorf("got %+v, %v", got, err)
	}
	gone(t, pid)
}

// A process that moved to a group of its own is out of reach, but Run returns.
func TestEscaped(t *testing.T) {
	pid := filepath.Join(t.TempDir(), "pid")
	r := New(Direct, nil)
	r.grace = 50 * time.Millisecond
	text := `setsid sh -c 'echo $$ >` + pid + `; exec sleep 99' & while [ ! -s ` + pid + ` ]; do :; done; echo done`
	got, err := r.Run(t.Context(), spec(script(t, text)))
	if err != nil || got.Output != "done\n" {
		t.Errorf("got %+v, %v", got, err)
	}
	id, err := os.ReadFile(pid)
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(id)))
	if err != nil || n < 2 {
		t.Fatal(n, err)
	}
	if err := syscall.Kill(n, syscall.SIGKILL); err != nil {
		t.Error("it does not run any more:", err)
	}
}

func TestContextEnds(t *testing.T) {
	pid := filepath.Join(t.TempDir(), "pid")
	cause := errors.New("the daemon stops")
	ctx, cancel := context.WithCancelCause(t.Context())
	go func() {
		for {
			if text, _ := os.ReadFile(pid); strings.HasSuffix(string(text), "\n") {
				cancel(cause)
				return
			}
		}
	}()
	r := New(Direct, nil)
	if _, err := r.Run(ctx, spec(script(t, `echo $$ >`+pid+`; sleep 99`))); !errors.Is(err, cause) {
		t.Errorf("got %v, want %v", err, cause)
	}
	gone(t, pid)
	if _, err := r.Run(ctx, spec("/bin/true")); !errors.Is(err, cause) {
		t.Errorf("got %v, want %v", err, cause)
	}
}

func TestSignal(t *testing.T) {
	_, err := New(Direct, nil).Run(t.Context(), spec(script(t, `kill -SEGV $$`)))
	var signal *SignalError
	if !errors.As(err, &signal) || err.Error() != "ended by signal SEGV" {
		t.Error(err)
	}
}

func TestOneAtATime(t *testing.T) {
	dir := t.TempDir()
	fifo := filepath.Join(dir, "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	r := New(Direct, nil)
	first := make(chan error)
	go func() {
		_, err := r.Run(t.Context(), spec(script(t, `echo begun >`+fifo+`; read x <`+fifo)))
		first <- err
	}()
	if _, err := os.ReadFile(fifo); err != nil { // waits until it runs
		t.Fatal(err)
	}
	if _, err := r.Run(t.Context(), spec("/bin/true")); !errors.Is(err, ErrNotStarted) || !strings.Contains(err.Error(), "test is still running") {
		t.Error(err)
	}
	other := spec("/bin/true")
	other.Name = "other"
	if _, err := r.Run(t.Context(), other); err != nil {
		t.Error(err)
	}
	if err := os.WriteFile(fifo, []byte("go\n"), 0); err != nil {
		t.Fatal(err)
	}
	if err := <-first; err != nil {
		t.Error(err)
	}
	if _, err := r.Run(t.Context(), spec("/bin/true")); err != nil {
		t.Error(err)
	}
}

func TestMuchOutput(t *testing.T) {
	got, err := New(Direct, nil).Run(t.Context(), spec(script(t, `head -c 100000000 /dev/zero | tr '\0' x; echo; echo end`)))
	if err != nil || len(got.Output) != MaxOutput || !strings.HasSuffix(got.Output, "xx\nend\n") {
		t.Errorf("%d bytes, %v: …%q", len(got.Output), err, got.Output[max(0, len(got.Output)-20):])
	}
}

func TestTail(t *testing.T) {
	for size := 1; size < 12; size++ {
		for chunk := 1; chunk < 30; chunk++ {
			tail, all := newTail(size), []byte("abcdefghijklmnopqrstuvwxyz")
			for part := range slices.Chunk(all, chunk) {
				tail.write(part)
			}
			if got, want := string(tail.bytes()), string(all[len(all)-size:]); got != want {
				t.Fatalf("%d bytes in chunks of %d: %q, want %q", size, chunk, got, want)
			}
		}
	}
	short := newTail(10)
	short.write([]byte("abc"))
	if got := string(short.bytes()); got != "abc" {
		t.Error(got)
	}
}

func TestClean(t *testing.T) {
	tests := []struct {
		in, want string
		limit    int
	}{
		{"a\tb\n", "a b\n", 99},
		{"a\r\nb\r10%\r20%", "a\nb\n10%\n20%", 99},
		{"\x1b[1;31mred\x1b[0m\x07\x00 é\u202e\u200b", "red é", 99},
		{"\xa9\x80ok\xff\xfe!", "ok?!", 99},
		{"ééé", "éé", 4},
		{"ééé", "é", 3},
		{"", "", 3},
	}
	for _, tt := range tests {
		if got := clean([]byte(tt.in), tt.limit); got != tt.want {
			t.Errorf("%q: %q, want %q", tt.in, got, tt.want)
		}
	}
}

func TestBrief(t *testing.T) {
	for d, want := range map[time.Duration]string{30 * time.Second: "30s", 5 * time.Minute: "5m", 90 * time.Minute: "1h30m",
		time.Hour: "1h", 61 * time.Second: "1m1s", 10 * time.Second: "10s", 100 * time.Hour: "100h"} {
		if got := brief(d); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}
