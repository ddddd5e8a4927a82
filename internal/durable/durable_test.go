package durable_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/locksmith-reboot/locksmith/internal/durable"
)

func TestReplaceAndRemove(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	if _, err := durable.Read(path, 10); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
	if err := os.WriteFile(path+".new", []byte("of a crash"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"one", "", "another"} {
		if err := durable.Replace(path, []byte(text)); err != nil {
			t.Fatal(err)
		}
		if got, err := durable.Read(path, 10); err != nil || string(got) != text {
			t.Errorf("read %q, %v; want %q", got, err, text)
		}
	}
	if info, err := os.Stat(path); err != nil || info.Mode() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if _, err := durable.Read(path, 6); err == nil || !strings.Contains(err.Error(), "longer than 6 bytes") {
		t.Errorf("a file that is too long: %v", err)
	}
	for range 2 { // the second finds none
		if err := durable.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
	if left, err := os.ReadDir(filepath.Dir(path)); err != nil || len(left) != 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

// What is no file is neither read nor waited for, and a directory that is missing is an
// error that names it.
func TestNoFile(t *testing.T) {
	dir := t.TempDir()
	pipe := filepath.Join(dir, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{pipe, dir} {
		if _, err := durable.Read(path, 10); err == nil || !strings.Contains(err.Error(), "no regular file") {
			t.Errorf("reading %s: %v", path, err)
		}
	}
	gone := filepath.Join(dir, "gone", "f")
	for _, err := range []error{durable.Replace(gone, nil), durable.Remove(gone)} {
		if err == nil || !strings.Contains(err.Error(), "gone") {
			t.Errorf("without its directory: %v", err)
		}
	}
}
