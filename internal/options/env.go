package options

import (
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v3"
)

// ProgramName is what the program calls itself: the last part of argv[0].
func ProgramName(argv0 string) string {
	return filepath.Base(argv0)
}

// Prefix is the prefix of a program's environment variables: LOCKSMITHCTL_ for
// locksmithctl.
func Prefix(program string) string {
	return Variable("", program) + "_"
}

// Variable is the environment variable of an option: prefix, upper case, and an
// underscore for every dash and whatever else no variable's name can have.
func Variable(prefix, option string) string {
	return prefix + strings.Map(func(r rune) rune {
		if r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
			return r
		}
		return '_'
	}, strings.ToUpper(option))
}

// FromEnv sets those of flags that the command line left alone to the value of
// their variable. An empty variable counts as unset. lookup is os.LookupEnv, or
// stands for it. Its errors are UsageErrors.
//
// Call it once the whole command line is read (from a command's action): options
// may stand after the command, and the library's own sources, which are read
// before that, would refuse a bad variable although the command line beats it.
func FromEnv(flags []cli.Flag, prefix string, lookup func(string) (string, bool)) error {
	for _, f := range flags {
		name := f.Names()[0]
		if f.IsSet() || !hasVariable(name) {
			continue
		}
		variable := Variable(prefix, name)
		value, _ := lookup(variable)
		if value == "" {
			continue
		}
		if err := f.Set(name, value); err != nil {
			return Usagef("invalid %s %q: %s", variable, value, allowed(err))
		}
	}
	return nil
}

// hasVariable says whether an option can come from the environment: all but the
// two that are requests rather than settings.
func hasVariable(name string) bool {
	return name != Version && name != "help"
}
