package trigger

import (
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func mustRelease(t testing.TB, text string) release {
	t.Helper()
	r, ok := parseRelease(text)
	if !ok {
		t.Fatalf("%q is no release", text)
	}
	return r
}

// Each line lists kernels of one flavour, oldest first.
var ladders = [][]string{
	{"5.10.0-0.bpo.9-amd64", "6.1.0-0.deb11.5-amd64", "6.1.0-9-amd64", "6.1.0-28-amd64", "6.1.0-31-amd64", "6.12~rc6-amd64",
		"6.12.9+bpo-amd64", "6.12.12+bpo-amd64", "6.12.38+deb13-amd64", "6.12.38+deb13+1-amd64", "6.12.41+deb13-amd64",
		"6.13~rc6-amd64", "6.13-amd64"},
	{"6.1.0-28-cloud-amd64", "6.1.0-31-cloud-amd64", "6.12.38+deb13-cloud-amd64"},
	{"6.1.0-28-686-pae", "6.1.0-31-686-pae"},
	{"6.12.38+deb13-arm64-16k", "6.12.41+deb13-arm64-16k"},
	{"5.4.0-42-generic", "5.15.0-9-generic", "5.15.0-91-generic", "6.8.0-31-generic"},
	{"6.5.0-999-aws", "6.5.0-1014-aws", "6.8.0-1004-aws"},
	{"4.18.0-553.el8_10.x86_64", "5.14.0-427.el9.x86_64", "5.14.0-427.el9_4.x86_64", "5.14.0-427.13.1.el9_4.x86_64",
		"5.14.0-503.11.1.el9_5.x86_64", "5.14.0-503.14.1.el9_5.x86_64", "6.12.0-55.el10.x86_64"},
	{"5.14.0-503.11.1.el9_5.x86_64+debug", "5.14.0-503.14.1.el9_5.x86_64+debug"},
	{"4.18.0-553.rt7.342.el8_10.x86_64", "4.18.0-553.5.1.rt7.346.el8_10.x86_64"},
	{"5.15.0-205.149.5.1.el9uek.x86_64", "5.15.0-206.153.7.el9uek.x86_64"},
	{"6.8.9-300.fc40.x86_64", "6.10.0-0.rc0.20240520gitdeadbeefcafe.7.fc41.x86_64", "6.10.0-0.rc1.20240531gita4be1ad3a6e0.18.fc41.x86_64",
		"6.10.0-0.rc1.20240601git0123456789ab.19.fc41.x86_64", "6.10.0-0.rc2.23.fc41.x86_64", "6.10.0-61.fc41.x86_64", "6.10.3-200.fc40.x86_64"},
	{"6.1.61-85.141.amzn2023.x86_64", "6.1.109-118.189.amzn2023.x86_64"},
	{"5.14.21-150500.55.62-default", "6.4.0-150600.21-default", "6.4.0-150600.23.7-default", "6.9.1-1-default",
		"6.10.0-rc3-1.g1234abc-default", "6.10.0-rc3-2-default", "6.10.0-1-default"},
	{"6.9-arch1-1", "6.9.1-arch1-1", "6.9.1-arch1-2", "6.9.1-arch2-1", "6.9.2-arch1-1", "6.10-arch1-1", "6.10.1-arch1-1"},
	{"6.9.1-zen1-1-zen", "6.9.2-zen1-1-zen"},
	{"6.6-1-lts", "6.6.1-1-lts", "6.6.1-2-lts", "6.6.30-1-lts"},
	{"6.6.30-gentoo", "6.6.30-gentoo-r1", "6.6.30-gentoo-r2", "6.6.31-gentoo"},
	{"6.6.20+rpt-rpi-v8", "6.6.31+rpt-rpi-v8"},
	{"6.6.20+rpt-rpi-2712", "6.6.31+rpt-rpi-2712"},
	{"6.1.20-v8+", "6.1.21-v8+"},
	{"6.8.4-2-pve", "6.8.12-1-pve"},
	{"6.10.0-rc3", "6.10.0-rc3-00123-g1234abc", "6.10.0-rc4", "6.10.0"},
	{"9007199254740993000000000000000000001", "9007199254740993000000000000000000002"},
}

func TestReleasesInOrder(t *testing.T) {
	for _, ladder := range ladders {
		for i, a := range ladder {
			for j, b := range ladder {
				x, y := mustRelease(t, a), mustRelease(t, b)
				want := 0
				if i < j {
					want = -1
				} else if i > j {
					want = 1
				}
				if got := x.compare(y); got != want {
					t.Errorf("%s compared to %s: %d, want %d", a, b, got, want)
				}
				if x.flavour != y.flavour {
					t.Errorf("%s is %q, %s is %q: not the same flavour", a, x.flavour, b, y.flavour)
				}
			}
		}
	}
}

// Each of these is of a flavour of its own.
func TestFlavours(t *testing.T) {
	seen := map[string]string{}
	for _, text := range []string{
		"6.1.0-31-amd64", "6.1.0-31-cloud-amd64", "6.1.0-31-rt-amd64", "6.1.0-31-686", "6.1.0-31-686-pae", "6.1.0-31-rt-686-pae",
		"6.1.0-31-amd64.dpkg-new", "6.1.0-31-amd64.old",
		"5.15.0-91-generic", "5.15.0-91-lowlatency", "5.15.0-91-generic-64k", "6.5.0-1014-aws",
		"5.14.0-503.el9.x86_64", "5.14.0-503.el9.x86_64+debug", "5.14.0-503.el9.x86_64+rt", "5.14.0-503.el9.aarch64", "5.14.0-503.el9.aarch64+64k",
		"4.18.0-553.rt7.342.el8_10.x86_64", "5.15.0-206.153.7.el9uek.x86_64", "6.9.1-1.el9.elrepo.x86_64",
		"6.4.0-150600.23.7-default", "6.4.0-150600.23.7-rt", "6.4.0-150600.23.7-default.xz",
		"6.9.1-arch1-1", "6.9.1-zen1-1-zen", "6.9.1-hardened1-1-hardened", "6.6.30-1-lts",
		"6.6.31+rpt-rpi-v8", "6.6.31+rpt-rpi-2712", "6.1.21-v8+", "6.1.21-v7+", "0-rescue-0123456789abcdef",
	} {
		r := mustRelease(t, text)
		if other, ok := seen[r.flavour]; ok {
			// i386's plain kernel has no flavour in its name.
			t.Errorf("%s and %s are both %q", text, other, r.flavour)
		}
		seen[r.flavour] = text
	}
}

func TestNoReleases(t *testing.T) {
	for _, text := range []string{"", "linux", "linux-lts", "a", "-1", "6.1/2", "6.1 2", "6.1\n", "6.1\x00", "6.1…", ".", "..", strings.Repeat("6", maxRelease+1)} {
		if r, ok := parseRelease(text); ok {
			t.Errorf("%q was read as %+v", text, r)
		}
	}
}

// releases makes names out of what names are made of, in any order.
func releases() *rapid.Generator[release] {
	part := rapid.SampledFrom([]string{"0", "1", "01", "2", "10", "99", "rc", "rc1", "rc2", "~", "~rc1", "el9", "el9_5", "fc41", "deb13", "amd64",
		"generic", "arch1", "zen1", "git0123456", "g1234abc", "x86_64", "debug", "r1", "a", "b"})
	separator := rapid.SampledFrom([]string{".", "-", "+", "_", "", "."})
	return rapid.Custom(func(t *rapid.T) release {
		text := rapid.SampledFrom([]string{"6", "6.1", "6.1.0", "6.10"}).Draw(t, "upstream")
		for range rapid.IntRange(0, 5).Draw(t, "parts") {
			text += separator.Draw(t, "separator") + part.Draw(t, "part")
		}
		r, ok := parseRelease(text)
		if !ok {
			t.Fatalf("%q is no release", text)
		}
		return r
	})
}

func TestCompareIsAnOrder(t *testing.T) {
	one := releases()
	rapid.Check(t, func(t *rapid.T) {
		a, b, c := one.Draw(t, "a"), one.Draw(t, "b"), one.Draw(t, "c")
		if a.compare(a) != 0 {
			t.Fatalf("%s is not equal to itself", a.text)
		}
		if a.compare(b) != -b.compare(a) {
			t.Fatalf("%s compared to %s: %d, and the other way round: %d", a.text, b.text, a.compare(b), b.compare(a))
		}
		if a.compare(b) <= 0 && b.compare(c) <= 0 && a.compare(c) > 0 {
			t.Fatalf("%s <= %s <= %s, but not the first and the last", a.text, b.text, c.text)
		}
		if a.compare(b) == 0 && a.compare(c) != b.compare(c) {
			t.Fatalf("%s equals %s, but not compared to %s", a.text, b.text, c.text)
		}
	})
}

func FuzzCompareReleases(f *testing.F) {
	for _, ladder := range ladders {
		f.Add(ladder[0], ladder[len(ladder)-1])
	}
	f.Add("6.1~~rc-rc--1", "6.1~rc~")
	f.Fuzz(func(t *testing.T, x, y string) {
		a, ok := parseRelease(x)
		if !ok {
			return
		}
		if a.compare(a) != 0 {
			t.Fatalf("%q is not equal to itself", x)
		}
		if b, ok := parseRelease(y); ok && a.compare(b) != -b.compare(a) {
			t.Fatalf("%q compared to %q: %d, and the other way round: %d", x, y, a.compare(b), b.compare(a))
		}
	})
}
