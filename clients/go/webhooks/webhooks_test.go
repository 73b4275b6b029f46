package webhooks_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/veza-platform/veza/clients/go/webhooks"
)

const secret = "a secret of the tests"

var body = []byte(`{"position":"7","room":"porch","user":"alice","message":{"message":{"room":"porch","seq":"3","body":"Hello"}},"aFieldOfTomorrow":1}`)

// post is a delivery as Veza sends it; with changes, as somebody else might.
func post(id string, sent time.Time, body []byte, changes ...func(*http.Request)) *http.Request {
	request := httptest.NewRequest(http.MethodPost, "/veza", bytes.NewReader(body))
	request.Header.Set(webhooks.HeaderID, id)
	request.Header.Set(webhooks.HeaderTimestamp, strconv.FormatInt(sent.Unix(), 10))
	request.Header.Set(webhooks.HeaderSignature, webhooks.Sign(secret, id, sent, body))
	for _, change := range changes {
		change(request)
	}
	return request
}

func header(name, value string) func(*http.Request) {
	return func(request *http.Request) { request.Header.Set(name, value) }
}

// inbox notes what was handled.
type inbox struct {
	deliveries []webhooks.Delivery
	fail       error
}

func (i *inbox) handle(_ context.Context, delivery webhooks.Delivery) error {
	i.deliveries = append(i.deliveries, delivery)
	return i.fail
}

func newReceiver(t *testing.T, handle func(context.Context, webhooks.Delivery) error, secrets ...string) *webhooks.Receiver {
	t.Helper()
	receiver, err := webhooks.NewReceiver(handle, secrets...)
	if err != nil {
		t.Fatal(err)
	}
	return receiver
}

func answer(receiver http.Handler, request *http.Request) int {
	recorder := httptest.NewRecorder()
	receiver.ServeHTTP(recorder, request)
	return recorder.Code
}

// The agreed form of a signature, so that a change of it does not pass unnoticed. Made by
// printf 'evt-1.1764000000.{}' | openssl dgst -sha256 -hmac sesame
func TestTheSignatureIsTheAgreedOne(t *testing.T) {
	signature := webhooks.Sign("sesame", "evt-1", time.Unix(1764000000, 0), []byte("{}"))
	if want := "v1=7729d2c22171fc277b5f764f0f8247a08b5373e50eb26f0d6dfcb7c43eaac92c"; signature != want {
		t.Errorf("%s, not %s", signature, want)
	}
}

func TestASignedDeliveryIsHandledOnce(t *testing.T) {
	inbox := &inbox{}
	receiver := newReceiver(t, inbox.handle, secret)
	for range 3 {
		if code := answer(receiver, post("evt-1", time.Now(), body)); code != http.StatusNoContent {
			t.Errorf("status %d", code)
		}
	}
	if len(inbox.deliveries) != 1 {
		t.Fatalf("handled %d times", len(inbox.deliveries))
	}
	delivery := inbox.deliveries[0]
	if delivery.ID != "evt-1" || delivery.Event.GetPosition() != 7 || delivery.Event.GetMessage().GetMessage().GetBody() != "Hello" {
		t.Errorf("delivered %+v", delivery)
	}
}

func TestWhatFailsComesAgain(t *testing.T) {
	inbox := &inbox{fail: errors.New("no room at the inn")}
	receiver := newReceiver(t, inbox.handle, secret)
	if code := answer(receiver, post("evt-1", time.Now(), body)); code != http.StatusInternalServerError {
		t.Errorf("status %d", code)
	}
	inbox.fail = nil
	if code := answer(receiver, post("evt-1", time.Now(), body)); code != http.StatusNoContent || len(inbox.deliveries) != 2 {
		t.Errorf("status %d, handled %d times", code, len(inbox.deliveries))
	}

	panics := newReceiver(t, func(context.Context, webhooks.Delivery) error { panic("a mistake") }, secret)
	func() {
		defer func() { _ = recover() }()
		answer(panics, post("evt-2", time.Now(), body))
	}()
	defer func() {
		if recover() == nil {
			t.Error("after a panic the repetition was taken for handled")
		}
	}()
	answer(panics, post("evt-2", time.Now(), body))
}

// A repetition that comes while the first attempt is still at work must not be taken for done: that one may yet fail.
func TestARepetitionWaitsForTheFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		finish := make(chan error)
		receiver := newReceiver(t, func(context.Context, webhooks.Delivery) error { return <-finish }, secret)
		first := make(chan int)
		go func() { first <- answer(receiver, post("evt-1", time.Now(), body)) }()
		synctest.Wait()
		if code := answer(receiver, post("evt-1", time.Now(), body)); code != http.StatusServiceUnavailable {
			t.Errorf("meanwhile: %d", code)
		}
		finish <- nil
		if code := <-first; code != http.StatusNoContent {
			t.Errorf("the first: %d", code)
		}
		if code := answer(receiver, post("evt-1", time.Now(), body)); code != http.StatusNoContent {
			t.Errorf("afterwards: %d", code)
		}
	})
}

