package dashboard

import (
	"cmp"
	"slices"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/internal/access"
)

// waiterView is one machine in a queue.
type waiterView struct {
	Position int
	ID, Name string
	Since    int64
	Reason   string
	By       string // where it is not its locksmithd
	Urgent   bool   // its priority is not the usual
	Priority int
	Others   []locksmith.Group // which it waits for as well
}

// waiterViews are so many of a queue, from the one at index from.
func waiterViews(queue []locksmith.Waiter, from, n int, who access.Caller) []waiterView {
	from = min(from, len(queue))
	var list []waiterView
	for i, w := range queue[from:min(from+n, len(queue))] {
		v := waiterView{Position: from + i + 1, ID: w.MachineID, Name: cmp.Or(w.Hostname, w.MachineID), Since: w.Since,
			Reason: w.Reason, Priority: w.Priority, Urgent: w.Priority != locksmith.DefaultPriority}
		if w.By != locksmith.ByAgent {
			v.By = w.By
		}
		if len(w.Groups) > 1 {
			unseen := func(g locksmith.Group) bool { return !who.Sees(g) }
			v.Others = slices.DeleteFunc(slices.Clone(w.Groups), unseen)
		}
		list = append(list, v)
	}
	return list
}
