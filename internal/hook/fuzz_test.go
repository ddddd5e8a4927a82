package hook

import (
	"encoding/json"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/locksmith-reboot/locksmith/internal/command"
)

// A record of what was prepared is either refused, in one line, or names files only,
// is written as it was read, and gives every hook that was begun its turn once.
func FuzzRecord(f *testing.F) {
	for _, doc := range []string{`{"present":["10-a"],"begun":["10-a"],"restored":[]}`, `{"present":[],"begun":["../x"],"restored":[]}`,
		`{"present":["."],"begun":[],"restored":[]}`, `{"present":null,"begun":[],"restored":[]}`, `{"present":[],"begun":["a","a"],"restored":["a"]}x`,
		`{"present":[""],"begun":["\ud800"],"restored":["b"]}`, `{"present":["a\u0000b"],"begun":[],"restored":[]}`, `null`, `[]`, ``} {
		f.Add([]byte(doc))
	}
	f.Fuzz(func(t *testing.T, doc []byte) {
		r, err := parseRecord(doc)
		if err != nil {
			if strings.ContainsAny(err.Error(), "\r\n") {
				t.Fatalf("%q: more than one line: %q", doc, err)
			}
			return
		}
		for _, name := range slices.Concat(r.Present, r.Begun, r.Restored) {
			if name == "" || filepath.Join("/d", name) != "/d/"+name {
				t.Fatalf("%q names %q, which is no file of a directory", doc, name)
			}
		}
		written, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		again, err := parseRecord(written)
		if diff := cmp.Diff(r, again); err != nil || diff != "" {
			t.Fatalf("%q is written as %s and read as %v\n%s", doc, written, err, diff)
		}
		next := r.again(r.Present)
		for _, name := range r.Begun {
			if undone := slices.Contains(r.Restored, name); r.due(name) == undone || slices.Contains(next.Begun, name) == undone {
				t.Fatalf("%q: %q was undone: %v; due: %v; begun after that: %q", doc, name, undone, r.due(name), next.Begun)
			}
		}
		for _, name := range next.Begun {
			if !next.due(name) {
				t.Fatalf("%q: %q is begun and never undone", doc, name)
			}
		}
	})
}

// Whatever a failing hook prints and however it ends, its reason is one short line.
func FuzzReason(f *testing.F) {
	f.Add("drained\nno room on node 3\n\n", "", 1, 100)
	f.Add(" \u2028\u0085\t\n", "", 0, 4)
	f.Add(strings.Repeat("ä", 300), "\x1b[31m\n\xff", 3, 9)
	f.Fuzz(func(t *testing.T, output, failure string, status, limit int) {
		result := command.Result{ExitCode: status, Output: output}
		reasons := []string{reasonOf(result, nil)}
		if oneLine(failure, maxReason) != "" {
			reasons = append(reasons, reasonOf(result, errors.New(failure)))
		}
		for _, reason := range reasons {
			checkLine(t, reason, 2*maxReason)
			if reason == "" {
				t.Fatalf("%q gives no reason", output)
			}
		}
		checkLine(t, oneLine(output, 3+max(limit, -limit, 0)%1000), 3+max(limit, -limit, 0)%1000)
	})
}

func checkLine(t *testing.T, line string, limit int) {
	t.Helper()
	if len(line) > limit || !utf8.ValidString(line) || strings.ContainsFunc(line, func(c rune) bool { return unicode.IsControl(c) || unicode.IsSpace(c) && c != ' ' }) {
		t.Fatalf("%q is no line of at most %d bytes", line, limit)
	}
}
