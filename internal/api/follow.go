package api

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"time"

	"github.com/locksmith-reboot/locksmith"
)

// watchTimes are those of a watch.
type watchTimes struct {
	silence   time.Duration // after which a connection is given up; a server says something every 15 s
	pauseMin  time.Duration // before the first try again
	pauseMax  time.Duration
	maxLength int // of an event, in bytes
}

var defaultWatchTimes = watchTimes{silence: 45 * time.Second, pauseMin: 500 * time.Millisecond, pauseMax: 10 * time.Second, maxLength: maxAnswer}

var errSilent = errors.New("the server fell silent")

// WatchStatus calls changed with the group's status at once and after each change of
// it, until ctx ends or changed fails, and returns that cause. A server that is away is
// waited for; changes of that time come as one.
func (c *Client) WatchStatus(ctx context.Context, group locksmith.Group, changed func(locksmith.GroupStatus) error) error {
	wait, told := c.watch.pauseMin, false
	for {
		err := c.follow(ctx, group, func(s locksmith.GroupStatus) error {
			wait, told = c.watch.pauseMin, false
			return changed(s)
		})
		var mine *callbackError
		var answer *Error
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.As(err, &mine):
			return mine.err
		case errors.As(err, &answer) && !answer.Transient():
			return err
		}
		if !told {
			c.log.Warn("what was read last may not be true any more, trying again", "group", group, "error", err)
			told = true
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(wait/2 + rand.N(wait)):
		}
		wait = min(2*wait, c.watch.pauseMax)
	}
}

// callbackError is an error of the caller's own function, which ends the watch.
type callbackError struct{ err error }

func (e *callbackError) Error() string { return e.err.Error() }

// follow reads one stream to its end.
func (c *Client) follow(ctx context.Context, group locksmith.Group, changed func(locksmith.GroupStatus) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	resp, err := c.send(ctx, http.MethodGet, PathEvents+"?"+ofGroup(group).Encode(), "text/event-stream", nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if !isMedia(resp, "text/event-stream") {
		return c.strange(resp)
	}
	silence := time.AfterFunc(c.watch.silence, func() { cancel(errSilent) })
	defer silence.Stop()
	err = readEvents(resp.Body, c.watch.maxLength, func() { silence.Reset(c.watch.silence) }, func(name string, data []byte) error {
		return c.event(name, data, changed)
	})
	if errors.Is(context.Cause(ctx), errSilent) {
		return fmt.Errorf("locksmith-server at %s said nothing for %v", c.base, c.watch.silence)
	}
	if err == nil || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("locksmith-server at %s ended the connection", c.base)
	}
	return err
}

// event does what one event asks for. Events of other names are a newer server's.
func (c *Client) event(name string, data []byte, changed func(locksmith.GroupStatus) error) error {
	switch name {
	case EventChange:
		var doc Status
		if err := json.Unmarshal(data, &doc); err != nil {
			return fmt.Errorf("an event of locksmith-server at %s cannot be understood: %v", c.base, err)
		}
		s, err := doc.GroupStatus()
		if err != nil {
			return fmt.Errorf("an event of locksmith-server at %s cannot be understood: %v", c.base, err)
		}
		if err := changed(s); err != nil {
			return &callbackError{err}
		}
	case EventUnavailable:
		var doc ErrorDocument
		if err := json.Unmarshal(data, &doc); err != nil {
			return fmt.Errorf("an event of locksmith-server at %s cannot be understood: %v", c.base, err)
		}
		e := doc.Error.Err(doc.Error.Code.Status())
		if !e.Transient() {
			return e
		}
		c.log.Warn("what was read last may not be true any more", "error", e)
	}
	return nil
}

// readEvents reads a text/event-stream to its end, which is no error. heard is called
// for each line. An event longer than maxLength is bufio.ErrTooLong, in however many
// lines it comes: what is kept of a stream must not grow with it.
func readEvents(r io.Reader, maxLength int, heard func(), event func(name string, data []byte) error) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 0, min(4<<10, maxLength)), maxLength)
	var name string
	var data []string
	var length int // of data, joined
	for lines.Scan() {
		heard()
		line := lines.Text()
		if line == "" {
			if len(data) > 0 {
				if err := event(name, []byte(strings.Join(data, "\n"))); err != nil {
					return err
				}
			}
			name, data, length = "", nil, 0
			continue
		}
		field, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch field {
		case "event":
			name = value
		case "data":
			if length += len(value) + 1; length > maxLength {
				return bufio.ErrTooLong
			}
			data = append(data, value)
		}
	}
	return lines.Err()
}
