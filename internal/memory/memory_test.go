package memory

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/internal/agent"
)

var full = agent.Memory{
	Cycle: &agent.Cycle{
		Boot:     "2a3c8ba1-9d0a-4d63-8f9c-6f1c7f0b4c11",
		Reasons:  []string{"kernel 6.12 is installed"},
		Prepared: true,
		Method:   locksmith.MethodKexec,
		Asked:    time.Date(2026, 3, 29, 1, 30, 0, 5, time.UTC),
	},
	Reboots:  []time.Time{time.Date(2026, 3, 28, 1, 30, 0, 0, time.UTC)},
	Last:     &agent.Past{Time: time.Date(2026, 3, 28, 1, 31, 0, 0, time.UTC), Outcome: "rebooted", Down: time.Minute},
	Outcomes: map[string]int{"rebooted": 3},
}

func open(t *testing.T, path string) (*File, agent.Memory) {
	t.Helper()
	f, m, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	return f, m
}

func save(t *testing.T, f *File, m agent.Memory) {
	t.Helper()
	if err := f.Save(m); err != nil {
		t.Fatal(err)
	}
}

func TestRemembers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "made", "locksmith", "memory.json")
	f, m := open(t, path)
	if !cmp.Equal(m, agent.Memory{}) {
		t.Errorf("a new machine remembers %+v", m)
	}
	for _, m := range []agent.Memory{full, {}, full} {
		save(t, f, m)
		if _, again := open(t, path); !cmp.Equal(again, m) {
			t.Errorf("read again: %s", cmp.Diff(m, again))
		}
	}
	modes := map[string]os.FileMode{path: 0o600, filepath.Dir(path): 0o700 | os.ModeDir}
	for name, want := range modes {
		if info, err := os.Stat(name); err != nil || info.Mode() != want {
			t.Errorf("mode of %s is %v (%v), want %v", name, info.Mode(), err, want)
		}
	}
	if files, err := os.ReadDir(filepath.Dir(path)); len(files) != 1 {
		t.Errorf("more than the memory is left: %v, %v", files, err)
	}
}

// What a crash left of an unfinished Save is neither read nor in the way.
func TestUnfinished(t *testing.T) {
	path := filepath.Join(t.TempDir(), "memory.json")
	f, _ := open(t, path)
	save(t, f, full)
	if err := os.WriteFile(path+".new", []byte(`{"cyc`), 0o644); err != nil {
		t.Fatal(err)
	}
	f, m := open(t, path)
	if !cmp.Equal(m, full) {
		t.Errorf("read %+v", m)
	}
	save(t, f, agent.Memory{})
	if info, err := os.Stat(path); err != nil || info.Mode() != 0o600 {
		t.Errorf("mode %v (%v), want 0600 whatever the unfinished file's was", info.Mode(), err)
	}
	if _, m := open(t, path); !cmp.Equal(m, agent.Memory{}) {
		t.Errorf("read %+v", m)
	}
}

func TestMalformed(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "memory.json")
	for _, content := range []string{
		"", "null", "7", "{", "[]", `"x"`, "{} {}", "{}x", "\x00\x00\x00",
		`{"cycle":7}`, `{"reboots":["yesterday"]}`, `{"outcomes":{"rebooted":"often"}}`,
		strings.Repeat(" ", MaxSize+1) + "{}",
	} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		f, m, err := Open(path)
		if err == nil || f != nil || !cmp.Equal(m, agent.Memory{}) {
			t.Errorf("%.40q: read as %+v, %v", content, m, err)
			continue
		}
		text := err.Error()
		if !strings.Contains(text, path) || !strings.Contains(text, "remove") || strings.Contains(text, "\n") {
			t.Errorf("%.40q: the error does not say in one line what to do with which file: %s", content, text)
		}
		if left, err := os.ReadFile(path); err != nil || string(left) != content {
			t.Errorf("%.40q was touched", content)
		}
	}
}

func TestUnknownFields(t *testing.T) {
	path := filepath.Join(t.TempDir(), "memory.json")
	if err := os.WriteFile(path, []byte(`{"later":[1],"cycle":{"boot":"b","more":{}}}`+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, m := open(t, path); m.Cycle == nil || m.Cycle.Boot != "b" {
		t.Errorf("read %+v", m)
	}
}

func TestUnreadable(t *testing.T) {
	dir := t.TempDir()
	for _, path := range []string{dir, filepath.Join(dir, "file", "memory.json")} {
		if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, _, err := Open(path); err == nil || !strings.Contains(err.Error(), dir) {
			t.Errorf("Open(%s) = %v", path, err)
		}
	}
}

func TestCannotSave(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "gone")
	f, _ := open(t, filepath.Join(dir, "memory.json"))
	save(t, f, full)

	big := agent.Memory{Outcomes: map[string]int{strings.Repeat("x", MaxSize): 1}}
	if err := f.Save(big); err == nil || !strings.Contains(err.Error(), "more than") {
		t.Errorf("a memory that could not be read again: %v", err)
	}
	if err := f.Save(agent.Memory{Reboots: []time.Time{time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)}}); err == nil {
		t.Error("a time that JSON does not have was stored")
	}
	if _, m := open(t, f.path); !cmp.Equal(m, full) {
		t.Errorf("the earlier memory is lost: %+v", m)
	}

	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := f.Save(full); err == nil || !strings.HasPrefix(err.Error(), "storing the machine's memory: ") {
		t.Errorf("Save without a directory = %v", err)
	}
}

func TestConcurrently(t *testing.T) {
	path := filepath.Join(t.TempDir(), "memory.json")
	f, _ := open(t, path)
	save(t, f, full)
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for j := range 10 {
				if err := f.Save(agent.Memory{Outcomes: map[string]int{fmt.Sprint(i): j}}); err != nil {
					t.Error(err)
				}
				if _, m, err := Open(path); err != nil || len(m.Outcomes) != 1 {
					t.Errorf("read %+v, %v in between", m, err)
				}
			}
		})
	}
	wg.Wait()
}

func FuzzParse(f *testing.F) {
	data, err := json.Marshal(full)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add([]byte("{}\n"))
	f.Add([]byte(`{"cycle":null,"reboots":[null],"last":{"down":-1}}`))
	f.Add([]byte("null"))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := parse(data)
		if err != nil {
			if strings.Contains(err.Error(), "\n") {
				t.Fatalf("%q: more than one line: %v", data, err)
			}
			return
		}
		stored, err := json.Marshal(m)
		if err != nil {
			return // a time of a year that JSON does not have
		}
		again, err := parse(stored)
		if err != nil {
			t.Fatalf("%q was read as %+v, and that not again: %v", data, m, err)
		}
		if twice, err := json.Marshal(again); err != nil || string(twice) != string(stored) {
			t.Fatalf("%q became %q, then %q (%v)", data, stored, twice, err)
		}
	})
}
