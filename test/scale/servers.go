package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
)

// servers has the other suite measure what locksmith-server does for FleetLock, because the
// reckoning needs it.
func (s *scale) servers(ctx context.Context) error {
	s.say("what locksmith-server does for FleetLock, by test/bench")
	args := []string{"run", module + "/test/bench", "-json", "-only", "fleetlock", "-dir", s.dir}
	if s.quick {
		args = append(args, "-quick")
	}
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Stderr = s.progress
	out, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("test/bench: %w", err)
	}
	var figures []figure // its own have the same names for what is needed
	if err := json.Unmarshal(out, &figures); err != nil {
		return fmt.Errorf("test/bench: %w", err)
	}
	for _, f := range figures {
		s.add(figure{Name: f.Name, Measured: f.Measured, Unit: f.Unit, Note: f.Note})
	}
	return nil
}

const module = "github.com/locksmith-reboot/locksmith"
