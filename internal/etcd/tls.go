package etcd

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
)

// tlsFiles is what Config's files hold.
type tlsFiles struct {
	roots    *x509.CertPool // nil: the system's
	certFile string
	keyFile  string
	secure   bool // an https endpoint or any file was given

	mu   sync.Mutex
	last *tls.Certificate // the client's, as last read
}

// loadTLS reads the files now, so that a mistake is found at start. The client's
// certificate is read again at each handshake, so that a renewed one is used.
func loadTLS(cfg Config) (*tlsFiles, error) {
	f := &tlsFiles{certFile: cfg.CertFile, keyFile: cfg.KeyFile}
	f.secure = cfg.CAFile != "" || cfg.CertFile != "" || slices.ContainsFunc(cfg.Endpoints, func(e string) bool {
		return strings.HasPrefix(e, "https://")
	})
	if (cfg.CertFile == "") != (cfg.KeyFile == "") {
		return nil, fmt.Errorf("etcd client certificate and key must be given together: have certificate %q and key %q",
			cfg.CertFile, cfg.KeyFile)
	}
	if cfg.CAFile != "" {
		pem, err := os.ReadFile(cfg.CAFile)
		if err != nil {
			return nil, fmt.Errorf("etcd CA file: %v", err)
		}
		f.roots = x509.NewCertPool()
		if !f.roots.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("etcd CA file %s holds no PEM certificate", cfg.CAFile)
		}
	}
	if cfg.CertFile != "" {
		if _, err := f.certificate(nil); err != nil {
			return nil, fmt.Errorf("etcd client certificate %s and key %s: %v", cfg.CertFile, cfg.KeyFile, err)
		}
	}
	return f, nil
}

// config is nil where no endpoint wants TLS.
func (f *tlsFiles) config() *tls.Config {
	if f == nil || !f.secure {
		return nil
	}
	c := &tls.Config{RootCAs: f.roots, MinVersion: tls.VersionTLS12}
	if f.certFile != "" {
		c.GetClientCertificate = f.certificate
	}
	return c
}

// certificate reads the client's certificate. While its two files do not fit each
// other, as between the two steps of a renewal, it is the one read before.
func (f *tlsFiles) certificate(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	cert, err := tls.LoadX509KeyPair(f.certFile, f.keyFile)
	if err == nil {
		f.last = &cert
	} else if f.last == nil {
		return nil, err
	}
	return f.last, nil
}

// checkEndpoints accepts unix:///PATH, and http:// or https:// URLs of a host and a port and
// nothing else in them. The two schemes must not be mixed: one connection serves
// all endpoints, so that would send to some in the clear.
func checkEndpoints(endpoints []string) error {
	if len(endpoints) == 0 {
		return errors.New("no etcd endpoint given")
	}
	first, _, _ := strings.Cut(endpoints[0], "://")
	for _, e := range endpoints {
		if err := checkEndpoint(e); err != nil {
			return err
		}
		if scheme, _, _ := strings.Cut(e, "://"); scheme != first {
			return fmt.Errorf("etcd endpoints %s and %s: must be all http or all https", endpoints[0], e)
		}
	}
	return nil
}

func checkEndpoint(e string) error {
	if strings.HasPrefix(e, "unix:///") { // a socket of the embedded etcd
		return nil
	}
	u, err := url.Parse(e)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Hostname() == "" || u.Port() == "" ||
		(u.Path != "" && u.Path != "/") || u.RawQuery != "" || u.User != nil {
		return fmt.Errorf("invalid etcd endpoint %q: must be http://HOST:PORT or https://HOST:PORT", e)
	}
	return nil
}
