package access

import (
	"crypto/rand"
	"crypto/subtle"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/locksmith-reboot/locksmith"
)

// principals are all that an access file names.
type principals struct {
	byName        map[string]*principal
	byToken       map[digest]*principal
	byCertificate map[string]*principal
	patterns      []*principal // certificates with a "*", the longest first
	nobody        digest       // of no token
}

// parsePrincipals reads an access file.
func parsePrincipals(files []content) (*principals, error) {
	file := files[0]
	fail := func(err error) (*principals, error) { return nil, fmt.Errorf("%s: %w", file.path, err) }
	if file.mode&0o002 != 0 {
		return fail(fmt.Errorf("everybody on the machine may write it: chmod o-rwx %s", file.path))
	}
	list, err := entries(file.data)
	if err != nil {
		return fail(err)
	}
	t := &principals{byName: make(map[string]*principal, len(list)), byToken: make(map[digest]*principal, len(list)),
		byCertificate: make(map[string]*principal)}
	rand.Read(t.nobody[:]) // never fails
	for i := range list {
		p, err := list[i].principal()
		if err == nil {
			err = t.add(p)
		}
		if err != nil {
			return fail(err)
		}
	}
	// The digest of a weak token tells the token to who tries many, and sessions are
	// signed with what is derived from it: neither is for everybody's eyes.
	if len(t.byToken) > 0 && file.mode&0o004 != 0 {
		return fail(fmt.Errorf("it holds tokens or their digests, and everybody on the machine may read it: chmod o-rwx %s", file.path))
	}
	slices.SortStableFunc(t.patterns, func(a, b *principal) int { return len(b.certificate) - len(a.certificate) })
	return t, nil
}

// add refuses what is there already.
func (t *principals) add(p *principal) error {
	fail := func(what string, other *principal) error {
		return fmt.Errorf("line %d: principal %q has the same %s as %q in line %d", p.line, p.caller.Name, what, other.caller.Name, other.line)
	}
	if other := t.byName[p.caller.Name]; other != nil {
		return fail("name", other)
	}
	t.byName[p.caller.Name] = p
	if p.hasToken() {
		if other := t.byToken[p.token]; other != nil {
			return fail("token", other)
		}
		t.byToken[p.token] = p
	}
	if p.certificate == "" {
		return nil
	}
	if other := t.byCertificate[p.certificate]; other != nil {
		return fail("certificate", other)
	}
	t.byCertificate[p.certificate] = p
	if strings.Contains(p.certificate, "*") {
		if t.patterns = append(t.patterns, p); len(t.patterns) > maxPatterns {
			return fmt.Errorf("line %d: principal %q: more than %d certificates with a *", p.line, p.caller.Name, maxPatterns)
		}
	}
	return nil
}

// withToken is who has the token, or nil.
//
// The map is searched by the token's SHA-256. How long that takes may tell how the
// digest of a guess compares with stored ones; but nobody can choose what digest a guess
// has, nor come from a digest to its token, so knowing that helps no guess. What is
// found is compared again in constant time, for that to hold however maps are made.
func (t *principals) withToken(token string) *principal {
	if len(token) < minToken || len(token) > maxToken {
		return nil
	}
	sum := digestOf(token)
	p, stored := t.byToken[sum], t.nobody
	if p != nil {
		stored = p.token
	}
	if subtle.ConstantTimeCompare(sum[:], stored[:]) != 1 {
		return nil
	}
	return p
}

// withPassword is the principal of that name, if the token is its; or nil. An unknown
// name takes as long as a wrong token.
func (t *principals) withPassword(name, token string) *principal {
	if len(token) < minToken || len(token) > maxToken {
		return nil
	}
	sum := digestOf(token)
	p, stored := t.byName[name], t.nobody
	if p != nil && p.hasToken() {
		stored = p.token
	}
	if subtle.ConstantTimeCompare(sum[:], stored[:]) != 1 {
		return nil
	}
	return p
}

// withCertificate is whom a verified client certificate names. Names without a "*" go
// before those with, longer patterns before shorter ones, and the common name before
// DNS names and URIs.
func (t *principals) withCertificate(leaf *x509.Certificate) (Caller, error) {
	in := namesIn(leaf)
	var found *principal
	for _, name := range in {
		p := t.byCertificate[name]
		if p == nil || p == found {
			continue
		}
		if found != nil {
			return Caller{}, fmt.Errorf("the client certificate names two: %s and %s", found.caller.Name, p.caller.Name)
		}
		found = p
	}
	if found != nil {
		return found.caller, nil
	}
	for _, p := range t.patterns {
		for _, name := range in {
			if star, ok := p.star(name); ok {
				return p.bound(star)
			}
		}
	}
	if len(in) == 0 {
		return Caller{}, errors.New("the client certificate has no common name, DNS name or URI without a *")
	}
	return Caller{}, fmt.Errorf("nobody is known by the client certificate of %s", clip(in[0]))
}

// star is what the "*" of p's certificate stands for in a name.
func (p *principal) star(name string) (string, bool) {
	before, after, _ := strings.Cut(p.certificate, "*")
	rest, ok := strings.CutPrefix(name, before)
	if !ok {
		return "", false
	}
	star, ok := strings.CutSuffix(rest, after)
	return star, ok && star != ""
}

// bound is p with the machine's id that its certificate gives.
func (p *principal) bound(star string) (Caller, error) {
	c := p.caller
	if !p.fromCertificate {
		return c, nil
	}
	if err := locksmith.CheckMachineID(star); err != nil {
		return Caller{}, fmt.Errorf("the client certificate says no machine's id: %w", err)
	}
	c.Machine = star
	return c, nil
}

// namesIn are the names in a certificate: the common name, DNS names, URIs. One with a
// "*" stands for many, and so for nobody.
func namesIn(c *x509.Certificate) []string {
	in := append([]string{c.Subject.CommonName}, c.DNSNames...)
	for _, u := range c.URIs {
		in = append(in, u.String())
	}
	return slices.DeleteFunc(in, func(name string) bool { return name == "" || strings.Contains(name, "*") })
}

// clip quotes a text from outside for a message.
func clip(s string) string {
	if len(s) > 100 {
		s = s[:100] + "…"
	}
	return fmt.Sprintf("%q", s)
}
