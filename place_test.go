package locksmith_test

import (
	"strings"
	"testing"
	"time"

	"github.com/locksmith-reboot/locksmith"
)

func TestPlaceWordsCount(t *testing.T) {
	for n, want := range map[int]string{1: "1st", 2: "2nd", 3: "3rd", 4: "4th", 11: "11th", 12: "12th", 13: "13th", 21: "21st", 102: "102nd", 111: "111th"} {
		p := locksmith.Place{Group: "lb", Max: 1, Position: n, Waiting: 120}
		if got := p.Words(time.Unix(0, 0)); !strings.HasPrefix(got, want+" of 120 in group lb") {
			t.Errorf("%d: %s", n, got)
		}
	}
}
