package dashboard

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/internal/access"
	"github.com/locksmith-reboot/locksmith/internal/admin"
)

// action is something an operator can do. Each is asked back first, with what it will do
// as things are.
type action struct {
	// ask says what it will do. It is told of those who may, only.
	ask func(ctx context.Context, who access.Caller, form url.Values) (*confirmView, error)
	// may says whether the caller may, as far as that is known without asking.
	may func(ctx context.Context, who access.Caller, form url.Values) (bool, error)
	// do does it, and says what was done. The admin refuses those who may not.
	do func(ctx context.Context, who access.Caller, form url.Values) (done string, err error)
}

// actions are all there are, by the last part of their path.
func (d *dashboard) actions() map[string]action {
	return map[string]action{
		"unlock":  {d.askUnlock, mayGroup, d.unlock},
		"set-max": {d.askSetMax, mayGroup, d.setMax},
		"pause":   {d.askPause, d.maySomething, d.pause},
		"resume":  {d.askResume, d.maySomething, d.resume},
	}
}

// confirmView is the page that asks back.
type confirmView struct {
	Title string
	Says  []string // what it will do, with present facts
	Warns []string // what to think of first
	Look  []link   // where to look first

	Action string      // where the form goes
	Method string      // of the form: post, or get for another question first
	Hidden [][2]string // fields that say what it is about
	Button string
	Harm   bool // it takes something from somebody

	Fields []field
	Back   string // where to go afterwards
	Error  string // why it was not done; empty: it was not tried
	Todo   string // what to do about Error

	facts []string // on which Says rests: if they change, the caller is asked again
}

// field is one input of a form.
type field struct {
	Name, Label, Hint, Kind string // Kind: text, number, select or datetime-local
	Value                   string
	Required                bool
	Choices                 []choice
	Wrong                   bool // the error is about it
}

// Facts are a fingerprint of what Says rests on.
func (c *confirmView) Facts() string {
	sum := sha256.Sum256([]byte(strings.Join(c.facts, "\x00")))
	return hex.EncodeToString(sum[:8])
}

// confirm is the view that asks back.
func (d *dashboard) confirm(name string, a action) view {
	return func(r *http.Request, who access.Caller) (page, error) {
		form := r.URL.Query()
		if may, err := a.may(r.Context(), who, form); err != nil {
			return page{}, err
		} else if !may {
			return page{}, &problem{http.StatusForbidden, "Not allowed",
				fmt.Sprintf("%s has the role %s here, and may not do that.", who.Name, who.Role), "Nothing was changed. Ask somebody who may."}
		}
		c, err := a.ask(r.Context(), who, form)
		if err != nil {
			return page{}, err
		}
		c.Back = backFrom(form, r)
		return confirmPage(c, name, http.StatusOK), nil
	}
}

func confirmPage(c *confirmView, name string, status int) page {
	if c.Action == "" {
		c.Action = "/act/" + name
	}
	if c.Method == "" {
		c.Method = http.MethodPost
	}
	return page{View: "confirm", Status: status, Title: c.Title, Nav: "overview", Main: c}
}

// perform does what was confirmed. Where it cannot be done, or where the facts have
// changed since the caller was asked, it asks again and keeps what was typed.
func (d *dashboard) perform(name string, a action) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		who, ok := d.caller(w, r)
		if !ok {
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, maxForm)
		if err := r.ParseForm(); err != nil {
			d.fail(w, r, who, formProblem(err))
			return
		}
		form, ctx := r.PostForm, r.Context()
		d.reads.changed() // what is decided on is as new as can be
		c, err := d.stillSo(ctx, who, a, form)
		status := http.StatusConflict
		if err == nil && c == nil {
			var done string
			done, err = a.do(ctx, who, form)
			d.reads.changed()
			if err == nil {
				giveNotice(w, r, done)
				http.Redirect(w, r, local(form.Get("back")), http.StatusSeeOther)
				return
			}
			c, status = d.askAgain(ctx, who, a, form, err)
		}
		if c == nil {
			d.fail(w, r, who, err)
			return
		}
		c.Back = local(form.Get("back"))
		d.render(w, r, who, confirmPage(c, name, status))
	})
}

// stillSo is nil where what the caller confirmed is still so. Those who may not do it
// are let through to the admin, who refuses them.
func (d *dashboard) stillSo(ctx context.Context, who access.Caller, a action, form url.Values) (*confirmView, error) {
	may, err := a.may(ctx, who, form)
	if err != nil || !may {
		return nil, nil // the admin says what is wrong
	}
	c, err := a.ask(ctx, who, form)
	if err != nil {
		return nil, err
	}
	if form.Get("facts") == c.Facts() && c.Method == "" {
		return nil, nil
	}
	if c.Error != "" { // the form itself is wrong
		return c, nil
	}
	c.Error, c.Todo = "Something has changed since you were asked.", "Nothing was done. Below is how it is now: confirm again if you still want it."
	return c, nil
}

// askAgain shows the form with why it was not done. It is nil where the question makes
// no sense any more.
func (d *dashboard) askAgain(ctx context.Context, who access.Caller, a action, form url.Values, err error) (*confirmView, int) {
	p := problemOf(err)
	_, invalid := errors.AsType[*admin.Invalid](err)
	if !invalid && p.Status < http.StatusInternalServerError {
		return nil, p.Status
	}
	c, again := a.ask(ctx, who, form)
	if again != nil {
		return nil, p.Status
	}
	c.Error, c.Todo = p.Text, p.Do
	for i := range c.Fields {
		c.Fields[i].Wrong = invalid
	}
	return c, p.Status
}

// backFrom is where to go after an action: as the form says, or the page before.
func backFrom(form url.Values, r *http.Request) string {
	if form.Has("back") {
		return local(form.Get("back"))
	}
	u, err := url.Parse(r.Referer())
	if err != nil || u.Host != r.Host || strings.HasPrefix(u.Path, "/act/") || strings.HasPrefix(u.Path, "/sign-in") {
		return "/"
	}
	return local(u.RequestURI())
}

// formGroup is the group that a form is about.
func formGroup(form url.Values) (locksmith.Group, error) {
	g, err := locksmith.ParseGroup(form.Get("group"))
	if err != nil {
		return g, &admin.Invalid{Reason: err.Error()}
	}
	return g, nil
}

func mayGroup(_ context.Context, who access.Caller, form url.Values) (bool, error) {
	g, err := formGroup(form)
	return mayIn(who, g), err
}

// formScope is what a pause is for.
func formScope(form url.Values) (locksmith.PauseScope, error) {
	switch machine := form.Get("machine"); {
	case form.Get("all") != "":
		return locksmith.PauseScope{All: true}, nil
	case machine != "":
		if err := locksmith.CheckMachineID(machine); err != nil {
			return locksmith.PauseScope{}, &admin.Invalid{Reason: err.Error()}
		}
		return locksmith.PauseScope{Machine: machine}, nil
	}
	g, err := formGroup(form)
	return locksmith.PauseScope{Group: g}, err
}

func (d *dashboard) maySomething(ctx context.Context, who access.Caller, form url.Values) (bool, error) {
	scope, err := formScope(form)
	if err != nil {
		return false, err
	}
	var groups []locksmith.Group
	if scope.Machine != "" && !who.Everywhere() {
		m, err := d.reads.machine(ctx, scope.Machine)
		if err != nil {
			return false, err
		}
		groups = m.AllGroups()
	}
	return mayScope(who, scope, groups), nil
}
