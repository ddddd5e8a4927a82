package agent

import (
	"context"
	"errors"
	"fmt"
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
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("no answer within %v", limit))
	defer cancel()
	errs := make([]error, len(checks))
	var wg sync.WaitGroup
	for i, c := range checks {
		wg.Go(func() { errs[i] = c.Run(ctx, about) })
	}
	wg.Wait()
	var all vetoed
	for i, err := range errs {
		all = collect(err, checks[i].Name(), all)
	}
	if len(all) == 0 {
		return nil
	}
	return all
}

// collect appends to found what err says: the vetoes in its tree under their own
// names, and any other error beside them under name.
func collect(err error, name string, found []Veto) []Veto {
	if err == nil {
		return found
	}
	if v, ok := err.(*Veto); ok {
		return append(found, *v)
	}
	if _, ok := errors.AsType[*Veto](err); !ok {
		return append(found, Veto{By: name, Reason: strings.ReplaceAll(err.Error(), "\n", "; ")})
	}
	switch e := err.(type) {
	case interface{ Unwrap() []error }:
		for _, inner := range e.Unwrap() {
			found = collect(inner, name, found)
		}
	case interface{ Unwrap() error }:
		found = collect(e.Unwrap(), name, found)
	}
	return found
}
