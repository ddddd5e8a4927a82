package dashboard

import (
	"net/url"
	"slices"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/internal/access"
)

func groupURL(g locksmith.Group) string { return address("/group", "name", string(g)) }

func machineURL(id string) string { return address("/machine", "id", id) }

// address is a path with parameters, given as name and value by turns.
func address(path string, params ...string) string {
	q := url.Values{}
	for i := 0; i+1 < len(params); i += 2 {
		q.Set(params[i], params[i+1])
	}
	return path + "?" + q.Encode()
}

// scopeParams are the parameters that name what a pause is for.
func scopeParams(s locksmith.PauseScope) []string {
	switch {
	case s.All:
		return []string{"all", "1"}
	case s.Machine != "":
		return []string{"machine", s.Machine}
	}
	return []string{"group", string(s.Group)}
}

// link is something to press.
type link struct{ Text, URL, Label string }

// mayIn says whether the caller may act in a group.
func mayIn(who access.Caller, g locksmith.Group) bool {
	return who.Is(access.RoleOperator) && who.In(g)
}

// mayScope says whether the caller may pause and resume a scope. groups are those of
// the machine, where the scope is one.
func mayScope(who access.Caller, s locksmith.PauseScope, groups []locksmith.Group) bool {
	switch {
	case s.All:
		return who.Is(access.RoleAdmin) && who.Everywhere()
	case s.Machine == "":
		return mayIn(who, s.Group)
	}
	outside := func(g locksmith.Group) bool { return !who.In(g) }
	return who.Is(access.RoleOperator) && (who.Everywhere() || len(groups) > 0 && !slices.ContainsFunc(groups, outside))
}

func unlockLink(who access.Caller, g locksmith.Group, h locksmith.Holder) *link {
	if !mayIn(who, g) {
		return nil
	}
	return &link{"Unlock…", address("/act/unlock", "group", string(g), "machine", h.MachineID), "Unlock " + h.Name() + " in " + scopeName(g)}
}

func resumeLink(who access.Caller, s locksmith.PauseScope, groups []locksmith.Group) *link {
	if !mayScope(who, s, groups) {
		return nil
	}
	return &link{"Resume…", address("/act/resume", scopeParams(s)...), "Resume " + s.String()}
}

func pauseLink(who access.Caller, s locksmith.PauseScope, groups []locksmith.Group) *link {
	if !mayScope(who, s, groups) {
		return nil
	}
	return &link{"Pause…", address("/act/pause", scopeParams(s)...), "Pause " + s.String()}
}

// scopeName is "group web" or "the default group".
func scopeName(g locksmith.Group) string { return locksmith.PauseScope{Group: g}.String() }
