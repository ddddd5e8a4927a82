// Command gendoc writes the command reference of locksmithctl to the file it is
// given. It is for go generate only.
package main

import (
	"bytes"
	"fmt"
	"os"

	"github.com/locksmith-reboot/locksmith/internal/cli"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: gendoc FILE")
		os.Exit(2)
	}
	var page bytes.Buffer
	err := cli.Reference(&page)
	if err == nil {
		err = os.WriteFile(os.Args[1], page.Bytes(), 0o644)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "gendoc:", err)
		os.Exit(1)
	}
}
