package trigger

import (
	"cmp"
	"regexp"
	"slices"
	"strings"
)

// release is the name of a kernel, as uname -r prints it, taken apart. Distributions
// agree on nothing but that the upstream version comes first:
//
//	6.1.0-31-amd64, 6.1.0-31-cloud-amd64    Debian
//	6.12.38+deb13-amd64                     Debian 13
//	6.8.0-1004-raspi                        Ubuntu
//	5.14.0-503.11.1.el9_5.x86_64+debug      RHEL
//	6.10.0-0.rc1.20240531git4a4be1a.18.fc41.x86_64
//	6.4.0-150600.23.7-default               SUSE
//	6.9.1-arch1-1, 6.9.1-zen1-1-zen         Arch
type release struct {
	text    string
	version []field
	// flavour is what two kernels have in common that may stand in for each other:
	// the architecture, "debug", "rt", "cloud". It is empty where the name has none.
	flavour string
}

// field is one step of a version: its parts in order of precedence.
type field struct {
	rank   int
	number string // without leading zeros
	word   string
}

// Where two versions first differ, the field with the higher rank is newer. The end
// of a version is a field too: a candidate is older than what it is a candidate for,
// and 6.9 is older than 6.9-1, and that than 6.9.1.
const (
	rankCandidate = iota // ~ and rc
	rankEnd
	rankDash
	rankWord
	rankNumber
)

// maxRelease bounds a kernel's name in bytes; uname has 64 for it.
const maxRelease = 128

var (
	releaseName = regexp.MustCompile(`^[0-9][0-9A-Za-z.+~_-]*$`)

	// rpm's architecture is the last part of the version, or all after it.
	rpmArch = regexp.MustCompile(`\.(x86_64|aarch64|ppc64le|ppc64|s390x|i[3-6]86|armv7h?l|riscv64|loongarch64|sw_64|noarch)([+.-].*)?$`)

	// Parts between dashes that belong to the version although they begin with a
	// letter: candidates, Gentoo's revisions, git's hashes; and, where a number
	// follows, "arch1" and the like.
	versionPart = regexp.MustCompile(`^(rc[0-9]+|r[0-9]+|g[0-9a-f]{7,40})$`)
	countedWord = regexp.MustCompile(`^[a-z]+[0-9]+$`)
	number      = regexp.MustCompile(`^[0-9]+$`)

	// Hashes order nothing.
	gitHash = regexp.MustCompile(`(git|\bg)[0-9a-f]{7,40}\b`)

	token = regexp.MustCompile(`[0-9]+|[A-Za-z]+|~|-`)
)

// distributions are words in a version that are in every kernel of a distribution's
// own, or say how it was built: another one of them is no other flavour.
var distributions = []string{"el", "fc", "amzn", "azl", "cm", "oe", "mga", "deb", "bpo", "unreleased", "git", "g", "rc", "r"}

// parseRelease takes a kernel's name apart. It is false for what is none: Arch's
// "vmlinuz-linux" names no version.
func parseRelease(text string) (release, bool) {
	if len(text) > maxRelease || !releaseName.MatchString(text) {
		return release{}, false
	}
	version, rest := splitRelease(text)
	version = gitHash.ReplaceAllString(version, "$1")
	r := release{text: text, flavour: rest}
	var words []string
	for _, t := range token.FindAllString(version, -1) {
		switch {
		case t == "~" || t == "rc":
			// "~rc6" and "-rc6" are one step.
			if n := len(r.version); n > 0 && (r.version[n-1].rank == rankDash || r.version[n-1].rank == rankCandidate) {
				r.version = r.version[:n-1]
			}
			r.version = append(r.version, field{rank: rankCandidate})
		case t == "-":
			r.version = append(r.version, field{rank: rankDash})
		case number.MatchString(t):
			r.version = append(r.version, field{rank: rankNumber, number: strings.TrimLeft(t, "0")})
		default:
			r.version = append(r.version, field{rank: rankWord, word: t})
			if !slices.Contains(distributions, t) {
				words = append(words, t)
			}
		}
	}
	// A word in the middle that is no distribution's makes a flavour too: Oracle's
	// el9uek, the real-time rt56 of RHEL 7, Arch's zen1.
	if len(words) > 0 {
		r.flavour = strings.Join(words, ".") + "/" + rest
	}
	return r, true
}

// splitRelease tells the version from what follows it.
func splitRelease(text string) (version, rest string) {
	if at := rpmArch.FindStringSubmatchIndex(text); at != nil {
		return text[:at[0]], text[at[2]:]
	}
	parts := strings.Split(text, "-")
	n := 1
	for n < len(parts) {
		p := parts[n]
		counted := countedWord.MatchString(p) && n+1 < len(parts) && number.MatchString(parts[n+1])
		if p == "" || p[0] < '0' || p[0] > '9' {
			if !versionPart.MatchString(p) && !counted {
				break
			}
		}
		n++
	}
	version, tail := strings.Join(parts[:n], "-"), parts[n:]
	if last := len(tail) - 1; last > 0 && versionPart.MatchString(tail[last]) {
		version, tail = version+"-"+tail[last], tail[:last] // 6.6.30-gentoo-r1
	}
	return version, strings.Join(tail, "-")
}

// compare says whether r is older (-1) or newer (+1) than o. It looks at nothing but
// the versions: kernels of different flavours may be equal.
func (r release) compare(o release) int {
	for i := 0; ; i++ {
		a, b := r.field(i), o.field(i)
		if c := cmp.Or(
			cmp.Compare(a.rank, b.rank),
			cmp.Compare(len(a.number), len(b.number)),
			cmp.Compare(a.number, b.number),
			cmp.Compare(a.word, b.word),
		); c != 0 {
			return c
		}
		if a.rank == rankEnd {
			return 0
		}
	}
}

// field is the field at i, after the last one the end.
func (r release) field(i int) field {
	if i < len(r.version) {
		return r.version[i]
	}
	return field{rank: rankEnd}
}
