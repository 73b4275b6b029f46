// Package webhooks checks that what arrives at a webhook's address comes from Veza, just now, and hands it on.
//
// A delivery is a POST with the JSON of an event and three headers: Veza-Webhook-Id (the same in every repetition),
// Veza-Webhook-Timestamp (Unix seconds of this attempt) and Veza-Webhook-Signature, which is "v1=" and the HMAC-SHA256, in
// hex, of id, timestamp and body joined by dots, under the webhook's secret. While a secret is exchanged there are two
// signatures, separated by a comma.
package webhooks

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/encoding/protojson"

	gatewayv1 "github.com/veza-platform/veza/clients/go/gen/veza/gateway/v1"
)

// The headers of a delivery.
const (
	HeaderID        = "Veza-Webhook-Id"
	HeaderTimestamp = "Veza-Webhook-Timestamp"
	HeaderSignature = "Veza-Webhook-Signature"
)

const (
	// window is how far a delivery's timestamp may be from our clock, either way.
	window = 5 * time.Minute
	// bodyBytesMax is more than any event has.
	bodyBytesMax = 1 << 20
	// idBytesMax and rememberedMax bound what is kept to know a repetition by.
	idBytesMax    = 128
	rememberedMax = 16_384
	// signaturesMax is more than a secret that is exchanged makes.
	signaturesMax = 8
)

// ErrSignature says that a delivery is not to be believed: it is not signed with a secret that is known here, or another
// time than now. What exactly is wrong is for our logs, not for whoever sent it.
var ErrSignature = errors.New("the webhook's signature does not hold")

// Delivery is what was delivered.
type Delivery struct {
	// ID is the same in every repetition of a delivery.
	ID string
	// SentAt is when this attempt was made, to the second.
	SentAt time.Time
	Event  *gatewayv1.Event
}

// Receiver is an [http.Handler] that checks deliveries and hands each on once.
//
// A delivery that was handled is answered with 204. When the handler fails it is 500, and Veza repeats it later. A
// repetition of what this receiver has handled is answered with 204 and not handed on again; after a restart, or behind a
// balancer, it is, so handlers take a second time in their stride.
type Receiver struct {
	secrets [][]byte
	handle  func(context.Context, Delivery) error

	mu sync.Mutex
	// By id.
	seen map[string]attempt
}

// attempt is a delivery that was handled lately, or is being handled now.
type attempt struct {
	begun time.Time
	done  bool
}

// NewReceiver hands what is signed with one of the secrets to handle. Give two while a secret is exchanged.
func NewReceiver(handle func(context.Context, Delivery) error, secrets ...string) (*Receiver, error) {
	if handle == nil || len(secrets) == 0 {
		return nil, errors.New("webhooks: a receiver has a handler and a secret")
	}
	receiver := &Receiver{handle: handle, seen: map[string]attempt{}}
	for _, secret := range secrets {
		if secret == "" {
			return nil, errors.New("webhooks: a secret is not empty")
		}
		receiver.secrets = append(receiver.secrets, []byte(secret))
	}
	return receiver, nil
}

// ServeHTTP implements [http.Handler].
func (r *Receiver) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	if request.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		http.Error(w, "only POST", http.StatusMethodNotAllowed)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, request.Body, bodyBytesMax))
	if err != nil {
		var tooLarge *http.MaxBytesError
		if errors.As(err, &tooLarge) {
			http.Error(w, "too large", http.StatusRequestEntityTooLarge)
			return
		}
		http.Error(w, "the body broke off", http.StatusBadRequest)
		return
	}
	delivery, err := r.Verify(request.Header, body)
	switch {
	case errors.Is(err, ErrSignature):
		http.Error(w, ErrSignature.Error(), http.StatusUnauthorized)
		return
	case err != nil:
		http.Error(w, "no event", http.StatusBadRequest)
		return
	}
	if earlier, known := r.begin(delivery.ID); known {
		if !earlier.done {
			// Whether it will be handled is not known yet, so Veza has to ask again.
			w.Header().Set("Retry-After", "5")
			http.Error(w, "being handled", http.StatusServiceUnavailable)
			return
		}
		w.WriteHeader(http.StatusNoContent)
		return
	}
	handled := false
	// Also when the handler panics: what was not handled is welcome again.
	defer func() { r.end(delivery.ID, handled) }()
	if err := r.handle(request.Context(), delivery); err != nil {
		http.Error(w, "not handled", http.StatusInternalServerError)
		return
	}
	handled = true
	w.WriteHeader(http.StatusNoContent)
}

