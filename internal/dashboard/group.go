package dashboard

import (
	"errors"
	"net/http"
	"net/url"
	"strconv"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/internal/access"
)

// groupView is the page of one group.
type groupView struct {
	Group    locksmith.Group
	Name     string
	Status   locksmith.GroupStatus
	Err      string // it cannot be read
	Free     int
	Slots    []slotView
	Holders  []holderView
	Queue    []waiterView
	More     int // waiters that are not shown
	QueueURL string
	Pauses   []pauseView
	Troubles []trouble // but pauses
	Rollout  rolloutView
	History  []entryView
	AllURL   string // its whole history
	SetMax   bool   // the caller may
	Pause    *link
}

// pauseView is the banner of a pause.
type pauseView struct {
	Title  string
	Text   string
	Since  int64
	Resume *link
}

// Bounds of the page of a group.
const (
	maxQueue   = 50
	queuePage  = 200
	maxEntries = 15
)

// groupOf is the group that a parameter names, where the caller may see it.
func groupOf(q url.Values, param string, who access.Caller) (locksmith.Group, error) {
	g, err := locksmith.ParseGroup(q.Get(param))
	if err != nil {
		return g, &problem{Status: http.StatusBadRequest, Title: "No such group", Text: sentence(err.Error()) + "."}
	}
	if !who.Sees(g) {
		return g, &problem{Status: http.StatusForbidden, Title: "Not allowed", Text: who.Name + " sees nothing of " + scopeName(g) + "."}
	}
	return g, nil
}

func (d *dashboard) group(r *http.Request, who access.Caller) (page, error) {
	g, err := groupOf(r.URL.Query(), "name", who)
	if err != nil {
		return page{}, err
	}
	ctx, now := r.Context(), clock()
	v := groupView{Group: g, Name: sentence(scopeName(g)), QueueURL: address("/queue", "name", string(g)),
		AllURL: address("/history", "in", groupValue(g)), SetMax: mayIn(who, g)}
	p := page{View: "group", Title: v.Name, Nav: "overview"}
	s, err := d.reads.status(ctx, g)
	if _, ok := errors.AsType[*locksmith.UnreadableError](err); ok {
		v.Err = err.Error()
		p.Main = v
		return p, nil
	}
	if err != nil {
		return page{}, err
	}
	if !s.Exists && len(s.Queue)+len(s.Holders) == 0 {
		return page{}, &problem{http.StatusNotFound, "No such group yet", sentence(scopeName(g)) + " has no slots yet.",
			"It begins with its first slot: an administrator can make it, here or with locksmithctl set-max, and so does the first machine that asks for one."}
	}
	v.Status, v.Free = s, max(0, s.Sem.Semaphore)
	for _, h := range s.Holders {
		v.Holders = append(v.Holders, holderViewOf(h, g, who, now))
	}
	sortHolders(v.Holders)
	v.Slots = slotsOf(s, v.Holders)
	v.Queue, v.More = waiterViews(s.Queue, 0, maxQueue, who), max(0, len(s.Queue)-maxQueue)
	paused := false
	for _, pause := range s.Pauses {
		paused = paused || pause.Scope == locksmith.PauseScope{Group: g}
		v.Pauses = append(v.Pauses, pauseView{sentence(pause.Scope.String()) + " paused", pauseText(pause, now), pause.At, resumeLink(who, pause.Scope, nil)})
	}
	if !paused {
		v.Pause = pauseLink(who, locksmith.PauseScope{Group: g}, nil)
	}
	for _, t := range tidy(troubles(s, who, now)) {
		if t.Mark != markPaused { // the banners say it
			v.Troubles = append(v.Troubles, t)
		}
	}
	if v.Rollout, err = d.rollout(ctx, s); err != nil {
		return page{}, err
	}
	entries, err := d.reads.history(ctx, g)
	if err != nil {
		return page{}, err
	}
	v.History = entryViews(entries[:min(len(entries), maxEntries)], g)
	p.Say, p.Main = sayGroup(v), v
	return p, nil
}

// sayGroup is what changes in a group that is worth being told at once.
func sayGroup(v groupView) string {
	text := v.Name + ": " + strconv.Itoa(len(v.Holders)) + " of " + plural(v.Status.Sem.Max, "slot") + " taken, " + strconv.Itoa(len(v.Status.Queue)) + " waiting"
	if len(v.Pauses) > 0 {
		text += ", paused"
	}
	if n := len(v.Troubles); n > 0 {
		text += ", " + plural(n, "thing") + " to look at"
	}
	return text + "."
}

// queueView is a group's whole queue, page by page.
type queueView struct {
	Group locksmith.Group
	Name  string
	Total int
	Queue []waiterView
	Pages pagesView
}

func (d *dashboard) queue(r *http.Request, who access.Caller) (page, error) {
	g, err := groupOf(r.URL.Query(), "name", who)
	if err != nil {
		return page{}, err
	}
	s, err := d.reads.status(r.Context(), g)
	if err != nil {
		return page{}, err
	}
	pages := pagesOf(r.URL, len(s.Queue), queuePage)
	v := queueView{Group: g, Name: scopeName(g), Total: len(s.Queue), Pages: pages, Queue: waiterViews(s.Queue, pages.From(), queuePage, who)}
	return page{View: "queue", Title: "Queue of " + v.Name, Nav: "overview", Main: v}, nil
}

// pagesView leads through a list that is too long for one page.
type pagesView struct {
	Page, Last  int // from 1
	size, total int
	Prev, Next  string // empty: there is none
}

// From is the index of the page's first entry.
func (p pagesView) From() int { return (p.Page - 1) * p.size }

// First and Until count entries from 1.
func (p pagesView) First() int { return min(p.From()+1, p.total) }
func (p pagesView) Until() int { return min(p.From()+p.size, p.total) }
func (p pagesView) Total() int { return p.total }

// pagesOf is the page that the parameter "page" names, the nearest there is.
func pagesOf(u *url.URL, total, size int) pagesView {
	q := u.Query()
	n, _ := strconv.Atoi(q.Get("page")) // the first, where it is no number
	p := pagesView{Last: max(1, (total+size-1)/size), size: size, total: total}
	p.Page = min(max(n, 1), p.Last)
	to := func(n int) string {
		q.Set("page", strconv.Itoa(n))
		return u.Path + "?" + q.Encode()
	}
	if p.Page > 1 {
		p.Prev = to(p.Page - 1)
	}
	if p.Page < p.Last {
		p.Next = to(p.Page + 1)
	}
	return p
}
