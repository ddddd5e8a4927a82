package trigger

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/locksmith-reboot/locksmith/internal/agent"
)

const day = 24 * time.Hour

func TestUptime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		booted := time.Now().Add(-29*day - 20*time.Hour)
		u := NewUptime(30 * day)
		asked := 0
		u.up = func() (time.Duration, error) {
			asked++
			return time.Since(booted), nil
		}
		var got []string
		ctx, cancel := context.WithTimeout(t.Context(), 10*day)
		defer cancel()
		began := time.Now()
		if err := u.Watch(ctx, func(n agent.Need) { got = append(got, fmt.Sprint(time.Since(began), " ", text(n), n.Method)) }); err != nil {
			t.Error(err)
		}
		if want := "[0s not needed 4h0m0s needed: up for more than 30 days]"; fmt.Sprint(got) != want {
			t.Errorf("reported %v, want %s", got, want)
		}
		if asked > 2 {
			t.Errorf("asked %d times: it polls", asked)
		}
		u.up = func() (time.Duration, error) { return 30 * day, nil } // right from the start
		ctx, cancel = context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		u.Watch(ctx, func(n agent.Need) {
			if !n.Needed {
				t.Errorf("%+v", n)
			}
		})
	})
}

// A suspended machine's timers stand still, its uptime does not.
func TestUptimeWhileSuspended(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := NewUptime(30 * day)
		began := time.Now()
		u.up = func() (time.Duration, error) {
			if time.Since(began) > 0 {
				return 31 * day, nil
			}
			return 0, nil
		}
		var needed time.Duration
		ctx, cancel := context.WithTimeout(t.Context(), 10*day)
		defer cancel()
		u.Watch(ctx, func(n agent.Need) {
			if n.Needed {
				needed = time.Since(began)
			}
		})
		if needed != uptimeCheck {
			t.Errorf("noticed after %v", needed)
		}
	})
}

func TestUptimeUnknown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := NewUptime(day)
		answers := []error{errors.New("no clock"), errors.New("no clock"), nil}
		u.up = func() (time.Duration, error) {
			err := answers[0]
			answers = answers[1:]
			return 2 * day, err
		}
		var got []string
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		u.Watch(ctx, func(n agent.Need) { got = append(got, text(n)) })
		if want := "[error: no clock needed: up for more than 1 day]"; fmt.Sprint(got) != want {
			t.Errorf("reported %v, want %s", got, want)
		}
	})
}

func TestBootTime(t *testing.T) {
	up, err := bootTime()
	if err != nil || up <= 0 {
		t.Errorf("%v, %v", up, err)
	}
}

func TestSpoken(t *testing.T) {
	for d, want := range map[time.Duration]string{time.Hour: "1 hour", 36 * time.Hour: "36 hours", day: "1 day", 14 * day: "14 days", 90 * time.Minute: "1h30m0s"} {
		if got := spoken(d); got != want {
			t.Errorf("%v is spoken %q", d, got)
		}
	}
}
