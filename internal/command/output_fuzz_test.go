package command

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"
)

// Whatever a program prints, in whatever pieces, what is shown of it is short, whole
// characters, and nothing that a terminal takes for a command.
func FuzzOutput(f *testing.F) {
	f.Add([]byte("\x1b[31mred\x1b[0m\r\n50 %\r100 %\tdone\x07"), 3, 20)
	f.Add([]byte("\x1b\x1b[1m[31m\u202e\xff\xfeä"), 1, 4)
	f.Add(bytes.Repeat([]byte("ä€𝄞"), 20), 7, 10)
	f.Fuzz(func(t *testing.T, output []byte, piece, limit int) {
		piece, limit = 1+max(piece, -piece, 0)%64, 1+max(limit, -limit, 0)%200
		kept := newTail(limit)
		for p := output; len(p) > 0; p = p[min(piece, len(p)):] {
			kept.write(p[:min(piece, len(p))])
		}
		if want := output[max(0, len(output)-limit):]; !bytes.Equal(kept.bytes(), want) {
			t.Fatalf("the last %d bytes of %q in pieces of %d are %q", limit, output, piece, kept.bytes())
		}
		for _, shown := range []string{clean(kept.bytes(), limit), clean(output, limit)} {
			if len(shown) > limit || !utf8.ValidString(shown) {
				t.Fatalf("%q is shown as %q, with at most %d bytes", output, shown, limit)
			}
			if strings.ContainsFunc(shown, func(c rune) bool { return c != '\n' && (unicode.IsControl(c) || !unicode.IsGraphic(c)) }) {
				t.Fatalf("%q is shown as %q", output, shown)
			}
			if again := clean([]byte(shown), limit); again != shown {
				t.Fatalf("%q is shown as %q, and that as %q", output, shown, again)
			}
		}
	})
}

// However a unit ended, and whatever its program printed before: there is one exit
// status, or one line that says why there is none. Only the words after the nonce count.
func FuzzReport(f *testing.F) {
	f.Add([]byte("output\n"), "success exited 0")
	f.Add([]byte("locksmith-"), "exit-code exited 3\n")
	f.Add([]byte(""), "signal killed SEGV")
	f.Add([]byte("x"), "timeout killed TERM")
	f.Add([]byte("x"), "exit-code exited 203")
	f.Add([]byte("x"), "success exited\n")
	f.Add([]byte("x"), "\x00 \xff 99999999999999999999")
	const nonce = "locksmith-NONCE"
	f.Fuzz(func(t *testing.T, printed []byte, said string) {
		if bytes.Contains(printed, []byte(nonce)) {
			return // a program cannot know it
		}
		if _, r := cutReport(printed, nonce); r != (report{}) {
			t.Fatalf("%q without a report is read as %q", printed, r)
		}
		output, r := cutReport(append(append(bytes.Clone(printed), nonce...), said...), nonce)
		if !bytes.Equal(output, printed) {
			t.Fatalf("of %q is left %q", printed, output)
		}
		status, err := r.outcome(time.Minute)
		words := append(strings.Fields(said), "", "", "")
		switch signal, signalled := errors.AsType[*SignalError](err); {
		case err == nil && (words[1] != "exited" || words[0] == "timeout"):
			t.Fatalf("%q is read as exit status %d", said, status)
		case err != nil && (status != 0 || strings.ContainsAny(err.Error(), "\r\n")):
			t.Fatalf("%q is read as %d, %q", said, status, err)
		case signalled && signal.Signal != words[2]:
			t.Fatalf("%q is read as %v", said, err)
		}
	})
}

// A process is in one service of the system, or in none.
func FuzzServiceOf(f *testing.F) {
	f.Add("0::/system.slice/locksmithd.service\n")
	f.Add("12:cpu:/x\n1:name=systemd:/system.slice/a.service/below\n0::/\n")
	f.Add("0::/user.slice/user-0.slice/user@0.service/app.slice/a.service")
	f.Add("0::a.service//")
	f.Fuzz(func(t *testing.T, cgroups string) {
		unit := serviceOf(cgroups)
		if unit == "" {
			return
		}
		if !strings.HasSuffix(unit, ".service") || strings.ContainsAny(unit, "/\n") || !strings.Contains(cgroups, unit) {
			t.Fatalf("%q is read as %q", cgroups, unit)
		}
	})
}
