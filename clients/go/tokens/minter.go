package tokens

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/golang-jwt/jwt/v5"
)

// What the server bounds; a token beyond it would be refused there.
const (
	userBytesMax        = 128
	deviceBytesMax      = 64
	entitlementsMax     = 64
	entitlementBytesMax = 64
	tokenBytesMax       = 8 * 1024
	lifetimeMax         = 365 * 24 * time.Hour
)

// servicePrefix begins what services are called as authors; the server takes no user by such a name.
const servicePrefix = "service:"

const deviceAlphabet = "abcdefghijklmnopqrstuvwxyz0123456789._-"

// DefaultLifetime is how long a token lives when nobody says. A session outlives its token only if it is given a fresh one.
const DefaultLifetime = time.Hour

// Minter signs tokens that clients connect with. It is safe for concurrent use.
type Minter struct {
	ring     *Ring
	issuer   string
	audience string
}

// Grant is for whom a token is, and what it allows.
type Grant struct {
	// User is the user's id, 1 to 128 bytes without control characters, not beginning with "service:"; see veza.UserID for
	// numbered users.
	User string
	// Device is the device the token was given to, so that it can be revoked with it: at most 64 of a-z 0-9 . _ - ; empty for
	// none.
	Device string
	// Entitlements name the premium rooms the user may join; at most 64 of at most 64 bytes.
	Entitlements []string
	// Lifetime is from one second to 365 days, whole seconds; 0 for [DefaultLifetime].
	Lifetime time.Duration
}

// Token is a token that was signed, and what one needs to know to revoke or renew it.
type Token struct {
	// Value is what the client says in its hello. It is a secret.
	Value string
	// ID is the token's jti.
	ID        string
	ExpiresAt time.Time
}

// String leaves the secret out.
func (t Token) String() string {
	return "token " + t.ID
}

// GoString leaves the secret out.
func (t Token) GoString() string {
	return t.String()
}

type claims struct {
	jwt.RegisteredClaims
	Device       string   `json:"device,omitempty"`
	Entitlements []string `json:"entitlements,omitempty"`
}

// NewMinter signs with the ring's keys. Issuer and audience are what the server has as AUTH_ISSUER and AUTH_AUDIENCE; both
// are "veza" there when not set.
func NewMinter(ring *Ring, issuer, audience string) (*Minter, error) {
	if ring == nil || issuer == "" || audience == "" {
		return nil, errors.New("tokens: a minter has a ring, an issuer and an audience")
	}
	return &Minter{ring: ring, issuer: issuer, audience: audience}, nil
}

// Mint signs a token that is valid from now on.
func (m *Minter) Mint(grant Grant) (Token, error) {
	lifetime, err := grant.check()
	if err != nil {
		return Token{}, err
	}
	random := make([]byte, 16)
	if _, err := rand.Read(random); err != nil {
		return Token{}, err
	}
	id := base64.RawURLEncoding.EncodeToString(random)
	now := time.Now().Truncate(time.Second)
	expires := now.Add(lifetime)
	key := m.ring.Signing()
	token := jwt.NewWithClaims(key.method, claims{
		RegisteredClaims: jwt.RegisteredClaims{
			Issuer:    m.issuer,
			Subject:   grant.User,
			IssuedAt:  jwt.NewNumericDate(now),
			NotBefore: jwt.NewNumericDate(now),
			ExpiresAt: jwt.NewNumericDate(expires),
			ID:        id,
			Audience:  jwt.ClaimStrings{m.audience},
		},
		Device:       grant.Device,
		Entitlements: grant.Entitlements,
	})
	if key.id != "" {
		token.Header["kid"] = key.id
	}
	value, err := token.SignedString(key.private)
	if err != nil {
		return Token{}, fmt.Errorf("tokens: %w", err)
	}
	if len(value) > tokenBytesMax {
		return Token{}, fmt.Errorf("tokens: the token has %d bytes, the server takes %d", len(value), tokenBytesMax)
	}
	return Token{Value: value, ID: id, ExpiresAt: expires}, nil
}

func (g *Grant) check() (time.Duration, error) {
	switch {
	case g.User == "" || len(g.User) > userBytesMax || !printable(g.User):
		return 0, fmt.Errorf("tokens: a user's id has 1 to %d bytes and no control characters", userBytesMax)
	case strings.HasPrefix(g.User, servicePrefix):
		return 0, fmt.Errorf("tokens: %q begins the names of services, not of users", servicePrefix)
	case len(g.Device) > deviceBytesMax || strings.Trim(g.Device, deviceAlphabet) != "":
		return 0, fmt.Errorf("tokens: a device's id has at most %d of a-z 0-9 . _ -", deviceBytesMax)
	case len(g.Entitlements) > entitlementsMax:
		return 0, fmt.Errorf("tokens: at most %d entitlements", entitlementsMax)
	}
	for _, entitlement := range g.Entitlements {
		if entitlement == "" || len(entitlement) > entitlementBytesMax || !printable(entitlement) {
			return 0, fmt.Errorf("tokens: an entitlement has 1 to %d bytes and no control characters", entitlementBytesMax)
		}
	}
	lifetime := g.Lifetime
	if lifetime == 0 {
		lifetime = DefaultLifetime
	}
	if lifetime < time.Second || lifetime > lifetimeMax || lifetime%time.Second != 0 {
		return 0, errors.New("tokens: a token lives from one second to 365 days, whole seconds")
	}
	return lifetime, nil
}

func printable(text string) bool {
	return utf8.ValidString(text) && !strings.ContainsFunc(text, unicode.IsControl)
}
