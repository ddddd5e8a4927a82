package command

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Split takes a command line apart into words, as a shell does with one that has
// only words and quotes: in single quotes everything stands for itself, in double
// quotes \" and \\ stand for the second character, outside a backslash takes the
// next character as it is. What a shell would do more than that with is an error
// where it is not quoted, and so is a line without words.
func Split(line string) ([]string, error) {
	switch {
	case !utf8.ValidString(line):
		return nil, fmt.Errorf("command %q is not UTF-8", line)
	case strings.ContainsFunc(line, func(c rune) bool { return c != '\t' && unicode.IsControl(c) }):
		return nil, fmt.Errorf("command %q holds a control character, give one line of text", line)
	}
	var words []string
	for rest := strings.TrimLeft(line, " \t"); rest != ""; rest = strings.TrimLeft(rest, " \t") {
		word, after, err := cutWord(rest)
		if err != nil {
			return nil, fmt.Errorf("command %q: %w", line, err)
		}
		words, rest = append(words, word), after
	}
	if len(words) == 0 {
		return nil, errors.New("command is empty: give a program, and its arguments if it needs any")
	}
	return words, nil
}

// cutWord cuts the first word from s, which starts with it.
func cutWord(s string) (word, rest string, err error) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == ' ' || c == '\t':
			return b.String(), s[i:], nil
		case c == '\'' || c == '"':
			text, n, ok := quoted(s[i:])
			if !ok {
				return "", "", fmt.Errorf("the quote %c at %q is not closed", c, s[i:])
			}
			b.WriteString(text)
			i += n - 1
		case c == '\\' && i+1 == len(s):
			return "", "", errors.New("it ends in a backslash: nothing follows that it could quote")
		case c == '\\':
			i++
			b.WriteByte(s[i]) // of a longer character the first byte, the others follow
		case strings.IndexByte("|&;<>()$`*?~#", c) >= 0 && special(s, i):
			return "", "", fmt.Errorf("%q is for a shell, and none is involved: put it in quotes, or run /bin/sh -c '…'", c)
		default:
			b.WriteByte(c)
		}
	}
	return b.String(), "", nil
}

// special says whether a shell would do something with the character at s[i]: with
// ~ and # only where a word begins. Brackets, braces and ! mostly stand for
// themselves and are not asked about.
func special(s string, i int) bool { return i == 0 || s[i] != '~' && s[i] != '#' }

// quoted reads the quoted text that s starts with, and returns how long it is with
// its quotes; false if it has no end.
func quoted(s string) (text string, n int, ok bool) {
	if s[0] == '\'' {
		text, _, ok = strings.Cut(s[1:], "'")
		return text, len(text) + 2, ok
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch {
		case s[i] == '"':
			return b.String(), i + 1, true
		case s[i] == '\\' && i+1 < len(s) && (s[i+1] == '"' || s[i+1] == '\\'):
			i++
		}
		b.WriteByte(s[i])
	}
	return "", 0, false
}
