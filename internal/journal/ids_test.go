package journal

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// events are the Event constants of the agent, by name.
func events(t *testing.T) map[string]string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "../agent/events.go", nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	found := make(map[string]string)
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		for i, name := range spec.Names {
			if !strings.HasPrefix(name.Name, "Event") {
				continue
			}
			if i >= len(spec.Values) {
				t.Fatalf("%s has no value of its own", name.Name)
			}
			literal, ok := spec.Values[i].(*ast.BasicLit)
			if !ok {
				t.Fatalf("%s is not a literal", name.Name)
			}
			if found[name.Name], err = strconv.Unquote(literal.Value); err != nil {
				t.Fatalf("%s: %v", name.Name, err)
			}
		}
		return true
	})
	if len(found) < 15 {
		t.Fatalf("%d events in the agent's table", len(found))
	}
	return found
}

func TestEveryEventHasAnID(t *testing.T) {
	found := events(t)
	if found["EventKey"] != eventKey {
		t.Errorf("the agent names events in %q, the journal looks for %q", found["EventKey"], eventKey)
	}
	delete(found, "EventKey")
	doc, err := os.ReadFile("../../docs/journal.md")
	if err != nil {
		t.Fatal(err)
	}
	for name, event := range found {
		id := messageIDs[event]
		if id == "" {
			t.Errorf("%s (%q) has no message id: make one, with journalctl --new-id128, in ids.go", name, event)
			continue
		}
		if row := "| `" + event + "` | `" + id + "` |"; !strings.Contains(string(doc), "\n"+row) {
			t.Errorf("docs/journal.md lacks the row %s", row)
		}
	}
	rows := regexp.MustCompile("(?m)^\\| `([a-z-]+)` \\| `[0-9a-f]+` \\|").FindAllStringSubmatch(string(doc), -1)
	for _, row := range rows {
		if messageIDs[row[1]] == "" {
			t.Errorf("docs/journal.md lists %s, which is no event", row[1])
		}
	}
	if len(rows) != len(messageIDs) {
		t.Errorf("docs/journal.md lists %d events, there are %d", len(rows), len(messageIDs))
	}
}

func TestIDsAreIDs(t *testing.T) {
	form := regexp.MustCompile(`^[0-9a-f]{32}$`)
	seen := make(map[string]string)
	for event, id := range messageIDs {
		if !form.MatchString(id) {
			t.Errorf("%s: %q is not 32 hexadecimal digits", event, id)
		}
		if other := seen[id]; other != "" {
			t.Errorf("%s and %s have the same id", event, other)
		}
		seen[id] = event
	}
}
