// Command updateengine is a stand-in for CoreOS's update engine on the machines of
// the tests: it owns com.coreos.update1 on the system bus and says what a file
// tells it to say. It installs nothing and knows nothing of locksmith.
//
// The first word of the state file is the current operation; where the file is
// missing or empty it is UPDATE_STATUS_IDLE. The file is read at start and at
// SIGHUP, which also sends the StatusUpdate signal. A real update engine forgets
// after a reboot that one was needed; with -volatile, or with a state file on a
// tmpfs, so does this one.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/godbus/dbus/v5"
)

const (
	busName = "com.coreos.update1"
	busPath = dbus.ObjectPath("/com/coreos/update1")
	iface   = "com.coreos.update1.Manager"

	idle = "UPDATE_STATUS_IDLE"

	defaultFile  = "/var/lib/update-engine-test/operation"
	volatileFile = "/run/update-engine-test/operation"
)

func main() { os.Exit(run(os.Args[1:], os.Stderr)) }

func run(args []string, stderr io.Writer) int {
	flags := flag.NewFlagSet("updateengine", flag.ContinueOnError)
	flags.SetOutput(stderr)
	file := flags.String("state-file", "", "file that holds the current operation (default "+defaultFile+")")
	volatile := flags.Bool("volatile", false, "use "+volatileFile+" unless -state-file is given, so that a reboot clears it")
	version := flags.String("new-version", "1234.0.0", "version of the installed update")
	if err := flags.Parse(args); err != nil {
		return 2
	}
	switch {
	case *file == "" && *volatile:
		*file = volatileFile
	case *file == "":
		*file = defaultFile
	}

	// Subscribed before anything else, so that an early SIGHUP does not kill.
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()

	if err := serve(ctx, &engine{file: *file, version: *version}, hup); err != nil {
		fmt.Fprintln(stderr, "updateengine:", err)
		return 1
	}
	return 0
}

func serve(ctx context.Context, e *engine, hup <-chan os.Signal) error {
	if err := e.reload(); err != nil {
		return err
	}
	conn, err := dbus.ConnectSystemBus()
	if err != nil {
		return fmt.Errorf("connecting to the system bus: %w", err)
	}
	defer conn.Close()
	if err := conn.Export(e, busPath, iface); err != nil {
		return err
	}
	reply, err := conn.RequestName(busName, dbus.NameFlagDoNotQueue)
	if err != nil {
		return fmt.Errorf("owning %s: %w", busName, err)
	}
	if reply != dbus.RequestNameReplyPrimaryOwner {
		return fmt.Errorf("owning %s: somebody else owns it", busName)
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-conn.Context().Done():
			return errors.New("the system bus went away")
		case <-hup:
			if err := e.reload(); err != nil {
				return err
			}
			checked, progress, operation, version, size, _ := e.GetStatus()
			err := conn.Emit(busPath, iface+".StatusUpdate", checked, progress, operation, version, size)
			if err != nil {
				return fmt.Errorf("sending the signal: %w", err)
			}
		}
	}
}

// engine is the object on the bus.
type engine struct {
	file    string
	version string

	mu        sync.Mutex
	operation string
	checked   time.Time
}

func (e *engine) reload() error {
	data, err := os.ReadFile(e.file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	operation := idle
	if words := strings.Fields(string(data)); len(words) > 0 {
		operation = words[0]
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.operation, e.checked = operation, time.Now()
	return nil
}

// GetStatus is the bus method: last checked time in seconds since the epoch,
// progress from 0 to 1, current operation, new version, its size in bytes.
func (e *engine) GetStatus() (int64, float64, string, string, int64, *dbus.Error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.operation == idle {
		return e.checked.Unix(), 0, e.operation, "", 0, nil
	}
	return e.checked.Unix(), 1, e.operation, e.version, 1 << 20, nil
}