func TestForgeriesAreRefused(t *testing.T) {
	now := time.Now()
	old := webhooks.Sign(secret, "evt-1", now, body)
	for what, request := range map[string]*http.Request{
		"another body":         post("evt-1", now, append([]byte(" "), body...), header(webhooks.HeaderSignature, old)),
		"another id":           post("evt-2", now, body, header(webhooks.HeaderSignature, old)),
		"another time":         post("evt-1", now.Add(time.Second), body, header(webhooks.HeaderSignature, old)),
		"another secret":       post("evt-1", now, body, header(webhooks.HeaderSignature, webhooks.Sign("guess", "evt-1", now, body))),
		"another version":      post("evt-1", now, body, header(webhooks.HeaderSignature, "v0="+strings.TrimPrefix(old, "v1="))),
		"no signature":         post("evt-1", now, body, header(webhooks.HeaderSignature, "")),
		"half a signature":     post("evt-1", now, body, header(webhooks.HeaderSignature, old[:35])),
		"no id":                post("", now, body),
		"too long an id":       post(strings.Repeat("x", 129), now, body),
		"no time":              post("evt-1", now, body, header(webhooks.HeaderTimestamp, "")),
		"a time with a sign":   post("evt-1", now, body, header(webhooks.HeaderTimestamp, "+1764000000")),
		"too many signatures":  post("evt-1", now, body, header(webhooks.HeaderSignature, strings.Repeat("v1=00,", 8)+old)),
		"a dot moved leftward": post("evt-1."+strconv.FormatInt(now.Unix(), 10), now, body, header(webhooks.HeaderSignature, old)),
	} {
		inbox := &inbox{}
		if code := answer(newReceiver(t, inbox.handle, secret), request); code != http.StatusUnauthorized || len(inbox.deliveries) != 0 {
			t.Errorf("%s: status %d, handled %d times", what, code, len(inbox.deliveries))
		}
	}
}

func TestADeliveryAtTheEdgeOfItsTimeAndOnePast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, test := range []struct {
			sent time.Duration
			code int
		}{
			{-5 * time.Minute, http.StatusNoContent},
			{-5*time.Minute - time.Second, http.StatusUnauthorized},
			{5 * time.Minute, http.StatusNoContent},
			{5*time.Minute + time.Second, http.StatusUnauthorized},
		} {
			receiver := newReceiver(t, (&inbox{}).handle, secret)
			if code := answer(receiver, post("evt-1", time.Now().Add(test.sent), body)); code != test.code {
				t.Errorf("sent at %v: status %d", test.sent, code)
			}
		}
	})
}

func TestTwoSecretsHoldWhileOneIsExchanged(t *testing.T) {
	now := time.Now()
	both := webhooks.Sign("the next secret", "evt-1", now, body) + ", " + webhooks.Sign(secret, "evt-1", now, body)
	for _, known := range [][]string{{secret}, {"the next secret"}, {"the next secret", secret}} {
		receiver := newReceiver(t, (&inbox{}).handle, known...)
		if code := answer(receiver, post("evt-1", now, body, header(webhooks.HeaderSignature, both))); code != http.StatusNoContent {
			t.Errorf("who knows %q: status %d", known, code)
		}
	}
}

func TestABodyAtItsLimitAndOnePast(t *testing.T) {
	padded := func(size int) []byte {
		return append(bytes.Repeat([]byte(" "), size-len(body)), body...)
	}
	receiver := newReceiver(t, (&inbox{}).handle, secret)
	if code := answer(receiver, post("evt-1", time.Now(), padded(1<<20))); code != http.StatusNoContent {
		t.Errorf("1 MiB: status %d", code)
	}
	if code := answer(receiver, post("evt-2", time.Now(), padded(1<<20+1))); code != http.StatusRequestEntityTooLarge {
		t.Errorf("1 MiB and a byte: status %d", code)
	}
}

func TestWhatIsSignedAndNoEvent(t *testing.T) {
	receiver := newReceiver(t, (&inbox{}).handle, secret)
	if code := answer(receiver, post("evt-1", time.Now(), []byte("[]"))); code != http.StatusBadRequest {
		t.Errorf("status %d", code)
	}
	if code := answer(receiver, httptest.NewRequest(http.MethodGet, "/veza", nil)); code != http.StatusMethodNotAllowed {
		t.Errorf("GET: status %d", code)
	}
}

// What is remembered of deliveries is bounded; beyond it a repetition is handed on again, and nothing else changes.
func TestMemoryIsBounded(t *testing.T) {
	const remembered = 16_384
	handled := map[string]int{}
	receiver := newReceiver(t, func(_ context.Context, delivery webhooks.Delivery) error {
		handled[delivery.ID]++
		return nil
	}, secret)
	deliver := func(id string) {
		t.Helper()
		if code := answer(receiver, post(id, time.Now(), []byte("{}"))); code != http.StatusNoContent {
			t.Fatalf("%s: status %d", id, code)
		}
	}
	for n := range remembered {
		deliver(fmt.Sprint(n))
	}
	deliver("0")
	if handled["0"] != 1 {
		t.Errorf("at the limit the first one was handled %d times", handled["0"])
	}
	deliver("one more")
	deliver("0")
	if handled["0"] != 2 {
		t.Errorf("past the limit the first one was handled %d times", handled["0"])
	}
}

func TestAReceiverNeedsASecretAndAHandler(t *testing.T) {
	if _, err := webhooks.NewReceiver((&inbox{}).handle); err == nil {
		t.Error("no secret")
	}
	if _, err := webhooks.NewReceiver((&inbox{}).handle, secret, ""); err == nil {
		t.Error("an empty secret")
	}
	if _, err := webhooks.NewReceiver(nil, secret); err == nil {
		t.Error("no handler")
	}
}
