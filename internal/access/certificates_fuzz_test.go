package access

import (
	"crypto/x509"
	"strings"
	"testing"
)

// Files of certificates are read, or refused in words that name the file.
func FuzzCertificates(f *testing.F) {
	f.Add([]byte(""), []byte(""))
	f.Add([]byte("-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n"), []byte("-----BEGIN PRIVATE KEY-----\nMAA=\n-----END PRIVATE KEY-----\n"))
	f.Add([]byte("-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----\n-----BEGIN CERTIFICATE-----\n"), []byte("x"))
	f.Fuzz(func(t *testing.T, cert, key []byte) {
		pool, err := parseCA([]content{{path: "ca.pem", data: cert}})
		switch {
		case err == nil && (pool == nil || pool.Equal(x509.NewCertPool())):
			t.Fatalf("%q holds no certificate, and is taken", cert)
		case err != nil && (pool != nil || !strings.Contains(err.Error(), "ca.pem")):
			t.Fatalf("%q: %v, %v", cert, pool, err)
		}
		pair, err := parsePair([]content{{path: "cert.pem", data: cert}, {path: "key.pem", data: key}})
		switch {
		case err == nil && (pair == nil || len(pair.Certificate) == 0 || pair.PrivateKey == nil):
			t.Fatalf("%q and %q are taken for a certificate and its key: %+v", cert, key, pair)
		case err != nil && (pair != nil || !strings.Contains(err.Error(), "cert.pem")):
			t.Fatalf("%q and %q: %v, %v", cert, key, pair, err)
		case err != nil && len(key) > 20 && strings.Contains(err.Error(), string(key)):
			t.Fatalf("the key is in the error: %v", err)
		}
	})
}
