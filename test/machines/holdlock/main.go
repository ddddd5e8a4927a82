// Command holdlock is a stand-in for a package manager at work on the machines of the
// tests: it holds the lock of FILE, as dpkg and apt hold theirs, until it is ended.
// Under systemd, with Type=notify, it has started once it holds the lock.
//
//	holdlock FILE
package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
)

func main() { os.Exit(run(os.Args[1:], os.Stderr)) }

func run(args []string, stderr io.Writer) int {
	if len(args) != 1 {
		fmt.Fprintln(stderr, "usage: holdlock FILE")
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := hold(ctx, args[0]); err != nil {
		fmt.Fprintf(stderr, "holdlock: %v\n", err)
		return 1
	}
	return 0
}

// hold holds the lock of path, a record lock as fcntl has them, until ctx ends.
func hold(ctx context.Context, path string) error {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o640)
	if err != nil {
		return err
	}
	defer file.Close()
	if err := unix.FcntlFlock(file.Fd(), unix.F_SETLK, &unix.Flock_t{Type: unix.F_WRLCK}); err != nil {
		return fmt.Errorf("locking %s: %w", path, err)
	}
	if err := ready(); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}

// ready tells systemd, where it has asked for that.
func ready() error {
	socket := os.Getenv("NOTIFY_SOCKET")
	if socket == "" {
		return nil
	}
	conn, err := net.Dial("unixgram", socket)
	if err != nil {
		return err
	}
	defer conn.Close()
	_, err = conn.Write([]byte("READY=1"))
	return err
}
