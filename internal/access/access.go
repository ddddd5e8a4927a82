// Package access says who makes a request to locksmith-server and what they may do:
// roles, the principals of a file, bearer tokens, client certificates and browser
// sessions.
//
// It knows nothing of slots or of where they are kept, and answers no requests itself.
package access

import (
	"net/http"
	"slices"

	"github.com/locksmith-reboot/locksmith"
)

// Role is what somebody may do.
type Role string

// The roles. Each of the first three may do what the one before it may.
const (
	RoleViewer   Role = "viewer"   // sees everything of its groups
	RoleOperator Role = "operator" // unlock, lock, set-max, pause and resume
	RoleAdmin    Role = "admin"    // makes groups, pauses all of them, forgets machines
	RoleMachine  Role = "machine"  // takes and gives back slots over FleetLock, and nothing else
)

// Roles lists all roles.
var Roles = []Role{RoleViewer, RoleOperator, RoleAdmin, RoleMachine}

// atLeast says whether somebody of this role may do what people of another may.
func (r Role) atLeast(other Role) bool {
	people := Roles[:3]
	has, needs := slices.Index(people, r), slices.Index(people, other)
	return has >= 0 && needs >= 0 && has >= needs
}

// Anonymous is the name of callers where no authorization is configured.
const Anonymous = "anonymous"

// Caller is who makes a request.
type Caller struct {
	Name    string            // of the principal, or Anonymous
	From    string            // IP address of the peer
	Role    Role              //
	Groups  []locksmith.Group // to which the role is limited; nil: every group
	Machine string            // the only id that may be used over FleetLock; empty: any

	// Open says that no authorization is configured: everybody may do everything,
	// FleetLock too.
	Open bool
}

// Actor is the caller in the history: who, and from where.
func (c Caller) Actor() string { return c.Name + "@" + c.From }

// In says whether the caller's role holds in a group.
func (c Caller) In(g locksmith.Group) bool { return c.Groups == nil || slices.Contains(c.Groups, g) }

// Everywhere says whether the caller's role holds in every group.
func (c Caller) Everywhere() bool { return c.Groups == nil }

// Is says whether the caller may do what a role may.
func (c Caller) Is(role Role) bool {
	if role == RoleMachine {
		return c.Open || c.Role == RoleMachine
	}
	return c.Open || c.Role.atLeast(role)
}

// Sees says whether the caller may know of a group.
func (c Caller) Sees(g locksmith.Group) bool { return c.Is(RoleViewer) && c.In(g) }

// SeesMachine says whether the caller may know of a machine of these groups.
func (c Caller) SeesMachine(groups []locksmith.Group) bool {
	return c.Is(RoleViewer) && (c.Everywhere() || slices.ContainsFunc(groups, c.In))
}

// Guard says who makes a request.
type Guard interface {
	// Caller is who makes r. Its error is a *Refusal.
	Caller(r *http.Request) (Caller, error)
}

// Refusal is why nobody is known to have made a request.
type Refusal struct {
	Status int    // http.StatusUnauthorized or http.StatusForbidden
	Reason string // for people, without secrets: "no token"
}

func (r *Refusal) Error() string { return r.Reason }
