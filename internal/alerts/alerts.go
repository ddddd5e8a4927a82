// Package alerts keeps a machine from rebooting while Prometheus has alerts: one
// check, which asks its HTTP API. It knows what an alert is, and nothing of what
// becomes of a check's answer.
package alerts

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/locksmith-reboot/locksmith/internal/agent"
)

// DefaultTimeout is how long Prometheus has to answer.
const DefaultTimeout = 10 * time.Second

// Config is which alerts block.
type Config struct {
	// URL is where Prometheus is, http or https, with the prefix of its paths where
	// it has one: "https://prometheus.example.org/prom". A user and password in it
	// are sent, and left out of what is said of it. Required.
	URL string

	// Match and Ignore are held against the alert's name. Alerts block that Match
	// matches, or all of them where it is nil, and Ignore does not. Like all
	// expressions they match anywhere in the name unless anchored. Ignore should
	// match what always fires, such as Watchdog.
	Match, Ignore *regexp.Regexp

	IncludePending bool          // alerts block too that are not firing yet
	Timeout        time.Duration // 0: DefaultTimeout
}

// Check is an agent.Check; make it with New. It may be run concurrently.
type Check struct {
	cfg    Config
	client client
}

var _ agent.Check = (*Check)(nil)

// New refuses a URL that cannot be asked, and a negative Timeout. The errors do not
// show the URL's password.
func New(cfg Config) (*Check, error) {
	u, err := parseURL(cfg.URL)
	switch {
	case err != nil:
		return nil, err
	case cfg.Timeout < 0:
		return nil, fmt.Errorf("invalid time limit %v of alerts: must be longer than zero, such as 10s", cfg.Timeout)
	case cfg.Timeout == 0:
		cfg.Timeout = DefaultTimeout
	}
	return &Check{cfg: cfg, client: newClient(u)}, nil
}

// password is what may stand between a URL's scheme and host, also of one that is
// not valid.
var password = regexp.MustCompile(`^([^/]*//|).*@`)

func parseURL(s string) (*url.URL, error) {
	shown := password.ReplaceAllString(s, "${1}…@")
	bad := func(why string) error {
		return fmt.Errorf("invalid URL %q of alerts: %s; must be like http://prometheus.example.org:9090", shown, why)
	}
	u, err := url.Parse(s)
	switch {
	case err != nil:
		var parse *url.Error
		if errors.As(err, &parse) { // it has the password
			err = parse.Err
		}
		if shown != s { // and so may its reason
			return nil, bad("it cannot be read")
		}
		return nil, bad(err.Error())
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, bad("it is neither http nor https")
	case u.Hostname() == "":
		return nil, bad("it has no host")
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return nil, bad("it has more than a host and a path")
	}
	return u, nil
}

// Name is "alerts".
func (c *Check) Name() string { return "alerts" }

// Run returns nil where no alert blocks, else a *agent.Veto for each name of
// alerts that do, joined where there are several and bounded in number. Where
// Prometheus cannot be asked, or its answer cannot be read, that is the error.
func (c *Check) Run(ctx context.Context, _ agent.About) error {
	ctx, cancel := context.WithTimeoutCause(ctx, c.cfg.Timeout, fmt.Errorf("no answer within %v", c.cfg.Timeout))
	defer cancel()
	body, err := c.client.get(ctx)
	if err == nil {
		var found []alert
		if found, err = decode(body); err == nil {
			return vetoes(c.blocking(found))
		}
	}
	return fmt.Errorf("cannot be asked: %s: %w", c.client.url, err)
}

// blocking picks the alerts that keep the machine from rebooting. A state that is not
// known counts as firing.
func (c *Check) blocking(found []alert) []alert {
	var list []alert
	for _, a := range found {
		name := a.name()
		switch {
		case a.State == "inactive", a.State == "pending" && !c.cfg.IncludePending:
		case c.cfg.Match != nil && !c.cfg.Match.MatchString(name):
		case c.cfg.Ignore != nil && c.cfg.Ignore.MatchString(name):
		default:
			list = append(list, a)
		}
	}
	return list
}

// oneLine makes text from outside safe to show, and short.
func oneLine(s string, limit int) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "\uFFFD"))
	s = strings.Join(strings.Fields(s), " ")
	if r := []rune(s); len(r) > limit {
		return string(r[:limit-1]) + "…"
	}
	return s
}
