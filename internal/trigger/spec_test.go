package trigger

import (
	"strings"
	"testing"
	"time"
)

func TestParse(t *testing.T) {
	for text, want := range map[string]string{ // "" means: as it was given
		"auto": "", "update-engine": "", "needs-restarting": "", "zypper": "", "kernel": "",
		"file:/run/reboot-required":   "",
		"file:/var/run//./x y":        "file:/var/run/x y",
		"uptime:30d":                  "",
		"uptime:2w":                   "uptime:14d",
		"uptime:1w2d12h":              "uptime:228h",
		"uptime:1h":                   "",
		"uptime:90m":                  "uptime:1h30m",
		"uptime:3650d":                "",
		"uptime:0w0d61m1s":            "uptime:1h1m1s",
		"command:yes=1,no=0:/bin/ask": "",
		"command:no=0,yes=1,yes=2,yes=1,timeout=90s,interval=1d:/bin/ask":      "command:yes=1,yes=2,no=0,interval=1d,timeout=1m30s:/bin/ask",
		"command:yes=0,no=1:/bin/sh -c 'a b; c'":                               "",
		`command:yes=0,no=1:  "/opt/my tool" it\'s "a \"b\"" --x=1 ''`:         `command:yes=0,no=1:'/opt/my tool' 'it'\''s' 'a "b"' --x=1 ''`,
		"command:yes=0,no=1:/bin/ask http://example.org:80/ yes=1,no=0:/bin/x": "",
	} {
		if want == "" {
			want = text
		}
		s, err := Parse(text)
		if err != nil || s.String() != want {
			t.Errorf("%q: %q, %v, want %q", text, s, err, want)
			continue
		}
		if again, err := Parse(want); err != nil || again.String() != want {
			t.Errorf("%q, read again: %q, %v", want, again, err)
		}
	}
	s, err := Parse("command:yes=102,no=0,no=3,interval=30m,timeout=1m:/usr/bin/ask 'why not'")
	if c := s.command; err != nil || c.Path != "/usr/bin/ask" || len(c.Args) != 1 || c.Args[0] != "why not" || len(c.Yes) != 1 || c.Yes[0] != 102 ||
		len(c.No) != 2 || c.No[1] != 3 || c.Interval != 30*time.Minute || c.Timeout != time.Minute {
		t.Errorf("%+v, %v", c, err)
	}
}

func TestParseRefuses(t *testing.T) {
	const (
		syntax  = "must be " + Syntax
		file    = "must be file: and the absolute path of a file, without .., like file:/run/reboot-required"
		codes   = "it does not say which exit statuses mean yes and no: " + commandSyntax
		uptimes = "the uptime must be at least 1h and at most 3650d"
	)
	span := func(s string) string { return `"` + s + `" is no duration: give one like 30d, 1w2d or 12h30m` }
	for text, want := range map[string]string{
		"":               syntax,
		"Kernel":         syntax,
		" kernel":        syntax,
		"sentinel:/run":  syntax,
		"control":        "requests on the control socket always count, leave it out",
		"kernel:":        "nothing may follow kernel",
		"auto:debian":    "nothing may follow auto",
		"kernel\n":       "give one line of text, in UTF-8",
		"file:\xff":      "give one line of text, in UTF-8",
		"file":           file,
		"file:":          file,
		"file:run/x":     file,
		"file:/":         file,
		"file:/run/":     file,
		"file:/.":        file,
		"file:/run/../x": file,
		"file:/run/..":   file,

		"uptime":                       span(""),
		"uptime:":                      span(""),
		"uptime:30":                    span("30"),
		"uptime:d":                     span("d"),
		"uptime:-30d":                  span("-30d"),
		"uptime:1d2w":                  span("1d2w"),
		"uptime:1d -2h":                span("1d -2h"),
		"uptime:1d+2h":                 span("1d+2h"),
		"uptime:99999999999999999999d": span("99999999999999999999d"),
		"uptime:2000000h2000000h":      span("2000000h2000000h"),
		"uptime:59m":                   uptimes,
		"uptime:0d":                    uptimes,
		"uptime:3651d":                 uptimes,
		"uptime:9999w99999d":           uptimes,

		"command":                                     codes,
		"command:":                                    codes,
		"command:/bin/ask":                            codes,
		"command:/bin/ask x:y":                        codes,
		"command:yes=1:/bin/ask":                      codes,
		"command:no=1:/bin/ask":                       codes,
		"command::/bin/ask":                           `unknown option "": ` + commandSyntax,
		"command:yes=1,no=0,every=1h:/x":              `unknown option "every=1h": ` + commandSyntax,
		"command:yes=1,no=0,:/x":                      `unknown option "": ` + commandSyntax,
		"command:yes=1, no=0:/x":                      `unknown option " no=0": ` + commandSyntax,
		"command:yes=1,no=1:/x":                       "status 1 cannot mean both yes and no",
		"command:yes=,no=1:/x":                        `exit status "" must be a number from 0 to 125`,
		"command:yes=-1,no=1:/x":                      `exit status "-1" must be a number from 0 to 125`,
		"command:yes=127,no=1:/x":                     `exit status "127" must be a number from 0 to 125`,
		"command:yes=257,no=1:/x":                     `exit status "257" must be a number from 0 to 125`,
		"command:yes=1,no=0,interval=30:/x":           "interval: " + span("30"),
		"command:yes=1,no=0,interval=59s:/x":          "interval must be at least 1m and at most 30d",
		"command:yes=1,no=0,interval=31d:/x":          "interval must be at least 1m and at most 30d",
		"command:yes=1,no=0,timeout=2h:/x":            "timeout must be at least 1s and at most 1h",
		"command:yes=1,no=0,timeout=0s:/x":            "timeout must be at least 1s and at most 1h",
		"command:yes=1,no=0,timeout=2m,timeout=2m:/x": "timeout is given twice",
		"command:yes=1,no=0:":                         "command is empty: give a program, and its arguments if it needs any",
		"command:yes=1,no=0:ask":                      `the program "ask" must be given by its absolute path`,
		"command:yes=1,no=0:! /bin/ask":               `the program "!" must be given by its absolute path`,
		"command:yes=1,no=0:/bin/ask 'x":              `command "/bin/ask 'x": the quote ' at "'x" is not closed`,
	} {
		s, err := Parse(text)
		if full := `invalid trigger "`; err == nil || !strings.HasPrefix(err.Error(), full) || !strings.HasSuffix(err.Error(), `": `+want) {
			t.Errorf("%q: %q, %v\nwant …%s", text, s, err, want)
		} else if strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: more than one line: %v", text, err)
		}
	}
	if _, err := Parse("file:/" + strings.Repeat("x", maxSpec)); err == nil || len(err.Error()) > 400 {
		t.Errorf("too long: %v", err)
	}
}

func FuzzParse(f *testing.F) {
	for _, text := range []string{"auto", "file:/run/reboot-required", "uptime:1w2d12h", "uptime:1.5h",
		"command:yes=1,no=0,interval=30m,timeout=1m:/path/of/program 'an argument'", `command:yes=0,no=125:"/a b"\ c ''`} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := Parse(text)
		if err != nil {
			if strings.Contains(err.Error(), "\n") {
				t.Fatalf("%q: more than one line: %v", text, err)
			}
			return
		}
		again, err := Parse(s.String())
		if err != nil || again.String() != s.String() {
			t.Fatalf("%q was read as %q, and that as %q, %v", text, s, again, err)
		}
		if s.kind == kindCommand {
			c := s.command
			c.Name = "x"
			if err := c.check(); err != nil {
				t.Fatalf("%q: %v", text, err)
			}
		}
	})
}
