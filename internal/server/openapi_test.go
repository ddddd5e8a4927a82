package server

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/legacy"

	"github.com/locksmith-reboot/locksmith/internal/access"
	"github.com/locksmith-reboot/locksmith/internal/api"
	"github.com/locksmith-reboot/locksmith/internal/etcdtest"
)

// loadDescription reads the description as the server sends it. In answers, too, it
// allows only what it names.
func loadDescription(t *testing.T, text string) (*openapi3.T, routers.Router) {
	t.Helper()
	doc, err := openapi3.NewLoader().LoadFromData([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if err := doc.Validate(t.Context(), openapi3.EnableExamplesValidation()); err != nil {
		t.Fatal(err)
	}
	var close func(s *openapi3.SchemaRef)
	close = func(s *openapi3.SchemaRef) {
		if len(s.Value.Properties) > 0 {
			s.Value.AdditionalProperties = openapi3.AdditionalProperties{Has: new(false)}
		}
		for _, p := range s.Value.Properties {
			close(p)
		}
	}
	for _, s := range doc.Components.Schemas {
		close(s)
	}
	router, err := legacy.NewRouter(doc)
	if err != nil {
		t.Fatal(err)
	}
	return doc, router
}

// Every path of the server is described, and every description has a path; so have the
// codes of errors.
func TestDescriptionIsComplete(t *testing.T) {
	st := newSite(t, nil)
	_, text := st.do("", "GET", api.PathOpenAPI, "")
	doc, _ := loadDescription(t, text)
	described := make(map[string]bool)
	for path, item := range doc.Paths.Map() {
		for method := range item.Operations() {
			described[method+" "+path] = true
		}
	}
	served := make(map[string]bool)
	for path, res := range st.server.resources {
		if res.act != nil {
			served["POST "+path] = true
		} else {
			served["GET "+path] = true
		}
	}
	if a, b := slices.Sorted(maps.Keys(described)), slices.Sorted(maps.Keys(served)); !slices.Equal(a, b) {
		t.Errorf("described: %q\nserved: %q", a, b)
	}
	var codes []string
	for _, v := range doc.Components.Schemas["Code"].Value.Enum {
		codes = append(codes, fmt.Sprint(v))
	}
	var known []string
	for _, c := range api.Codes() {
		known = append(known, string(c))
	}
	slices.Sort(codes)
	slices.Sort(known)
	if !slices.Equal(codes, known) {
		t.Errorf("described: %q\nknown: %q", codes, known)
	}
}

// conversation is requests and answers, each held against the description.
type conversation struct {
	*site
	router routers.Router
	met    map[string]bool // "GET /api/v1/status 200"
}

// say makes a request and checks it and its answer. Requests that are answered with 400
// or 415 may be wrong by the description, too.
func (c *conversation) say(token, method, target, body string, want int, header ...string) {
	c.t.Helper()
	resp, text := c.do(token, method, api.Prefix+target, body, header...)
	if resp.StatusCode != want {
		c.t.Errorf("%s %s %.80s as %q: %s %s, want %d", method, target, body, token, resp.Status, text, want)
		return
	}
	c.check(method, target, body, resp, text)
}

func (c *conversation) check(method, target, body string, resp *http.Response, text string) {
	c.t.Helper()
	req, err := http.NewRequest(method, api.Prefix+target, strings.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	route, params, err := c.router.FindRoute(req)
	if err != nil {
		c.t.Fatalf("%s %s: %v", method, target, err)
	}
	in := &openapi3filter.RequestValidationInput{Request: req, PathParams: params, Route: route,
		Options: &openapi3filter.Options{AuthenticationFunc: openapi3filter.NoopAuthenticationFunc, IncludeResponseStatus: true}}
	err = openapi3filter.ValidateRequest(context.Background(), in)
	if wrong := resp.StatusCode == 400 || resp.StatusCode == 413; err != nil && !wrong {
		c.t.Errorf("%s %s %s: the description does not allow what the server takes: %v", method, target, body, err)
	}
	out := &openapi3filter.ResponseValidationInput{RequestValidationInput: in, Status: resp.StatusCode, Header: resp.Header,
		Body: io.NopCloser(bytes.NewReader([]byte(text))), Options: in.Options}
	if err := openapi3filter.ValidateResponse(context.Background(), out); err != nil {
		c.t.Errorf("%s %s: %s is not as described: %v", method, target, text, err)
	}
	c.met[method+" "+route.Path+" "+strconv.Itoa(resp.StatusCode)] = true
}

// Answers of every path, and of every status that can be provoked, are as described.
func TestAnswersAreAsDescribed(t *testing.T) {
	openapi3filter.RegisterBodyDecoder(eventStream, openapi3filter.FileBodyDecoder)
	srv := etcdtest.Start(t, etcdtest.Embedded)
	st := newSite(t, srv)
	_, text := st.do("", "GET", api.PathOpenAPI, "")
	doc, router := loadDescription(t, text)
	c := &conversation{st, router, make(map[string]bool)}
	c.happy()
	c.refusals(doc)
	c.broken()
	srv.Stop()
	c.away(doc)
	for path, item := range doc.Paths.Map() {
		for method, op := range item.Operations() {
			for status := range op.Responses.Map() {
				// Every path of reading uses the same code for these.
				unprovoked := status == "500" && !slices.Contains([]string{api.PathStatus, api.PathHolders, api.PathQueue, api.PathSetMax, api.PathUnlock, api.PathLock}, path)
				if key := method + " " + path + " " + status; !c.met[key] && !unprovoked {
					t.Errorf("not met: %s", key)
				}
			}
		}
	}
}

// happy has everything there is to see, and sees it.
func (c *conversation) happy() {
	g := string(c.group)
	c.put("/machines/web", `{"machineID":"web","hostname":"web-1","groups":["`+g+`"],"strategy":"etcd-lock","bootID":"b","os":"Debian","kernel":"6.1","version":"v1","started":1397496396,
		"phase":"queued","phaseTime":1397496396,"neededSince":1397496396,"reason":"new kernel","waiting":"a slot","lastReboot":1397496396,"lastOutcome":"rebooted","dryRun":true,"seen":1397496396,
		"conditions":[{"name":"window","state":"met","text":"x","since":1397496396,"until":4000000000}]}`)
	c.put("/groups/"+g+"/queue/5/web", `{"machineID":"web","hostname":"web-1","by":"locksmithd","reason":"new kernel","groups":["`+g+`"],"since":1397496396,"nonce":"n","address":"10.0.0.1"}`)
	c.say("root", "POST", "/set-max", `{"group":"`+g+`","max":2}`, 200)
	c.say("root", "POST", "/lock", `{"group":"`+g+`","machineID":"m1","reason":"firmware"}`, 200)
	c.put("/groups/"+g+"/holders/m1", `{"machineID":"m1","startTime":1397496396,"bootID":"b","hostname":"m-1","groups":["`+g+`"],"phase":"rebooting","phaseTime":1397496396,
		"reason":"x","by":"locksmithd","nonce":"n","address":"10.0.0.2"}`)
	c.put("/seen/m1", `{"machineID":"m1","hostname":"m-1","groups":["`+g+`"],"seen":1397496396}`)
	c.put("/seen/gone", `{"machineID":"gone","groups":[]}`)
	c.say("root", "POST", "/pause", `{"scope":"machine","machineID":"web","reason":"x"}`, 200)
	c.say("root", "POST", "/pause", `{"scope":"group","group":"`+g+`","until":"2099-12-24T18:00:00+01:00","reason":"x"}`, 200)
	c.say("root", "POST", "/pause", `{"scope":"all","reason":"x"}`, 200)
	for _, target := range []string{"/groups", "/status?group=" + g, "/status", "/holders?group=" + g, "/queue?group=" + g, "/machines", "/machine?name=web",
		"/machine?name=m-1", "/history", "/history?limit=5&group=" + g, "/pauses", "/whoami", "/openapi.json"} {
		c.say("root", "GET", target, "", 200)
	}
	c.events(g)
	c.say("root", "POST", "/resume", `{"scope":"machine","machineID":"web"}`, 200)
	c.say("root", "POST", "/resume", `{"scope":"group","group":"`+g+`"}`, 200)
	c.say("root", "POST", "/resume", `{"scope":"all"}`, 200)
	c.say("root", "POST", "/unlock", `{"group":"`+g+`","machineID":"m1"}`, 200)
	c.say("root", "POST", "/forget", `{"machineID":"gone"}`, 200)
}

// events looks at a stream's answer and its first event.
func (c *conversation) events(g string) {
	c.t.Helper()
	f := c.follow("root", g)
	name, data, _ := f.next()
	f.cancel()
	resp := &http.Response{StatusCode: 200, Header: http.Header{"Content-Type": {eventStream}}}
	c.check("GET", "/events?group="+g, "", resp, "event: "+name+"\ndata: "+data+"\n\n")
	req, _ := http.NewRequest("GET", api.PathStatus+"?group="+g, nil)
	route, _, err := c.router.FindRoute(req)
	var doc any
	if err == nil {
		err = json.Unmarshal([]byte(data), &doc)
	}
	if err == nil {
		err = route.Operation.Responses.Status(200).Value.Content["application/json"].Schema.Value.VisitJSON(doc)
	}
	if err != nil {
		c.t.Errorf("%s: %v", data, err)
	}
}

// samples are requests to every path that can be made.
func (c *conversation) samples(doc *openapi3.T, each func(method, target, body string)) {
	g := string(c.group)
	bodies := map[string]string{"/unlock": `{"group":"` + g + `","machineID":"m9"}`, "/lock": `{"group":"` + g + `","machineID":"m9"}`, "/set-max": `{"group":"` + g + `","max":1}`,
		"/pause": `{"scope":"all","reason":"x"}`, "/resume": `{"scope":"all"}`, "/forget": `{"machineID":"m9"}`}
	for path, item := range doc.Paths.Map() {
		target := strings.TrimPrefix(path, api.Prefix)
		for method := range item.Operations() {
			switch {
			case path == api.PathOpenAPI:
			case path == api.PathMachine:
				each(method, target+"?name=m9", "")
			case method == "GET" && item.Get.Parameters.GetByInAndName("query", "group") != nil:
				each(method, target+"?group="+g, "")
			default:
				each(method, target, bodies[target])
			}
		}
	}
}

// refusals are what can go wrong with every path.
func (c *conversation) refusals(doc *openapi3.T) {
	g := string(c.group)
	c.guard.set("elsewhere", access.Caller{Name: "eve", Role: access.RoleViewer, Groups: nil})
	c.samples(doc, func(method, target, body string) {
		path, _, _ := strings.Cut(target, "?")
		c.say("", method, target, body, 401)
		c.say("machine", method, target, body, 403)
		c.say("root", method, path+"?nonsense=1", body, 400)
		if method == "POST" {
			c.say("root", method, target, `{"nonsense":1}`, 400)
			c.say("root", method, target, body, 415, "Content-Type", "text/plain")
			c.say("root", method, target, `{"reason":"`+strings.Repeat("x", api.MaxBody)+`"}`, 413)
		}
	})
	c.say("root", "GET", "/machine?name=nobody", "", 404)
	c.put("/seen/a1", `{"machineID":"a1","groups":[]}`)
	c.put("/seen/a2", `{"machineID":"a2","groups":[]}`)
	c.say("root", "GET", "/machine?name=a", "", 409)
	c.say("root", "POST", "/forget", `{"machineID":"nobody"}`, 404)
	c.say("root", "POST", "/forget", `{"machineID":"web"}`, 409)
	c.say("root", "POST", "/unlock", `{"group":"`+g+`","machineID":"m9"}`, 409)
	c.say("root", "POST", "/resume", `{"scope":"all"}`, 409)
	c.say("root", "POST", "/pause", `{"scope":"machine","machineID":"a","reason":"x"}`, 409)
	c.say("root", "POST", "/set-max", `{"group":"`+g+`","max":1}`, 200)
	c.say("root", "POST", "/lock", `{"group":"`+g+`","machineID":"m1"}`, 200)
	c.say("root", "POST", "/lock", `{"group":"`+g+`","machineID":"m1"}`, 409)
	c.say("root", "POST", "/lock", `{"group":"`+g+`","machineID":"m2"}`, 423)
}

// broken is a group whose semaphore cannot be read.
func (c *conversation) broken() {
	g := string(c.group)
	c.put("/groups/"+g+"/semaphore", "nonsense")
	for _, target := range []string{"/status", "/holders", "/queue"} {
		c.say("root", "GET", target+"?group="+g, "", 500)
	}
	c.say("root", "POST", "/unlock", `{"group":"`+g+`","machineID":"m1"}`, 500)
	c.say("root", "POST", "/lock", `{"group":"`+g+`","machineID":"m1"}`, 500)
	c.say("root", "POST", "/set-max", `{"group":"`+g+`","max":1}`, 500)
	c.say("root", "GET", "/groups", "", 200)
}

// away is a store that does not answer.
func (c *conversation) away(doc *openapi3.T) {
	c.server.events.max = 0
	c.samples(doc, func(method, target, body string) {
		if strings.HasPrefix(target, "/whoami") {
			return // it needs no store
		}
		c.say("root", method, target, body, 503)
	})
}
