package dashboard

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/internal/access"
	"github.com/locksmith-reboot/locksmith/internal/admin"
)

// askSetMax asks for the number first, where there is none yet, and then whether what
// it means is meant.
func (d *dashboard) askSetMax(ctx context.Context, who access.Caller, form url.Values) (*confirmView, error) {
	g, err := formGroup(form)
	if err != nil {
		return nil, err
	}
	fresh := form.Get("new") != ""
	if fresh && !form.Has("group") {
		return &confirmView{Title: "Make a group", Method: http.MethodGet, Button: "Continue…",
			Says:   []string{"A group is a set of machines that share slots: at no moment are more of them down than it has. Machines name it in their configuration (-group)."},
			Hidden: [][2]string{{"new", "1"}},
			Fields: []field{{Name: "group", Label: "Name", Kind: "text", Hint: "Empty is the default group."}, maxField("1", false)}}, nil
	}
	s, err := d.reads.status(ctx, g)
	if err != nil {
		return nil, err
	}
	c := &confirmView{Hidden: [][2]string{{"group", string(g)}}, facts: []string{strconv.Itoa(s.Sem.Max), strconv.FormatBool(s.Exists)}}
	if fresh {
		c.Hidden = append(c.Hidden, [2]string{"new", "1"})
	}
	n, err := parseMax(form.Get("max"))
	if err != nil {
		c.Title, c.Button, c.Method = "Change the slots of "+scopeName(g), "Continue…", http.MethodGet
		c.Says = []string{fmt.Sprintf("%s has %s, and %d of them are taken.", sentence(scopeName(g)), plural(s.Sem.Max, "slot"), len(s.Holders))}
		c.Fields = []field{maxField(strconv.Itoa(s.Sem.Max), form.Has("max"))}
		if form.Has("max") {
			c.Error, c.Todo, c.Fields[0].Value = sentence(err.Error())+".", "Nothing was changed. Correct it and try again.", form.Get("max")
		}
		return c, nil
	}
	c.Title = fmt.Sprintf("Change the slots of %s from %d to %d", scopeName(g), s.Sem.Max, n)
	c.Button, c.Harm = fmt.Sprintf("Set to %d", n), n == 0
	c.Hidden = append(c.Hidden, [2]string{"max", strconv.Itoa(n)})
	if !s.Exists {
		c.Title, c.Button = "Make "+scopeName(g)+" with "+plural(n, "slot"), "Make it"
		if !who.Is(access.RoleAdmin) {
			c.Warns = []string{"It does not exist yet, and making a group takes the role admin."}
		}
	}
	c.Says = maxMeans(s, n)
	return c, nil
}

func maxField(value string, wrong bool) field {
	return field{Name: "max", Label: "Slots: how many machines may be down at a time", Kind: "number", Value: value, Required: true, Wrong: wrong}
}

// parseMax reads a number of slots.
func parseMax(s string) (int, error) {
	n, err := strconv.ParseInt(strings.TrimSpace(s), 10, 32)
	if err != nil || n < 0 {
		return 0, &admin.Invalid{Reason: fmt.Sprintf("invalid number of slots %q: must be a whole number, 0 or more", s)}
	}
	return int(n), nil
}

// maxMeans says what another maximum does, with who waits and who holds.
func maxMeans(s locksmith.GroupStatus, n int) []string {
	held, free := len(s.Holders), n-len(s.Holders)
	var says []string
	switch {
	case n == s.Sem.Max && s.Exists:
		says = append(says, fmt.Sprintf("%s has %s already: nothing changes but the history.", sentence(scopeName(s.Group)), plural(n, "slot")))
	case n == 0:
		says = append(says, fmt.Sprintf("No machine of %s is given a slot any more. To stop reboots for a while a pause is better: it says why, and can end by itself.", scopeName(s.Group)))
	case free < 0:
		says = append(says, fmt.Sprintf("%d machines hold slots now, and keep them. Nobody is given one until %d of them have given theirs back.", held, -free+1))
	default:
		says = append(says, fmt.Sprintf("At most %s may be down at a time, instead of %d.", plural(n, "machine"), s.Sem.Max))
	}
	next := min(max(free, 0), len(s.Queue))
	if next > 0 && n != s.Sem.Max {
		var names []string
		for _, w := range s.Queue[:min(next, 3)] {
			names = append(names, waiterName(w))
		}
		if next > 3 {
			names = append(names, fmt.Sprintf("%d more", next-3))
		}
		text := strings.Join(names, ", ") + " can have a slot at once, and may reboot."
		if len(s.Pauses) > 0 {
			text = strings.Join(names, ", ") + " would be next, but " + pausedWords(s.Pauses) + "."
		}
		says = append(says, text)
	}
	if held > 0 && n > 0 && free >= 0 {
		says = append(says, fmt.Sprintf("%d of the %d are taken now.", held, n))
	}
	return says
}

func (d *dashboard) setMax(ctx context.Context, who access.Caller, form url.Values) (string, error) {
	g, err := formGroup(form)
	if err != nil {
		return "", err
	}
	n, err := parseMax(form.Get("max"))
	if err != nil {
		return "", err
	}
	old, err := d.cfg.Admin.SetMax(ctx, who, g, n)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s has %s now, before %d.", sentence(scopeName(g)), plural(n, "slot"), old), nil
}
