package access

import (
	"fmt"
	"net/netip"
	"testing"
	"time"
)

func TestFailures(t *testing.T) {
	f, _, c, _ := newFile(t, somebody)
	wrong := func(with string) error {
		_, err := f.Caller(request(bearer("wrong-0123456789abcdef"), from(with)))
		return err
	}
	known(t, f, request(basic("m1", machineToken)), true) // was here before
	for range freeFailures {
		refused(t, wrong("10.0.0.7:1"), 401, "wrong token")
	}
	refused(t, wrong("10.0.0.7:2"), 403, "too many failed attempts")
	// Guessing goes not on: even the right token is not told from a wrong one.
	_, err := f.Caller(request(bearer(aliceToken)))
	refused(t, err, 403, "too many failed attempts")
	_, err = f.SignIn(nil, request(), aliceToken)
	refused(t, err, 403, "too many failed attempts")
	// Those who are known from there are let in, and others from elsewhere.
	known(t, f, request(basic("m1", machineToken)), true)
	known(t, f, request(bearer(aliceToken), from("10.0.0.8:1")), true)
	refused(t, wrong("10.0.0.8:1"), 401, "wrong token")

	// After a moment there is room for the next, who is known from then on.
	c.pass(failureEvery)
	known(t, f, request(bearer(aliceToken)), true)
	refused(t, wrong("10.0.0.7:1"), 401, "wrong token")
	refused(t, wrong("10.0.0.7:1"), 403, "too many")
	known(t, f, request(bearer(aliceToken)), true)

	// Nothing is held against an address for longer.
	c.pass(freeFailures * failureEvery)
	for range freeFailures {
		refused(t, wrong("10.0.0.7:1"), 401, "wrong token")
	}
	refused(t, wrong("10.0.0.7:1"), 403, "too many")
}

// Requests without a token, with old sessions or unknown certificates are no guesses.
func TestFailuresOfOthers(t *testing.T) {
	f, _, _, _ := newFile(t, somebody)
	for range 3 * freeFailures {
		known(t, f, request(), false)
		known(t, f, request(header("Cookie", "locksmith=a.b.c")), false)
		known(t, f, request(certificate(cn("mallory"))), false)
	}
	known(t, f, request(bearer(aliceToken)), true)
}

// In IPv6 who guesses has a network of addresses.
func TestFailuresIPv6(t *testing.T) {
	f, _, _, _ := newFile(t, somebody)
	for i := range freeFailures {
		known(t, f, request(bearer("wrong-0123456789abcdef"), from(fmt.Sprintf("[2001:db8::%x]:1", i+1))), false)
	}
	_, err := f.Caller(request(bearer(aliceToken), from("[2001:db8::ffff]:1")))
	refused(t, err, 403, "too many")
	known(t, f, request(bearer(aliceToken), from("[2001:db8:0:1::1]:1")), true)
}

func TestFailuresClockBack(t *testing.T) {
	f, _, c, _ := newFile(t, somebody)
	for range freeFailures {
		known(t, f, request(bearer("wrong-0123456789abcdef")), false)
	}
	c.pass(-time.Hour)
	known(t, f, request(bearer(aliceToken)), false)
	c.pass(failureEvery)
	known(t, f, request(bearer(aliceToken)), true)
}

// However many addresses come, what is remembered of them is bounded, and the newest
// are.
func TestFailuresBounded(t *testing.T) {
	f := new(failures)
	now := time.Now()
	last := netip.MustParseAddr("10.0.0.0")
	for range 5 * maxRemembered {
		last = last.Next()
		f.judge(last, "", now)
		f.judge(last, "alice", now)
	}
	for name, n := range map[string]int{"failures": len(f.debts.young) + len(f.debts.old), "known": len(f.known.young) + len(f.known.old)} {
		if n > 2*maxRemembered || n < maxRemembered {
			t.Errorf("%d remembered of %s", n, name)
		}
	}
	if d := f.debt(last, now); d.failures != 1 {
		t.Errorf("of the last address %v is remembered", d)
	}
	// What is in use stays.
	var r recent[int, int]
	for i := range 10 * maxRemembered {
		r.put(i, i)
		if _, ok := r.get(0); !ok {
			t.Fatalf("forgotten after %d others", i)
		}
	}
}
