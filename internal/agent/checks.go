package agent

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"
)

// vetoed is the error of checks that do not pass.
type vetoed []Veto

func (v vetoed) Error() string {
	texts := make([]string, len(v))
	for i := range v {
		texts[i] = v[i].Error()
	}
	return strings.Join(texts, "; ")
}

func vetoesOf(err error) []Veto {
	v, ok := errors.AsType[vetoed](err)
	if err != nil && !ok {
		return []Veto{{By: "checks", Reason: err.Error()}}
	}
	return v
}

// runChecks runs checks side by side, for at most limit together. Its error is a
// vetoed with every reason of those that do not pass, in their order.
func runChecks(ctx context.Context, checks []Check, about About, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	errs := make([]error, len(checks))
	var wg sync.WaitGroup
	for i, c := range checks {
		wg.Go(func() { errs[i] = c.Run(ctx, about) })
	}
	wg.Wait()
	var all vetoed
	for i, err := range errs {
		own := collect(err, nil)
		if err != nil && len(own) == 0 {
			own = []Veto{{By: checks[i].Name(), Reason: err.Error()}}
		}
		all = append(all, own...)
	}
	if len(all) == 0 {
		return nil
	}
	return all
}

// collect appends the vetoes among err's tree to those found.
func collect(err error, found []Veto) []Veto {
	if v, ok := err.(*Veto); ok {
		return append(found, *v)
	}
	switch e := err.(type) {
	case interface{ Unwrap() []error }:
		for _, inner := range e.Unwrap() {
			found = collect(inner, found)
		}
	case interface{ Unwrap() error }:
		found = collect(e.Unwrap(), found)
	}
	return found
}
