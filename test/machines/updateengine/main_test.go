package main

import (
	"context"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/locksmith-reboot/locksmith/internal/agent"
	"github.com/locksmith-reboot/locksmith/internal/bus"
	"github.com/locksmith-reboot/locksmith/internal/dbustest"
	"github.com/locksmith-reboot/locksmith/internal/trigger"
)

// The trigger understands what this program says.
func TestTriggerUnderstands(t *testing.T) {
	d := dbustest.New(t)
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", d.Address())
	b := bus.New("", nil)
	defer b.Close()
	ctx, cancel := context.WithCancel(t.Context())
	needs := make(chan agent.Need, 10)
	watched := make(chan error, 1)
	go func() { watched <- trigger.NewUpdateEngine(b, nil).Watch(ctx, func(n agent.Need) { needs <- n }) }()
	if n := <-needs; n.Err == nil {
		t.Fatalf("before it runs: %+v", n)
	}

	file := filepath.Join(t.TempDir(), "operation")
	hup := make(chan os.Signal)
	served := make(chan error, 1)
	go func() { served <- serve(ctx, &engine{file: file, version: "1234.0.0"}, hup) }()
	if n := <-needs; n.Err != nil || n.Needed {
		t.Errorf("without a state file: %+v", n)
	}
	if err := os.WriteFile(file, []byte("UPDATE_STATUS_UPDATED_NEED_REBOOT\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	hup <- syscall.SIGHUP
	if n := <-needs; !n.Needed || n.Reason != "update engine: version 1234.0.0 is installed" {
		t.Errorf("told that a reboot is needed: %+v", n)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	hup <- syscall.SIGHUP
	if n := <-needs; n.Err != nil || n.Needed {
		t.Errorf("after the file went: %+v", n)
	}
	cancel()
	if err := <-served; err != nil {
		t.Errorf("serve = %v", err)
	}
	if err := <-watched; err != nil {
		t.Errorf("Watch = %v", err)
	}
}
