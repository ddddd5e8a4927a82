package access

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/locksmith-reboot/locksmith"
)

// MaxFileSize bounds the access file, in bytes.
const MaxFileSize = 4 << 20

// maxPatterns bounds certificate names with a "*", which are looked through one by one.
const maxPatterns = 100

// principal is somebody whom the access file names.
type principal struct {
	caller Caller // all but From

	token digest // of the token; zero where there is none

	certificate     string // a name in its certificate, or a pattern with one "*"; may be empty
	fromCertificate bool   // what the "*" stands for is the only id over FleetLock

	line int // in the file
}

func (p *principal) hasToken() bool { return p.token != digest{} }

// entry is one principal as the file has it.
type entry struct {
	Name                   string
	Role                   string
	Groups                 []string
	Token                  string
	TokenSHA256            string
	Certificate            string
	Machine                string
	MachineFromCertificate bool

	line  int
	given map[string]bool // the fields that are there
}

// field is where a field's value goes, and what it has to be.
func (e *entry) field(name string) (target any, want string) {
	switch name {
	case "name":
		return &e.Name, "a string"
	case "role":
		return &e.Role, "a string"
	case "groups":
		return &e.Groups, "a list of strings"
	case "token":
		return &e.Token, "a string"
	case "tokenSHA256":
		return &e.TokenSHA256, "a string"
	case "certificate":
		return &e.Certificate, "a string"
	case "machine":
		return &e.Machine, "a string"
	case "machineFromCertificate":
		return &e.MachineFromCertificate, "true or false"
	}
	return nil, ""
}

const fieldNames = "name, role, groups, token, tokenSHA256, certificate, machine, machineFromCertificate"

// reader reads the JSON of an access file with an eye on where things stand.
// encoding/json by itself takes "Role" for "role" and the last of two.
type reader struct {
	data []byte
	dec  *json.Decoder

	at, lines int // how many line ends there are before at
}

// line is where the next value starts.
func (r *reader) line() int {
	offset := int(r.dec.InputOffset())
	rest := r.data[offset:]
	offset += len(rest) - len(bytes.TrimLeft(rest, " \t\r\n,:"))
	r.lines += lineEnds(r.data[r.at:offset])
	r.at = offset
	return 1 + r.lines
}

func lineEnds(data []byte) int { return bytes.Count(data, []byte("\n")) }

// entries reads {"principals":[…]}.
func entries(data []byte) ([]entry, error) {
	r := &reader{data: data, dec: json.NewDecoder(bytes.NewReader(data))}
	if !utf8.Valid(data) {
		return nil, errors.New("it is not UTF-8")
	}
	var whole json.RawMessage // a valid document: nothing below stumbles over syntax
	if err := json.Unmarshal(data, &whole); err != nil {
		before := data
		if syntax := (*json.SyntaxError)(nil); errors.As(err, &syntax) {
			before = data[:min(len(data), max(0, int(syntax.Offset)-1))]
		}
		return nil, fmt.Errorf("line %d: no JSON: %v", 1+lineEnds(before), err)
	}
	var list []entry
	found := false
	if !r.enters('{') {
		return nil, errors.New(`line 1: must be {"principals": [ … ]}`)
	}
	for r.dec.More() {
		line, key := r.line(), r.key()
		if key != "principals" || found {
			return nil, fmt.Errorf(`line %d: unknown or repeated field %q: the file is {"principals": [ … ]}`, line, key)
		}
		found = true
		line = r.line()
		if !r.enters('[') {
			return nil, fmt.Errorf("line %d: principals must be a list", line)
		}
		for r.dec.More() {
			e, err := r.entry()
			if err != nil {
				return nil, err
			}
			list = append(list, e)
		}
		r.dec.Token() // its end
	}
	if !found {
		return nil, errors.New(`it has no field "principals": the file is {"principals": [ … ]}`)
	}
	return list, nil
}

// enters reads a token, and says whether it is that delimiter.
func (r *reader) enters(delim json.Delim) bool {
	token, _ := r.dec.Token()
	return token == delim
}

func (r *reader) key() string {
	token, _ := r.dec.Token()
	key, _ := token.(string)
	return key
}

// entry reads one principal of the list.
func (r *reader) entry() (entry, error) {
	e := entry{line: r.line(), given: make(map[string]bool)}
	if !r.enters('{') {
		return e, fmt.Errorf("line %d: a principal must be an object with the fields %s", e.line, fieldNames)
	}
	for r.dec.More() {
		line, key := r.line(), r.key()
		fail := func(format string, args ...any) (entry, error) {
			return e, fmt.Errorf("line %d: %s%s", line, e.who(), fmt.Sprintf(format, args...))
		}
		target, want := e.field(key)
		if target == nil {
			return fail("unknown field %q: allowed are %s", key, fieldNames)
		}
		if e.given[key] {
			return fail("the field %s is given twice", key)
		}
		e.given[key] = true
		var raw json.RawMessage
		if err := r.dec.Decode(&raw); err != nil {
			return fail("%v", err)
		}
		if hasNull(raw) || json.Unmarshal(raw, target) != nil {
			return fail("the field %s must be %s", key, want)
		}
	}
	r.dec.Token() // its end
	return e, nil
}

