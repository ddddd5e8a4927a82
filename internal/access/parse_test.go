package access

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func parsed(text string, mode fs.FileMode) (*principals, error) {
	return parsePrincipals([]content{{"access.json", []byte(text), mode}})
}

// one is a file whose second line is a principal with these fields.
func one(fields string) string { return "{\"principals\": [\n{" + fields + "}\n]}" }

func TestFileRefused(t *testing.T) {
	const token = `"token": "0123456789abcdef"`
	const operator = `"name": "al", "role": "operator", `
	const machine = `"name": "m", "role": "machine", `
	for name, tt := range map[string]struct{ text, want string }{
		"empty":             {"", "line 1: no JSON: unexpected end"},
		"syntax":            {"{\"principals\": [\n\n{]}", "line 3: no JSON: invalid character ']'"},
		"more":              {one(operator+token) + "\n\n{}", "line 5: no JSON: invalid character '{' after top-level value"},
		"a list":            {"[]", `must be {"principals"`},
		"null":              {"null", `must be {"principals"`},
		"nothing":           {"{}", `no field "principals"`},
		"other field":       {"{\n\"users\": []}", `line 2: unknown or repeated field "users"`},
		"twice":             {"{\"principals\": [],\n\"principals\": []}", `line 2: unknown or repeated field "principals"`},
		"no list":           {"{\"principals\":\n{}}", "line 2: principals must be a list"},
		"no object":         {"{\"principals\": [\n\"alice\"]}", "line 2: a principal must be an object"},
		"not UTF-8":         {one(`"name": "a` + "\xff" + `"`), "not UTF-8"},
		"unknown field":     {one("\"name\": \"al\",\n\"rôle\": \"x\""), `line 3: principal "al": unknown field "rôle": allowed are name, role`},
		"case":              {one(operator + `"Token": "0123456789abcdef"`), `line 2: principal "al": unknown field "Token"`},
		"field twice":       {one(operator + token + ",\n" + token), `line 3: principal "al": the field token is given twice`},
		"field null":        {one(operator + token + `, "groups": null`), "the field groups must be a list of strings"},
		"group null":        {one(operator + token + `, "groups": [null]`), "the field groups must be a list of strings"},
		"wrong type":        {one(`"role": "viewer", "name": 7`), "line 2: principal without a name so far: the field name must be a string"},
		"text for a bool":   {one(machine + `"certificate": "*", "machineFromCertificate": "yes"`), "must be true or false"},
		"no name":           {one(`"role": "viewer", ` + token), "field name is missing"},
		"bad name":          {one(`"name": "a:b", "role": "viewer", ` + token), "a name has 1 to 64 letters"},
		"long name":         {one(`"name": "` + strings.Repeat("a", 65) + `", "role": "viewer", ` + token), "a name has 1 to 64 letters"},
		"reserved name":     {one(`"name": "anonymous", "role": "viewer", ` + token), "choose another than anonymous, unknown, fleetlock"},
		"no role":           {one(`"name": "al", ` + token), `line 2: principal "al": unknown role ""`},
		"bad role":          {one(`"name": "al", "role": "boss", ` + token), `unknown role "boss": must be viewer, operator, admin or machine`},
		"no groups":         {one(operator + token + `, "groups": []`), "groups is empty, which would be none"},
		"bad group":         {one(operator + token + `, "groups": [".."]`), `invalid group ".."`},
		"group twice":       {one(operator + token + `, "groups": ["a", "a"]`), `group "a" is named twice`},
		"no credential":     {one(`"name": "al", "role": "operator"`), "give token, tokenSHA256 or certificate"},
		"short token":       {one(operator + `"token": "0123456789abcde"`), "has 15 characters, allowed are 16 to 256: make one with `locksmith-server token NAME` or `openssl rand -hex 32`"},
		"long token":        {one(operator + `"token": "` + strings.Repeat("0123456789", 26) + `"`), "has 260 characters"},
		"token with spaces": {one(operator + `"token": "correct horse battery"`), "or a space"},
		"poor token":        {one(operator + `"token": "aaaaaaaaaaaaaaaaaaaaaaaaa"`), "1 different characters"},
		"two tokens":        {one(operator + token + `, "tokenSHA256": "00"`), "both given"},
		"bad digest":        {one(operator + `"tokenSHA256": "0123"`), "must be the 64 hexadecimal digits"},
		"no digest":         {one(operator + `"tokenSHA256": "` + strings.Repeat("0", 64) + `"`), "must be the 64 hexadecimal digits"},
		"no certificate":    {one(operator + `"certificate": ""`), "certificate must be a name"},
		"people's pattern":  {one(operator + `"certificate": "*.example.com"`), "a * is for machines only"},
		"two stars":         {one(machine + `"certificate": "*.*"`), "at most one *"},
		"bound operator":    {one(operator + token + `, "machine": "m1"`), "for the role machine only, not operator"},
		"bad id":            {one(machine + token + `, "machine": "a b"`), `invalid machine id "a b"`},
		"empty id":          {one(machine + token + `, "machine": ""`), "invalid machine id"},
		"bound twice":       {one(machine + `"certificate": "*", "machine": "m", "machineFromCertificate": true`), "both given"},
		"nothing to take":   {one(machine + `"certificate": "m", "machineFromCertificate": true`), "write one, as in"},
		"a way round":       {one(machine + token + `, "certificate": "*", "machineFromCertificate": true`), "make two principals"},
		"same name":         {"{\"principals\": [{" + operator + token + "},\n{" + operator + `"certificate": "c"}]}`, `line 2: principal "al" has the same name as "al" in line 1`},
		"same token": {"{\"principals\": [{" + operator + token + "},\n{" + machine + fmt.Sprintf(`"tokenSHA256": "%X"}]}`, digestOf("0123456789abcdef")),
			`line 2: principal "m" has the same token as "al" in line 1`},
		"same certificate": {"{\"principals\": [{" + operator + `"certificate": "c"` + "},\n\n{" + machine + `"certificate": "c"}]}`,
			`line 3: principal "m" has the same certificate as "al" in line 1`},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := parsed(tt.text, 0o600)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("error %v\nwant   %s", err, tt.want)
			}
			if !strings.HasPrefix(err.Error(), "access.json: ") || strings.Contains(err.Error(), "\n") {
				t.Errorf("error %q: must name the file, in one line", err)
			}
			if strings.Contains(err.Error(), "0123456789abcdef") {
				t.Errorf("error %q shows a token", err)
			}
		})
	}
}

