package cli

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/locksmith-reboot/locksmith"
)

// someMachines are one of each kind.
func someMachines() fleet {
	queued := whys["queued"].Machine
	queued.OS, queued.Kernel = "Debian GNU/Linux 12 (bookworm)", "6.1.0-28-amd64"
	idle := locksmith.MachineStatus{Present: true, Presence: locksmith.Presence{MachineID: other, Hostname: "web-4", Groups: []locksmith.Group{"lb"},
		Phase: locksmith.PhaseIdle, PhaseTime: ago(time.Hour), BootID: "c0ffee00-1111-2222-3333-444455556666", Seen: noon.Unix(),
		LastReboot: ago(72 * time.Hour), LastOutcome: "aborted: the window closed"}}
	booting := whys["booting"].Machine
	booting.MachineID, booting.Hostname = "m5", "web-5"
	lost := locksmith.MachineStatus{Presence: locksmith.Presence{MachineID: "m6", Groups: []locksmith.Group{""}, Phase: locksmith.PhaseIdle,
		Seen: ago(12 * time.Minute)}, Pauses: []locksmith.Pause{{Scope: locksmith.PauseScope{Machine: "m6"}, By: "alice@jump-1", At: ago(time.Hour), Reason: "broken"}}}
	old := whys["old-client"].Machine
	old.MachineID = "m7"
	return fleet{machines: []locksmith.MachineStatus{queued, idle, booting, lost, old}, forgot: new(string)}
}

func TestMachines(t *testing.T) {
	for _, tt := range []struct {
		golden string
		args   []string
	}{
		{"all", nil},
		{"full", []string{"-full"}},
		{"json", []string{"-o", "json"}},
	} {
		out, errs, status := atNoon(t, someMachines(), nil, append([]string{"machines"}, tt.args...)...)
		if status != 0 || errs != "" {
			t.Fatalf("%s: status %d: %s", tt.golden, status, errs)
		}
		golden(t, "machines/"+tt.golden+".txt", out)
	}
}

func TestMachineFilters(t *testing.T) {
	for _, tt := range []struct {
		args string
		want string
	}{
		{"-group lb", "3f0c9a1e5b7d4c2f8e6a0b1c2d3e4f50 84a3de59cb7c6898b3600dda6b8a4d39 m5"},
		{"-group rack-7,none", "3f0c9a1e5b7d4c2f8e6a0b1c2d3e4f50 m5"},
		{"-group=", "m6 m7"},
		{"-phase idle", "84a3de59cb7c6898b3600dda6b8a4d39 m6"},
		{"-phase rebooting", "m5"}, // its record says it, it could not any more
		{"-needed", "3f0c9a1e5b7d4c2f8e6a0b1c2d3e4f50 m5"},
		{"-stale", "m6 m7"},
		{"-stale -group lb", ""},
		{"-phase failed", ""},
	} {
		out, errs, status := atNoon(t, someMachines(), nil, strings.Fields("machines -o json "+tt.args)...)
		var docs []machineDoc
		if err := json.Unmarshal([]byte(out), &docs); err != nil || status != 0 || docs == nil {
			t.Fatalf("%s: status %d, %v: %s", tt.args, status, err, errs)
		}
		var ids []string
		for _, d := range docs {
			ids = append(ids, d.MachineID)
		}
		if got := strings.Join(ids, " "); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.args, got, tt.want)
		}
	}
	_, errs, status := atNoon(t, someMachines(), nil, "machines", "-phase", "reboot")
	if status != 2 || !strings.HasPrefix(errs, `locksmithctl: invalid -phase "reboot": must be one of recovering, idle, needed,`) {
		t.Errorf("status %d: %s", status, errs)
	}
}

func TestForget(t *testing.T) {
	f := someMachines()
	out, errs, status := atNoon(t, f, nil, "machines", "-forget", "web-5")
	if status != 0 || out != "Forgot web-5 (m5).\n" || *f.forgot != "m5" {
		t.Errorf("status %d, %q, %q, forgot %q", status, out, errs, *f.forgot)
	}
	_, errs, status = atNoon(t, f, nil, "machines", "-forget", "web-9")
	if status != 1 || errs != "Error forgetting the machine: unknown machine; those that etcd knows: locksmithctl machines\n" {
		t.Errorf("status %d, %q", status, errs)
	}
}

// A fleet of ten thousand is listed at once.
func TestManyMachines(t *testing.T) {
	f := someMachines()
	one := f.machines[0]
	f.machines = nil
	for i := range 10_000 {
		one.MachineID, one.Hostname = fmt.Sprintf("%032x", i), fmt.Sprintf("node-%d", i)
		f.machines = append(f.machines, one)
	}
	for _, args := range [][]string{{"machines"}, {"machines", "-o", "json"}} {
		began := time.Now()
		out, _, status := atNoon(t, f, nil, args...)
		if n := strings.Count(out, "node-"); status != 0 || n != 10_000 {
			t.Errorf("status %d, %d machines", status, n)
		}
		if d := time.Since(began); d > 5*time.Second {
			t.Errorf("%v: took %v", args, d)
		}
	}
}

// On a narrow terminal the least telling columns are cut, and no table is wider
// than it was.
func TestFit(t *testing.T) {
	sample := func() *table {
		tab := newTable(false, "A", "KERNEL", "OS")
		tab.add(cell{text: "12345678"}, cell{text: "6.1.0-28-amd64"}, cell{text: "Debian GNU/Linux 12 (bookworm)"})
		tab.add(cell{text: "1"}, cell{text: "ä"}, cell{})
		return tab
	}
	for width, want := range map[int]int{100: 56, 56: 56, 50: 50, 40: 40, 32: 32, 31: 31, 24: 24, 23: 23, 16: 16, 15: 8, 1: 8} {
		tab := sample()
		tab.fit(width, []int{2, 1}, []int{2, 1})
		lines := strings.Split(tab.String(), "\n")
		longest := slices.MaxFunc(lines, func(a, b string) int { return utf8.RuneCountInString(a) - utf8.RuneCountInString(b) })
		if n := utf8.RuneCountInString(longest); n != want || width < 56 && want > 8 && !strings.Contains(tab.String(), "…") {
			t.Errorf("width %d: %d columns, want %d:\n%s", width, n, want, tab)
		}
		if !strings.Contains(tab.String(), "12345678") {
			t.Errorf("width %d: a column was cut that must not be:\n%s", width, tab)
		}
	}
}

func TestWrap(t *testing.T) {
	for _, tt := range []struct {
		text   string
		width  int
		indent int
		want   string
	}{
		{"", 10, 0, ""},
		{"one two three", 7, 0, "one two\nthree"},
		{"one two three", 20, 0, "one two three"},
		{"a b /a/path/that/is/long c", 8, 2, "a b\n  /a/path/that/is/long\n  c"},
		{"ägäb äää ü", 8, 0, "ägäb äää\nü"},
		{"for 12 min (3 h), s", 8, 0, "for\n12 min\n(3 h), s"},
		{"min h", 3, 0, "min\nh"},
		{"is 2 h 5 min ago", 9, 0, "is\n2 h 5 min\nago"},
		{"for 2 h 5 of 7", 7, 0, "for 2 h\n5 of 7"},
	} {
		if got := wrap(tt.text, tt.width, tt.indent); got != tt.want {
			t.Errorf("%q in %d: %q, want %q", tt.text, tt.width, got, tt.want)
		}
	}
}
