// Package envfile reads files of KEY=value lines, as update.conf is one: what
// systemd's EnvironmentFile= and a shell both understand, and understand alike.
// What they would read differently is refused.
//
// The package does not know which keys there are.
package envfile

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxSize bounds a file, in bytes.
const maxSize = 1 << 20

// Read reads the file at path, as Parse does. A file that does not exist has no
// variables. Errors name the file.
func Read(path string, want func(key string) bool) (map[string]string, error) {
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return map[string]string{}, nil
	} else if err != nil {
		return nil, err
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, maxSize+1))
	if err != nil {
		return nil, err
	}
	if len(text) > maxSize {
		return nil, fmt.Errorf("%s is larger than %d bytes", path, maxSize)
	}
	vars, err := Parse(string(text), want)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return vars, nil
}

// Parse reads text: lines KEY=value, where the value is bare, in single quotes
// (taken as it is) or in double quotes (\", \\, \$ and \` stand for themselves
// without the backslash); "export " before the key; comments on lines that
// start with # or ;. Spaces around key and value are dropped, and of a key that
// is set twice the last value counts.
//
// Only keys that want accepts are returned, and only their values must be well
// formed: the file may have other readers. A line that is no assignment is an
// error always. Errors give the line's number.
func Parse(text string, want func(key string) bool) (map[string]string, error) {
	vars := map[string]string{}
	n := 0
	for line := range strings.Lines(text) {
		n++
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' || line[0] == ';' {
			continue
		}
		key, raw, err := assignment(line)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		if !want(key) {
			continue
		}
		value, err := unquote(raw)
		if err != nil {
			return nil, fmt.Errorf("line %d: value of %s: %w", n, key, err)
		}
		vars[key] = value
	}
	return vars, nil
}

func assignment(line string) (key, value string, err error) {
	if rest, ok := strings.CutPrefix(line, "export"); ok && rest != strings.TrimLeft(rest, " \t") {
		line = strings.TrimLeft(rest, " \t")
	}
	key, value, ok := strings.Cut(line, "=")
	key = strings.TrimSpace(key)
	if !ok || !isName(key) {
		return "", "", fmt.Errorf("%q must be KEY=value, the key of letters, digits and underscores", line)
	}
	return key, strings.TrimSpace(value), nil
}

func isName(s string) bool {
	for i, c := range s {
		letter := c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' || c == '_'
		if !letter && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return s != ""
}

func unquote(raw string) (string, error) {
	value, err := raw, error(nil)
	switch {
	case raw == "":
	case raw[0] == '\'':
		value, err = single(raw[1:])
	case raw[0] == '"':
		value, err = double(raw[1:])
	case strings.ContainsAny(raw, "'\"\\"):
		err = fmt.Errorf("%q holds a quote or a backslash: put all of it in quotes", raw)
	}
	if err == nil && (!utf8.ValidString(value) || strings.ContainsFunc(value, unicode.IsControl)) {
		err = fmt.Errorf("%q must be UTF-8 without control characters", value)
	}
	return value, err
}

func single(s string) (string, error) {
	value, rest, ok := strings.Cut(s, "'")
	return value, closed(rest, ok)
}

func double(s string) (string, error) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '"':
			return b.String(), closed(s[i+1:], true)
		case s[i] == '\\' && i+1 < len(s) && strings.IndexByte("\"\\$`", s[i+1]) >= 0:
			i++
		}
		b.WriteByte(s[i])
	}
	return "", closed("", false)
}

// closed refuses what is left open, and what follows a closing quote: a shell
// takes it for a comment or the rest of a word, systemd for part of the value.
func closed(rest string, ok bool) error {
	if !ok {
		return errors.New("the closing quote is missing")
	}
	if rest != "" {
		return fmt.Errorf("%q follows the closing quote: put comments on lines of their own", rest)
	}
	return nil
}
