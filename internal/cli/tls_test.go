package cli_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/url"
	"os"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// cmdTLS puts a TLS listener that wants client certificates before the script's
// etcd, and leaves ca.pem, other-ca.pem, client.pem and client-key.pem.
func cmdTLS(ts *testscript.TestScript, _ bool, _ []string) {
	ca, caKey := newCA(ts, "ca.pem")
	newCA(ts, "other-ca.pem")
	server := issue(ts, ca, caKey, 2)
	client := issue(ts, ca, caKey, 3)
	writePEM(ts, "client.pem", "CERTIFICATE", client.Certificate[0])
	key, err := x509.MarshalPKCS8PrivateKey(client.PrivateKey)
	check(ts, err)
	writePEM(ts, "client-key.pem", "PRIVATE KEY", key)

	pool := x509.NewCertPool()
	pool.AddCert(ca)
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{server}, ClientCAs: pool,
		ClientAuth: tls.RequireAndVerifyClientCert, NextProtos: []string{"h2"}})
	check(ts, err)
	ts.Defer(func() { l.Close() })
	plain, err := url.Parse(stateOf(ts).srv.Endpoint)
	check(ts, err)
	go forward(l, plain.Host)
	ts.Setenv("LOCKSMITHCTL_ENDPOINT", "https://"+l.Addr().String())
}

// forward ends with its listener; its connections end with either side.
func forward(l net.Listener, target string) {
	for {
		in, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer in.Close()
			if in.(*tls.Conn).Handshake() != nil {
				return
			}
			out, err := net.Dial("tcp", target)
			if err != nil {
				return
			}
			defer out.Close()
			go func() {
				defer out.Close()
				_, _ = io.Copy(out, in)
			}()
			_, _ = io.Copy(in, out)
		}()
	}
}

func newCA(ts *testscript.TestScript, file string) (*x509.Certificate, *ecdsa.PrivateKey) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(ts, err)
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: file},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	check(ts, err)
	writePEM(ts, file, "CERTIFICATE", der)
	cert, err := x509.ParseCertificate(der)
	check(ts, err)
	return cert, key
}

func issue(ts *testscript.TestScript, ca *x509.Certificate, caKey *ecdsa.PrivateKey, serial int64) tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(ts, err)
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "locksmith"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, ca, key.Public(), caKey)
	check(ts, err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func writePEM(ts *testscript.TestScript, file, kind string, der []byte) {
	check(ts, os.WriteFile(ts.MkAbs(file), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
}
