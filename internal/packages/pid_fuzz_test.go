package packages

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A lock file names a process, or nobody, or is an error in one line: never a process
// that cannot be.
func FuzzLockFile(f *testing.F) {
	for _, text := range []string{"", "0", "812\n", " 1", "-1", "99999999999999999999", "0x10", "12 13", "\x00", strings.Repeat("1", 5000)} {
		f.Add([]byte(text))
	}
	root := f.TempDir()
	path := filepath.Join(root, "zypp.pid")
	f.Fuzz(func(t *testing.T, text []byte) {
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		h, err := New(root).writtenBy(path)
		switch {
		case err != nil && strings.ContainsAny(err.Error(), "\r\n"):
			t.Fatalf("%q: %q", text, err)
		case h.pid < 0, h.held && h.pid == 0, err != nil && h.held:
			t.Fatalf("%q: %+v, %v", text, h, err)
		}
	})
}
