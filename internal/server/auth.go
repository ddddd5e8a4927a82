package server

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/internal/access"
	"github.com/locksmith-reboot/locksmith/internal/admin"
	"github.com/locksmith-reboot/locksmith/internal/api"
)

// caller is who makes a request and may see something. The error is the reason for a
// refusal, which is noted.
func (s *server) caller(r *http.Request) (access.Caller, error) {
	who, err := s.cfg.Guard.Caller(r)
	switch {
	case err != nil:
		return who, s.refuse(r, err)
	case !who.Is(access.RoleViewer):
		return who, s.forbid(r, &admin.Forbidden{Who: who, What: "use " + r.URL.Path, Need: access.RoleViewer, In: "any group"}, nil)
	}
	return who, nil
}

// refuse turns a guard's refusal into an answer, and has it noted.
func (s *server) refuse(r *http.Request, err error) error {
	var refusal *access.Refusal
	if !errors.As(err, &refusal) {
		return fmt.Errorf("who makes the request is not known: %w", err)
	}
	s.note(r, access.Caller{From: address(r.RemoteAddr)}, nil, "use "+r.URL.Path+": "+refusal.Reason)
	if refusal.Status == http.StatusForbidden {
		return &problem{api.CodeForbidden, refusal.Reason}
	}
	return &problem{api.CodeUnauthorized, refusal.Reason}
}

// forbid has a refusal noted that this package decided.
func (s *server) forbid(r *http.Request, f *admin.Forbidden, group *locksmith.Group) error {
	s.note(r, f.Who, group, f.Error())
	return f
}

func (s *server) note(r *http.Request, who access.Caller, group *locksmith.Group, what string) {
	// Who hangs up at once is noted all the same.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), noteLimit)
	defer cancel()
	s.cfg.Admin.Refused(ctx, who, group, "", what)
}

// sees refuses a group that the caller may not see, whether it exists or not.
func (s *server) sees(r *http.Request, who access.Caller, group locksmith.Group) error {
	if who.Sees(group) {
		return nil
	}
	return s.forbid(r, &admin.Forbidden{Who: who, What: "look", In: locksmith.PauseScope{Group: group}.String()}, &group)
}
