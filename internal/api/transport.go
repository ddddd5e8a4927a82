package api

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"strings"
	"syscall"
)

// tls is nil where the system's authorities do and there is no client certificate.
func (cfg ClientConfig) tls() (*tls.Config, error) {
	if (cfg.CertFile == "") != (cfg.KeyFile == "") {
		return nil, errors.New("a client certificate and its key belong together: give both files or neither")
	}
	if cfg.CAFile == "" && cfg.CertFile == "" {
		return nil, nil
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if cfg.CAFile != "" {
		text, err := os.ReadFile(cfg.CAFile)
		if err != nil {
			return nil, fmt.Errorf("reading the server's CA file: %w", err)
		}
		if c.RootCAs = x509.NewCertPool(); !c.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("the server's CA file %s holds no PEM certificate", cfg.CAFile)
		}
	}
	if cfg.CertFile != "" {
		pair, err := tls.LoadX509KeyPair(cfg.CertFile, cfg.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("reading the client certificate %s and its key %s: %w", cfg.CertFile, cfg.KeyFile, err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, nil
}

// unanswered says in one line why there was no answer.
func (c *Client) unanswered(err error) error {
	var dns *net.DNSError
	var op *net.OpError
	var unknown x509.UnknownAuthorityError
	var verify *tls.CertificateVerificationError
	var record tls.RecordHeaderError
	var timeout net.Error
	var outer *url.Error
	if errors.As(err, &outer) { // it repeats the URL
		err = outer.Err
	}
	why := ""
	switch {
	case errors.As(err, &dns):
		why = fmt.Sprintf("its host name does not resolve (%s)", dns.Err)
	case errors.Is(err, syscall.ECONNREFUSED):
		why = "it refused the connection"
	case errors.As(err, &unknown):
		why = "its certificate is of an authority that is not trusted: check the server's CA file"
	case errors.As(err, &verify):
		why = "its certificate is not valid: " + verify.Err.Error()
	case errors.As(err, &record), strings.Contains(err.Error(), "server gave HTTP response to HTTPS client"):
		why = "it does not speak TLS: use http://"
	case strings.Contains(err.Error(), "malformed HTTP response"),
		strings.Contains(err.Error(), "readLoopPeekFailLocked"): // net/http's words where it spoke before it was asked
		why = "it is no HTTP server (perhaps an etcd endpoint)"
	case strings.Contains(err.Error(), "remote error: tls"):
		why = "it rejected our certificate, or wants one (" + err.Error()[strings.Index(err.Error(), "remote error"):] + ")"
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		why = fmt.Sprintf("it did not answer within %v", c.cfg.Timeout)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		why = "it closed the connection before it had answered"
	case errors.As(err, &op) && op.Err != nil:
		why = op.Err.Error()
	default:
		why = err.Error()
	}
	return fmt.Errorf("no answer from locksmith-server at %s: %s", c.base, why)
}
