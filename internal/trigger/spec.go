package trigger

import (
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/locksmith-reboot/locksmith/internal/command"
)

// The kinds of triggers that may be asked for.
const (
	kindAuto            = "auto"
	kindUpdateEngine    = "update-engine"
	kindFile            = "file"
	kindCommand         = "command"
	kindNeedsRestarting = "needs-restarting"
	kindZypper          = "zypper"
	kindKernel          = "kernel"
	kindUptime          = "uptime"
	kindControl         = "control" // always there
)

// Syntax lists what Parse accepts, for help texts.
const Syntax = "auto, update-engine, file:PATH, command:yes=STATUS,no=STATUS:PROGRAM ARGUMENTS, needs-restarting, zypper, kernel or uptime:DURATION"

// Limits of what a specification may ask for.
const (
	maxSpec     = 4 << 10 // bytes
	maxStatus   = 125     // above are the shell's: cannot be run, ended by a signal
	minInterval = time.Minute
	maxInterval = 30 * oneDay
	minTimeout  = time.Second
	maxTimeout  = time.Hour
	maxUptime   = 10 * 365 * oneDay

	oneDay = 24 * time.Hour
)

// Spec is one trigger as it was asked for.
type Spec struct {
	kind    string
	path    string        // of a file
	command CommandSpec   // of a command; without Name
	uptime  time.Duration //
}

// Auto is the Spec that picks what fits the machine.
var Auto = Spec{kind: kindAuto}

// IsAuto says whether the specification is that the machine's own triggers are picked.
func (s Spec) IsAuto() bool { return s.kind == kindAuto }

// Parse reads the specification of a trigger:
//
//	auto                what fits the machine, see Build
//	update-engine       the CoreOS update engine has installed an update
//	file:PATH           the file exists
//	needs-restarting    "needs-restarting -r" says so
//	zypper              "zypper needs-rebooting" says so
//	kernel              a newer kernel is installed than the one that runs
//	uptime:30d          the machine has been up for so long: weeks, days, and Go's
//	                    units, "1w2d12h"; at least an hour
//
//	command:yes=1,no=0,interval=30m,timeout=1m:/path/of/program 'an argument'
//
// asks a program, at the interval (1 h) and within the timeout (5 min); both exit
// statuses have to be given, and may be given several times: yes=1,yes=2. The program
// has an absolute path and is run without a shell, quotes keep words together.
//
// Errors say what was given and what is allowed.
func Parse(text string) (Spec, error) {
	s, err := parse(text)
	if err != nil {
		return Spec{}, fmt.Errorf("invalid trigger %q: %w", shortened(text), err)
	}
	return s, nil
}

func shortened(text string) string {
	const most = 200
	if len(text) > most {
		return text[:most] + "…"
	}
	return text
}

func parse(text string) (Spec, error) {
	kind, rest, colon := strings.Cut(text, ":")
	switch {
	case len(text) > maxSpec:
		return Spec{}, fmt.Errorf("it is %d bytes long, at most %d are allowed", len(text), maxSpec)
	case !utf8.ValidString(text) || strings.ContainsFunc(text, unicode.IsControl):
		return Spec{}, errors.New("give one line of text, in UTF-8")
	}
	switch kind {
	case kindFile:
		return parseFile(rest)
	case kindCommand:
		return parseCommand(rest)
	case kindUptime:
		return parseUptime(rest)
	case kindControl:
		return Spec{}, errors.New("requests on the control socket always count, leave it out")
	case kindAuto, kindUpdateEngine, kindNeedsRestarting, kindZypper, kindKernel:
		if colon {
			return Spec{}, fmt.Errorf("nothing may follow %s", kind)
		}
		return Spec{kind: kind}, nil
	}
	return Spec{}, fmt.Errorf("must be %s", Syntax)
}

func parseFile(path string) (Spec, error) {
	names := strings.Split(path, "/")
	// Not "..": behind a symbolic link it is not what is before it.
	if last := names[len(names)-1]; !filepath.IsAbs(path) || last == "" || last == "." || slices.Contains(names, "..") {
		return Spec{}, errors.New("must be file: and the absolute path of a file, without .., like file:/run/reboot-required")
	}
	return Spec{kind: kindFile, path: filepath.Clean(path)}, nil
}

func parseUptime(text string) (Spec, error) {
	d, err := parseSpan(text)
	if err != nil {
		return Spec{}, err
	}
	if d < MinUptime || d > maxUptime {
		return Spec{}, errors.New("the uptime must be at least 1h and at most 3650d")
	}
	return Spec{kind: kindUptime, uptime: d}, nil
}

const commandSyntax = "must be like command:yes=1,no=0:/path/of/program argument; interval=1h and timeout=5m may be added, a comma before each"

