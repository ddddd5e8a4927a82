package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The plots in the documentation are those that the program makes.
func TestPlotsAreCurrent(t *testing.T) {
	files, err := draw(compareSizes)
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join("..", "..", "docs", "images")
	for name, want := range files {
		if got, err := os.ReadFile(filepath.Join(dir, name)); err != nil {
			t.Error(err)
		} else if !bytes.Equal(got, want) {
			t.Errorf("docs/images/%s is not what make scale-plots writes", name)
		}
	}
	kept, err := filepath.Glob(filepath.Join(dir, "scale-*.svg"))
	if err != nil || len(kept) != len(files) {
		t.Errorf("%d plots in docs/images, %d are made (%v)", len(kept), len(files), err)
	}
}

func TestPolicies(t *testing.T) {
	var stdout, stderr bytes.Buffer
	if code := run(t.Context(), []string{"-quick", "-json", "-only", "policies", "-dir", t.TempDir()}, nil, &stdout, &stderr); code != 0 {
		t.Fatalf("exit %d: %s", code, &stderr)
	}
	var r result
	if err := json.Unmarshal(stdout.Bytes(), &r); err != nil {
		t.Fatal(err)
	}
	if len(r.Policies) != 2*3*4 {
		t.Fatalf("%d outcomes, want 24", len(r.Policies))
	}
	for _, o := range r.Policies {
		if o.Policy == "locksmith" && o.Makespan > 1.01*o.Ideal {
			t.Errorf("locksmith is done after %.2f times the ideal: %+v", o.Makespan/o.Ideal, o)
		}
		if o.Policy != "locksmith" && o.Makespan < 1.1*o.Ideal {
			t.Errorf("%s is done as fast as a queue: %+v", o.Policy, o)
		}
		if o.Most > o.Max || o.Most < 1 || o.WaitP50 > o.WaitP99 || o.WaitP99 > o.WaitMost || o.WaitMost > o.Makespan {
			t.Errorf("outcome does not add up: %+v", o)
		}
	}
}

func TestOutcomesAsTable(t *testing.T) {
	var out bytes.Buffer
	printOutcomes(&out, []outcome{{Policy: "p", Machines: 10, Max: 2, Ideal: 3600, Makespan: 5400, WaitP50: 60, WaitP99: 89, WaitMost: 90, PerMachine: 3, Peak: 4, Most: 2}})
	want := strings.TrimPrefix(`
MACHINES  MAX  POLICY  MAKESPAN  x IDEAL  WAIT P50  P99   MAX   REQUESTS  IN WORST SECOND  MOST DOWN
10        2    p       1:30      1.50     0:01      0:01  0:02  3.0       4                2
`, "\n")
	if out.String() != want {
		t.Errorf("table:\n%s\nwant:\n%s", out.String(), want)
	}
}

func TestCommandLine(t *testing.T) {
	for _, args := range [][]string{{"-only", "x"}, {"-nothing"}, {"more"}} {
		var stderr bytes.Buffer
		if code := run(t.Context(), args, nil, &stderr, &stderr); code != 2 || stderr.Len() == 0 {
			t.Errorf("%q: exit %d, %q", args, code, stderr.String())
		}
	}
}
