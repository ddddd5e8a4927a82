package control

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/locksmith-reboot/locksmith"
)

// counting answers with how often it was asked, after some time.
func counting(takes time.Duration) (ask func(context.Context) locksmith.Why, calls *atomic.Int64) {
	calls = new(atomic.Int64)
	return func(ctx context.Context) locksmith.Why {
		why := locksmith.Why{Time: calls.Add(1)}
		select {
		case <-time.After(takes):
		case <-ctx.Done():
			why.StoreError = context.Cause(ctx).Error()
		}
		return why
	}, calls
}

// idle is a machine that stays as it is.
func idle() string { return "idle" }

func get1(ctx context.Context, h http.Handler) (status int, why locksmith.Why, text string) {
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, httptest.NewRequestWithContext(ctx, http.MethodGet, pathWhy, nil))
	text = rec.Body.String()
	_ = json.Unmarshal(rec.Body.Bytes(), &why)
	return rec.Code, why, text
}

func TestACrowdAsksOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ask, calls := counting(3 * time.Second)
		h := whyHandler(t.Context(), ask, idle)
		var wg sync.WaitGroup
		for range 200 {
			wg.Go(func() {
				if status, why, _ := get1(t.Context(), h); status != 200 || why.Time != 1 {
					t.Errorf("got %d, answer %d", status, why.Time)
				}
			})
		}
		wg.Wait()
		if calls.Load() != 1 {
			t.Errorf("asked %d times", calls.Load())
		}
	})
}

func TestAnAnswerServesForASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ask, _ := counting(0)
		h := whyHandler(t.Context(), ask, idle)
		for i, want := range []int64{1, 1, 2, 2, 3} { // half a second apart
			if _, why, _ := get1(t.Context(), h); why.Time != want {
				t.Errorf("request %d: got answer %d, want %d", i, why.Time, want)
			}
			time.Sleep(whyAge / 2)
		}
	})
}

// Whoever has seen a machine's new phase is not told why of the one before.
func TestAnAnswerServesForAState(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ask, _ := counting(0)
		state := "idle"
		h := whyHandler(t.Context(), ask, func() string { return state })
		for i, want := range []int64{1, 1, 2, 2} {
			if i == 2 {
				state = "queued"
			}
			if _, why, _ := get1(t.Context(), h); why.Time != want {
				t.Errorf("request %d: got answer %d, want %d", i, why.Time, want)
			}
		}
	})
}

func TestWhyIsLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ask, _ := counting(time.Hour)
		begun := time.Now()
		status, why, _ := get1(t.Context(), whyHandler(t.Context(), ask, idle))
		if took := time.Since(begun); took != whyLimit || status != 200 || why.StoreError != context.DeadlineExceeded.Error() {
			t.Errorf("after %v: %d, %q", took, status, why.StoreError)
		}
	})
}

// Whoever asks for all may leave: the others get the answer all the same. The
// server's end ends it.
func TestWhyAndThoseWhoLeave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server, stop := context.WithCancelCause(t.Context())
		ask, calls := counting(4 * time.Second)
		h := whyHandler(server, ask, idle)
		first, leave := context.WithCancel(t.Context())
		go get1(first, h)
		synctest.Wait()
		second := make(chan int64)
		go func() { _, why, _ := get1(t.Context(), h); second <- why.Time }()
		third := make(chan int)
		impatient, leave3 := context.WithCancel(t.Context())
		go func() { status, _, _ := get1(impatient, h); third <- status }()
		leave()
		leave3()
		if got := <-third; got != http.StatusServiceUnavailable {
			t.Errorf("who left got %d", got)
		}
		if got := <-second; got != 1 || calls.Load() != 1 {
			t.Errorf("got answer %d after %d calls", got, calls.Load())
		}
		time.Sleep(whyAge)
		fourth := make(chan string)
		go func() { _, why, _ := get1(t.Context(), h); fourth <- why.StoreError }()
		synctest.Wait()
		stop(context.Canceled)
		if got := <-fourth; !strings.Contains(got, "canceled") {
			t.Errorf("got %q", got)
		}
	})
}

// An answer that ignores its limit holds up nobody for longer than that.
func TestWhyThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		h := whyHandler(t.Context(), func(context.Context) locksmith.Why { <-release; return locksmith.Why{} }, idle)
		go get1(t.Context(), h)
		synctest.Wait()
		begun := time.Now()
		status, _, text := get1(t.Context(), h)
		if took := time.Since(begun); took != whyLimit || status != 503 || text != `{"error":"no answer within 5s; try again"}`+"\n" {
			t.Errorf("after %v: %d %s", took, status, text)
		}
		close(release)
	})
}

func TestAnswerWithoutJSON(t *testing.T) {
	rec := httptest.NewRecorder()
	respond(rec, http.StatusOK, time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC))
	if rec.Code != 500 || !strings.HasPrefix(rec.Body.String(), `{"error":"json: `) {
		t.Errorf("got %d %s", rec.Code, rec.Body)
	}
}
