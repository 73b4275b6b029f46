// Connect is the smallest gateway: whoever asks it gets a token to connect to Veza with. Put your own login before it.
package main

import (
	"context"
	"encoding/json"
	"log"
	"net/http"

	veza "github.com/veza-platform/veza/clients/go"
	gatewayv1 "github.com/veza-platform/veza/clients/go/gen/veza/gateway/v1"
)

func main() {
	client, err := veza.Dial(context.Background(), "127.0.0.1:50051",
		veza.WithInsecure(), veza.WithTokenFile("gateway-token"))
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()

	http.HandleFunc("POST /connect", func(w http.ResponseWriter, r *http.Request) {
		userID := int64(42) // From your session, never from the request.
		minted, err := client.Auth.MintConnectToken(r.Context(), &gatewayv1.MintConnectTokenRequest{
			User: veza.UserID(userID), Seconds: 900,
		})
		if err != nil {
			log.Printf("no token for user %d: %v", userID, err)
			http.Error(w, "try again later", http.StatusServiceUnavailable)
			return
		}
		w.Header().Set("Cache-Control", "no-store")
		json.NewEncoder(w).Encode(map[string]any{"token": minted.GetToken(), "expiresMs": minted.GetExpiresMs()})
	})
	log.Fatal(http.ListenAndServe("127.0.0.1:8090", nil))
}
