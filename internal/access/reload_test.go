package access

import (
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

const onlyBob = `{"principals": [{"name": "bob", "role": "viewer", "token": "` + bobToken + `"}]}`

// known wants the request to be known, or not.
func known(t *testing.T, f *File, r *http.Request, want bool) {
	t.Helper()
	if c, err := f.Caller(r); (err == nil) != want {
		t.Errorf("caller %v, error %v; known: want %t", c, err, want)
	}
}

func TestReload(t *testing.T) {
	f, path, c, l := newFile(t, somebody)
	known(t, f, request(bearer(aliceToken)), true)

	write(t, path, onlyBob)
	known(t, f, request(bearer(aliceToken)), true) // not looked at yet
	c.pass(checkEvery)
	known(t, f, request(bearer(aliceToken)), false)
	known(t, f, request(bearer(bobToken)), true)
	if n := len(l.lines("a changed file is in force")); n != 1 {
		t.Errorf("%d times in the log", n)
	}

	// Every way to break it leaves the last good one, and is said once.
	for _, change := range []func() error{
		func() error { write(t, path, "{"); return nil },
		func() error { write(t, path, "{\n"); return nil },
		func() error { write(t, path, somebody); return os.Chmod(path, 0o644) },
		func() error { return os.Remove(path) },
	} {
		before := len(l.lines("level=ERROR"))
		if err := change(); err != nil {
			t.Fatal(err)
		}
		for range 5 {
			c.pass(checkEvery)
			known(t, f, request(bearer(bobToken)), true)
			known(t, f, request(bearer(aliceToken)), false)
			c.pass(time.Minute) // failures are forgiven, and the file is settled
		}
		if n := len(l.lines("level=ERROR")) - before; n != 1 {
			t.Errorf("%d errors in the log, want 1: %s", n, l.lines("level=ERROR"))
		}
	}

	// The same mistake made again is said again; and what is right counts again, even
	// if it is what was there before.
	write(t, path, "{")
	c.pass(checkEvery)
	known(t, f, request(bearer(bobToken)), true)
	if n := len(l.lines("no JSON")); n != 3 {
		t.Errorf("%d errors, want 3", n)
	}
	write(t, path, somebody)
	c.pass(checkEvery)
	known(t, f, request(bearer(aliceToken)), true)
	if l := l.lines(aliceToken[:8]); len(l) > 0 {
		t.Errorf("the log shows a token: %s", l)
	}
}

// A write in place that leaves size, inode and time as they were is found.
func TestReloadInPlace(t *testing.T) {
	f, path, c, _ := newFile(t, onlyBob)
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	other := strings.Replace(onlyBob, bobToken, strings.ToUpper(bobToken), 1)
	if err := os.WriteFile(path, []byte(other), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(path, time.Time{}, info.ModTime()); err != nil {
		t.Fatal(err)
	}
	// As if the change had been in the same tick of the kernel's clock.
	if f.principals.seen[0], err = stampAt(path); err != nil {
		t.Fatal(err)
	}
	c.pass(checkEvery)
	known(t, f, request(bearer(bobToken)), false)
	known(t, f, request(bearer(strings.ToUpper(bobToken))), true)
}

func stampAt(path string) (stamp, error) {
	info, err := os.Stat(path)
	if err != nil {
		return stamp{}, err
	}
	return stampOf(info), nil
}

// A file that nobody touches is not read again.
func TestReloadQuiet(t *testing.T) {
	f, _, c, _ := newFile(t, onlyBob)
	parse := f.principals.parse
	times := 0
	f.principals.parse = func(files []content) (*principals, error) { times++; return parse(files) }
	for range 10 {
		c.pass(2 * settledAfter)
		known(t, f, request(bearer(bobToken)), true)
	}
	if times != 0 || !f.principals.settled {
		t.Errorf("parsed %d times, settled: %t", times, f.principals.settled)
	}
	sum := f.principals.sum
	f.principals.sum[0]++ // who reads it would notice
	c.pass(checkEvery)
	known(t, f, request(bearer(bobToken)), true)
	if times != 0 {
		t.Errorf("a settled file was read")
	}
	f.principals.sum = sum
}

// Requests go on while the file changes under them: each sees all of one file.
func TestReloadDuringUse(t *testing.T) {
	f, path, c, _ := newFile(t, somebody)
	stop := make(chan struct{})
	var users sync.WaitGroup
	for i := range 4 {
		users.Go(func() {
			from := from(fmt.Sprintf("10.0.0.%d:1", i))
			for {
				select {
				case <-stop:
					return
				default:
				}
				if c, err := f.Caller(request(basic("bob", bobToken), from)); err != nil || c.Role != RoleViewer {
					t.Errorf("%v, error %v", c, err)
					return
				}
				// The failures of the other file's time may be too many; that is known.
				if c, err := f.Caller(request(bearer(aliceToken), from)); err == nil && len(c.Groups) != 2 {
					t.Errorf("half a principal: %+v", c)
					return
				}
			}
		})
	}
	for i := range 50 {
		write(t, path, []string{onlyBob, somebody, "{"}[i%3])
		c.pass(checkEvery)
		known(t, f, request(bearer(bobToken)), true)
	}
	close(stop)
	users.Wait()
}
