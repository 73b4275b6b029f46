package tokens_test

import (
	"fmt"
	"log"
	"net/http"
	"time"

	"github.com/veza-platform/veza/clients/go/tokens"
)

// A gateway signs with a key of its own and publishes it where the server's AUTH_JWKS_URL looks.
func Example() {
	key, err := tokens.GenerateKey(tokens.EdDSA) // Or tokens.ReadKey("signing.pem").
	if err != nil {
		log.Fatal(err)
	}
	ring, err := tokens.NewRing(key, 24*time.Hour)
	if err != nil {
		log.Fatal(err)
	}
	minter, err := tokens.NewMinter(ring, "veza", "veza")
	if err != nil {
		log.Fatal(err)
	}
	http.Handle("/.well-known/jwks.json", ring)

	token, err := minter.Mint(tokens.Grant{User: "42", Device: "phone-1", Lifetime: 15 * time.Minute})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(time.Until(token.ExpiresAt) > 14*time.Minute)
	// Output: true
}

// A key is exchanged: announced now, signing in an hour, the old one published for as long as its tokens live.
func ExampleRing_Rotate() {
	first, _ := tokens.GenerateKey(tokens.EdDSA)
	ring, _ := tokens.NewRing(first, 24*time.Hour)

	next, err := tokens.GenerateKey(tokens.EdDSA)
	if err != nil {
		log.Fatal(err)
	}
	if err := ring.Rotate(next, time.Now().Add(time.Hour)); err != nil {
		log.Fatal(err)
	}
	fmt.Println(ring.Signing() == first)
	// Output: true
}
