package command

import (
	"slices"
	"strings"
	"testing"
)

func TestSplit(t *testing.T) {
	tests := []struct {
		line string
		want []string
	}{
		{"/bin/a", []string{"/bin/a"}},
		{"  /bin/a  b\tc ", []string{"/bin/a", "b", "c"}},
		{`a 'b c' "d e" f\ g`, []string{"a", "b c", "d e", "f g"}},
		{`a ''  ""`, []string{"a", "", ""}},
		{`a 'it'\''s' "\"x\" \\ \n $y"`, []string{"a", "it's", `"x" \ \n $y`}},
		{`a --x='b c'd \é é`, []string{"a", "--x=b cd", "é", "é"}},
		{`a '|&;<>$*' \| b~c d#e [x] {y}`, []string{"a", "|&;<>$*", "|", "b~c", "d#e", "[x]", "{y}"}},
	}
	for _, tt := range tests {
		got, err := Split(tt.line)
		if err != nil || !slices.Equal(got, tt.want) {
			t.Errorf("%s: %q, %v, want %q", tt.line, got, err, tt.want)
		}
	}
}

func TestSplitRefuses(t *testing.T) {
	tests := map[string]string{
		"":          "command is empty",
		" \t ":      "command is empty",
		`a 'b`:      `the quote ' at "'b" is not closed`,
		`a "b\"`:    `the quote " at "\"b\\\"" is not closed`,
		`a b\`:      "it ends in a backslash",
		"a | b":     "'|' is for a shell, and none is involved",
		"a && b":    "'&' is for a shell",
		"a $B":      "'$' is for a shell",
		"a ~/b":     "'~' is for a shell",
		"a >b":      "'>' is for a shell",
		"a *.c":     "'*' is for a shell",
		"a\nb":      "control character",
		"a \x7f":    "control character",
		"a b \xff":  "not UTF-8",
		"a # and b": "'#' is for a shell",
	}
	for line, want := range tests {
		if got, err := Split(line); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %q, %v, want %s", line, got, err, want)
		}
	}
}

// Words that are quoted come back as they were.
func FuzzSplit(f *testing.F) {
	f.Add("a b", `'"\`)
	f.Add("", "~$x")
	f.Fuzz(func(t *testing.T, a, b string) {
		if _, err := Split(a); err != nil && strings.ContainsAny(err.Error(), "\n") {
			t.Errorf("more than one line: %v", err)
		}
		quote := func(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
		got, err := Split(quote(a) + " " + quote(b))
		if err == nil && !slices.Equal(got, []string{a, b}) {
			t.Errorf("%q, want %q and %q", got, a, b)
		}
	})
}
