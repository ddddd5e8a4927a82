package alerts

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/locksmith-reboot/locksmith/internal/agent"
)

// alert is one of Prometheus' /api/v1/alerts.
type alert struct {
	Labels   map[string]string `json:"labels"`
	State    string            `json:"state"` // "pending", "firing"
	ActiveAt time.Time         `json:"activeAt"`
}

// response is Prometheus' form of every answer.
type response struct {
	Status string `json:"status"`
	Error  string `json:"error"`
	Data   data   `json:"data"`
}

type data struct {
	Alerts *[]alert `json:"alerts"`
}

func (a alert) name() string { return a.Labels["alertname"] }

// decode reads the answer. Whatever is not a list of alerts is an error, since it
// may hide one.
func decode(body []byte) ([]alert, error) {
	var answer response
	err := json.Unmarshal(body, &answer)
	switch {
	case err != nil:
		return nil, fmt.Errorf("its answer is not a list of alerts: %s", oneLine(err.Error(), 200))
	case answer.Status != "success":
		return nil, fmt.Errorf("it answers %q: %s", oneLine(answer.Status, 40), cmp.Or(oneLine(answer.Error, 200), "without a reason"))
	case answer.Data.Alerts == nil:
		return nil, errors.New("its answer is not a list of alerts: there is none in it")
	}
	return *answer.Data.Alerts, nil
}

// Limits of what is shown: names of alerts, and of each the machines it is about.
const (
	shownNames     = 5
	shownInstances = 3
	textLimit      = 80 // characters of what comes from a label
)

// vetoes says what alerts block, one for each name, in the order of names.
func vetoes(list []alert) error {
	byName := map[string][]alert{}
	for _, a := range list {
		byName[a.name()] = append(byName[a.name()], a)
	}
	names := slices.Sorted(maps.Keys(byName))
	var found []error
	for _, name := range names[:min(len(names), shownNames)] {
		found = append(found, &agent.Veto{By: "alert " + cmp.Or(oneLine(name, textLimit), "without a name"), Reason: reason(byName[name])})
	}
	switch more := len(names) - shownNames; {
	case len(found) == 0:
		return nil
	case len(found) == 1:
		return found[0]
	case more > 0:
		found = append(found, &agent.Veto{By: "alerts", Reason: fmt.Sprintf("and %d more", more)})
	}
	return errors.Join(found...)
}

// reason is about alerts of one name: "firing since 2026-11-22 13:04 UTC on web-1:9100,
// web-2:9100 and 3 more". The state is that of the firing ones where there are any.
func reason(list []alert) string {
	state := list[0].State
	var since time.Time
	instances := map[string]bool{}
	for _, a := range list {
		if a.State == "firing" {
			state = a.State
		}
		if !a.ActiveAt.IsZero() && (since.IsZero() || a.ActiveAt.Before(since)) {
			since = a.ActiveAt
		}
		if on := oneLine(a.Labels["instance"], textLimit); on != "" {
			instances[on] = true
		}
	}
	text := cmp.Or(oneLine(state, textLimit), "firing")
	if !since.IsZero() {
		text += " since " + since.Local().Format("2006-01-02 15:04 MST")
	}
	if len(instances) == 0 {
		return text
	}
	on := slices.Sorted(maps.Keys(instances))
	text += " on " + strings.Join(on[:min(len(on), shownInstances)], ", ")
	if more := len(on) - shownInstances; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}
