package tokens_test

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/veza-platform/veza/clients/go/tokens"
)

var secret = []byte("a secret of the tests, longer than 32 bytes")

func TestATokenSaysWhatTheServerReads(t *testing.T) {
	for _, algorithm := range []tokens.Algorithm{tokens.EdDSA, tokens.ES256, tokens.HS256} {
		t.Run(string(algorithm), func(t *testing.T) {
			key := keyFor(t, algorithm)
			ring := ringOf(t, key)
			token := mint(t, ring, tokens.Grant{User: "42", Device: "phone", Entitlements: []string{"gold"}, Lifetime: time.Minute})

			header, claims := read(t, token.Value, verifier(t, ring))
			if header["alg"] != string(algorithm) || header["typ"] != "JWT" {
				t.Errorf("header %v", header)
			}
			if kid, _ := header["kid"].(string); kid != key.ID() {
				t.Errorf("kid %q, the key is %q", kid, key.ID())
			}
			names := make([]string, 0, len(claims))
			for name := range claims {
				names = append(names, name)
			}
			slices.Sort(names)
			if want := "aud device entitlements exp iat iss jti nbf sub"; strings.Join(names, " ") != want {
				t.Errorf("claims %v, not %s", names, want)
			}
			if claims["sub"] != "42" || claims["iss"] != "veza" || claims["device"] != "phone" || claims["jti"] != token.ID {
				t.Errorf("claims %v", claims)
			}
			if lives := claims["exp"].(float64) - claims["nbf"].(float64); lives != 60 {
				t.Errorf("lives %v s", lives)
			}
			if claims["exp"].(float64) != float64(token.ExpiresAt.Unix()) || claims["iat"] != claims["nbf"] {
				t.Errorf("times %v, %v", claims, token.ExpiresAt)
			}
		})
	}
}

func TestWhatIsNotGivenIsNotClaimed(t *testing.T) {
	ring := ringOf(t, keyFor(t, tokens.EdDSA))
	_, claims := read(t, mint(t, ring, tokens.Grant{User: "alice"}).Value, verifier(t, ring))
	if claims["device"] != nil || claims["entitlements"] != nil {
		t.Errorf("claims %v", claims)
	}
	if lives := claims["exp"].(float64) - claims["nbf"].(float64); lives != tokens.DefaultLifetime.Seconds() {
		t.Errorf("lives %v s", lives)
	}
}

func TestGrantsAtTheirLimitsAndOnePast(t *testing.T) {
	ring := ringOf(t, keyFor(t, tokens.EdDSA))
	minter, err := tokens.NewMinter(ring, "veza", "veza")
	if err != nil {
		t.Fatal(err)
	}
	many := func(count, length int) []string {
		return slices.Repeat([]string{strings.Repeat("e", length)}, count)
	}
	year := 365 * 24 * time.Hour
	for _, test := range []struct {
		what  string
		grant tokens.Grant
		ok    bool
	}{
		{"no user", tokens.Grant{}, false},
		{"the longest user", tokens.Grant{User: strings.Repeat("u", 128)}, true},
		{"a longer user", tokens.Grant{User: strings.Repeat("u", 129)}, false},
		{"a user with a line break", tokens.Grant{User: "a\nb"}, false},
		{"a user that is no text", tokens.Grant{User: "a\xff"}, false},
		{"a service", tokens.Grant{User: "service:gateway"}, false},
		{"the longest device", tokens.Grant{User: "a", Device: strings.Repeat("d", 64)}, true},
		{"a longer device", tokens.Grant{User: "a", Device: strings.Repeat("d", 65)}, false},
		{"every letter of a device", tokens.Grant{User: "a", Device: "az09._-"}, true},
		{"a device with another letter", tokens.Grant{User: "a", Device: "a b"}, false},
		{"most entitlements", tokens.Grant{User: "a", Entitlements: many(64, 64)}, true},
		{"one more", tokens.Grant{User: "a", Entitlements: many(65, 1)}, false},
		{"a longer entitlement", tokens.Grant{User: "a", Entitlements: many(1, 65)}, false},
		{"an empty entitlement", tokens.Grant{User: "a", Entitlements: many(1, 0)}, false},
		{"the shortest life", tokens.Grant{User: "a", Lifetime: time.Second}, true},
		{"a shorter one", tokens.Grant{User: "a", Lifetime: time.Second - 1}, false},
		{"a part of a second", tokens.Grant{User: "a", Lifetime: 1500 * time.Millisecond}, false},
		{"the longest life", tokens.Grant{User: "a", Lifetime: year}, true},
		{"a longer one", tokens.Grant{User: "a", Lifetime: year + time.Second}, false},
	} {
		token, err := minter.Mint(test.grant)
		if (err == nil) != test.ok || (token.Value != "") != test.ok {
			t.Errorf("%s: %v, %v", test.what, token, err)
		}
	}
	// Escaped in JSON, the most that is allowed exceeds what the server reads of a token.
	if token, err := minter.Mint(tokens.Grant{User: "a", Entitlements: slices.Repeat([]string{strings.Repeat("<", 64)}, 64)}); err == nil {
		t.Errorf("%d bytes were signed", len(token.Value))
	}
}