func parseCommand(text string) (Spec, error) {
	options, line, ok := strings.Cut(text, ":")
	if !ok || strings.HasPrefix(text, "/") {
		return Spec{}, errors.New("it does not say which exit statuses mean yes and no: " + commandSyntax)
	}
	var c CommandSpec
	for option := range strings.SplitSeq(options, ",") {
		if err := c.set(option); err != nil {
			return Spec{}, err
		}
	}
	if len(c.Yes) == 0 || len(c.No) == 0 {
		return Spec{}, errors.New("it does not say which exit statuses mean yes and no: " + commandSyntax)
	}
	if i := slices.IndexFunc(c.Yes, func(code int) bool { return slices.Contains(c.No, code) }); i >= 0 {
		return Spec{}, fmt.Errorf("status %d cannot mean both yes and no", c.Yes[i])
	}
	words, err := command.Split(line)
	if err != nil {
		return Spec{}, err
	}
	if !filepath.IsAbs(words[0]) {
		return Spec{}, fmt.Errorf("the program %q must be given by its absolute path", shortened(words[0]))
	}
	c.Path, c.Args = words[0], words[1:]
	return Spec{kind: kindCommand, command: c}, nil
}

// set reads one option, "yes=1".
func (c *CommandSpec) set(option string) error {
	key, value, _ := strings.Cut(option, "=")
	switch key {
	case "yes":
		return addStatus(&c.Yes, value)
	case "no":
		return addStatus(&c.No, value)
	case "interval":
		return setSpan(&c.Interval, key, value, minInterval, maxInterval)
	case "timeout":
		return setSpan(&c.Timeout, key, value, minTimeout, maxTimeout)
	}
	return fmt.Errorf("unknown option %q: %s", shortened(option), commandSyntax)
}

func addStatus(list *[]int, value string) error {
	n, err := strconv.ParseUint(value, 10, 8)
	if err != nil || n > maxStatus {
		return fmt.Errorf("exit status %q must be a number from 0 to %d", shortened(value), maxStatus)
	}
	if !slices.Contains(*list, int(n)) {
		*list = append(*list, int(n))
	}
	return nil
}

func setSpan(d *time.Duration, key, value string, least, most time.Duration) error {
	if *d != 0 {
		return fmt.Errorf("%s is given twice", key)
	}
	got, err := parseSpan(value)
	if err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	if got < least || got > most {
		return fmt.Errorf("%s must be at least %s and at most %s", key, span(least), span(most))
	}
	*d = got
	return nil
}

// spans are weeks and days, before what Go reads.
var spans = regexp.MustCompile(`^(?:([0-9]{1,4})w)?(?:([0-9]{1,5})d)?([0-9.].*)?$`)

// parseSpan reads a duration: Go's, with weeks and days before it.
func parseSpan(text string) (time.Duration, error) {
	m := spans.FindStringSubmatch(text)
	if text == "" || m == nil {
		return 0, fmt.Errorf("%q is no duration: give one like 30d, 1w2d or 12h30m", shortened(text))
	}
	weeks, _ := strconv.Atoi(m[1]) // empty is none
	days, _ := strconv.Atoi(m[2])
	total := time.Duration(7*weeks+days) * oneDay
	if m[3] != "" {
		d, err := time.ParseDuration(m[3])
		if err != nil || d > maxUptime {
			return 0, fmt.Errorf("%q is no duration: give one like 30d, 1w2d or 12h30m", shortened(text))
		}
		total += d
	}
	return total, nil
}

// span is d as parseSpan reads it, short.
func span(d time.Duration) string {
	if d > 0 && d%oneDay == 0 {
		return fmt.Sprintf("%dd", d/oneDay)
	}
	text := d.String() // "1h30m0s"
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

// String is the specification as Parse reads it.
func (s Spec) String() string {
	switch s.kind {
	case kindFile:
		return kindFile + ":" + s.path
	case kindUptime:
		return kindUptime + ":" + span(s.uptime)
	case kindCommand:
		return kindCommand + ":" + s.command.options() + ":" + s.command.line()
	}
	return s.kind
}

func (c CommandSpec) options() string {
	var list []string
	for _, code := range c.Yes {
		list = append(list, fmt.Sprintf("yes=%d", code))
	}
	for _, code := range c.No {
		list = append(list, fmt.Sprintf("no=%d", code))
	}
	if c.Interval != 0 {
		list = append(list, "interval="+span(c.Interval))
	}
	if c.Timeout != 0 {
		list = append(list, "timeout="+span(c.Timeout))
	}
	return strings.Join(list, ",")
}

// plain are words that need no quotes.
var plain = regexp.MustCompile(`^[0-9A-Za-z/._=:,@%+-]+$`)

func (c CommandSpec) line() string {
	words := append([]string{c.Path}, c.Args...)
	for i, w := range words {
		if !plain.MatchString(w) {
			words[i] = "'" + strings.ReplaceAll(w, "'", `'\''`) + "'"
		}
	}
	return strings.Join(words, " ")
}
