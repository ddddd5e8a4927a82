package dashboard

import (
	"context"
	"io"
	"net/http"
	"time"

	"github.com/locksmith-reboot/locksmith/internal/access"
)

const (
	livePath = "/live"

	// maxLive is how many browsers are told of changes at a time. One more is answered
	// that there are too many, and has pages without it.
	maxLive = 1000
	// liveEvery is the least time between two words to the same browser.
	liveEvery = 250 * time.Millisecond
	// keepAlive is how often something is sent without a change, so that proxies keep
	// the connection, a browser that is gone is noticed, and so is one whose role was
	// taken away.
	keepAlive = 15 * time.Second
	// writeTime bounds one word to a browser.
	writeTime = 10 * time.Second
)

// tell tells a browser that something has changed, until it goes away. It then asks for
// its page anew: what is told holds nothing of the store.
func (d *dashboard) tell(w http.ResponseWriter, r *http.Request) {
	who, ok := d.caller(w, r)
	if !ok {
		return
	}
	if r.ContentLength != 0 {
		// While a body is still to come nobody sees that the browser has gone.
		w.Header().Set("Connection", "close") // or the body would be waited for
		d.fail(w, r, who, &problem{Status: http.StatusBadRequest, Title: "That cannot be done", Text: "What changes is told without a body in the request."})
		return
	}
	if d.live.Add(1) > maxLive {
		d.live.Add(-1)
		d.fail(w, r, who, &problem{Status: http.StatusServiceUnavailable, Title: "Too many pages are open",
			Text: "This server keeps 1000 pages up to date at a time. Reload to refresh."})
		return
	}
	defer d.live.Add(-1)
	header := w.Header()
	header.Set("Content-Type", "text/event-stream")
	header.Set("X-Accel-Buffering", "no") // nginx would collect words before it passes them on
	s := &stream{w: w, rc: http.NewResponseController(w)}
	_ = s.rc.SetReadDeadline(time.Time{}) // a server's limit for requests would end this one
	d.follow(r.Context(), s, r, d.cfg.Feed.Subscribe(r.Context()))
}

func (d *dashboard) follow(ctx context.Context, s *stream, r *http.Request, changes <-chan struct{}) {
	alive := time.NewTicker(keepAlive)
	defer alive.Stop()
	rest := time.NewTimer(liveEvery)
	defer rest.Stop()
	// A browser looks once when it begins to listen: something may have changed since
	// its page was made.
	var listen <-chan struct{} // nil while it rests
	for err := s.send("retry: 2000\n\nevent: change\ndata: \n\n"); err == nil; {
		select {
		case <-ctx.Done():
			return
		case <-alive.C:
			if now, err := d.cfg.Access.Caller(r); err != nil || !now.Is(access.RoleViewer) {
				return
			}
			err = s.send(": keep-alive\n\n")
		case <-rest.C:
			listen = changes
		case <-listen:
			err = s.send("event: change\ndata: \n\n")
			listen = nil
			rest.Reset(liveEvery)
		}
	}
}

// stream is an answer that goes on.
type stream struct {
	w  io.Writer
	rc *http.ResponseController
}

func (s *stream) send(text string) error {
	_ = s.rc.SetWriteDeadline(time.Now().Add(writeTime)) // where it cannot be set, the server's holds
	if _, err := io.WriteString(s.w, text); err != nil {
		return err
	}
	if err := s.rc.Flush(); err != nil {
		return err
	}
	// Over HTTP/2 a deadline that passes ends the stream although nothing is written.
	_ = s.rc.SetWriteDeadline(time.Time{})
	return nil
}
