package main

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"unicode"

	"github.com/urfave/cli/v3"

	"github.com/locksmith-reboot/locksmith"
	"github.com/locksmith-reboot/locksmith/fleetlock"
	"github.com/locksmith-reboot/locksmith/internal/lockclient"
)

// Names of the options of the strategy fleet-lock.
const (
	optFleetLockURL         = "fleetlock-url"
	optFleetLockCredentials = "fleetlock-credentials-file"
	optFleetLockID          = "fleetlock-id"
	optFleetLockCAFile      = "fleetlock-cafile"
	optFleetLockCertFile    = "fleetlock-certfile"
	optFleetLockKeyFile     = "fleetlock-keyfile"
)

// Under which id the machine asks.
const (
	fleetLockMachine = "machine"
	fleetLockZincati = "zincati"
)

// maxCredentials bounds the file of credentials, in bytes.
const maxCredentials = 16 << 10

// fleetLockFlags are about the FleetLock server; only its strategy looks at them.
func fleetLockFlags() []cli.Flag {
	file := func(name, usage string) cli.Flag {
		return &cli.StringFlag{Name: name, Usage: usage, TakesFile: true}
	}
	return []cli.Flag{
		&cli.StringFlag{Name: optFleetLockURL,
			Usage: "`URL` of the FleetLock server that keeps the slots with the strategy fleet-lock, such as https://fleetlock.example.org:8443"},
		file(optFleetLockCredentials, "`FILE` whose first line is user:password, or a token, for the FleetLock server; others must not be able to read it"),
		&cli.StringFlag{Name: optFleetLockID, Value: fleetLockMachine,
			Usage: "under which id the FleetLock server knows this machine, a `NAME`: machine (its machine id) or zincati (the one Zincati makes of that)"},
		file(optFleetLockCAFile, "`FILE` with the CA certificates to trust for the FleetLock server"),
		file(optFleetLockCertFile, "`FILE` with the client certificate for the FleetLock server"),
		file(optFleetLockKeyFile, "`FILE` with the client certificate's key"),
	}
}

// fleetLock is where slots are with the strategy fleet-lock.
type fleetLock struct {
	url                       string
	credentials               string // file; empty: none, or those in the URL
	id                        string // fleetLockMachine or fleetLockZincati
	caFile, certFile, keyFile string
	client                    *fleetlock.Client // nil with any other strategy
}

func (s *settings) readFleetLock(cmd *cli.Command) error {
	f := fleetLock{
		url: cmd.String(optFleetLockURL), credentials: cmd.String(optFleetLockCredentials), id: cmd.String(optFleetLockID),
		caFile: cmd.String(optFleetLockCAFile), certFile: cmd.String(optFleetLockCertFile), keyFile: cmd.String(optFleetLockKeyFile),
	}
	if err := f.check(); err != nil {
		return err
	}
	if s.strategy == locksmith.StrategyFleetLock {
		if f.url == "" {
			return fmt.Errorf("strategy %s needs -%s, such as https://fleetlock.example.org:8443", s.strategy, optFleetLockURL)
		}
		if len(s.groups) != 1 {
			return fmt.Errorf("strategy %s takes a slot in one group, and %d are given: %s", s.strategy, len(s.groups), locksmith.JoinGroups(s.groups))
		}
		group := fleetlock.Request{ID: "any", Group: string(s.groups[0])}
		if group.Group == "" {
			group.Group = lockclient.DefaultGroup
		}
		if err := group.Check(); err != nil {
			return fmt.Errorf("strategy %s: %w", s.strategy, err)
		}
		var err error
		if f.client, err = f.connect(); err != nil {
			return err
		}
	}
	s.fleetLock = f
	return nil
}

// check refuses what is wrong with any strategy.
func (f fleetLock) check() error {
	if err := oneOf("FleetLock id", f.id, fleetLockMachine, fleetLockZincati); err != nil {
		return err
	}
	if (f.certFile == "") != (f.keyFile == "") {
		return fmt.Errorf("-%s and -%s belong together: give both or neither", optFleetLockCertFile, optFleetLockKeyFile)
	}
	if f.url == "" {
		return nil
	}
	c := fleetlock.Client{URL: f.url}
	if err := c.Check(); err != nil {
		return err
	}
	switch {
	case strings.HasPrefix(c.Base(), "http:") && (f.caFile != "" || f.certFile != ""):
		return fmt.Errorf("TLS files are given, but -%s %s means plain text: write https", optFleetLockURL, c.Base())
	case f.credentials != "" && (c.Username != "" || c.Password != ""):
		return fmt.Errorf("give -%s, or a user and password in -%s, not both", optFleetLockCredentials, optFleetLockURL)
	}
	return nil
}

// connect reads the files.
func (f fleetLock) connect() (*fleetlock.Client, error) {
	c := &fleetlock.Client{URL: f.url}
	if f.credentials != "" {
		line, err := readCredentials(f.credentials)
		if err != nil {
			return nil, fmt.Errorf("-%s: %w", optFleetLockCredentials, err)
		}
		if user, password, isUser := strings.Cut(line, ":"); isUser {
			c.Username, c.Password = user, password
		} else {
			c.Token = line
		}
	}
	if f.caFile != "" || f.certFile != "" {
		c.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	if f.caFile != "" {
		pem, err := os.ReadFile(f.caFile)
		if err != nil {
			return nil, fmt.Errorf("-%s: %w", optFleetLockCAFile, err)
		}
		c.TLS.RootCAs = x509.NewCertPool()
		if !c.TLS.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("-%s: %s holds no PEM certificate", optFleetLockCAFile, f.caFile)
		}
	}
	if f.certFile != "" {
		// At each handshake, so that a renewed certificate is used.
		c.TLS.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			pair, err := tls.LoadX509KeyPair(f.certFile, f.keyFile)
			return &pair, err
		}
		if _, err := c.TLS.GetClientCertificate(nil); err != nil { // a mistake is found at the start
			return nil, fmt.Errorf("-%s and -%s: %w", optFleetLockCertFile, optFleetLockKeyFile, err)
		}
	}
	return c, nil
}

// readCredentials is the first line of a file that is nobody else's business.
func readCredentials(path string) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return "", err
	}
	if mode := info.Mode().Perm(); mode&0o007 != 0 {
		return "", fmt.Errorf("%s is open to everybody (mode %04o): run chmod o= %s", path, mode, path)
	}
	line, err := bufio.NewReader(io.LimitReader(file, maxCredentials)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	switch line = strings.TrimRight(line, "\r\n"); {
	case line == "" || line == ":":
		return "", fmt.Errorf("the first line of %s is empty: it must be user:password, or a token", path)
	case len(line) == maxCredentials || strings.ContainsFunc(line, unicode.IsControl):
		return "", fmt.Errorf("the first line of %s is too long or holds a control character", path)
	case !strings.Contains(line, ":") && strings.Contains(line, " "):
		return "", fmt.Errorf("the first line of %s holds a space: it must be user:password, or a token", path)
	}
	return line, nil
}

// openFleetLock makes the lock of a machine whose slot a FleetLock server keeps.
func (d *daemon) openFleetLock(s settings) error {
	id := d.me.MachineID
	if s.fleetLock.id == fleetLockZincati {
		var err error
		if id, err = fleetlock.ZincatiID(id); err != nil {
			return err
		}
	}
	lock, err := lockclient.Open(lockclient.Config{
		Client: s.fleetLock.client, ID: id, Group: s.groups[0],
		Path: filepath.Join(s.stateDir, "fleet-lock.json"), Log: d.log,
	})
	d.fleetLock = lock
	return err
}
