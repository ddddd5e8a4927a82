package cli

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/urfave/cli/v3"

	"github.com/locksmith-reboot/locksmith/internal/options"
)

// Reference writes the command reference, docs/reference/locksmithctl.md, as
// Markdown made from the commands themselves.
func Reference(w io.Writer) error {
	a := newApp("locksmithctl", nil, io.Discard, io.Discard, Deps{})
	root := a.root()
	var page bytes.Buffer
	// The library completes the tree when it runs, so write from inside a run.
	root.Action = func(_ context.Context, cmd *cli.Command) error {
		a.writeReference(&page, cmd)
		return nil
	}
	if err := root.Run(context.Background(), []string{a.program}); err != nil {
		return err
	}
	_, err := w.Write(page.Bytes())
	return err
}

func (a *app) writeReference(w io.Writer, root *cli.Command) {
	fmt.Fprintf(w, `# %s

<!-- Made from the commands by "go generate ./internal/cli". Do not edit. -->

%s.

    %s

Options may stand before or after the command, with one dash or two, as
`+"`-option value` or `-option=value`"+`. The command line beats the environment; an empty
variable counts as unset. Called as rebootlockctl, the program is the same with the
prefix REBOOTLOCKCTL_.

Exit status: 0 when it worked, 1 when it did not, 2 when the command line is wrong.
Errors are one line on standard error.

## Options of every command

`, a.program, sentence(root.Usage), options.UsageLine(root))
	writeOptions(w, options.Describe(root.Flags, a.prefix))
	for _, c := range root.Commands {
		if c.Hidden {
			continue
		}
		fmt.Fprintf(w, "\n## %s\n\n%s.\n\n    %s\n", c.Name, sentence(c.Usage), options.UsageLine(c))
		if text := options.DescriptionText(c); text != "" {
			fmt.Fprintf(w, "\n%s\n", text)
		}
		if list := options.Describe(c.Flags, ""); len(list) > 0 {
			fmt.Fprintln(w)
			writeOptions(w, list)
		}
	}
}

func writeOptions(w io.Writer, list []options.Description) {
	cellText := strings.NewReplacer("|", `\|`, "<", "&lt;")
	variables := list[0].Variable != ""
	if variables {
		fmt.Fprint(w, "| option | variable | |\n|---|---|---|\n")
	} else {
		fmt.Fprint(w, "| option | |\n|---|---|\n")
	}
	for _, o := range list {
		variable := ""
		if o.Variable != "" {
			variable = "`" + o.Variable + "`"
		}
		if variables {
			variable += " | "
		}
		o.Variable = ""
		fmt.Fprintf(w, "| `%s` | %s%s |\n", o.Synopsis, variable, cellText.Replace(o.Text()))
	}
}

func sentence(s string) string { return strings.ToUpper(s[:1]) + s[1:] }
