package login1

import (
	"context"
	"slices"

	"github.com/locksmith-reboot/locksmith/internal/agent"
)

// shownLogins bounds the logins that are named.
const shownLogins = 5

// Users is a check that fails while a user is logged in, with a *agent.Veto that
// names who and where. Where the sessions cannot be listed it fails too.
func (m *Machine) Users() agent.Check { return users{m} }

type users struct{ m *Machine }

func (users) Name() string { return "users" }

func (c users) Run(ctx context.Context, _ agent.About) error {
	ctx, cancel := c.m.limited(ctx)
	defer cancel()
	sessions, err := c.m.Sessions(ctx)
	if err != nil {
		return err
	}
	var logins []string
	for _, s := range sessions {
		login := s.User
		if s.TTY != "" {
			login += " on " + s.TTY
		}
		if !slices.Contains(logins, login) {
			logins = append(logins, login)
		}
	}
	switch len(logins) {
	case 0:
		return nil
	case 1:
		return &agent.Veto{By: c.Name(), Reason: logins[0] + " is logged in"}
	}
	return &agent.Veto{By: c.Name(), Reason: first(logins, shownLogins, ", ") + " are logged in"}
}
