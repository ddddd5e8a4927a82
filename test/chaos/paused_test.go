package chaos_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/test/chaos"
)

func TestPausedStore(t *testing.T) {
	const (
		acquired  = "web/=a rack/=a web/a:1:acquired rack/a:1:acquired"
		rebooting = "web/a:1:rebooting rack/a:1:rebooting"
	)
	for scope, name := range map[string]string{"web": "group web", "rack": "group rack", "*": "all groups", "!a": "machine a"} {
		paused := `is paused: "freeze"`
		for _, c := range []struct {
			name    string
			history []string
			want    string
		}{
			{"before", []string{acquired, rebooting, scope + "/pause"}, ""},
			{"after", []string{scope + "/pause", scope + "/resume", acquired, rebooting}, ""},
			{"at the grant", []string{scope + "/pause", acquired}, "revision 2: a was given a slot while " + name + " " + paused},
			{"at the step", []string{acquired, scope + "/pause", rebooting}, "revision 3: a stepped to its reboot while " + name + " " + paused},
			{"after the step", []string{acquired, rebooting, scope + "/pause", "web/a:2:verifying rack/a:2:verifying"}, ""},
			{"unreadable", []string{acquired, scope + "/garbled", rebooting}, "is paused: unreadable"},
			{"over by itself", []string{acquired, scope + "/over", rebooting}, ""},
			{"another policy", []string{acquired, scope + "/other", rebooting}, ""},
		} {
			t.Run(name+", "+c.name, func(t *testing.T) {
				_, violations := chaos.CheckStore(changes(c.history...), rules)
				found(t, violations, c.want)
			})
		}
	}
	t.Run("somebody else's", func(t *testing.T) {
		_, violations := chaos.CheckStore(changes("rack/pause", "!c/pause", "web/=b web/b:1:acquired", "web/b:1:rebooting"), rules)
		found(t, violations, "")
	})
	t.Run("no reboot", func(t *testing.T) {
		_, violations := chaos.CheckStore(changes("web/pause", "web/=b web/b:1:acquired:lock"), rules)
		found(t, violations, "")
	})
}

func TestCheckPaused(t *testing.T) {
	all := locksmith.PauseScope{All: true}
	for _, scope := range []locksmith.PauseScope{all, {Machine: "a"}, {Group: "web"}, {Group: "rack"}} {
		for _, c := range []struct{ name, told, want string }{
			{"asked and granted", "P asks a 1 slot/granted a 1 slot", "a asked while S was paused, and was granted it"},
			{"asked before", "asks a 1 slot/P granted a 1 slot", ""},
			{"granted after", "P asks a 1 slot/R granted a 1 slot", ""},
			{"asked after", "P R asks a 1 reboot/granted a 1 reboot", ""},
			{"refused", "P asks a 1 reboot/asks a 1 slot/R granted a 1 slot", ""},
			{"something else", "asks a 1 slot/granted a 1 reboot", "a was granted what it did not ask for"},
			{"an earlier boot's", "asks a 1 slot/granted a 2 slot", "a was granted what it did not ask for"},
		} {
			t.Run(fmt.Sprint(scope, ", ", c.name), func(t *testing.T) {
				found(t, chaos.CheckPaused(spoken(c.told, scope), rules), strings.ReplaceAll(c.want, "S", scope.String()))
			})
		}
	}
	found(t, chaos.CheckPaused(spoken("P asks b 1 slot/granted b 1 slot", locksmith.PauseScope{Group: "rack"}), rules), "")
	found(t, chaos.CheckPaused(spoken("P asks b 1 slot/granted b 1 slot", locksmith.PauseScope{Machine: "a"}), rules), "")
}

// spoken reads lines "kind machine boot note", with a slash between them; P before one
// stands for a pause of the scope, R for that it is about to be ended.
func spoken(told string, scope locksmith.PauseScope) []chaos.Line {
	var list []chaos.Line
	for _, s := range strings.Split(told, "/") {
		for f := strings.Fields(s); len(f) > 0; f = f[1:] {
			switch f[0] {
			case "P":
				list = append(list, chaos.Line{Kind: chaos.KindPaused, Note: scope.String()})
				continue
			case "R":
				list = append(list, chaos.Line{Kind: chaos.KindResuming, Note: scope.String()})
				continue
			}
			list = append(list, chaos.Line{Kind: f[0], Machine: f[1], Boot: f[2], Note: f[3]})
			break
		}
	}
	return list
}
