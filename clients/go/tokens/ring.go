package tokens

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"
)

// Ring holds the keys of an issuer over time: which one signs now, and which ones are published. A ring with one key is
// all that is needed until the key is exchanged by [Ring.Rotate]. It is safe for concurrent use.
//
// As an [http.Handler] it publishes the public keys as a JWKS (RFC 7517), for the server's AUTH_JWKS_URL.
type Ring struct {
	overlap time.Duration

	mu sync.Mutex
	// By the moment from which each signs; the first one signs already.
	keys []scheduled
}

type scheduled struct {
	key  *Key
	from time.Time
}

// jwksMaxAge is how long others may keep a copy of the published keys. A key is announced longer than this before it signs.
const jwksMaxAge = 5 * time.Minute

// NewRing makes a ring whose key signs from now on. A key that was exchanged stays published for overlap, which is at
// least the longest lifetime of a token that it signed.
func NewRing(key *Key, overlap time.Duration) (*Ring, error) {
	if key == nil || overlap < 0 {
		return nil, errors.New("tokens: a ring has a key and an overlap that is not negative")
	}
	return &Ring{overlap: overlap, keys: []scheduled{{key: key}}}, nil
}

// Rotate announces the next key: it is published at once and signs from the given moment on. Who has fetched the keys
// shortly before knows it by then if the moment is at least ten minutes away. Instances that are given the same keys and
// moments publish the same.
func (r *Ring) Rotate(next *Key, from time.Time) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	last := r.keys[len(r.keys)-1]
	switch {
	case next == nil:
		return errors.New("tokens: no key to rotate to")
	case last.key.public == nil:
		return errors.New("tokens: a secret is not rotated: the server knows one at a time")
	case next.algorithm != last.key.algorithm:
		return fmt.Errorf("tokens: the server takes one algorithm, %s, so the next key cannot be for %s", last.key.algorithm, next.algorithm)
	case !from.After(last.from):
		return errors.New("tokens: the next key signs after the one before it")
	case slices.ContainsFunc(r.keys, func(known scheduled) bool { return known.key.id == next.id }):
		return errors.New("tokens: this key is on the ring already")
	}
	r.keys = append(r.keys, scheduled{key: next, from: from})
	return nil
}

// Signing is the key that signs now.
func (r *Ring) Signing() *Key {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.keys[r.signing(time.Now())].key
}

// ServeHTTP publishes the keys that tokens may be signed with: those still needed, the present one, and those announced.
func (r *Ring) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	if request.Method != http.MethodGet && request.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "only GET", http.StatusMethodNotAllowed)
		return
	}
	w.Header().Set("Content-Type", "application/jwk-set+json")
	w.Header().Set("Cache-Control", fmt.Sprintf("public, max-age=%d", int(jwksMaxAge.Seconds())))
	_ = json.NewEncoder(w).Encode(map[string][]jwk{"keys": r.published()})
}

// JWKS is what ServeHTTP publishes, for a file that is the server's AUTH_JWKS_FILE.
func (r *Ring) JWKS() ([]byte, error) {
	return json.Marshal(map[string][]jwk{"keys": r.published()})
}

func (r *Ring) published() []jwk {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.forget(time.Now())
	public := make([]jwk, 0, len(r.keys))
	for _, known := range r.keys {
		if known.key.public != nil {
			public = append(public, *known.key.public)
		}
	}
	return public
}

// signing is the place of the last key whose moment has come.
func (r *Ring) signing(now time.Time) int {
	place := 0
	for at, known := range r.keys {
		if !now.Before(known.from) {
			place = at
		}
	}
	return place
}

// forget drops keys whose successor has signed for longer than the overlap.
func (r *Ring) forget(now time.Time) {
	for len(r.keys) > 1 && now.Sub(r.keys[1].from) > r.overlap {
		r.keys = slices.Delete(r.keys, 0, 1)
	}
}
