package access

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
)

// maxPEM bounds files with certificates and keys, in bytes.
const maxPEM = 1 << 20

// TLSConfig is how a server proves who it is, and whose clients it believes.
type TLSConfig struct {
	CertFile, KeyFile string       // required: the server's certificate with its chain, and its key, PEM
	ClientCAFile      string       // who signs client certificates, PEM; empty: they are not asked for
	Log               *slog.Logger // nil discards
}

// TLS is a server's side of TLS 1.2 and up, for HTTP/2 and HTTP/1.1. Client
// certificates are optional, and verified where a client gives one.
//
// The files are looked at during handshakes, at most once a second, and changes are in
// force for all connections that are made from then on; those that are open stay as
// they are. Files that cannot be used, such as a certificate whose key has not been
// replaced yet, leave in force what was there before, and are logged once.
func TLS(cfg TLSConfig) (*tls.Config, error) {
	s, err := newServerTLS(cfg)
	if err != nil {
		return nil, err
	}
	return s.config(), nil
}

// serverTLS is what the files hold.
type serverTLS struct {
	pair    *reloaded[tls.Certificate]
	clients *reloaded[x509.CertPool] // nil: client certificates are not asked for
}

func newServerTLS(cfg TLSConfig) (*serverTLS, error) {
	if cfg.CertFile == "" || cfg.KeyFile == "" {
		return nil, fmt.Errorf("a TLS certificate and its key must be given together: have certificate %q and key %q", cfg.CertFile, cfg.KeyFile)
	}
	s := &serverTLS{pair: &reloaded[tls.Certificate]{what: "TLS certificate", paths: []string{cfg.CertFile, cfg.KeyFile},
		maxSize: maxPEM, parse: parsePair, log: cfg.Log}}
	if err := s.pair.load(); err != nil {
		return nil, err
	}
	if cfg.ClientCAFile != "" {
		s.clients = &reloaded[x509.CertPool]{what: "TLS client CA", paths: []string{cfg.ClientCAFile}, maxSize: maxPEM, parse: parseCA, log: cfg.Log}
		if err := s.clients.load(); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func (s *serverTLS) config() *tls.Config {
	base := &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return s.pair.get(), nil }}
	if s.clients == nil {
		return base
	}
	base.ClientAuth = tls.VerifyClientCertIfGiven
	// A ticket would bring back a client as it was verified once, by a CA that may be
	// gone since. Without tickets each connection is verified by what is in force.
	base.SessionTicketsDisabled = true
	inForce := func() *tls.Config {
		c := base.Clone()
		c.ClientCAs = s.clients.get()
		return c
	}
	outer := inForce() // complete by itself: net/http looks into it
	outer.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) { return inForce(), nil }
	return outer
}

func parsePair(files []content) (*tls.Certificate, error) {
	pair, err := tls.X509KeyPair(files[0].data, files[1].data)
	if err != nil {
		return nil, fmt.Errorf("%s with key %s: %w", files[0].path, files[1].path, err)
	}
	return &pair, nil
}

func parseCA(files []content) (*x509.CertPool, error) {
	pool, rest, n := x509.NewCertPool(), files[0].data, 0
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%s: certificate %d: %w", files[0].path, n+1, err)
		}
		pool.AddCert(cert)
		n++
	}
	if n == 0 {
		return nil, fmt.Errorf("%s: %w", files[0].path, errors.New("holds no PEM certificate"))
	}
	return pool, nil
}
