package server

import (
	"os"
	"strings"
	"testing"

	"github.com/locksmith-reboot/locksmith/internal/api"
)

// The page names every resource and every code.
func TestDocsAreComplete(t *testing.T) {
	text, err := os.ReadFile("../../docs/api.md")
	if err != nil {
		t.Fatal(err)
	}
	page := string(text)
	for path := range newSite(t, nil).resources {
		if !strings.Contains(page, "| `"+path+"`") && !strings.Contains(page, "| `"+path+"?") {
			t.Errorf("%s is not in docs/api.md", path)
		}
	}
	for _, code := range api.Codes() {
		if !strings.Contains(page, "`"+string(code)+"`") {
			t.Errorf("code %s is not in docs/api.md", code)
		}
	}
}
