package control

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/locksmith-reboot/locksmith"
)

// whyHandler answers with what ask says. One request at a time asks, in its own
// goroutine; all that come meanwhile, and within whyAge while state stays the same, get
// the same answer, so that a crowd on the machine is no load on etcd. ctx is the
// server's: the one who asks for all must not end it by leaving.
func whyHandler(ctx context.Context, ask func(context.Context) locksmith.Why, state func() string) http.HandlerFunc {
	turn := make(chan struct{}, 1)
	var last response // encoded once for all, as it may be long; with made, of whoever has the turn
	var made time.Time
	var of string
	answer := func() response {
		defer func() { <-turn }()
		if now := state(); made.IsZero() || time.Since(made) >= whyAge || now != of {
			limited, cancel := context.WithTimeout(ctx, whyLimit)
			defer cancel()
			last, made, of = encode(http.StatusOK, ask(limited)), time.Now(), now
		}
		return last
	}
	return func(w http.ResponseWriter, r *http.Request) {
		patience := time.NewTimer(whyLimit)
		defer patience.Stop()
		select {
		case turn <- struct{}{}:
			answer().write(w)
		case <-patience.C:
			fail(w, http.StatusServiceUnavailable, fmt.Errorf("no answer within %v; try again", whyLimit))
		case <-r.Context().Done():
			fail(w, http.StatusServiceUnavailable, errors.New("nobody waits for the answer"))
		}
	}
}
