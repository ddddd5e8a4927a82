package options

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v3"
)

// Defaults of the shared options.
const (
	DefaultEndpoint = "http://127.0.0.1:2379"
	DefaultTimeout  = 10 * time.Second

	DefaultControlSocket = "/run/locksmith/locksmithd.sock"
)

// Names of the shared options.
const (
	Endpoint         = "endpoint"
	EtcdCAFile       = "etcd-cafile"
	EtcdCertFile     = "etcd-certfile"
	EtcdKeyFile      = "etcd-keyfile"
	EtcdUsername     = "etcd-username"
	EtcdPassword     = "etcd-password"
	EtcdPasswordFile = "etcd-password-file"
	Timeout          = "timeout"
	Group            = "group"
	ControlSocket    = "control-socket"
	Debug            = "debug"
	Version          = "version"
)

// Etcd is how to reach etcd, as the command line and the environment say.
type Etcd struct {
	Endpoints   []string // never empty
	EndpointSet bool     // endpoints were given, they are not the default

	CAFile, CertFile, KeyFile string // a certificate and its key are both set or both empty
	Username, Password        string // both set or both empty; Password may come from a file
	Timeout                   time.Duration
}

// EtcdFlags are the options of the etcd connection. prefix is the program's, as
// Prefix returns it; it only shows in help.
func EtcdFlags(prefix string) []cli.Flag {
	file := func(name, usage string) cli.Flag {
		return &cli.StringFlag{Name: name, Usage: usage, TakesFile: true}
	}
	return []cli.Flag{
		&cli.StringSliceFlag{Name: Endpoint, Value: []string{DefaultEndpoint}, Config: cli.StringConfig{TrimSpace: true},
			Usage: "etcd endpoint `URL`; repeatable, or several separated by commas"},
		file(EtcdCAFile, "`FILE` with the CA certificates to trust; enough for TLS by itself"),
		file(EtcdCertFile, "`FILE` with the client certificate"),
		file(EtcdKeyFile, "`FILE` with the client certificate's key"),
		&cli.StringFlag{Name: EtcdUsername, Usage: "etcd user `NAME`"},
		&cli.StringFlag{Name: EtcdPassword, Usage: "the user's password, `TEXT`; shows in process lists, so prefer -" +
			EtcdPasswordFile + " or " + Variable(prefix, EtcdPassword)},
		file(EtcdPasswordFile, "`FILE` whose first line is the user's password"),
		&cli.DurationFlag{Name: Timeout, Value: DefaultTimeout, Usage: "time limit of each call to etcd, a `DURATION`"},
	}
}

// GroupFlag is the option that names reboot groups.
func GroupFlag() cli.Flag {
	return &cli.StringFlag{Name: Group, Usage: "reboot group `NAME`; several, separated by commas, " +
		"where a slot is taken in all of them or none"}
}

// ControlSocketFlag says where locksmithd of this machine listens, or shall.
func ControlSocketFlag() cli.Flag {
	return &cli.StringFlag{Name: ControlSocket, Value: DefaultControlSocket, TakesFile: true,
		Usage: "`FILE` of this machine's control socket"}
}

// DebugFlag turns debug messages on standard error on.
func DebugFlag() cli.Flag {
	return &cli.BoolFlag{Name: Debug, Usage: "write debug messages to standard error"}
}

// VersionFlag asks for the version.
func VersionFlag() cli.Flag {
	return &cli.BoolFlag{Name: Version, Usage: "print the version"}
}

// EtcdFrom reads and checks the options of EtcdFlags; FromEnv comes before it.
// Its errors are UsageErrors, except for a password file that cannot be read.
func EtcdFrom(cmd *cli.Command) (Etcd, error) {
	o := Etcd{
		CAFile:   cmd.String(EtcdCAFile),
		CertFile: cmd.String(EtcdCertFile),
		KeyFile:  cmd.String(EtcdKeyFile),
		Username: cmd.String(EtcdUsername),
		Password: cmd.String(EtcdPassword),
		Timeout:  cmd.Duration(Timeout),

		EndpointSet: cmd.IsSet(Endpoint),
	}
	var err error
	if o.Endpoints, err = endpoints(cmd.StringSlice(Endpoint)); err != nil {
		return Etcd{}, err
	}
	if err := o.checkTLS(); err != nil {
		return Etcd{}, err
	}
	passwordFile := cmd.String(EtcdPasswordFile)
	switch {
	case o.Timeout <= 0:
		return Etcd{}, Usagef("invalid -%s %v: must be more than 0, such as 10s", Timeout, o.Timeout)
	case passwordFile != "" && o.Password != "":
		return Etcd{}, Usagef("give -%s or -%s, not both", EtcdPassword, EtcdPasswordFile)
	case passwordFile != "":
		if o.Password, err = firstLine(passwordFile); err != nil {
			return Etcd{}, fmt.Errorf("reading -%s: %w", EtcdPasswordFile, err)
		}
	}
	if (o.Username == "") != (o.Password == "") {
		return Etcd{}, Usagef("an etcd user and its password belong together: give both or neither")
	}
	return o, nil
}

// checkTLS refuses half of a key pair, and files for TLS where the endpoint's
// scheme says plain text: the client goes by the scheme, and would send passwords
// in the clear to somebody who asked for encryption.
func (o Etcd) checkTLS() error {
	if (o.CertFile == "") != (o.KeyFile == "") {
		return Usagef("-%s and -%s belong together: give both or neither", EtcdCertFile, EtcdKeyFile)
	}
	for _, e := range o.Endpoints {
		if strings.HasPrefix(e, "http://") && (o.CAFile != "" || o.CertFile != "") {
			return Usagef("TLS files are given, but -%s %s means plain text: write https://%s",
				Endpoint, e, strings.TrimPrefix(e, "http://"))
		}
	}
	return nil
}

// endpoints drops empty ones and repetitions, and refuses what is no endpoint
// before the etcd client turns it into a long wait for a name that does not exist.
func endpoints(given []string) ([]string, error) {
	var list []string
	for _, e := range strings.Split(strings.Join(given, ","), ",") {
		e = strings.TrimSpace(e)
		if e == "" || slices.Contains(list, e) {
			continue
		}
		if err := checkEndpoint(e); err != nil {
			return nil, Usagef("invalid -%s %q: %v; must be like %s", Endpoint, e, err, DefaultEndpoint)
		}
		list = append(list, e)
	}
	if len(list) == 0 {
		return nil, Usagef("-%s is empty: give at least one, like %s", Endpoint, DefaultEndpoint)
	}
	return list, nil
}

func checkEndpoint(e string) error {
	u, err := url.Parse(e)
	var bad *url.Error
	switch {
	case errors.As(err, &bad):
		return bad.Err
	case err != nil:
		return err
	case u.Scheme != "http" && u.Scheme != "https":
		return errors.New("it is neither http nor https")
	case u.Hostname() == "":
		return errors.New("it names no host")
	case u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.Fragment != "" || u.User != nil:
		return errors.New("it has more than a host and a port")
	}
	return nil
}

// firstLine is what a file with a secret holds in its first line.
func firstLine(path string) (string, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	line, _, _ := strings.Cut(string(text), "\n")
	if line = strings.TrimSuffix(line, "\r"); line == "" {
		return "", fmt.Errorf("the first line of %s is empty", path)
	}
	return line, nil
}
