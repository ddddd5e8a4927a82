package journal

import (
	"os"
	"strconv"
	"strings"
	"syscall"
)

// Under says whether stderr goes to the journal, as it does for a service of
// systemd's that says nothing else: $JOURNAL_STREAM names, as device:inode, the
// file that systemd connected to it, and one that was redirected is another.
func Under(stderr *os.File) bool {
	dev, ino, found := strings.Cut(os.Getenv("JOURNAL_STREAM"), ":")
	if !found || stderr == nil {
		return false
	}
	info, err := stderr.Stat()
	if err != nil {
		return false
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && dev == strconv.FormatUint(uint64(st.Dev), 10) && ino == strconv.FormatUint(st.Ino, 10)
}