func TestKeysComeBackFromTheirFiles(t *testing.T) {
	for _, algorithm := range []tokens.Algorithm{tokens.EdDSA, tokens.ES256} {
		key := keyFor(t, algorithm)
		text, err := key.PEM()
		if err != nil {
			t.Fatal(err)
		}
		back, err := tokens.ParseKey(text)
		if err != nil || back.ID() != key.ID() || back.Algorithm() != algorithm {
			t.Errorf("%v came back as %v, %v", key, back, err)
		}
		public, err := key.PublicPEM()
		if err != nil || !strings.HasPrefix(string(public), "-----BEGIN PUBLIC KEY-----\n") {
			t.Errorf("%s, %v", public, err)
		}
		if _, err := tokens.ParseKey(public); err == nil {
			t.Error("a public key was taken for a private one")
		}
	}
}

func TestOtherKeysAreRefused(t *testing.T) {
	wrongCurve, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	wrongKind, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	for _, private := range []any{wrongCurve, wrongKind} {
		der, err := x509.MarshalPKCS8PrivateKey(private)
		if err != nil {
			t.Fatal(err)
		}
		if key, err := tokens.ParseKey(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})); err == nil {
			t.Errorf("%T was taken for %v", private, key)
		}
	}
	if _, err := tokens.ParseKey([]byte("no PEM")); err == nil {
		t.Error("nonsense was taken for a key")
	}
	if _, err := tokens.NewSecret(secret[:31]); err == nil {
		t.Error("a secret of 31 bytes was taken")
	}
	if _, err := tokens.NewSecret(secret[:32]); err != nil {
		t.Error(err)
	}
	if _, err := tokens.GenerateKey("none"); err == nil {
		t.Error("a key for no algorithm")
	}
}

func TestNothingSecretIsPrinted(t *testing.T) {
	key, err := tokens.NewSecret(secret)
	if err != nil {
		t.Fatal(err)
	}
	token := mint(t, ringOf(t, key), tokens.Grant{User: "alice"})
	said := fmt.Sprintf("%v %+v %#v %s", key, key, key, key) + fmt.Sprintf("%v %+v %#v %s", token, token, token, token)
	if strings.Contains(said, string(secret)) || strings.Contains(said, fmt.Sprint(secret)) || strings.Contains(said, token.Value) {
		t.Error(said)
	}
	answer := httptest.NewRecorder()
	ringOf(t, key).ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/", nil))
	if body := strings.TrimSpace(answer.Body.String()); body != `{"keys":[]}` {
		t.Errorf("published %s", body)
	}
}

// An issuer exchanges its key. Whoever fetches the keys as often as they are told to finds every token's key among them.
func TestAKeyIsExchangedWithoutAGap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first, second := keyFor(t, tokens.EdDSA), keyFor(t, tokens.EdDSA)
		ring, err := tokens.NewRing(first, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		expect := func(when string, signing *tokens.Key, published ...*tokens.Key) {
			t.Helper()
			if got := ring.Signing(); got != signing {
				t.Errorf("%s: %v signs", when, got)
			}
			var want []string
			for _, key := range published {
				want = append(want, key.ID())
			}
			if got := ids(t, ring); !slices.Equal(got, want) {
				t.Errorf("%s: published %v, not %v", when, got, want)
			}
		}
		expect("before", first, first)
		if err := ring.Rotate(second, time.Now().Add(10*time.Minute)); err != nil {
			t.Fatal(err)
		}
		expect("announced", first, first, second)
		time.Sleep(10*time.Minute - 1)
		expect("just before the moment", first, first, second)
		last := mint(t, ring, tokens.Grant{User: "alice", Lifetime: time.Hour})
		time.Sleep(1)
		expect("at the moment", second, first, second)
		time.Sleep(time.Hour)
		expect("while the last token lives", second, first, second)
		read(t, last.Value, nil)
		time.Sleep(1)
		expect("afterwards", second, second)
	})
}

