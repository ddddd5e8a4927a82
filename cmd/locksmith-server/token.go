package main

import (
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"

	"github.com/urfave/cli/v3"

	"github.com/locksmith-reboot/locksmith/internal/access"
	"github.com/locksmith-reboot/locksmith/internal/options"
)

const optRole = "role"

// principalName is what the access file takes as a name.
var principalName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}$`)

const tokenDescription = `Makes a token for each NAME and prints it, together with the principal to put
into the access file, which holds only a checksum: the token itself is shown
this once and stored nowhere.`

func (a *app) token() *cli.Command {
	return &cli.Command{
		Name: "token", ArgsUsage: "NAME...",
		Usage:       "make tokens for the access file",
		Description: tokenDescription,
		Flags: []cli.Flag{&cli.StringFlag{Name: optRole, Value: string(access.RoleViewer),
			Usage: "`ROLE` to print with it: viewer, operator, admin or machine"}},
		Action: a.action(maxNames, func(_ context.Context, cmd *cli.Command) error {
			role := access.Role(cmd.String(optRole))
			switch {
			case !slices.Contains(access.Roles, role):
				return options.Usagef("invalid -%s %q: must be viewer, operator, admin or machine", optRole, role)
			case !cmd.Args().Present():
				return options.Usagef("a name is missing: %s NAME...", cmd.FullName())
			}
			for _, name := range cmd.Args().Slice() {
				if !principalName.MatchString(name) {
					return options.Usagef("invalid name %q: must be 1 to 64 letters, digits and ._@+-, and begin with a letter or a digit", name)
				}
			}
			return a.printTokens(cmd.Args().Slice(), role)
		}),
	}
}

// maxNames bounds how many tokens are made at a time.
const maxNames = 1000

func (a *app) printTokens(names []string, role access.Role) error {
	for _, name := range names {
		token, sum := access.NewToken()
		line, err := json.Marshal(struct {
			Name        string      `json:"name"`
			Role        access.Role `json:"role"`
			TokenSHA256 string      `json:"tokenSHA256"`
		}{name, role, sum})
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintf(a.stdout, "token of %s: %s\nfor the access file:\n  %s\n", name, token, line); err != nil {
			return err
		}
	}
	return nil
}
