package tokens

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/golang-jwt/jwt/v5"
)

// Algorithm is a signature algorithm that Veza accepts, as AUTH_ALGORITHM names it.
type Algorithm string

// The algorithms. HS256 shares the secret with the server and publishes no key.
const (
	EdDSA Algorithm = "EdDSA"
	ES256 Algorithm = "ES256"
	HS256 Algorithm = "HS256"
)

// secretBytesMin is the shortest secret of HS256, RFC 7518 section 3.2.
const secretBytesMin = 32

// Key signs tokens. It prints as its id; nothing of it that is secret is ever printed.
type Key struct {
	id        string
	algorithm Algorithm
	method    jwt.SigningMethod
	// ed25519.PrivateKey, *ecdsa.PrivateKey, or the secret's []byte.
	private any
	// nil with HS256.
	public *jwk
}

// jwk is a public key as RFC 7517 and RFC 8037 write it.
type jwk struct {
	Kty string `json:"kty"`
	Crv string `json:"crv"`
	X   string `json:"x"`
	Y   string `json:"y,omitempty"`
	Kid string `json:"kid"`
	Alg string `json:"alg"`
	Use string `json:"use"`
}

// GenerateKey makes a key of one's own, for EdDSA or ES256.
func GenerateKey(algorithm Algorithm) (*Key, error) {
	switch algorithm {
	case EdDSA:
		_, private, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			return nil, err
		}
		return newKey(private)
	case ES256:
		private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return nil, err
		}
		return newKey(private)
	case HS256:
		return nil, errors.New("tokens: the secret of HS256 is agreed upon, see NewSecret")
	default:
		return nil, fmt.Errorf("tokens: no algorithm %q", algorithm)
	}
}

// ParseKey reads a private key, PKCS#8 in PEM, Ed25519 or P-256: what `openssl genpkey` writes.
func ParseKey(text []byte) (*Key, error) {
	block, _ := pem.Decode(text)
	if block == nil || block.Type != "PRIVATE KEY" {
		return nil, errors.New("tokens: no private key in PKCS#8 PEM")
	}
	private, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, errors.New("tokens: the private key cannot be read")
	}
	return newKey(private)
}

// ReadKey reads a file that [ParseKey] understands.
func ReadKey(path string) (*Key, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	key, err := ParseKey(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return key, nil
}

// NewSecret is a key for HS256, at least 32 bytes: the server's AUTH_HS256_SECRET.
func NewSecret(secret []byte) (*Key, error) {
	if len(secret) < secretBytesMin {
		return nil, fmt.Errorf("tokens: a secret for HS256 has at least %d bytes", secretBytesMin)
	}
	return &Key{algorithm: HS256, method: jwt.SigningMethodHS256, private: slices.Clone(secret)}, nil
}

// ID is what tokens call the key in their header (kid): its thumbprint (RFC 7638). Empty with HS256.
func (k *Key) ID() string {
	return k.id
}

// Algorithm is what the key signs with.
func (k *Key) Algorithm() Algorithm {
	return k.algorithm
}

// String says which key it is.
func (k *Key) String() string {
	return fmt.Sprintf("%s key %s", k.algorithm, k.id)
}

// GoString keeps the key out of what %#v prints.
func (k *Key) GoString() string {
	return k.String()
}

// PEM is the private key as [ParseKey] reads it. There is none of HS256.
func (k *Key) PEM() ([]byte, error) {
	if k.public == nil {
		return nil, errors.New("tokens: a secret has no PEM form")
	}
	der, err := x509.MarshalPKCS8PrivateKey(k.private)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// PublicPEM is the public key, for the server's AUTH_KEY_FILE. There is none of HS256.
func (k *Key) PublicPEM() ([]byte, error) {
	signer, ok := k.private.(crypto.Signer)
	if !ok {
		return nil, errors.New("tokens: a secret has no public key")
	}
	der, err := x509.MarshalPKIXPublicKey(signer.Public())
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), nil
}

func newKey(private any) (*Key, error) {
	encode := base64.RawURLEncoding.EncodeToString
	key := &Key{private: private}
	var thumb string
	switch private := private.(type) {
	case ed25519.PrivateKey:
		public := private.Public().(ed25519.PublicKey)
		key.algorithm, key.method = EdDSA, jwt.SigningMethodEdDSA
		key.public = &jwk{Kty: "OKP", Crv: "Ed25519", X: encode(public)}
		thumb = fmt.Sprintf(`{"crv":"Ed25519","kty":"OKP","x":"%s"}`, key.public.X)
	case *ecdsa.PrivateKey:
		if private.Curve != elliptic.P256() {
			return nil, errors.New("tokens: ES256 needs a key on P-256")
		}
		// 0x04, then X and Y with 32 bytes each.
		point, err := private.PublicKey.Bytes()
		if err != nil {
			return nil, err
		}
		key.algorithm, key.method = ES256, jwt.SigningMethodES256
		key.public = &jwk{Kty: "EC", Crv: "P-256", X: encode(point[1:33]), Y: encode(point[33:])}
		thumb = fmt.Sprintf(`{"crv":"P-256","kty":"EC","x":"%s","y":"%s"}`, key.public.X, key.public.Y)
	default:
		return nil, errors.New("tokens: the key is neither Ed25519 nor P-256")
	}
	sum := sha256.Sum256([]byte(thumb))
	key.id = encode(sum[:])
	key.public.Kid, key.public.Alg, key.public.Use = key.id, string(key.algorithm), "sig"
	return key, nil
}
