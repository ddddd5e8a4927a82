// Command launch runs a program and prints how long it took, in nanoseconds, and
// the most memory it had resident, in kilobytes.
//
// It exists because Linux counts what a process had resident before it became the
// program: of a large process that starts a small one, the large one's memory. So
// it must stay small, and imports only the standard library.
package main

import (
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"
)

func main() { os.Exit(run(os.Args[1:])) }

func run(args []string) int {
	if len(args) == 0 {
		fmt.Fprintln(os.Stderr, "usage: launch PROGRAM [ARGUMENT...]")
		return 2
	}
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stderr = os.Stderr
	start := time.Now()
	if err := cmd.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "launch:", err)
		return 1
	}
	took := time.Since(start)
	fmt.Println(took.Nanoseconds(), cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss)
	return 0
}
