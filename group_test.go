package locksmith

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseGroups(t *testing.T) {
	many := strings.Split(strings.Repeat("abcdefghijklmnop", 1), "")
	for _, tt := range []struct {
		in   string
		want []Group
	}{
		{"", []Group{""}},
		{"  ", []Group{""}},
		{"a", []Group{"a"}},
		{" b , a ", []Group{"a", "b"}},
		{"prod/database,a b", []Group{"a b", "prod/database"}},
		{"...", []Group{"..."}},
		{strings.Join(many, ","), func() (g []Group) {
			for _, m := range many {
				g = append(g, Group(m))
			}
			return g
		}()},
	} {
		got, err := ParseGroups(tt.in)
		if err != nil {
			t.Errorf("%q: %v", tt.in, err)
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%q (-want +got):\n%s", tt.in, diff)
		}
		again, err := ParseGroups(JoinGroups(got))
		if err != nil || !cmp.Equal(got, again) {
			t.Errorf("%q joined and read again: %v, %v", tt.in, again, err)
		}
	}
}

func TestParseGroupsRefuses(t *testing.T) {
	for _, tt := range []struct{ in, why string }{
		{".", `invalid group ".": choose a name other than . and ..`},
		{"a,..", `invalid group "..": choose a name other than . and ..`},
		{"a,", `invalid groups "a,": a name between the commas is empty`},
		{",", `invalid groups ",": a name between the commas is empty`},
		{"a, ,b", `invalid groups "a, ,b": a name between the commas is empty`},
		{"a,b,a", `invalid groups "a,b,a": a group is named twice`},
		{"a\nb", `invalid group "a\nb": it holds a control character`},
		{"a\x00", `invalid group "a\x00": it holds a control character`},
		{"\xff", `invalid group "\xff": it is not UTF-8`},
		{strings.Repeat("g", 254), `it is 254 bytes long, at most 253 are allowed`},
		{"a,b,c,d,e,f,g,h,i,j,k,l,m,n,o,p,q", `invalid groups: 17 given, at most 16 are allowed`},
	} {
		got, err := ParseGroups(tt.in)
		if err == nil {
			t.Errorf("%q is read as %q", tt.in, got)
		} else if !strings.HasSuffix(err.Error(), tt.why) {
			t.Errorf("%q: %q, want %q", tt.in, err, tt.why)
		}
	}
}

func TestGroupString(t *testing.T) {
	if got := Group("").String(); got != "default group" {
		t.Errorf("the default group is shown as %q", got)
	}
	if got := Group("a").String(); got != "a" {
		t.Errorf("group a is shown as %q", got)
	}
}

func TestCheckMachineID(t *testing.T) {
	for _, id := range []string{"69d2f7b5a8ad4a4f9ec1b2c3d4e5f607", "host.example", "ü", strings.Repeat("m", 253)} {
		if err := CheckMachineID(id); err != nil {
			t.Errorf("%q: %v", id, err)
		}
	}
	for _, tt := range []struct{ id, why string }{
		{"", `invalid machine id "": it is empty`},
		{"a b", `invalid machine id "a b": it holds a space`},
		{"a\u00a0b", `it holds a space`},
		{"a\n", `it holds a space`},
		{"a\x1b", `invalid machine id "a\x1b": it holds a control character`},
		{"\xc3", `invalid machine id "\xc3": it is not UTF-8`},
		{strings.Repeat("m", 254), `it is 254 bytes long, at most 253 are allowed`},
	} {
		if err := CheckMachineID(tt.id); err == nil || !strings.HasSuffix(err.Error(), tt.why) {
			t.Errorf("%q: %v, want %q", tt.id, err, tt.why)
		}
	}
}

func FuzzParseGroups(f *testing.F) {
	for _, s := range []string{"", "a", "a,b", " a , b", "..", ",", "a,a", "\xff"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		groups, err := ParseGroups(s)
		if err != nil {
			if strings.ContainsAny(err.Error(), "\n\x00") {
				t.Fatalf("%q: the error is not one line: %q", s, err)
			}
			return
		}
		again, err := ParseGroups(JoinGroups(groups))
		if err != nil || !cmp.Equal(groups, again) {
			t.Fatalf("%q is read as %q, and joined and read again as %q, %v", s, groups, again, err)
		}
	})
}
