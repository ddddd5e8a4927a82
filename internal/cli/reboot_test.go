package cli

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/internal/options"
)

// robbed is a store from which an administrator takes slots right after they were granted,
// in the first of the groups or in all.
type robbed struct {
	Store
	all      bool
	released []locksmith.Group
}

func (r *robbed) Close() error { return nil }

func (r *robbed) TryAcquire(_ context.Context, req locksmith.Request) (locksmith.Slots, error) {
	return locksmith.Slots{Groups: req.Groups, Record: locksmith.Holder{MachineID: req.MachineID, Nonce: "n"}}, nil
}

func (r *robbed) Advance(_ context.Context, slots locksmith.Slots, _ locksmith.Phase, _ string) (locksmith.Slots, error) {
	if slots.Groups = slots.Groups[1:]; r.all {
		slots.Groups = nil
	}
	return slots, locksmith.ErrSlotLost
}

func (r *robbed) Release(_ context.Context, slots locksmith.Slots, _ locksmith.Result) error {
	r.released = append(r.released, slots.Groups...)
	return nil
}

// Who loses some of its slots before it asked for the reboot does not reboot, and gives
// back the others.
func TestRebootLosesSlots(t *testing.T) {
	for _, tt := range []struct {
		all  bool
		want []locksmith.Group
		says string
	}{
		{false, []locksmith.Group{"rack"}, "the slot was given back"},
		{true, nil, ""},
	} {
		dir := t.TempDir()
		for name, text := range map[string]string{"machine-id": "3f0c1234\n", "boot_id": "c0ffee00-1111-2222-3333-444455556666\n"} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		store := &robbed{all: tt.all}
		var errs bytes.Buffer
		status := Run(t.Context(), []string{"locksmithctl", "reboot", "-group", "lb,rack"}, nil, &bytes.Buffer{}, &errs, Deps{
			Open:          func(options.Etcd, *slog.Logger) (Store, error) { return store, nil },
			LookupEnv:     func(string) (string, bool) { return "", false },
			Euid:          func() int { return 0 },
			Reboot:        func(context.Context) error { t.Error("it rebooted"); return nil },
			MachineIDFile: filepath.Join(dir, "machine-id"),
			BootIDFile:    filepath.Join(dir, "boot_id"),
		})
		if status == 0 || !slices.Equal(store.released, tt.want) || !strings.Contains(errs.String(), locksmith.ErrSlotLost.Error()) ||
			strings.Contains(errs.String(), "given back") != (tt.says != "") || !strings.Contains(errs.String(), tt.says) {
			t.Errorf("all %v: status %d, released %q: %s", tt.all, status, store.released, errs.String())
		}
	}
}
