package dashboard

import (
	"context"
	"errors"
	"net/http"
	"unicode"
	"unicode/utf8"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/internal/access"
	"github.com/locksmith-reboot/locksmith/internal/admin"
)

// problem is why there is no page, or why nothing was done.
type problem struct {
	Status int
	Title  string
	Text   string // what is wrong
	Do     string // what to do about it; may be empty
}

func (p *problem) Error() string { return p.Text }

// problemOf is what an error means to people.
func problemOf(err error) *problem {
	if p, ok := errors.AsType[*problem](err); ok {
		return p
	}
	text := sentence(err.Error()) + "."
	if f, ok := errors.AsType[*admin.Forbidden](err); ok { // it begins with a name
		return &problem{http.StatusForbidden, "Not allowed", f.Error() + ".", "Nothing was changed, and the attempt is in the history. Ask somebody who may, or sign in as them."}
	}
	if _, ok := errors.AsType[*admin.Invalid](err); ok {
		return &problem{http.StatusBadRequest, "That cannot be done", text, "Nothing was changed. Correct it and try again."}
	}
	if _, ok := errors.AsType[*locksmith.UnreadableError](err); ok {
		return &problem{http.StatusInternalServerError, "A document cannot be read", text,
			"It is never overwritten, and nothing is granted there meanwhile. Look at the key with etcdctl get."}
	}
	if full, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return &problem{http.StatusRequestEntityTooLarge, "Too much", "The form is too large.", plural(int(full.Limit), "byte") + " are allowed."}
	}
	switch {
	case errors.Is(err, locksmith.ErrNotHolder):
		return &problem{http.StatusConflict, "Nothing to unlock", "The machine holds no slot of the group any more: it has given it back, or somebody else was faster.", "Nothing was changed."}
	case errors.Is(err, locksmith.ErrNotPaused):
		return &problem{http.StatusConflict, "Nothing to resume", "It is not paused any more: the pause was over, or somebody else was faster.", "Nothing was changed."}
	case errors.Is(err, locksmith.ErrUnknownMachine):
		return &problem{http.StatusNotFound, "Unknown machine", text, "Machines are known once locksmithd has run on them, or while they hold a slot."}
	case errors.Is(err, locksmith.ErrUnknownGroup):
		return &problem{http.StatusNotFound, "Unknown group", text, ""}
	case errors.Is(err, context.DeadlineExceeded):
		text = "The store did not answer in time."
	}
	return &problem{http.StatusServiceUnavailable, "The store does not answer", text,
		"Slots stay as they are, and nobody is given one meanwhile. This page tries again by itself where it is live."}
}

// fail answers with what went wrong, as a page.
func (d *dashboard) fail(w http.ResponseWriter, r *http.Request, who access.Caller, err error) {
	p := problemOf(err)
	if p.Status >= http.StatusInternalServerError && r.Context().Err() == nil {
		d.log.Warn("a page could not be shown", "path", r.URL.Path, "error", err)
	}
	d.render(w, r, who, page{View: "problem", Status: p.Status, Title: p.Title, Main: p})
}

// sentence begins with a capital letter.
func sentence(s string) string {
	first, size := utf8.DecodeRuneInString(s)
	if size == 0 {
		return s
	}
	return string(unicode.ToUpper(first)) + s[size:]
}
