package dashboard

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/locksmith-reboot/locksmith/internal/skip"
)

// TestScreenshots draws every page as it is for people to look at, into the directory
// LOCKSMITH_SHOTS.
func TestScreenshots(t *testing.T) {
	dir := os.Getenv("LOCKSMITH_SHOTS")
	if dir == "" {
		skip.LongForm(t, "LOCKSMITH_SHOTS=DIRECTORY go test -run TestScreenshots ./internal/dashboard")
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	r := newRig(t, false)
	s := r.seed(t)
	b := r.browse(t)
	pages := map[string]string{"sign-in": "/sign-in"}
	shoot := func() {
		for name, path := range pages {
			for _, width := range []int64{1280, 390} {
				for _, dark := range []bool{false, true} {
					scheme := map[bool]string{false: "light", true: "dark"}[dark]
					b.run(size(width, 900, dark))
					b.open(path)
					if name != "sign-in" {
						b.live()
					}
					png := ask(b, chromedp.FullScreenshot(100))
					if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%s-%d-%s.png", name, width, scheme)), png, 0o644); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
	}
	shoot()
	b.signIn(adminToken)
	failed, down, queued := s.id("web-14.fra1.example.net"), s.id("web-15.fra1.example.net"), s.id("web-20.fra1.example.net")
	pages = map[string]string{"overview": "/", "group": "/group?name=web", "group-paused": "/group?name=db", "machines": "/machines",
		"machine-failed": machineURL(failed), "machine-queued": machineURL(queued), "history": "/history",
		"unlock": address("/act/unlock", "group", "web", "machine", down), "pause": "/act/pause?group=web", "resume": "/act/resume?group=db",
		"set-max": "/act/set-max?group=web&max=7", "new-group": "/act/set-max?new=1", "nothing": "/group?name=nothing"}
	shoot()
	for name, of := range map[string]struct {
		path          string
		width, height int64
		dark          bool
	}{"dashboard": {"/", 1280, 1340, false}, "dashboard-phone": {"/group?name=web", 390, 1100, true}} { // for docs/images
		b.run(size(of.width, of.height, of.dark))
		b.open(of.path)
		b.live()
		if err := os.WriteFile(filepath.Join(dir, name+".png"), ask(b, chromedp.CaptureScreenshot()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	b.forgive("404 (Not Found)")
}
