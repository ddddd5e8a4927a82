package options

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/urfave/cli/v3"
)

// Names of the options of locksmith-server.
const (
	ServerURL       = "server"
	ServerTokenFile = "server-token-file"
	ServerCAFile    = "server-cafile"
	ServerCertFile  = "server-certfile"
	ServerKeyFile   = "server-keyfile"

	// serverToken is no option, only a variable: it would show in process lists.
	serverToken = "server-token"
)

// ServerCredentials lists the options that only go with ServerURL.
var ServerCredentials = []string{ServerTokenFile, ServerCAFile, ServerCertFile, ServerKeyFile}

// Server is how to reach locksmith-server, as the command line and the environment say.
type Server struct {
	URL   string // without a slash at its end
	Token string // empty: none; may come from a file

	CAFile, CertFile, KeyFile string // a certificate and its key are both set or both empty
	Timeout                   time.Duration
}

// ServerFlags are the options of the connection to a locksmith-server, which takes
// etcd's place. prefix is as in EtcdFlags.
func ServerFlags(prefix string) []cli.Flag {
	file := func(name, usage string) cli.Flag {
		return &cli.StringFlag{Name: name, Usage: usage, TakesFile: true}
	}
	return []cli.Flag{
		&cli.StringFlag{Name: ServerURL, Usage: "locksmith-server `URL`, to go through it instead of to etcd, such as https://reboots.example.com:8443"},
		file(ServerTokenFile, "`FILE` whose first line is the token for the server; or the token itself in "+Variable(prefix, serverToken)),
		file(ServerCAFile, "`FILE` with the CA certificates to trust as the server's"),
		file(ServerCertFile, "`FILE` with the client certificate for the server"),
		file(ServerKeyFile, "`FILE` with that certificate's key"),
	}
}

// ServerFrom reads and checks the options of ServerFlags; FromEnv comes before it, and
// prefix and lookup are what it was given. Its errors are UsageErrors, except for a
// token file that cannot be read.
func ServerFrom(cmd *cli.Command, prefix string, lookup func(string) (string, bool)) (Server, error) {
	o := Server{
		URL:      strings.TrimRight(cmd.String(ServerURL), "/"),
		CAFile:   cmd.String(ServerCAFile),
		CertFile: cmd.String(ServerCertFile),
		KeyFile:  cmd.String(ServerKeyFile),
		Timeout:  cmd.Duration(Timeout),
	}
	if err := checkServer(o.URL); err != nil {
		return Server{}, Usagef("invalid -%s: %v; must be like https://reboots.example.com:8443", ServerURL, err)
	}
	o.Token, _ = lookup(Variable(prefix, serverToken))
	tokenFile := cmd.String(ServerTokenFile)
	switch {
	case o.Timeout <= 0:
		return Server{}, Usagef("invalid -%s %v: must be more than 0, such as 10s", Timeout, o.Timeout)
	case (o.CertFile == "") != (o.KeyFile == ""):
		return Server{}, Usagef("-%s and -%s belong together: give both or neither", ServerCertFile, ServerKeyFile)
	case strings.HasPrefix(o.URL, "http://") && (o.CAFile != "" || o.CertFile != ""):
		return Server{}, Usagef("TLS files are given, but -%s %s means plain text: write https://%s", ServerURL, o.URL, strings.TrimPrefix(o.URL, "http://"))
	case tokenFile != "" && o.Token != "":
		return Server{}, Usagef("give -%s or %s, not both", ServerTokenFile, Variable(prefix, serverToken))
	case tokenFile != "":
		token, err := firstLine(tokenFile)
		if err != nil {
			return Server{}, fmt.Errorf("reading -%s: %w", ServerTokenFile, err)
		}
		o.Token = token
	}
	return o, nil
}

// checkServer says what is wrong with a URL, without the password it may hold.
func checkServer(text string) error {
	u, err := url.Parse(text)
	var bad *url.Error
	switch {
	case errors.As(err, &bad):
		return bad.Err
	case err != nil:
		return err
	case u.User != nil:
		return fmt.Errorf("%s holds a name or a password: give a token as -%s", u.Redacted(), ServerTokenFile)
	case u.Scheme != "http" && u.Scheme != "https":
		return fmt.Errorf("%q is neither http nor https", text)
	case u.Hostname() == "":
		return fmt.Errorf("%q names no host", text)
	case u.RawQuery != "" || u.Fragment != "":
		return fmt.Errorf("%q has a query or a fragment", text)
	}
	return nil
}
