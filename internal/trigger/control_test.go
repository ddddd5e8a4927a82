package trigger

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

const boot = "2a3c8ba1-9d0a-4d63-8f9c-6f1c7f0b4c11"

func TestControl(t *testing.T) {
	path := filepath.Join(t.TempDir(), "made", "reboot-needed")
	c := NewControl(path, boot)
	r := watch(t, c)
	r.idle()

	if err := c.Request("kernel 6.12"); err != nil {
		t.Fatal(err)
	}
	r.needed("kernel 6.12")
	info, err := os.Stat(path)
	if err != nil || info.Mode() != 0o600 {
		t.Errorf("the file's mode is %v (%v), want 0600", info.Mode(), err)
	}
	if files, _ := os.ReadDir(filepath.Dir(path)); len(files) != 1 {
		t.Errorf("more than the request is left: %v", files)
	}

	if err := c.Request(""); err != nil {
		t.Fatal(err)
	}
	r.needed("requested by an administrator")
	if err := c.Request(""); err != nil { // the same again is no change
		t.Fatal(err)
	}

	// The daemon restarts, in the same boot.
	watch(t, NewControl(path, boot)).needed("requested by an administrator")

	if err := c.Cancel(); err != nil {
		t.Fatal(err)
	}
	r.idle()
	if err := c.Cancel(); err != nil {
		t.Errorf("cancelling nothing: %v", err)
	}
	watch(t, NewControl(path, boot)).idle()
}

func TestControlOfAnotherBoot(t *testing.T) {
	path := filepath.Join(t.TempDir(), "reboot-needed")
	if err := NewControl(path, "the boot before").Request("kernel 6.12"); err != nil {
		t.Fatal(err)
	}
	c := NewControl(path, boot)
	r := watch(t, c)
	r.idle()
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the old request is still there: %v", err)
	}
	if err := c.Request("kernel 6.13"); err != nil {
		t.Fatal(err)
	}
	r.needed("kernel 6.13")
}

func TestControlMalformedFile(t *testing.T) {
	for _, content := range []string{
		"",
		"reboot",
		"null",
		"{}",
		`{"bootID":"` + boot + `"}`,
		`{"bootID":"` + boot + `","reason":""}`,
		`{"bootID":"` + boot + `","reason":7}`,
		`{"bootID":"` + boot + `","reason":"x","more":1}`,
		`{"bootID":"` + boot + `","reason":"x"} y`,
		`{"bootID":"` + boot + `","reason":"two\nlines"}`,
		`{"bootID":"` + boot + `","reason":"` + strings.Repeat("x", MaxReason+1) + `"}`,
		`{"bootID":"` + boot + `","reason":"` + strings.Repeat("x", 1<<20) + `"}`,
	} {
		path := filepath.Join(t.TempDir(), "reboot-needed")
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		c := NewControl(path, boot)
		n, _ := c.read()
		if n.Needed || n.Err == nil || strings.Contains(n.Err.Error(), "\n") {
			t.Errorf("%.80q: %+v, want an error on one line", content, n)
		}
		// An administrator gets out of it either way.
		if err := c.Request("again"); err != nil {
			t.Fatal(err)
		}
		if n, _ := c.read(); !n.Needed || n.Err != nil {
			t.Errorf("requested again: %+v", n)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := c.Cancel(); err != nil {
			t.Fatal(err)
		}
		if n, _ := c.read(); n.Needed || n.Err != nil {
			t.Errorf("cancelled: %+v", n)
		}
	}
}

func TestControlReasons(t *testing.T) {
	path := filepath.Join(t.TempDir(), "reboot-needed")
	c := NewControl(path, boot)
	for reason, want := range map[string]string{
		strings.Repeat("x", MaxReason+1): "the reason is 501 bytes long, at most 500 are allowed",
		"two\nlines":                     "the reason holds a control character, give one line of text",
		"\xff":                           "the reason is not UTF-8",
	} {
		if err := c.Request(reason); err == nil || err.Error() != want {
			t.Errorf("Request(%.20q) = %v, want %s", reason, err, want)
		}
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a refused request was stored: %v", err)
	}
	longest := strings.Repeat("<", MaxReason) // JSON makes six bytes of each
	if err := c.Request(longest); err != nil {
		t.Fatal(err)
	}
	if n, _ := c.read(); n.Reason != longest {
		t.Errorf("the longest reason came back as %+v", n)
	}
}

func TestControlCannotStore(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	c := NewControl(filepath.Join(dir, "file", "reboot-needed"), boot)
	err := c.Request("kernel 6.12")
	if err == nil || !strings.HasPrefix(err.Error(), "storing the request for a reboot: ") {
		t.Errorf("Request = %v", err)
	}
	if n, _ := c.read(); n.Needed {
		t.Errorf("needed although nothing was stored: %+v", n)
	}
}

func TestControlConcurrently(t *testing.T) {
	c := NewControl(filepath.Join(t.TempDir(), "reboot-needed"), boot)
	r := watch(t, c)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for range 20 {
				if i%2 == 0 {
					c.Request(strings.Repeat("x", i+1))
				} else {
					c.Cancel()
				}
			}
		})
	}
	wg.Wait()
	if err := c.Request("the last"); err != nil {
		t.Fatal(err)
	}
	for r.next().Reason != "the last" {
	}
}
