package metrics

import (
	"errors"
	"net"
	"testing"
	"testing/synctest"
	"time"
)

// endless has a connection for everybody.
type endless struct{ closed chan struct{} }

func (e endless) Accept() (net.Conn, error) {
	select {
	case <-e.closed:
		return nil, net.ErrClosed
	default:
		c, _ := net.Pipe()
		return c, nil
	}
}
func (e endless) Close() error { close(e.closed); return nil }
func (endless) Addr() net.Addr { return nil }

func TestLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := limit(endless{make(chan struct{})}, 2)
		accepted := make(chan net.Conn)
		ended := make(chan error, 1)
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					ended <- err
					return
				}
				accepted <- c
			}
		}()
		first, second := <-accepted, <-accepted
		synctest.Wait()
		select {
		case <-accepted:
			t.Fatal("a third connection was accepted")
		default:
		}
		for range 3 { // a place is given back once
			first.Close()
		}
		third := <-accepted
		synctest.Wait()
		select {
		case <-accepted:
			t.Fatal("one place was given back, and two were taken")
		default:
		}
		for range 2 {
			if err := l.Close(); err != nil {
				t.Error(err)
			}
		}
		if err := <-ended; !errors.Is(err, net.ErrClosed) {
			t.Errorf("got %v", err)
		}
		second.Close()
		third.Close()
	})
}

// hourly is open in every even hour.
type hourly struct{}

func (hourly) Contains(t time.Time) bool { return t.Hour()%2 == 0 }
func (hourly) Next(t time.Time) (start, end time.Time) {
	start = t.Truncate(2 * time.Hour)
	if t.Hour()%2 == 1 {
		start = start.Add(2 * time.Hour)
	}
	return start, start.Add(time.Hour)
}

// What was found for an instant is not true before it: clocks are set back.
func TestClockThatIsSetBack(t *testing.T) {
	o := openings{window: hourly{}}
	at := func(hour, minute int) time.Time { return time.Date(2026, 8, 1, hour, minute, 0, 0, time.UTC) }
	for _, tt := range []struct {
		now  time.Time
		open bool
		end  time.Time
	}{
		{at(5, 10), false, at(7, 0)},
		{at(4, 50), true, at(5, 0)},
		{at(1, 0), false, at(3, 0)},
	} {
		if open, _, end := o.at(tt.now); open != tt.open || !end.Equal(tt.end) {
			t.Errorf("%v: open %t, end %v", tt.now, open, end)
		}
	}
}
