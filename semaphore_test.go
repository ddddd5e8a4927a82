package locksmith

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestParseSemaphore(t *testing.T) {
	for _, tt := range []struct {
		doc    string
		stored string // what the next change would build on
		faults []string
	}{
		{`{"semaphore":1,"max":1,"holders":[]}`, `{"semaphore":1,"max":1,"holders":[]}`, nil},
		{` { "max" : 2, "holders" : [ "a" ], "semaphore" : 1 } `, `{"semaphore":1,"max":2,"holders":["a"]}`, nil},
		{`{"semaphore":1,"max":1,"holders":null}`, `{"semaphore":1,"max":1,"holders":[]}`, nil},
		{`{"semaphore":1,"max":1}`, `{"semaphore":1,"max":1,"holders":[]}`, nil},
		{`{"semaphore":-2,"max":1,"holders":["a","b","c"]}`, `{"semaphore":-2,"max":1,"holders":["a","b","c"]}`, nil},
		{`{"semaphore":-1,"max":-1,"holders":[]}`, `{"semaphore":-1,"max":-1,"holders":[]}`, nil}, // an ancestor's set-max -1
		{`{"semaphore":5,"max":2,"holders":["a"]}`, `{"semaphore":1,"max":2,"holders":["a"]}`,
			[]string{"semaphore is 5, but max 2 less 1 holders is 1"}},
		{`{"semaphore":1,"max":3,"holders":["b","a"]}`, `{"semaphore":1,"max":3,"holders":["a","b"]}`,
			[]string{"holders are not sorted"}},
		{`{"semaphore":2,"max":3,"holders":["a","a"]}`, `{"semaphore":2,"max":3,"holders":["a"]}`,
			[]string{"a holder is listed twice"}},
		{`{"semaphore":0,"max":3,"holders":["b","a","b"]}`, `{"semaphore":1,"max":3,"holders":["a","b"]}`,
			[]string{"holders are not sorted", "a holder is listed twice", "semaphore is 0, but max 3 less 2 holders is 1"}},
	} {
		s, faults, err := ParseSemaphore([]byte(tt.doc))
		if err != nil {
			t.Errorf("%s: %v", tt.doc, err)
			continue
		}
		if got := s.Document(); got != tt.stored {
			t.Errorf("%s is read as %s, want %s", tt.doc, got, tt.stored)
		}
		if diff := cmp.Diff(tt.faults, faults); diff != "" {
			t.Errorf("%s: faults (-want +got):\n%s", tt.doc, diff)
		}
	}
}

func TestParseSemaphoreRefuses(t *testing.T) {
	for _, tt := range []struct{ doc, why string }{
		{``, "EOF"},
		{`null`, "needs the fields"},
		{`{}`, "needs the fields"},
		{`{"max":1,"holders":[]}`, "needs the fields"},
		{`{"semaphore":1,"holders":[]}`, "needs the fields"},
		{`{"semaphore":null,"max":1,"holders":[]}`, "needs the fields"},
		{`[1,1,[]]`, "cannot unmarshal array"},
		{`{"semaphore":1.5,"max":1,"holders":[]}`, "cannot unmarshal number 1.5"},
		{`{"semaphore":"1","max":1,"holders":[]}`, "cannot unmarshal string"},
		{`{"semaphore":1,"max":99999999999999999999,"holders":[]}`, "cannot unmarshal number"},
		{`{"semaphore":1,"max":-9223372036854775808,"holders":["a"]}`, "max is out of range"},
		{`{"semaphore":1,"max":1,"holders":{}}`, "holders: json: cannot unmarshal object"},
		{`{"semaphore":1,"max":1,"holders":[7]}`, "holders: json: cannot unmarshal number"},
		{`{"semaphore":0,"max":1,"holders":[null]}`, "an empty holder"},
		{`{"semaphore":0,"max":1,"holders":[""]}`, "an empty holder"},
		{`{"semaphore":1,"max":1,"holders":[],"owner":"x"}`, `unknown field "owner"`},
		{`{"semaphore":1,"max":1,"holders":[]}{}`, "more follows"},
		{`{"semaphore":1,"max":1,"holders":[]} #`, "more follows"},
		{`{"semaphore":1,"max":1,"holders":[]`, "unexpected EOF"},
	} {
		s, _, err := ParseSemaphore([]byte(tt.doc))
		if err == nil {
			t.Errorf("%s is read as %s, want an error", tt.doc, s.Document())
		} else if !strings.HasPrefix(err.Error(), "not a semaphore: ") || !strings.Contains(err.Error(), tt.why) {
			t.Errorf("%s: %q, want it to say %q", tt.doc, err, tt.why)
		}
	}
}

