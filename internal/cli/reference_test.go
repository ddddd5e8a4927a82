package cli_test

import (
	"bytes"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/locksmith-reboot/locksmith/internal/cli"
)

func TestReferenceIsUpToDate(t *testing.T) {
	want, err := os.ReadFile("../../docs/reference/locksmithctl.md")
	if err != nil {
		t.Fatal(err)
	}
	var got bytes.Buffer
	if err := cli.Reference(&got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got.String()); diff != "" {
		t.Errorf("run: go generate ./internal/cli\n%s", diff)
	}
}
