package control

import (
	"context"
	"fmt"
)

// Windows is when locksmithd allows reboots: its windows and deny windows, in the
// form that internal/window reads. Both empty: at any time. Its errors are those of
// Status.
func (c Client) Windows(ctx context.Context) (allow, deny []string, err error) {
	s, err := c.Status(ctx)
	if err != nil {
		return nil, nil, err
	}
	if len(s.Windows)+len(s.DenyWindows) == 0 && !s.WindowStart.IsZero() {
		// It must not be taken for one without windows.
		return nil, nil, fmt.Errorf("locksmithd at %s is older than this program and does not tell its windows; restart it", c.path())
	}
	return s.Windows, s.DenyWindows, nil
}
