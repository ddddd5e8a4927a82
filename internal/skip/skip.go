// Package skip ends tests that cannot run where they are, so that nobody takes
// what was not tested for tested. It is for tests only.
package skip

import (
	"fmt"
	"os"
	"testing"
)

// Loudly ends the test: in CI (CI=true), where everything must run, it fails.
// Elsewhere it is skipped, and a line is added to the file named by
// LOCKSMITH_SKIP_REPORT, which whoever runs the tests shows at the end.
func Loudly(t testing.TB, why string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal("NOT TESTED, and in CI it must be: " + why)
	}
	report(t, why)
}

// LongForm ends a test that belongs to the long form of its suite, which CI leaves to
// whoever has the time: it is reported like any other that was not run, and never
// fails. how says how to run it.
func LongForm(t testing.TB, how string) {
	t.Helper()
	report(t, "only in the long form: "+how)
}

func report(t testing.TB, why string) {
	t.Helper()
	if file := os.Getenv("LOCKSMITH_SKIP_REPORT"); file != "" {
		if err := appendLine(file, t.Name()+": "+why); err != nil {
			t.Fatal("the skipped test cannot be reported:", err)
		}
	}
	t.Skip("NOT TESTED: " + why)
}

func appendLine(file, line string) error {
	f, err := os.OpenFile(file, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintln(f, line); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}
