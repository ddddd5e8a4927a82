package journal

import (
	"encoding"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Bounds, in bytes. Nothing the daemon says is that long; what others hand it
// may be.
const (
	maxValue = 64 << 10 // of a field
	maxPart  = 1 << 10  // of a value within MESSAGE; the field has all of it
)

// field is one field of a record in the journal.
type field struct{ name, value string }

// part is an attribute for the text: its name with those of its groups, and its
// value.
type part struct{ key, value string }

// detail collects what attributes say.
type detail struct {
	fields []field
	parts  []part
	event  string
}

func (d *detail) add(groups []string, a slog.Attr) {
	v := a.Value.Resolve()
	switch {
	case v.Kind() == slog.KindGroup:
		if a.Key != "" {
			groups = append(slices.Clip(groups), a.Key)
		}
		for _, member := range v.Group() {
			d.add(groups, member)
		}
		return
	case a.Key == "" && v.Equal(slog.Value{}):
		return
	}
	value := cut(text(v), maxValue)
	d.fields = append(d.fields, field{fieldName(groups, a.Key), value})
	if a.Key == eventKey && len(groups) == 0 {
		d.event = value
		return
	}
	d.parts = append(d.parts, part{strings.Join(append(slices.Clip(groups), a.Key), "."), value})
}

// text is a value as people write it. Whatever panics in the value's methods
// becomes the text: a log call must not end the daemon.
func text(v slog.Value) (s string) {
	defer func() {
		if p := recover(); p != nil {
			s = fmt.Sprintf("!PANIC: %v", p)
		}
	}()
	switch v.Kind() {
	case slog.KindTime:
		return v.Time().Format(time.RFC3339Nano)
	case slog.KindAny:
		switch x := v.Any().(type) {
		case error:
			return x.Error()
		case encoding.TextMarshaler:
			b, err := x.MarshalText()
			if err != nil {
				return "!ERROR: " + err.Error()
			}
			return string(b)
		case []byte:
			return string(x)
		case []string:
			return strings.Join(x, ", ")
		}
	}
	return v.String()
}

// telling are the attributes that say the matter itself. They follow the message
// after a colon; the others are in brackets.
var telling = []string{"status", "reason", "outcome", "pause", "error", "cause"}

// message is what people read, in one line:
//
//	waiting: window opens Thu 23:00 (phase window)
//	phase queued: new kernel 6.1.0-28 (from needed)
//
// An attribute of the message's own name is its value.
func message(msg string, parts []part) string {
	var matter, rest []string
	head := line(msg)
	for _, p := range parts {
		value := line(cut(p.value, maxPart))
		if value == "" {
			value = `""`
		}
		switch {
		case p.key == msg:
			head += " " + value
		case slices.Contains(telling, p.key):
			matter = append(matter, value)
		default:
			rest = append(rest, line(p.key)+" "+value)
		}
	}
	if len(matter) > 0 {
		head += ": " + strings.Join(matter, "; ")
	}
	if len(rest) > 0 {
		head += " (" + strings.Join(rest, ", ") + ")"
	}
	return cut(head, maxValue)
}

// line makes s one line that a terminal shows as it is: lines are joined by " | ",
// other control characters and what is no UTF-8 are written as escapes.
func line(s string) string {
	s = strings.TrimSpace(s)
	if !strings.ContainsFunc(s, unsafeRune) && utf8.ValidString(s) {
		return s
	}
	var lines []string
	for l := range strings.Lines(s) {
		if l = strings.TrimSpace(l); l != "" {
			lines = append(lines, l)
		}
	}
	s = strings.Join(lines, " | ")
	var b strings.Builder
	for i, r := range s {
		_, size := utf8.DecodeRuneInString(s[i:])
		if unsafeRune(r) || r == utf8.RuneError && size == 1 {
			b.WriteString(strings.Trim(strconv.Quote(s[i:i+size]), `"`))
			continue
		}
		b.WriteRune(r)
	}
	return b.String()
}

func unsafeRune(r rune) bool { return unicode.IsControl(r) || unicode.Is(unicode.Cf, r) }

// cut is the first n bytes of s at most, not ending within a character, with "…"
// where something was left out.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	n -= len("…")
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + "…"
}
