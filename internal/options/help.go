package options

import (
	"fmt"
	"io"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/urfave/cli/v3"
)

// version is set by the build: -ldflags "-X …/internal/options.version=1.2.3".
var version string

// BuildVersion is the program's version: the one set by the build, else what
// the Go toolchain recorded.
func BuildVersion() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" && info.Main.Version != "(devel)" {
		return info.Main.Version
	}
	return "development"
}

// The library keeps its printer of help texts in a variable. Ours shows options
// with one dash, their variables, and nothing that is empty; it needs no
// templates, and the command reference is made from the same parts.
func init() {
	cli.HelpPrinter = func(w io.Writer, _ string, data any) {
		if cmd, ok := data.(*cli.Command); ok {
			PrintHelp(w, cmd)
		}
	}
}

// PrintHelp writes the help of cmd, a program or one of its commands.
func PrintHelp(w io.Writer, cmd *cli.Command) {
	root := cmd.Root()
	fmt.Fprintf(w, "%s - %s\n\nUsage: %s\n", cmd.FullName(), cmd.Usage, UsageLine(cmd))
	if text := DescriptionText(cmd); text != "" {
		fmt.Fprintf(w, "\n%s\n", text)
	}
	printCommands(w, visible(cmd))
	prefix := ""
	if cmd == root {
		prefix = Prefix(root.Name)
	}
	if list := Describe(cmd.Flags, prefix); len(list) > 0 {
		fmt.Fprint(w, "\nOptions:\n")
		for _, o := range list {
			fmt.Fprintf(w, "  %s\n      %s\n", o.Synopsis, o.Text())
		}
	}
	switch {
	case cmd != root && shares(root):
		fmt.Fprintf(w, "\nOptions of every command: %s help\n", root.Name)
	case cmd == root && len(visible(cmd)) > 0:
		if shares(root) {
			fmt.Fprintf(w, "\nOptions may stand before or after the command, with one dash or two.\n")
		} else {
			fmt.Fprintf(w, "\nOptions take one dash or two. Those of a command stand after it.\n")
		}
		fmt.Fprintf(w, "More about a command: %s help COMMAND\n", root.Name)
	}
}

// shares says whether the program has options that its commands have too, but for
// those that every command has.
func shares(root *cli.Command) bool {
	return slices.ContainsFunc(root.Flags, func(f cli.Flag) bool {
		return hasVariable(f.Names()[0]) && !isLocal(f)
	})
}

// visible is the commands below cmd to show. The library's own list leaves any
// command named help out.
func visible(cmd *cli.Command) []*cli.Command {
	return slices.DeleteFunc(slices.Clone(cmd.Commands), func(c *cli.Command) bool { return c.Hidden })
}

func printCommands(w io.Writer, commands []*cli.Command) {
	if len(commands) == 0 {
		return
	}
	width := 0
	for _, c := range commands {
		width = max(width, len(c.Name))
	}
	fmt.Fprint(w, "\nCommands:\n")
	for _, c := range commands {
		fmt.Fprintf(w, "  %-*s  %s\n", width, c.Name, c.Usage)
	}
}

// DescriptionText is the command's description, with the program's name in the
// place of every PROGRAM.
func DescriptionText(cmd *cli.Command) string {
	return strings.ReplaceAll(strings.TrimSpace(cmd.Description), "PROGRAM", cmd.Root().Name)
}

// UsageLine is the form of a command line that runs cmd.
func UsageLine(cmd *cli.Command) string {
	line := cmd.FullName()
	if len(Describe(cmd.Flags, "")) > 0 {
		line += " [OPTIONS]"
	}
	switch {
	case cmd.ArgsUsage != "":
		line += " " + cmd.ArgsUsage
	case len(visible(cmd)) > 0:
		line += " COMMAND"
	}
	return line
}

// Description is one option as help and the command reference show it.
type Description struct {
	Synopsis string // "-endpoint URL", "-l, -long"
	Usage    string
	Default  string // empty where there is none worth showing
	Variable string // empty where it has none
}

// Text is everything but the synopsis, in one line.
func (d Description) Text() string {
	text := d.Usage
	if d.Default != "" {
		text += " (default " + d.Default + ")"
	}
	if d.Variable != "" {
		text += " [$" + d.Variable + "]"
	}
	return text
}

// Describe describes the visible ones among flags, except for -help, which
// every command has. An empty prefix means that they have no variables.
func Describe(flags []cli.Flag, prefix string) []Description {
	var list []Description
	for _, f := range flags {
		if v, ok := f.(cli.VisibleFlag); ok && !v.IsVisible() || f.Names()[0] == "help" {
			continue
		}
		list = append(list, describe(f, prefix))
	}
	return list
}

func describe(f cli.Flag, prefix string) Description {
	names := f.Names()
	d := Description{Synopsis: "-" + strings.Join(names, ", -")}
	if prefix != "" && hasVariable(names[0]) {
		d.Variable = Variable(prefix, names[0])
	}
	doc, ok := f.(cli.DocGenerationFlag)
	if !ok {
		return d
	}
	var value string
	value, d.Usage = unquote(doc.GetUsage())
	if value != "" {
		d.Synopsis += " " + value
	}
	if doc.IsDefaultVisible() && doc.TakesValue() {
		d.Default = strings.Trim(doc.GetValue(), `"`)
	}
	return d
}

// unquote finds the name of an option's value, which stands in back quotes in
// its usage, and drops the quotes.
func unquote(usage string) (value, rest string) {
	before, after, found := strings.Cut(usage, "`")
	value, after, closed := strings.Cut(after, "`")
	if !found || !closed {
		return "", usage
	}
	return value, before + value + after
}
