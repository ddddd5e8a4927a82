package server

import (
	"context"
	"math"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/internal/access"
	"github.com/locksmith-reboot/locksmith/internal/api"
)

// slot checks what unlock and lock are asked to do.
func slot(in api.SlotRequest) (locksmith.Group, error) {
	g, err := locksmith.ParseGroup(in.Group)
	if err == nil {
		err = locksmith.CheckMachineID(in.MachineID)
	}
	if err != nil {
		return "", invalid("%v", err)
	}
	return g, nil
}

func (s *server) unlock(ctx context.Context, who access.Caller, in api.SlotRequest) (api.Done, error) {
	g, err := slot(in)
	if err == nil {
		err = s.cfg.Admin.Unlock(ctx, who, g, in.MachineID, in.Reason)
	}
	return api.Done{Action: "unlock", Group: &in.Group, MachineID: in.MachineID}, err
}

func (s *server) lock(ctx context.Context, who access.Caller, in api.SlotRequest) (api.Done, error) {
	g, err := slot(in)
	if err == nil {
		err = s.cfg.Admin.Lock(ctx, who, g, in.MachineID, in.Reason)
	}
	return api.Done{Action: "lock", Group: &in.Group, MachineID: in.MachineID}, err
}

func (s *server) setMax(ctx context.Context, who access.Caller, in api.SetMaxRequest) (api.Done, error) {
	g, err := locksmith.ParseGroup(in.Group)
	switch {
	case err != nil:
		return api.Done{}, invalid("%v", err)
	case in.Max == nil:
		return api.Done{}, invalid("max is missing")
	case *in.Max < 0 || *in.Max > math.MaxInt32:
		return api.Done{}, invalid("invalid max %d: must be 0 to %d", *in.Max, math.MaxInt32)
	}
	old, err := s.cfg.Admin.SetMax(ctx, who, g, *in.Max)
	return api.Done{Action: "set-max", Group: &in.Group, OldMax: &old, Max: in.Max}, err
}

func (s *server) pause(ctx context.Context, who access.Caller, in api.PauseRequest) (api.Done, error) {
	scope, err := in.PauseScope()
	if err != nil {
		return api.Done{}, invalid("%v", err)
	}
	err = s.cfg.Admin.Pause(ctx, who, locksmith.Pause{Scope: scope, Until: int64(in.Until), Reason: in.Reason})
	return doneScope("pause", scope), err
}

func (s *server) resume(ctx context.Context, who access.Caller, in api.ScopeRequest) (api.Done, error) {
	scope, err := in.PauseScope()
	if err != nil {
		return api.Done{}, invalid("%v", err)
	}
	return doneScope("resume", scope), s.cfg.Admin.Resume(ctx, who, scope)
}

func doneScope(what string, scope locksmith.PauseScope) api.Done {
	d := api.ScopeFrom(scope)
	return api.Done{Action: what, Scope: d.Scope, Group: d.Group, MachineID: d.MachineID}
}

func (s *server) forget(ctx context.Context, who access.Caller, in api.ForgetRequest) (api.Done, error) {
	if err := locksmith.CheckMachineID(in.MachineID); err != nil {
		return api.Done{}, invalid("%v", err)
	}
	return api.Done{Action: "forget", MachineID: in.MachineID}, s.cfg.Admin.Forget(ctx, who, in.MachineID)
}
