package main

import (
	"cmp"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
)

// measured is the last run that was recorded: what the documentation shows.
//
//go:embed measured.json
var measured []byte

func recorded() (r result, err error) {
	err = json.Unmarshal(measured, &r)
	return r, err
}

// record puts what was measured into a file, in place of what it has by the same names.
// Policies are left out: they take seconds, and come out the same each time.
func (r result) record(file string) error {
	var kept result
	old, err := os.ReadFile(file)
	switch {
	case err == nil:
		if err := json.Unmarshal(old, &kept); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	kept = kept.with(r)
	doc, err := json.MarshalIndent(kept, "", " ")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(doc, '\n'), 0o644)
}

// with is r with what is newer.
func (r result) with(newer result) result {
	for _, f := range newer.Figures {
		same := func(g figure) bool { return g.Name == f.Name && g.Machines == f.Machines }
		if i := slices.IndexFunc(r.Figures, same); i >= 0 {
			r.Figures[i] = f
		} else {
			r.Figures = append(r.Figures, f)
		}
	}
	for _, s := range newer.Restarts {
		r.Restarts = slices.DeleteFunc(r.Restarts, func(t series) bool { return t.Machines == s.Machines })
		r.Restarts = append(r.Restarts, s)
	}
	slices.SortFunc(r.Restarts, func(a, b series) int { return cmp.Compare(a.Machines, b.Machines) })
	return r
}

// figure finds one by its name, of the largest fleet that it was measured with.
func (r result) figure(name string) (figure, error) {
	found := figure{Machines: -1}
	for _, f := range r.Figures {
		if f.Name == name && f.Machines > found.Machines {
			found = f
		}
	}
	if found.Machines < 0 {
		return found, fmt.Errorf("%q was not recorded", name)
	}
	return found, nil
}
