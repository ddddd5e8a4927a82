package trigger

import "github.com/locksmith-reboot/locksmith/internal/agent"

// changes remembers the last answer that was reported. The zero changes has none.
type changes struct {
	reported bool
	needed   bool
	text     string // the reason, or the error
}

// differ says whether need differs from the last answer for those who read it, and
// remembers it.
func (c *changes) differ(need agent.Need) bool {
	next := changes{reported: true, needed: need.Needed, text: need.Reason}
	if need.Err != nil {
		next.needed, next.text = false, "error: "+need.Err.Error()
	}
	if *c == next {
		return false
	}
	*c = next
	return true
}
