package chaos

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Said is what a user was told by a command, or by a FleetLock server.
type Said struct {
	Command string // as it was typed
	Names   []string
	Failed  bool   // it did not do what was asked for
	Status  int    // of the process, or of the answer
	Error   string // all of what it wrote to standard error, or the answer's kind and value
	Took    time.Duration
	At      time.Duration // the monotonic clock, at its end
}

// patience is how long a command may take whose calls are limited to callTimeout: that,
// the look at why there was no answer, and what a busy machine adds to it.
const patience = 15 * time.Second

// raw is what no user is to read: another program's words, or our own mistakes.
var raw = []string{
	"rpc error", "code = ", "desc = ", "etcdserver:", "context deadline exceeded", "context canceled",
	"dial tcp", "read tcp", "write tcp", "net/http", "Client.Timeout", `Get "`, `Post "`, `Put "`, `Delete "`,
	"panic", "goroutine ", "%!", "<nil>", "nil pointer", "0x", "EOF",
}

// outcomes are what other clients' scripts read word by word, which is why they name
// neither the group nor the machine that were typed.
var outcomes = regexp.MustCompile(`^Error (locking|unlocking): (holder exists|holder does not exist|semaphore is at -?[0-9]+)$`)

// CheckSaid judges a message by what an operator needs of it: in one line what could not
// be done, to what (an endpoint, a group or a machine, one of Names), and why, in plain
// words, and that in time. "" means that it is fine.
func CheckSaid(s Said) string {
	text := strings.TrimSpace(s.Error)
	if i := slices.IndexFunc(raw, func(r string) bool { return strings.Contains(text, r) }); i >= 0 {
		return fmt.Sprintf("has %q in it, which is not for people", raw[i])
	}
	_, cause, hasCause := strings.Cut(text, ": ")
	switch {
	case s.Took > patience:
		return fmt.Sprintf("took %v", s.Took.Round(time.Millisecond))
	case !s.Failed:
		return ""
	case s.Status <= 0:
		return fmt.Sprintf("ended with status %d", s.Status)
	case text == "":
		return "says nothing"
	case strings.Contains(text, "\n"):
		return "is longer than a line"
	case outcomes.MatchString(text):
		return ""
	case !hasCause || strings.TrimSpace(cause) == "":
		return "names no cause"
	case !slices.ContainsFunc(append([]string{"all groups"}, s.Names...), func(n string) bool { return strings.Contains(cause, n) }):
		return fmt.Sprintf("names none of %q", s.Names)
	}
	return ""
}

func (s Said) String() string {
	return fmt.Sprintf("%10.3fs %q after %v: status %d: %s", s.At.Seconds(), s.Command, s.Took.Round(time.Millisecond), s.Status, strings.TrimSpace(s.Error))
}

// figure is what differs between messages that are alike.
var figure = regexp.MustCompile(`[0-9]+(\.[0-9]+)*`)

// Alike is the message without its figures, so that like ones can be counted.
func (s Said) Alike() string { return figure.ReplaceAllString(strings.TrimSpace(s.Error), "N") }