func TestFileAccepted(t *testing.T) {
	for name, tt := range map[string]struct {
		text string
		mode fs.FileMode
	}{
		"nobody any more":        {`{"principals": []}`, 0o644},
		"all kinds":              {somebody, 0o640},
		"the group may write":    {somebody, 0o660},
		"certificates, readable": {one(`"name": "al", "role": "viewer", "certificate": "al"`), 0o644},
		"not bound":              {one(`"name": "m", "role": "machine", "certificate": "*", "machineFromCertificate": false`), 0o600},
	} {
		if _, err := parsed(tt.text, tt.mode); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestFileMode(t *testing.T) {
	withDigest := one(fmt.Sprintf(`"name": "al", "role": "viewer", "tokenSHA256": "%x"`, digestOf(bobToken)))
	for _, tt := range []struct {
		text string
		mode fs.FileMode
		want string
	}{
		{somebody, 0o644, "everybody on the machine may read it: chmod o-rwx "},
		{withDigest, 0o604, "everybody on the machine may read it: chmod o-rwx "},
		{`{"principals": []}`, 0o602, "everybody on the machine may write it: chmod o-rwx "},
	} {
		path := filepath.Join(t.TempDir(), "access.json")
		write(t, path, tt.text)
		if err := os.Chmod(path, tt.mode); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(path, nil); err == nil || !strings.Contains(err.Error(), tt.want+path) {
			t.Errorf("mode %o: error %v, want %s", tt.mode, err, tt.want+path)
		}
	}
}

func TestOpenRefused(t *testing.T) {
	dir := t.TempDir()
	large := filepath.Join(dir, "large")
	write(t, large, strings.Repeat(" ", MaxFileSize+1))
	for path, want := range map[string]string{
		filepath.Join(dir, "none"): "access file: open " + dir + "/none: no such file",
		dir:                        "access file: " + dir + " is no regular file",
		large:                      "access file: " + large + " is longer than 4194304 bytes",
	} {
		if _, err := Open(path, nil); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("error %v, want %s", err, want)
		}
	}
}

// A fleet's file is read while requests wait for it.
func TestManyPrincipals(t *testing.T) {
	var text strings.Builder
	text.WriteString(`{"principals": [`)
	for i := range 10_000 {
		if i > 0 {
			text.WriteString(",\n")
		}
		token, sum := NewToken()
		if i%2 == 0 {
			fmt.Fprintf(&text, `{"name": "m%d", "role": "machine", "groups": ["web", "db"], "machine": "%x", "token": "%s"}`, i, i, token)
		} else {
			fmt.Fprintf(&text, `{"name": "m%d", "role": "machine", "groups": ["web", "db"], "machine": "%x", "tokenSHA256": "%s"}`, i, i, sum)
		}
	}
	text.WriteString("]}")
	began := time.Now()
	p, err := parsed(text.String(), 0o600)
	if err != nil || len(p.byToken) != 10_000 {
		t.Fatalf("%d tokens, error %v", len(p.byToken), err)
	}
	t.Logf("%d bytes read in %v", text.Len(), time.Since(began))
	if _, err := parsed(strings.Replace(text.String(), `"name": "m9999"`, `"name": "m0"`, 1), 0o600); err == nil ||
		!strings.Contains(err.Error(), `line 10000: principal "m0" has the same name as "m0" in line 1`) {
		t.Errorf("error %v", err)
	}
}

func TestManyPatterns(t *testing.T) {
	list := make([]string, 0, maxPatterns+1)
	for i := range maxPatterns + 1 {
		list = append(list, fmt.Sprintf(`{"name": "p%d", "role": "machine", "certificate": "*.%d"}`, i, i))
	}
	text := func(list []string) string { return `{"principals": [` + strings.Join(list, ",") + `]}` }
	if _, err := parsed(text(list[1:]), 0o600); err != nil {
		t.Error(err)
	}
	if _, err := parsed(text(list), 0o600); err == nil || !strings.Contains(err.Error(), "more than 100 certificates with a *") {
		t.Errorf("error %v", err)
	}
}

func TestNewToken(t *testing.T) {
	a, sum := NewToken()
	b, _ := NewToken()
	if a == b || len(a) != 64 || checkToken(a) != nil {
		t.Errorf("tokens %q and %q", a, b)
	}
	f, _, _, _ := newFile(t, one(`"name": "al", "role": "viewer", "tokenSHA256": "`+sum+`"`))
	if c, err := f.Caller(request(bearer(a))); err != nil || c.Name != "al" {
		t.Errorf("%v, error %v", c, err)
	}
}

// FuzzFile: a file is refused in one line, or all it names can be found and nobody has
// more than the file says.
func FuzzFile(f *testing.F) {
	f.Add(somebody)
	f.Add(one(`"name": "al", "role": "viewer", "token": "0123456789abcdef", "groups": ["a"]`))
	f.Add("{\"principals\": [\n{\"name\": null}, {}]}")
	f.Add(`{"principals": [{"name": "m", "role": "machine", "certificate": "*", "machineFromCertificate": true}]}`)
	f.Fuzz(func(t *testing.T, text string) {
		p, err := parsed(text, 0o600)
		if err != nil {
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("error in several lines: %q", err)
			}
			return
		}
		for name, one := range p.byName {
			c := one.caller
			if c.Name != name || !slices.Contains(Roles, c.Role) || c.Open || c.Groups != nil && len(c.Groups) == 0 {
				t.Errorf("%q became %+v", name, c)
			}
			if (c.Machine != "" || one.fromCertificate || strings.Contains(one.certificate, "*")) && c.Role != RoleMachine {
				t.Errorf("%+v is bound as a machine", c)
			}
			if !one.hasToken() && one.certificate == "" {
				t.Errorf("%+v has no credential", c)
			}
		}
	})
}
