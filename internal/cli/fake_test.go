package cli

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/internal/options"
)

// noon is a Thursday, when the pure output of the commands is looked at.
var noon = time.Date(2026, 11, 19, 12, 0, 0, 0, time.FixedZone("CET", 3600))

// ago is an instant before noon, as stored.
func ago(d time.Duration) int64 { return noon.Add(-d).Unix() }

// fleet is a store of machines that are hard to come by with a real etcd: those
// of a certain age.
type fleet struct {
	Store
	machines []locksmith.MachineStatus
	groups   map[locksmith.Group]locksmith.GroupStatus // one that is missing cannot be read
	forgot   *string
}

func (f fleet) Close() error { return nil }

func (f fleet) Machines(context.Context) ([]locksmith.MachineStatus, error) { return f.machines, nil }

func (f fleet) Machine(_ context.Context, name string) (locksmith.MachineStatus, error) {
	i := slices.IndexFunc(f.machines, func(m locksmith.MachineStatus) bool { return m.MachineID == name || m.Hostname == name })
	if i < 0 {
		return locksmith.MachineStatus{}, locksmith.ErrUnknownMachine
	}
	return f.machines[i], nil
}

func (f fleet) Status(_ context.Context, g locksmith.Group) (locksmith.GroupStatus, error) {
	s, ok := f.groups[g]
	if !ok {
		return s, errors.New("unreadable document")
	}
	return s, nil
}

func (f fleet) Forget(_ context.Context, id string) error {
	*f.forgot = id
	return nil
}

// daemon is a locksmithd that says one thing.
type daemon struct {
	Daemon
	why locksmith.Why
	err error
}

func (d daemon) Why(context.Context) (locksmith.Why, error) { return d.why, d.err }

// at noon runs a command line on a fleet, and returns what it prints.
func atNoon(t *testing.T, store Store, d Daemon, args ...string) (stdout, stderr string, status int) {
	t.Helper()
	id := filepath.Join(t.TempDir(), "machine-id")
	if err := os.WriteFile(id, []byte("3f0c1234\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var out, errs bytes.Buffer
	status = Run(t.Context(), append([]string{"locksmithctl"}, args...), nil, &out, &errs, Deps{
		Open:          func(options.Etcd, *slog.Logger) (Store, error) { return store, nil },
		Daemon:        func(string) Daemon { return d },
		LookupEnv:     func(string) (string, bool) { return "", false },
		MachineIDFile: id,
		Now:           func() time.Time { return noon },
	})
	return out.String(), errs.String(), status
}

// golden compares text with a file below testdata; LOCKSMITH_UPDATE=1 writes it.
func golden(t *testing.T, path, text string) {
	t.Helper()
	path = filepath.Join("testdata", path)
	if os.Getenv("LOCKSMITH_UPDATE") != "" {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), text); diff != "" {
		t.Errorf("%s (LOCKSMITH_UPDATE=1 writes it anew):\n%s", path, diff)
	}
}