// hasNull: encoding/json passes over null, also in lists of strings.
func hasNull(raw json.RawMessage) bool {
	var list []any
	return string(raw) == "null" || json.Unmarshal(raw, &list) == nil && slices.Contains(list, nil)
}

// who names the principal at the start of a message.
func (e *entry) who() string {
	if e.Name == "" {
		return "principal without a name so far: "
	}
	return fmt.Sprintf("principal %q: ", e.Name)
}

// names: Basic authentication ends a user's name at a colon, and the history puts
// "@address" behind it.
var names = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}$`)

// reserved are names that stand for something else in the history.
var reserved = []string{Anonymous, "unknown", "fleetlock"}

// principal checks what the file says of one.
func (e *entry) principal() (*principal, error) {
	p := &principal{line: e.line, certificate: e.Certificate, fromCertificate: e.MachineFromCertificate}
	p.caller = Caller{Name: e.Name, Role: Role(e.Role), Machine: e.Machine}
	for _, check := range []func(*principal) error{e.checkName, e.checkRole, e.checkGroups, e.checkToken, e.checkCertificate, e.checkMachine} {
		if err := check(p); err != nil {
			return nil, fmt.Errorf("line %d: %s%w", e.line, e.who(), err)
		}
	}
	return p, nil
}

func (e *entry) checkName(*principal) error {
	switch {
	case !e.given["name"]:
		return errors.New("the field name is missing")
	case !names.MatchString(e.Name):
		return errors.New("a name has 1 to 64 letters, digits and ._@+- and starts with a letter or digit")
	case slices.Contains(reserved, e.Name):
		return fmt.Errorf("this name has a meaning of its own in the history, choose another than %s", strings.Join(reserved, ", "))
	}
	return nil
}

func (e *entry) checkRole(*principal) error {
	if !slices.Contains(Roles, Role(e.Role)) {
		return fmt.Errorf("unknown role %q: must be viewer, operator, admin or machine", e.Role)
	}
	return nil
}

func (e *entry) checkGroups(p *principal) error {
	if !e.given["groups"] {
		return nil
	}
	if len(e.Groups) == 0 {
		return errors.New(`groups is empty, which would be none: name some ("" is the default group), or leave the field out for all groups`)
	}
	for _, name := range e.Groups {
		g, err := locksmith.ParseGroup(name)
		if err != nil {
			return err
		}
		if slices.Contains(p.caller.Groups, g) {
			return fmt.Errorf("group %q is named twice", name)
		}
		p.caller.Groups = append(p.caller.Groups, g)
	}
	return nil
}

func (e *entry) checkToken(p *principal) error {
	switch {
	case e.given["token"] && e.given["tokenSHA256"]:
		return errors.New("token and tokenSHA256 are both given, one is enough")
	case e.given["token"]:
		if err := checkToken(e.Token); err != nil {
			return err
		}
		p.token = digestOf(e.Token)
	case e.given["tokenSHA256"]:
		sum, err := hex.DecodeString(e.TokenSHA256)
		if err != nil || len(sum) != len(p.token) || digest(sum) == (digest{}) {
			return fmt.Errorf("tokenSHA256 must be the %d hexadecimal digits of a token's SHA-256: %s", 2*len(p.token), makeToken)
		}
		p.token = digest(sum)
	case !e.given["certificate"]:
		return errors.New("nothing to know it by: give token, tokenSHA256 or certificate")
	}
	return nil
}

func (e *entry) checkCertificate(*principal) error {
	stars := strings.Count(e.Certificate, "*")
	switch {
	case !e.given["certificate"]:
	case e.Certificate == "" || len(e.Certificate) > 512 || strings.TrimSpace(e.Certificate) != e.Certificate:
		return errors.New("certificate must be a name in a client certificate: its common name, a DNS name or a URI, of 1 to 512 bytes")
	case stars > 1:
		return fmt.Errorf("certificate %q: at most one * is allowed", e.Certificate)
	case stars == 1 && Role(e.Role) != RoleMachine:
		return fmt.Errorf("certificate %q: a * is for machines only; people are named one by one, so that the history says who did what", e.Certificate)
	}
	return nil
}

func (e *entry) checkMachine(*principal) error {
	bound := e.given["machine"] || e.MachineFromCertificate
	switch {
	case bound && Role(e.Role) != RoleMachine:
		return fmt.Errorf("machine and machineFromCertificate are for the role machine only, not %s", e.Role)
	case e.given["machine"] && e.MachineFromCertificate:
		return errors.New("machine and machineFromCertificate are both given, one is enough")
	case e.MachineFromCertificate && !strings.Contains(e.Certificate, "*"):
		return errors.New(`machineFromCertificate takes the id from what the * in certificate stands for: write one, as in "*" or "*.machines.example.com"`)
	case e.MachineFromCertificate && (e.given["token"] || e.given["tokenSHA256"]):
		return errors.New("a token says no machine's id, so it would get round machineFromCertificate: make two principals")
	case e.given["machine"]:
		return locksmith.CheckMachineID(e.Machine)
	}
	return nil
}
