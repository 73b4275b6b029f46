package veza_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/credentials"

	veza "github.com/veza-platform/veza/clients/go"
	gatewayv1 "github.com/veza-platform/veza/clients/go/gen/veza/gateway/v1"
)

// authority signs certificates and keeps them as files.
type authority struct {
	folder      string
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{folder: t.TempDir()}
	a.certificate, a.key = a.sign(t, "authority", true)
	return a
}

func (a *authority) path(name string) string {
	return filepath.Join(a.folder, name)
}

// sign writes name.pem and name.key, by itself for the authority's own.
func (a *authority) sign(t *testing.T, name string, isCA bool) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(time.Now().UnixNano()),
		Subject:               pkix.Name{CommonName: name},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(time.Hour),
		IsCA:                  isCA,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		IPAddresses:           []net.IP{net.IPv4(127, 0, 0, 1)},
		DNSNames:              []string{name},
	}
	parent, parentKey := a.certificate, a.key
	if isCA {
		parent, parentKey = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, parentKey)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for path, block := range map[string]*pem.Block{
		a.path(name + ".pem"): {Type: "CERTIFICATE", Bytes: der},
		a.path(name + ".key"): {Type: "PRIVATE KEY", Bytes: private},
	} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return certificate, key
}

// mutual starts a backend that asks for a certificate of the authority, and tells which ones it was shown.
func (a *authority) mutual(t *testing.T) (*backend, func() string) {
	t.Helper()
	a.sign(t, "server", false)
	pair, err := tls.LoadX509KeyPair(a.path("server.pem"), a.path("server.key"))
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(a.certificate)
	shown := make(chan string, 16)
	b := startBackend(t, credentials.NewTLS(&tls.Config{
		Certificates: []tls.Certificate{pair},
		ClientAuth:   tls.RequireAndVerifyClientCert,
		ClientCAs:    pool,
		VerifyConnection: func(state tls.ConnectionState) error {
			shown <- state.PeerCertificates[0].Subject.CommonName
			return nil
		},
	}))
	return b, func() string { return <-shown }
}

func TestAClientCertificateIsShownAndExchanged(t *testing.T) {
	a := newAuthority(t)
	b, shown := a.mutual(t)
	a.sign(t, "first", false)
	a.sign(t, "second", false)
	take := func(name string) {
		t.Helper()
		for _, ending := range []string{".pem", ".key"} {
			if err := os.Rename(a.path(name+ending), a.path("mine"+ending)); err != nil {
				t.Fatal(err)
			}
		}
	}
	take("first")
	identity := veza.WithTLSFiles(a.path("authority.pem"), a.path("mine.pem"), a.path("mine.key"))
	client := dial(t, b, identity, veza.WithToken("sesame"))
	if name := shown(); name != "first" {
		t.Errorf("%s was shown", name)
	}
	// By TLS the token needs no leave.
	if _, err := client.Rooms.GetRoom(t.Context(), &gatewayv1.GetRoomRequest{Room: "porch"}); err != nil {
		t.Error(err)
	}
	take("second")
	dial(t, b, identity)
	if name := shown(); name != "second" {
		t.Errorf("%s was shown after the exchange", name)
	}
}

func TestWhoIsNotTrustedIsNotTalkedTo(t *testing.T) {
	a, stranger := newAuthority(t), newAuthority(t)
	b, _ := a.mutual(t)
	stranger.sign(t, "mine", false)
	a.sign(t, "mine", false)
	// Each differs from what is taken in one thing.
	dial(t, b, veza.WithTLSFiles(a.path("authority.pem"), a.path("mine.pem"), a.path("mine.key")))
	for what, options := range map[string][]veza.Option{
		"a server of another authority": {veza.WithTLSFiles(stranger.path("authority.pem"), a.path("mine.pem"), a.path("mine.key"))},
		"the system's authorities":      {veza.WithTLSFiles("", a.path("mine.pem"), a.path("mine.key"))},
		"no certificate of ours":        {veza.WithTLSFiles(a.path("authority.pem"), "", "")},
		"a certificate of another":      {veza.WithTLSFiles(a.path("authority.pem"), stranger.path("mine.pem"), stranger.path("mine.key"))},
		"no TLS":                        {veza.WithInsecure()},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		if client, err := veza.Dial(ctx, b.address, options...); err == nil {
			t.Errorf("%s: connected", what)
			client.Close()
		}
		cancel()
	}
}

func TestATokenNeedsTLSOrLeave(t *testing.T) {
	if _, err := veza.New("127.0.0.1:1", veza.WithInsecure(), veza.WithTLSFiles("", "", "")); err == nil || !strings.Contains(err.Error(), "exclude") {
		t.Errorf("with and without TLS at once: %v", err)
	}
	empty := filepath.Join(t.TempDir(), "empty.pem")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := veza.New("127.0.0.1:1", veza.WithTLSFiles(empty, "", "")); err == nil {
		t.Error("an authority's file without a certificate was taken")
	}
}