func TestARingRefusesWhatTheServerCouldNotFollow(t *testing.T) {
	first := keyFor(t, tokens.EdDSA)
	ring := ringOf(t, first)
	soon := time.Now().Add(time.Hour)
	if err := ring.Rotate(keyFor(t, tokens.ES256), soon); err == nil {
		t.Error("another algorithm was taken")
	}
	if err := ring.Rotate(first, soon); err == nil {
		t.Error("the same key was taken")
	}
	if err := ring.Rotate(nil, soon); err == nil {
		t.Error("no key was taken")
	}
	if err := ring.Rotate(keyFor(t, tokens.EdDSA), soon); err != nil {
		t.Error(err)
	}
	if err := ring.Rotate(keyFor(t, tokens.EdDSA), soon); err == nil {
		t.Error("two keys for one moment were taken")
	}
	if err := ringOf(t, keyFor(t, tokens.HS256)).Rotate(keyFor(t, tokens.HS256), soon); err == nil {
		t.Error("a secret was rotated")
	}
}

func TestKeysArePublishedOverHTTP(t *testing.T) {
	ring := ringOf(t, keyFor(t, tokens.ES256))
	answer := httptest.NewRecorder()
	ring.ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/.well-known/jwks.json", nil))
	if answer.Code != http.StatusOK || answer.Header().Get("Cache-Control") != "public, max-age=300" {
		t.Errorf("%d %v", answer.Code, answer.Header())
	}
	if strings.Contains(answer.Body.String(), `"d"`) {
		t.Error("a private key was published")
	}
	answer = httptest.NewRecorder()
	ring.ServeHTTP(answer, httptest.NewRequest(http.MethodPost, "/.well-known/jwks.json", nil))
	if answer.Code != http.StatusMethodNotAllowed {
		t.Errorf("POST: %d", answer.Code)
	}
}

// The example of RFC 8037, appendix A.3.
func TestTheIDIsTheThumbprint(t *testing.T) {
	seed, err := base64.RawURLEncoding.DecodeString("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A")
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(ed25519.NewKeyFromSeed(seed))
	if err != nil {
		t.Fatal(err)
	}
	key, err := tokens.ParseKey(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	if err != nil || key.ID() != "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k" {
		t.Errorf("%v, %v", key, err)
	}
}

func keyFor(t *testing.T, algorithm tokens.Algorithm) *tokens.Key {
	t.Helper()
	key, err := tokens.NewSecret(secret)
	if algorithm != tokens.HS256 {
		key, err = tokens.GenerateKey(algorithm)
	}
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func ringOf(t *testing.T, key *tokens.Key) *tokens.Ring {
	t.Helper()
	ring, err := tokens.NewRing(key, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return ring
}

func mint(t *testing.T, ring *tokens.Ring, grant tokens.Grant) tokens.Token {
	t.Helper()
	minter, err := tokens.NewMinter(ring, "veza", "veza")
	if err != nil {
		t.Fatal(err)
	}
	token, err := minter.Mint(grant)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func jwks(t *testing.T, ring *tokens.Ring) []map[string]string {
	t.Helper()
	text, err := ring.JWKS()
	if err != nil {
		t.Fatal(err)
	}
	var set struct{ Keys []map[string]string }
	if err := json.Unmarshal(text, &set); err != nil {
		t.Fatal(err)
	}
	return set.Keys
}

func ids(t *testing.T, ring *tokens.Ring) []string {
	t.Helper()
	var ids []string
	for _, key := range jwks(t, ring) {
		ids = append(ids, key["kid"])
	}
	return ids
}

// verifier finds a token's key in what the ring publishes, or takes the secret.
func verifier(t *testing.T, ring *tokens.Ring) jwt.Keyfunc {
	t.Helper()
	number := func(text string) *big.Int {
		bytes, err := base64.RawURLEncoding.DecodeString(text)
		if err != nil {
			t.Fatal(err)
		}
		return new(big.Int).SetBytes(bytes)
	}
	return func(token *jwt.Token) (any, error) {
		if token.Method == jwt.SigningMethodHS256 {
			return secret, nil
		}
		for _, key := range jwks(t, ring) {
			switch {
			case key["kid"] != token.Header["kid"]:
			case key["kty"] == "OKP":
				bytes, err := base64.RawURLEncoding.DecodeString(key["x"])
				return ed25519.PublicKey(bytes), err
			case key["kty"] == "EC":
				return &ecdsa.PublicKey{Curve: elliptic.P256(), X: number(key["x"]), Y: number(key["y"])}, nil
			}
		}
		return nil, fmt.Errorf("no key %v is published", token.Header["kid"])
	}
}

// read gives the token's header and claims; with a key function it checks the signature too.
func read(t *testing.T, value string, keys jwt.Keyfunc) (map[string]any, jwt.MapClaims) {
	t.Helper()
	claims := jwt.MapClaims{}
	if keys == nil {
		token, _, err := jwt.NewParser().ParseUnverified(value, claims)
		if err != nil {
			t.Fatal(err)
		}
		return token.Header, claims
	}
	token, err := jwt.ParseWithClaims(value, claims, keys, jwt.WithAudience("veza"), jwt.WithIssuer("veza"))
	if err != nil {
		t.Fatal(err)
	}
	return token.Header, claims
}
