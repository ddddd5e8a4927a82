package envfile_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/locksmith-reboot/locksmith/internal/envfile"
)

func all(string) bool { return true }

func TestParse(t *testing.T) {
	const text = `# comment
; another
GROUP=stable
	SERVER = https://example.com/?a=b
export REBOOT_STRATEGY=off
EMPTY=
QUOTED="a \"b\" \\ \$x \` + "`" + ` \n 'c' # no comment"
SINGLE='a "b" \ $x'
SPACED=  Thu 23:00
HASH=a # part of the value, as for systemd
exported=1
TWICE=1
TWICE=2
CRLF=x` + "\r\nLAST=end"
	want := map[string]string{
		"GROUP": "stable", "SERVER": "https://example.com/?a=b", "REBOOT_STRATEGY": "off", "EMPTY": "",
		"QUOTED": "a \"b\" \\ $x ` \\n 'c' # no comment", "SINGLE": `a "b" \ $x`, "SPACED": "Thu 23:00",
		"HASH": "a # part of the value, as for systemd", "exported": "1", "TWICE": "2", "CRLF": "x", "LAST": "end",
	}
	got, err := envfile.Parse(text, all)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestParseRefuses(t *testing.T) {
	const form = " must be KEY=value, the key of letters, digits and underscores"
	tests := []struct{ text, want string }{
		{"A=1\nREBOOT_STRATEGY off\n", `line 2: "REBOOT_STRATEGY off"` + form},
		{"=x", `line 1: "=x"` + form},
		{"1A=x", `line 1: "1A=x"` + form},
		{"A-B=x", `line 1: "A-B=x"` + form},
		{"export A", `line 1: "A"` + form},
		{`A="x`, `line 1: value of A: the closing quote is missing`},
		{`A="x\"`, `line 1: value of A: the closing quote is missing`},
		{`A='x`, `line 1: value of A: the closing quote is missing`},
		{`A="x" # y`, `line 1: value of A: " # y" follows the closing quote: put comments on lines of their own`},
		{`A='x'y`, `line 1: value of A: "y" follows the closing quote: put comments on lines of their own`},
		{`A=x"y"`, `line 1: value of A: "x\"y\"" holds a quote or a backslash: put all of it in quotes`},
		{`A=x\`, `line 1: value of A: "x\\" holds a quote or a backslash: put all of it in quotes`},
		{"A='x\x00y'", `line 1: value of A: "x\x00y" must be UTF-8 without control characters`},
		{"A=\xff", `line 1: value of A: "\xff" must be UTF-8 without control characters`},
	}
	for _, tt := range tests {
		vars, err := envfile.Parse(tt.text, all)
		if err == nil || err.Error() != tt.want || vars != nil {
			t.Errorf("%q:\n got %v\nwant %s", tt.text, err, tt.want)
		}
	}
}

func TestOthersValuesAreNotOurs(t *testing.T) {
	got, err := envfile.Parse("THEIRS=a\"b\nOURS=1\n", func(key string) bool { return key == "OURS" })
	if diff := cmp.Diff(map[string]string{"OURS": "1"}, got); diff != "" || err != nil {
		t.Errorf("%v %s", err, diff)
	}
}

func TestRead(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	if got, err := envfile.Read(write("good", "A=1"), all); err != nil || got["A"] != "1" {
		t.Errorf("got %v, %v", got, err)
	}
	if got, err := envfile.Read(filepath.Join(dir, "none"), all); err != nil || len(got) != 0 {
		t.Errorf("missing file: got %v, %v", got, err)
	}
	bad := write("bad", "A")
	if _, err := envfile.Read(bad, all); err == nil || !strings.HasPrefix(err.Error(), bad+": line 1: ") {
		t.Errorf("got %v", err)
	}
	large := write("large", strings.Repeat("#", 1<<20+1))
	if _, err := envfile.Read(large, all); err == nil || err.Error() != large+" is larger than 1048576 bytes" {
		t.Errorf("got %v", err)
	}
	if _, err := envfile.Read(dir, all); err == nil {
		t.Error("a directory was read")
	}
}

func FuzzParse(f *testing.F) {
	f.Add("A=1\nexport B='x'\n# c\nC=\"\\\"\"")
	f.Add("A=\"x\\")
	f.Add("export =\n;\n\x00")
	f.Fuzz(func(t *testing.T, text string) {
		vars, err := envfile.Parse(text, all)
		if (vars == nil) == (err == nil) {
			t.Fatalf("got %v and %v", vars, err)
		}
		for key, value := range vars {
			// What was read can be written and is read alike again.
			quoted := "'" + value + "'"
			if strings.Contains(value, "'") {
				quoted = `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, `$`, `\$`, "`", "\\`").Replace(value) + `"`
			}
			again, err := envfile.Parse(key+"="+quoted, all)
			if err != nil || again[key] != value {
				t.Fatalf("%q became %q, %v", value, again[key], err)
			}
		}
	})
}
