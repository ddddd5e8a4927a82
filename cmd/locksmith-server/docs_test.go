package main

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write docs/reference/locksmith-server.md instead of comparing it")

const reference = "../../docs/reference/locksmith-server.md"

// The reference is what the program says of itself.
func TestReference(t *testing.T) {
	var page, stderr bytes.Buffer
	fmt.Fprint(&page, "<!-- Made by: go test ./cmd/locksmith-server -run TestReference -update -->\n\n# locksmith-server\n")
	pages := [][]string{{"locksmith-server", "help"}}
	for _, c := range (&app{program: "locksmith-server"}).root().Commands {
		if c.Name != "help" {
			pages = append(pages, []string{"locksmith-server", "help", c.Name})
		}
	}
	for _, args := range pages {
		var text bytes.Buffer
		if status := run(t.Context(), args, &text, &stderr, surroundings{nil, connect}); status != 0 {
			t.Fatalf("%q: %d %s", args, status, stderr.String())
		}
		if len(args) > 2 {
			fmt.Fprintf(&page, "\n## %s\n", args[2])
		}
		fmt.Fprintln(&page)
		for line := range bytes.Lines(text.Bytes()) {
			if len(bytes.TrimSpace(line)) > 0 {
				page.WriteString("    ")
			}
			page.Write(line)
		}
	}
	if *update {
		if err := os.WriteFile(reference, page.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(reference)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(page.String(), string(got)); diff != "" {
		t.Errorf("the reference is out of date; run: go test ./cmd/locksmith-server -run TestReference -update\n%s", diff)
	}
}
