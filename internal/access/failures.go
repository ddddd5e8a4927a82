package access

import (
	"net/netip"
	"sync"
	"time"
)

// Bounds of how often an address may try wrong tokens: so many at once, and one more
// for each interval that passes.
const (
	freeFailures  = 10
	failureEvery  = time.Second
	maxRemembered = 1 << 14 // addresses, and as many known pairs; twice that in all
)

// failures slows down who guesses tokens.
//
// Whoever is behind the same address translation or proxy as one who guesses, or as
// machines with an old token, must get in all the same. So failures are counted, not
// attempts; and while an address has used up its failures, those who came from there
// with the right token before are let in still. Of others none is looked at until the
// next interval, or guessing would go on.
type failures struct {
	mu    sync.Mutex
	debts recent[netip.Addr, debt]
	known recent[visit, struct{}]
}

// debt is how many failures count against an address at a time.
type debt struct {
	failures float64
	at       time.Time
}

// visit is that somebody came from somewhere.
type visit struct {
	from netip.Addr
	name string
}

// site is what failures are counted by: an address, or in IPv6 the network that one
// customer gets, who has all of its addresses.
func site(from netip.Addr) netip.Addr {
	if from.Is6() {
		if prefix, err := from.Prefix(64); err == nil {
			return prefix.Addr()
		}
	}
	return from
}

// judge takes what came of a look at a token: who has it, or the empty name. It says
// whether that may be told.
func (f *failures) judge(from netip.Addr, name string, now time.Time) (ok bool) {
	v := visit{site(from), name}
	f.mu.Lock()
	defer f.mu.Unlock()
	_, known := f.known.get(v) // for no name, too: both ways take as long
	d := f.debt(v.from, now)
	switch blocked := d.failures > freeFailures-1; {
	case name != "" && known:
		return true
	case blocked:
		f.debts.put(v.from, d) // counted from now on, should the clock have gone back
		return false
	case name != "":
		f.known.put(v, struct{}{})
	default:
		f.debts.put(v.from, debt{d.failures + 1, now})
	}
	return true
}

// debt is what is left of an address's failures by now.
func (f *failures) debt(from netip.Addr, now time.Time) debt {
	d, ok := f.debts.get(from)
	if !ok {
		return debt{}
	}
	paid := max(0, now.Sub(d.at).Seconds()/failureEvery.Seconds()) // clocks go back, too
	return debt{max(0, d.failures-paid), now}
}

// recent remembers at least the last maxRemembered keys that were put or got, and at
// most twice as many. Its zero value is empty.
type recent[K comparable, V any] struct {
	young, old map[K]V
}

func (r *recent[K, V]) get(k K) (V, bool) {
	if v, ok := r.young[k]; ok {
		return v, true
	}
	v, ok := r.old[k]
	if ok {
		r.put(k, v) // in use: it outlives the old ones
	}
	return v, ok
}

func (r *recent[K, V]) put(k K, v V) {
	if _, ok := r.young[k]; !ok && (r.young == nil || len(r.young) >= maxRemembered) {
		r.young, r.old = make(map[K]V), r.young
	}
	r.young[k] = v
}
