package control

import (
	"sync"
	"testing"
)

// Users other than root cannot use up the connections.
func TestStrangersAreBoundedAndRootIsNot(t *testing.T) {
	l := new(Listener)
	var wg sync.WaitGroup
	admitted := make(chan bool, 2*maxStrangers)
	for range 2 * maxStrangers {
		wg.Go(func() { admitted <- l.admit(1000) })
	}
	wg.Wait()
	close(admitted)
	n := 0
	for ok := range admitted {
		if ok {
			n++
		}
	}
	if n != maxStrangers {
		t.Errorf("%d strangers were admitted, want %d", n, maxStrangers)
	}
	if !l.admit(0) {
		t.Error("root was turned away")
	}
	l.leave(0)
	l.leave(1000)
	if !l.admit(1000) || l.admit(1000) {
		t.Error("a place that became free was not given to exactly one")
	}
}
