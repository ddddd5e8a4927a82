package server

import (
	"context"
	"net/http"
	"time"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/internal/access"
	"github.com/locksmith-reboot/locksmith/internal/api"
)

// serveEvents sends a group's status at once and after each change, until the client
// goes away, may not look any more, or the server stops.
func (s *server) serveEvents(w http.ResponseWriter, r *http.Request) {
	g, err := s.eventGroup(r)
	if err == nil && r.ContentLength != 0 {
		// While a body is still to come nobody sees that the client has gone.
		w.Header().Set("Connection", "close") // or the body would be waited for
		err = invalid("%s takes no body", r.URL.Path)
	}
	if err == nil && r.Method == http.MethodHead {
		w.Header().Set("Content-Type", eventStream)
		return
	}
	var events <-chan []byte
	if err == nil {
		var leave func()
		var ok bool
		if events, leave, ok = s.events.join(g); ok {
			defer leave()
		} else {
			err = &problem{api.CodeBusy, "too many follow events already: try again later, or ask for the status"}
		}
	}
	if err != nil {
		s.answerError(w, s.explain(err))
		return
	}
	w.Header().Set("Content-Type", eventStream)
	w.Header().Set("X-Accel-Buffering", "no") // nginx would keep events back
	s.sendEvents(newEventWriter(w, s.events.times.writes), r, g, events)
}

// eventGroup is the group that a request may follow.
func (s *server) eventGroup(r *http.Request) (locksmith.Group, error) {
	who, err := s.caller(r)
	if err != nil {
		return "", err
	}
	values, err := parseQuery(r, []string{"group"})
	if err != nil {
		return "", err
	}
	return s.group(query{r, who, values})
}

func (s *server) sendEvents(w *eventWriter, r *http.Request, g locksmith.Group, events <-chan []byte) {
	alive := time.NewTicker(s.events.times.alive)
	defer alive.Stop()
	for {
		var text []byte
		select {
		case <-r.Context().Done():
			return
		case text = <-events:
		case <-alive.C:
			if !s.stillSees(r, g) {
				return
			}
			text = []byte(": keep-alive\n\n")
		}
		if w.write(text) != nil {
			return
		}
	}
}

// stillSees says whether who follows events may still do so: tokens are withdrawn, and
// sessions end.
func (s *server) stillSees(r *http.Request, g locksmith.Group) bool {
	who, err := s.cfg.Guard.Caller(r.Clone(context.WithoutCancel(r.Context())))
	return err == nil && who.Is(access.RoleViewer) && who.Sees(g)
}

// eventWriter writes to a client for as long as it reads.
type eventWriter struct {
	w       http.ResponseWriter
	control *http.ResponseController
	limit   time.Duration
}

func newEventWriter(w http.ResponseWriter, limit time.Duration) *eventWriter {
	return &eventWriter{w, http.NewResponseController(w), limit}
}

// write has a limit of its own: the server's is for answers that end.
func (e *eventWriter) write(text []byte) error {
	_ = e.control.SetWriteDeadline(time.Now().Add(e.limit))
	if _, err := e.w.Write(text); err != nil {
		return err
	}
	if err := e.control.Flush(); err != nil {
		return err
	}
	// Over HTTP/2 a deadline that passes ends the stream although nothing is written.
	return e.control.SetWriteDeadline(time.Time{})
}
