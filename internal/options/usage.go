package options

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/urfave/cli/v3"
)

// ExitUsage is the exit status of a program whose command line is wrong.
const ExitUsage = 2

// UsageError says that the command line is wrong, as opposed to what it asks for.
type UsageError struct{ Message string }

func (e *UsageError) Error() string { return e.Message }

// Usagef makes a UsageError.
func Usagef(format string, args ...any) error {
	return &UsageError{fmt.Sprintf(format, args...)}
}

// OnUsageError turns the library's messages about options into ours. It belongs
// into the field of that name of every command.
func OnUsageError(_ context.Context, cmd *cli.Command, err error, _ bool) error {
	var usage *UsageError
	if errors.As(err, &usage) {
		return err
	}
	text := err.Error()
	if name, ok := strings.CutPrefix(text, "flag provided but not defined: -"); ok {
		var known []string
		for _, c := range cmd.Lineage() {
			for _, f := range c.Flags {
				if c == cmd || !isLocal(f) {
					known = append(known, f.Names()...)
				}
			}
		}
		return Usagef("unknown option -%s%s", name, DidYouMean(name, known, "-"))
	}
	if name, ok := strings.CutPrefix(text, "flag needs an argument: "); ok {
		return Usagef("option -%s needs a value", strings.TrimLeft(name, "-"))
	}
	if rest, ok := strings.CutPrefix(text, "invalid value "); ok {
		value, rest, found := strings.Cut(rest, " for flag -")
		name, _, more := strings.Cut(rest, ": ")
		if found && more {
			return Usagef("invalid -%s %s: %s", name, value, allowed(err))
		}
	}
	return Usagef("%s", text)
}

// allowed says what an option takes whose value the library could not parse.
func allowed(err error) string {
	text := err.Error()
	switch {
	case strings.Contains(text, "strconv.ParseInt"):
		return "must be a whole number"
	case strings.Contains(text, "time: "):
		return "must be a duration such as 10s or 1m30s"
	case strings.HasSuffix(text, "parse error"):
		return "must be true or false"
	}
	return text
}

// isLocal says whether an option is its command's alone, and not of those below it.
func isLocal(f cli.Flag) bool {
	l, ok := f.(cli.LocalFlag)
	return ok && l.IsLocal()
}

// DidYouMean is ", did you mean …?" with the known word nearest to given, or
// nothing where none is near. mark goes before the word.
func DidYouMean(given string, known []string, mark string) string {
	best, nearest := "", 3 // more than two slips make another word
	for _, k := range known {
		d := distance(given, k)
		if len(given) >= 3 && strings.HasPrefix(k, given) {
			d = 1
		}
		if d < nearest && d < len(k) && d < len(given) {
			best, nearest = k, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf(", did you mean %s%s?", mark, best)
}

// distance counts the slips between a and b: letters inserted, left out,
// replaced, or swapped with their neighbour.
func distance(a, b string) int {
	var older, before []int
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		older, before, row = before, row, make([]int, len(b)+1)
		row[0] = i + 1
		for j := range len(b) {
			replace := before[j]
			if a[i] != b[j] {
				replace++
			}
			row[j+1] = min(before[j+1]+1, row[j]+1, replace)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], older[j-1]+1)
			}
		}
	}
	return row[len(b)]
}
