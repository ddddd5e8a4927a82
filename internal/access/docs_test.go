package access

import (
	"os"
	"strings"
	"testing"
)

// The access files that docs/access.md shows can be used, and its table has all fields.
func TestDocumentation(t *testing.T) {
	page, err := os.ReadFile("../../docs/access.md")
	if err != nil {
		t.Fatal(err)
	}
	whole, single := 0, 0
	for block := range strings.SplitSeq(string(page), "\n\n") {
		block = strings.TrimSpace(block)
		switch {
		case strings.HasPrefix(block, `{"principals"`):
			whole++
			if _, err := parsed(block, 0o640); err != nil {
				t.Error(err)
			}
		case strings.HasPrefix(block, `{"name"`):
			for line := range strings.Lines(block) {
				single++
				if _, err := parsed(`{"principals": [`+line+`]}`, 0o640); err != nil {
					t.Error(err)
				}
			}
		}
	}
	if whole != 1 || single != 3 {
		t.Errorf("%d files and %d principals found", whole, single)
	}
	for field := range strings.SplitSeq(fieldNames, ", ") {
		if !strings.Contains(string(page), "\n| `"+field+"` | ") {
			t.Errorf("the table has no field %s", field)
		}
		if target, _ := new(entry).field(field); target == nil {
			t.Errorf("a message offers the field %s, which there is not", field)
		}
	}
	for _, role := range Roles {
		if !strings.Contains(string(page), "\n| `"+string(role)+"` | ") {
			t.Errorf("the table has no role %s", role)
		}
	}
}
