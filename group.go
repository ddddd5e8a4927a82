package locksmith

import (
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Group names a reboot domain: the machines that share one semaphore. The empty
// string is the default group.
type Group string

// String is the name, or "default group".
func (g Group) String() string {
	if g == "" {
		return "default group"
	}
	return string(g)
}

// ParseGroup checks one group's name. "." and ".." are refused, because as parts
// of a path they would alias another group's key; so are control characters and
// names over 253 bytes.
func ParseGroup(s string) (Group, error) {
	if s == "." || s == ".." {
		//lint:ignore ST1005 the dots are a name, not punctuation
		return "", fmt.Errorf("invalid group %q: choose a name other than . and ..", s)
	}
	if err := checkName(s); err != nil {
		return "", fmt.Errorf("invalid group %q: %v", s, err)
	}
	return Group(s), nil
}

// ParseGroups reads a comma-separated list of groups, in which a machine takes a
// slot in all or none. Spaces around names are dropped; the empty string is the
// default group alone. The result is sorted and not empty.
func ParseGroups(s string) ([]Group, error) {
	var groups []Group
	for part := range strings.SplitSeq(s, ",") {
		part = strings.TrimSpace(part)
		if part == "" && strings.Contains(s, ",") {
			return nil, fmt.Errorf("invalid groups %q: a name between the commas is empty", s)
		}
		g, err := ParseGroup(part)
		if err != nil {
			return nil, err
		}
		groups = append(groups, g)
	}
	slices.Sort(groups)
	if len(slices.Compact(slices.Clone(groups))) != len(groups) {
		return nil, fmt.Errorf("invalid groups %q: a group is named twice", s)
	}
	if len(groups) > MaxGroups {
		return nil, fmt.Errorf("invalid groups: %d given, at most %d are allowed", len(groups), MaxGroups)
	}
	return groups, nil
}

// JoinGroups is the comma-separated form of groups, as ParseGroups reads it.
func JoinGroups(groups []Group) string {
	names := make([]string, len(groups))
	for i, g := range groups {
		names[i] = string(g)
	}
	return strings.Join(names, ",")
}

// CheckMachineID says what is wrong with a machine's id, if anything: it must
// not be empty, longer than 253 bytes, or hold spaces or control characters.
func CheckMachineID(id string) error {
	err := checkName(id)
	if id == "" {
		err = fmt.Errorf("it is empty")
	} else if strings.ContainsFunc(id, unicode.IsSpace) {
		err = fmt.Errorf("it holds a space")
	}
	if err != nil {
		return fmt.Errorf("invalid machine id %q: %v", id, err)
	}
	return nil
}

func checkName(s string) error {
	switch {
	case len(s) > 253:
		return fmt.Errorf("it is %d bytes long, at most 253 are allowed", len(s))
	case !utf8.ValidString(s):
		return fmt.Errorf("it is not UTF-8")
	case strings.ContainsFunc(s, unicode.IsControl):
		return fmt.Errorf("it holds a control character")
	}
	return nil
}