// Verify checks a delivery that was read by other means. The error is an [ErrSignature], or tells why what is signed is no
// event.
func (r *Receiver) Verify(header http.Header, body []byte) (Delivery, error) {
	id, timestamp := header.Get(HeaderID), header.Get(HeaderTimestamp)
	seconds, err := strconv.ParseInt(timestamp, 10, 64)
	if id == "" || len(id) > idBytesMax || err != nil || strconv.FormatInt(seconds, 10) != timestamp {
		return Delivery{}, fmt.Errorf("%w: headers are missing or malformed", ErrSignature)
	}
	if !r.signed(header.Get(HeaderSignature), id, timestamp, body) {
		return Delivery{}, fmt.Errorf("%w: no signature by a known secret", ErrSignature)
	}
	sent := time.Unix(seconds, 0)
	if age := time.Since(sent); age > window || age < -window {
		return Delivery{}, fmt.Errorf("%w: sent %v ago", ErrSignature, age.Round(time.Second))
	}
	event := &gatewayv1.Event{}
	if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(body, event); err != nil {
		return Delivery{}, errors.New("webhooks: the body is no event")
	}
	return Delivery{ID: id, SentAt: sent, Event: event}, nil
}

// Sign makes the signature header of a delivery, for tests of handlers.
func Sign(secret, id string, sent time.Time, body []byte) string {
	sum := hmac.New(sha256.New, []byte(secret))
	fmt.Fprintf(sum, "%s.%d.", id, sent.Unix())
	sum.Write(body)
	return "v1=" + hex.EncodeToString(sum.Sum(nil))
}

func (r *Receiver) signed(header, id, timestamp string, body []byte) bool {
	given := strings.SplitN(header, ",", signaturesMax+1)
	if len(given) > signaturesMax {
		return false
	}
	for _, secret := range r.secrets {
		sum := hmac.New(sha256.New, secret)
		sum.Write([]byte(id + "." + timestamp + "."))
		sum.Write(body)
		want := sum.Sum(nil)
		for _, one := range given {
			signature, ok := strings.CutPrefix(strings.TrimSpace(one), "v1=")
			if !ok {
				continue
			}
			if bytes, err := hex.DecodeString(signature); err == nil && hmac.Equal(bytes, want) {
				return true
			}
		}
	}
	return false
}

// begin notes that a delivery is being handled, unless an earlier attempt is known.
func (r *Receiver) begin(id string) (attempt, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if earlier, known := r.seen[id]; known {
		return earlier, true
	}
	now := time.Now()
	if len(r.seen) >= rememberedMax {
		r.forget(now)
	}
	r.seen[id] = attempt{begun: now}
	return attempt{}, false
}

func (r *Receiver) end(id string, handled bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !handled {
		delete(r.seen, id)
		return
	}
	r.seen[id] = attempt{begun: time.Now(), done: true}
}

// forget makes room: what is too old to be replayed goes, and if that is nothing, everything. A repetition is then handed
// on again, which handlers bear.
func (r *Receiver) forget(now time.Time) {
	for id, known := range r.seen {
		if now.Sub(known.begun) > 2*window {
			delete(r.seen, id)
		}
	}
	if len(r.seen) >= rememberedMax {
		clear(r.seen)
	}
}
