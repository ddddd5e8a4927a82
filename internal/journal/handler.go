// Package journal hands log records to systemd's journal with their attributes
// as fields, so that journalctl can select by them and programs can act on
// them. docs/journal.md lists the fields and the events.
//
// The package must not know what is logged or why. All it knows of the daemon's
// events is their names and, fixed for ever, their message ids.
package journal

import (
	"context"
	"io"
	"log/slog"
	"slices"
	"strings"
	"time"
)

// DefaultPath is where journald takes records.
const DefaultPath = "/run/systemd/journal/socket"

// DefaultIdentifier is what journalctl -t selects by.
const DefaultIdentifier = "locksmithd"

// eventKey is the attribute that names the event a record reports.
const eventKey = "event"

// Config is what a Handler needs. Its zero value writes to this machine's journal.
type Config struct {
	Path       string       // journald's socket; empty: DefaultPath
	Identifier string       // SYSLOG_IDENTIFIER; empty: DefaultIdentifier
	Level      slog.Leveler // the least level that is logged; nil: slog.LevelInfo

	// Fallback takes, as slog's text, the records that journald does not take.
	// Where it is an *os.File, writing to it is bounded in time, too. nil: they
	// are lost.
	Fallback io.Writer
}

// Handler is a slog.Handler that writes to the journal. It never keeps its caller
// waiting for long: a record that journald does not take within a fifth of a
// second goes to the fallback, and the records after it do not wait at all until
// journald is back. It may be used concurrently.
type Handler struct {
	level  slog.Leveler
	ident  string
	sender *sender
	text   slog.Handler // to the fallback

	fields []field // of the attributes of the logger
	event  string  // named by them
	groups []string
}

var _ slog.Handler = (*Handler)(nil)

// New returns a handler. It opens nothing before the first record, and the
// journal need not be there.
func New(c Config) *Handler {
	if c.Path == "" {
		c.Path = DefaultPath
	}
	if c.Identifier == "" {
		c.Identifier = DefaultIdentifier
	}
	if c.Level == nil {
		c.Level = slog.LevelInfo
	}
	if c.Fallback == nil {
		c.Fallback = io.Discard
	}
	return &Handler{
		level: c.Level, ident: c.Identifier, sender: &sender{path: c.Path, fd: -1},
		text: slog.NewTextHandler(&bounded{w: c.Fallback}, &slog.HandlerOptions{Level: c.Level}),
	}
}

// Close gives the socket back. A record after that opens it again.
func (h *Handler) Close() error { return h.sender.close() }

// Enabled says whether records of level are logged.
func (h *Handler) Enabled(_ context.Context, level slog.Level) bool { return level >= h.level.Level() }

// Handle logs r. It returns an error where neither the journal nor the fallback
// took it.
func (h *Handler) Handle(ctx context.Context, r slog.Record) error {
	err := h.sender.send(h.datagram(r))
	if err == nil {
		h.tellLost()
		return nil
	}
	err = h.text.Handle(ctx, r)
	if err != nil {
		h.sender.lost.Add(1)
	}
	return err
}

// tellLost says in the journal how many records got nowhere.
func (h *Handler) tellLost() {
	n := h.sender.lost.Swap(0)
	if n == 0 {
		return
	}
	r := slog.NewRecord(time.Now(), slog.LevelWarn, "log records were lost, journald took none", 0)
	r.Add("records", n)
	if h.sender.send(h.datagram(r)) != nil {
		h.sender.lost.Add(n)
	}
}

// WithAttrs returns a handler whose records have attrs, too: as fields only. The
// text that people read has what the record itself says.
func (h *Handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	if len(attrs) == 0 {
		return h
	}
	var d detail
	for _, a := range attrs {
		d.add(h.groups, a)
	}
	c := *h
	c.fields = slices.Concat(h.fields, d.fields)
	if d.event != "" {
		c.event = d.event
	}
	c.text = h.text.WithAttrs(attrs)
	return &c
}

// WithGroup returns a handler that puts name before the names of attributes that
// come after.
func (h *Handler) WithGroup(name string) slog.Handler {
	if name == "" {
		return h
	}
	c := *h
	c.groups = append(slices.Clip(h.groups), name)
	c.text = h.text.WithGroup(name)
	return &c
}

// datagram is r in journald's native protocol.
func (h *Handler) datagram(r slog.Record) []byte {
	d := detail{event: h.event}
	r.Attrs(func(a slog.Attr) bool {
		d.add(h.groups, a)
		return true
	})
	var b []byte
	put := func(name, value string) { b = appendField(b, field{name, value}) }
	put("MESSAGE", message(r.Message, d.parts))
	put("PRIORITY", priority(r.Level))
	put("SYSLOG_IDENTIFIER", h.ident)
	if !r.Time.IsZero() {
		put("SYSLOG_TIMESTAMP", r.Time.Format(time.RFC3339Nano))
	}
	if id := messageIDs[d.event]; id != "" {
		put("MESSAGE_ID", id)
	}
	for _, f := range h.fields {
		b = appendField(b, f)
	}
	for _, f := range d.fields {
		b = appendField(b, f)
	}
	return b
}

// priority is a level as syslog's severity, from 7 (debug) to 2 (critical).
func priority(l slog.Level) string {
	switch {
	case l < slog.LevelInfo:
		return "7"
	case l < slog.LevelInfo+2:
		return "6"
	case l < slog.LevelWarn:
		return "5"
	case l < slog.LevelError:
		return "4"
	case l < slog.LevelError+4:
		return "3"
	}
	return "2"
}

// fieldName is the journal's name of an attribute: LOCKSMITH_ and the names of its
// groups and itself, of capital letters, digits and underscores. journald drops
// fields whose names are longer than 64.
func fieldName(groups []string, key string) string {
	clean := func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z':
			return r - 'a' + 'A'
		case r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
			return r
		}
		return '_'
	}
	name := "LOCKSMITH_" + strings.Map(clean, strings.Join(append(slices.Clip(groups), key), "_"))
	return name[:min(len(name), 64)]
}
