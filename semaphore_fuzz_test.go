package locksmith

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Whatever is stored: reading it does not panic, and what can be read is written
// back as a document without faults that reads the same.
func FuzzParseSemaphore(f *testing.F) {
	for _, doc := range []string{
		`{"semaphore":1,"max":1,"holders":[]}`, `{"semaphore":1,"max":1,"holders":null}`,
		`{"semaphore":7,"max":3,"holders":["b","a","a"]}`, `{"semaphore":1,"max":-9223372036854775808,"holders":["a"]}`,
		`{"semaphore":0,"max":1,"holders":["\ud800"]}`, "{\"semaphore\":0,\"max\":1,\"holders\":[\"\xff\"]}", `{"max":1}`, `null`, ``,
	} {
		f.Add([]byte(doc))
	}
	f.Fuzz(func(t *testing.T, doc []byte) {
		s, faults, err := ParseSemaphore(doc)
		if err != nil {
			return
		}
		if s.Semaphore != s.Max-len(s.Holders) || s.Semaphore > s.Max || !slices.IsSorted(s.Holders) ||
			len(slices.Compact(slices.Clone(s.Holders))) != len(s.Holders) || slices.Contains(s.Holders, "") {
			t.Fatalf("%q is read as %+v", doc, s)
		}
		again, left, err := ParseSemaphore([]byte(s.Document()))
		if err != nil || len(left) > 0 {
			t.Fatalf("%q had %v, is written as %s, and then has %v, %v", doc, faults, s.Document(), left, err)
		}
		if diff := cmp.Diff(s, again); diff != "" {
			t.Fatalf("%q changed when written and read again:\n%s", doc, diff)
		}
	})
}
