package lockclient

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"time"
	"unicode"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/fleetlock"
)

// How long to wait before the next request, by what became of the last.
const (
	pollFirst, pollLast   = 30 * time.Second, 5 * time.Minute // a server that answers at once that no slot is free
	slowFirst, slowLast   = time.Minute, 5 * time.Minute      // what only an administrator can change
	retryFirst, retryLast = time.Second, time.Minute          // a server that is away or in trouble

	// heldLong tells a server that holds requests until a slot is free, and whose answer
	// came because it holds none for longer, from one that answers at once.
	heldLong = 20 * time.Second
	againAt  = time.Second // at most, after such an answer
)

// verdict is what an answer means for whoever asked for a slot.
type verdict int

const (
	unsure  verdict = iota // nobody knows whether the slot was granted
	refused                // it was not, and only an administrator can change that
	full                   // it was not, because none is free
	paused                 // it was not, because reboots are paused
	foreign                // it was not, because somebody else holds the machine's
)

func verdictOf(err error) verdict {
	e, ok := errors.AsType[*fleetlock.Error](err)
	switch {
	case !ok:
		return unsure
	case e.Kind == fleetlock.KindHeld:
		return foreign
	case e.Kind == fleetlock.KindPaused:
		return paused
	case e.Kind == fleetlock.KindFull || e.Status == http.StatusLocked:
		return full
	case e.Status >= 500:
		return unsure
	}
	return refused
}

// nothingHeld says whether the machine holds no slot after such an answer, whatever
// became of earlier requests: a holder that asks again is told that it holds.
func (v verdict) nothingHeld() bool { return v == full || v == paused || v == foreign }

// explained is an error in words for people.
type explained struct {
	text string
	err  error
}

func (e *explained) Error() string { return e.text }
func (e *explained) Unwrap() error { return e.err }

// explain says in one line what an error of the server's means for the machine.
func explain(ctx context.Context, err error) error {
	e, ok := errors.AsType[*fleetlock.Error](err)
	if !ok {
		if ctx.Err() != nil && !errors.Is(err, context.Cause(ctx)) {
			err = fmt.Errorf("%w (%w)", context.Cause(ctx), err)
		}
		return &explained{oneLine(err.Error()), err}
	}
	answer := fmt.Sprintf("%d %s: %s", e.Status, e.Kind, e.Value)
	switch verdictOf(err) {
	case full:
		if answer = e.Value; !strings.HasPrefix(answer, locksmith.NoSlot) {
			answer = locksmith.NoSlot + "is free: " + e.Value
		}
	case paused:
		answer = locksmith.ServerPaused + ": " + e.Value
	case foreign:
		answer = "somebody else holds this machine's slot: " + e.Value
	case refused:
		answer = "the FleetLock server refuses this machine: " + answer
	default:
		answer = "the FleetLock server is in trouble: " + answer
	}
	return &explained{oneLine(answer), err}
}

// longest is how many characters of what a server says are shown.
const longest = 400

// oneLine makes text from outside safe to show, and short.
func oneLine(s string) string {
	s = strings.Join(strings.FieldsFunc(strings.ToValidUTF8(s, "\uFFFD"), func(r rune) bool { return unicode.IsControl(r) || r == ' ' }), " ")
	if r := []rune(s); len(r) > longest {
		return string(r[:longest-1]) + "…"
	}
	return s
}

// backoff is how long to wait between requests.
type backoff struct {
	first time.Duration // of the present sort of answers
	tries int           // that had such an answer, in a row
}

// next is for how long to wait after err, whose request took as long as took.
func (b *backoff) next(err error, took time.Duration) time.Duration {
	var first, last time.Duration
	switch v := verdictOf(err); {
	case v == refused:
		first, last = slowFirst, slowLast
	case v != unsure && took >= heldLong:
		b.tries = 0
		return rand.N(againAt)
	case v != unsure:
		first, last = pollFirst, pollLast
	default:
		first, last = retryFirst, retryLast
		if took >= heldLong { // it was held, until something in between had enough of that
			b.tries = 0
		}
	}
	if first != b.first {
		b.first, b.tries = first, 0
	}
	d := min(first<<min(b.tries, 10), last)
	b.tries++
	return d - d/4 + rand.N(d/2+1) // so that a fleet does not ask all at once
}

// sleep waits for d, and says whether ctx has not ended meanwhile.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
