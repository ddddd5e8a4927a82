package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/urfave/cli/v3"

	"github.com/locksmith-reboot/locksmith/internal/envfile"
	"github.com/locksmith-reboot/locksmith/internal/options"
)

// unprefixed are the options whose variable also counts without the prefix: the
// names that CoreOS and Flatcar users have in their update.conf.
var unprefixed = []string{optStrategy, optWindowStart, optWindowLength, optWindowTimezone}

// environment is the variables of all sources in one.
type environment map[string]string

// readEnvironment reads the settings files and lays the environment over them.
// A variable with the prefix that no option has is an error: what looks like a
// setting and is not would mean a reboot by rules that nobody chose.
func readEnvironment(h host, flags []cli.Flag, prefix string) (environment, error) {
	known := knownVariables(flags, prefix)
	want := func(key string) bool { return known[key] || strings.HasPrefix(key, prefix) }
	vars := environment{}
	add := func(source string, from map[string]string) error {
		for _, key := range slices.Sorted(maps.Keys(from)) {
			if from[key] == "" { // counts as unset, and hides nothing
				continue
			}
			if !known[key] {
				near := options.DidYouMean(key, slices.Sorted(maps.Keys(known)), "")
				return fmt.Errorf("%s: unknown setting %s%s", source, key, near)
			}
			vars[key] = from[key]
		}
		return nil
	}
	for _, path := range h.updateConf {
		from, err := envfile.Read(path, want)
		if err != nil {
			return nil, err
		}
		if err := add(path, from); err != nil {
			return nil, err
		}
	}
	from := map[string]string{}
	for _, entry := range h.environ {
		if key, value, ok := strings.Cut(entry, "="); ok && want(key) {
			from[key] = value
		}
	}
	return vars, add("environment", from)
}

func knownVariables(flags []cli.Flag, prefix string) map[string]bool {
	known := map[string]bool{}
	for _, f := range flags {
		if name := f.Names()[0]; name != options.Version && name != "help" {
			known[options.Variable(prefix, name)] = true
		}
	}
	for _, name := range unprefixed {
		known[options.Variable("", name)] = true
	}
	return known
}

// lookup finds an option's variable, and for some options the one without the
// prefix where that is unset.
func (e environment) lookup(prefix string) func(string) (string, bool) {
	return func(variable string) (string, bool) {
		if value, ok := e[variable]; ok {
			return value, true
		}
		for _, name := range unprefixed {
			if variable == options.Variable(prefix, name) {
				value, ok := e[options.Variable("", name)]
				return value, ok
			}
		}
		return "", false
	}
}