func TestSemaphoreOfNobody(t *testing.T) {
	const want = `{"semaphore":1,"max":1,"holders":[]}`
	if got := NewSemaphore().Document(); got != want {
		t.Errorf("new semaphore %s, want %s", got, want)
	}
	if got := (Semaphore{Semaphore: 1, Max: 1}).Document(); got != want {
		t.Errorf("nil holders are stored as %s, want %s", got, want)
	}
}

// The holder is told so even where the semaphore is full.
func TestLockOfAHolder(t *testing.T) {
	s, err := NewSemaphore().Lock("a")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Lock("a"); !errors.Is(err, ErrHolderExists) {
		t.Errorf("lock by its holder: %v, want %v", err, ErrHolderExists)
	}
	var full *FullError
	if _, err := s.Lock("b"); !errors.As(err, &full) || full.Semaphore != 0 || err.Error() != "semaphore is at 0" {
		t.Errorf("lock of a full semaphore: %v", err)
	}
	if _, err := s.Unlock("b"); !errors.Is(err, ErrNotHolder) {
		t.Errorf("unlock by nobody: %v, want %v", err, ErrNotHolder)
	}
	if _, err := s.SetMax(-1); err == nil || err.Error() != "maximum is -1, must be 0 or more" {
		t.Errorf("a negative maximum: %v", err)
	}
}

// Whatever happens to a semaphore, its value is max less holders, holders are
// sorted, nobody is granted a slot that is not there, and nobody is evicted.
func TestSemaphoreStaysConsistent(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := NewSemaphore()
		held := make(map[string]bool)
		machine := rapid.SampledFrom([]string{"a", "b", "c", "d", "e"})
		t.Repeat(map[string]func(*rapid.T){
			"lock": func(t *rapid.T) {
				m, before := machine.Draw(t, "machine"), s.Document()
				next, err := s.Lock(m)
				if granted := err == nil; granted != (!held[m] && len(held) < s.Max) {
					t.Fatalf("lock of %s by %s: %v", before, m, err)
				}
				if s.Document() != before {
					t.Fatalf("lock changed its receiver %s to %s", before, s.Document())
				}
				if s = next; err == nil {
					held[m] = true
				}
			},
			"unlock": func(t *rapid.T) {
				m, before := machine.Draw(t, "machine"), s.Document()
				next, err := s.Unlock(m)
				if (err == nil) != held[m] {
					t.Fatalf("unlock of %s by %s: %v", before, m, err)
				}
				if s.Document() != before {
					t.Fatalf("unlock changed its receiver %s to %s", before, s.Document())
				}
				delete(held, m)
				s = next
			},
			"set max": func(t *rapid.T) {
				n := rapid.IntRange(-2, 6).Draw(t, "max")
				next, err := s.SetMax(n)
				if (err == nil) != (n >= 0) {
					t.Fatalf("set max %d: %v", n, err)
				}
				s = next
			},
			"": func(t *rapid.T) {
				if s.Semaphore != s.Max-len(s.Holders) || !slices.IsSorted(s.Holders) || len(s.Holders) != len(held) {
					t.Fatalf("%s, with %v held", s.Document(), held)
				}
				for m := range held {
					if !s.Holds(m) {
						t.Fatalf("%s was evicted: %s", m, s.Document())
					}
				}
				read, faults, err := ParseSemaphore([]byte(s.Document()))
				if err != nil || len(faults) > 0 || !cmp.Equal(s, read) {
					t.Fatalf("%s is read as %+v, %v, %v", s.Document(), read, faults, err)
				}
			},
		})
	})
}
