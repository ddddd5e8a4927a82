package trigger

import (
	"log/slog"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/internal/agent"
)

// changes remembers the last answer that was reported. The zero changes has none.
type changes struct {
	reported bool
	needed   bool
	text     string // the reason, or the error
	method   locksmith.Method
}

// differ says whether need differs from the last answer for those who read it, and
// remembers it.
func (c *changes) differ(need agent.Need) bool {
	next := changes{reported: true, needed: need.Needed, text: need.Reason, method: need.Method}
	if need.Err != nil {
		next = changes{reported: true, text: "error: " + need.Err.Error()}
	}
	if *c == next {
		return false
	}
	*c = next
	return true
}

var discard = slog.New(slog.DiscardHandler)
