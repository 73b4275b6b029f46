package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httputil"
	"net/url"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	veza "github.com/veza-platform/veza/clients/go"
	gatewayv1 "github.com/veza-platform/veza/clients/go/gen/veza/gateway/v1"
	"github.com/veza-platform/veza/clients/go/tokens"
)

// connectFor is how long a connect token lives. The page asks for a fresh one before its end.
const connectFor = 15 * time.Minute

// Gateway is the platform's side.
type Gateway struct {
	Veza *veza.Client
	// Page is where Veza serves its page, which is shown here to who is logged in.
	Page *url.URL
	// Keys sign connect tokens; nil: Veza does, which development can.
	Keys *tokens.Ring
	Log  *slog.Logger

	minter   *tokens.Minter
	sessions sessions

	mu    sync.Mutex
	heard []heard
}

// Handler is everything there is by HTTP.
func (g *Gateway) Handler() (http.Handler, error) {
	mux := http.NewServeMux()
	if g.Keys != nil {
		minter, err := tokens.NewMinter(g.Keys, "veza", "veza")
		if err != nil {
			return nil, err
		}
		g.minter = minter
		mux.Handle("GET /.well-known/jwks.json", g.Keys)
	}
	mux.HandleFunc("GET /login", showLogin)
	mux.HandleFunc("POST /login", g.login)
	mux.Handle("POST /connect", g.known(g.connect))
	// Veza's page asks here for its token when it shows somebody a development server.
	mux.Handle("POST /dev/login", g.known(g.connect))
	mux.Handle("POST /rooms", g.known(g.createRoom))
	mux.Handle("POST /users/{user}/revoke", g.known(g.revoke))
	mux.Handle("GET /heard", g.known(g.tellHeard))
	page := &httputil.ReverseProxy{Rewrite: func(request *httputil.ProxyRequest) {
		request.SetURL(g.Page)
		// The answer speaks of the host that the browser knows.
		request.Out.Host = request.In.Host
	}}
	for _, path := range []string{"/{$}", "/app.js", "/style.css", "/icon.svg", "/veza.json"} {
		mux.Handle("GET "+path, g.knownOr("/login", page))
	}
	return http.NewCrossOriginProtection().Handler(mux), nil
}

// connect gives the user who is logged in a token to connect with.
func (g *Gateway) connect(w http.ResponseWriter, request *http.Request, user User) {
	token, expires, err := g.mint(request.Context(), user)
	if err != nil {
		g.refuse(w, err)
		return
	}
	w.Header().Set("Cache-Control", "no-store")
	answer(w, http.StatusOK, map[string]any{"token": token, "user": user.VezaID(), "expiresMs": expires.UnixMilli()})
}

func (g *Gateway) mint(ctx context.Context, user User) (string, time.Time, error) {
	if g.minter != nil {
		token, err := g.minter.Mint(tokens.Grant{User: user.VezaID(), Entitlements: user.Plans, Lifetime: connectFor})
		return token.Value, token.ExpiresAt, err
	}
	minted, err := g.Veza.Auth.MintConnectToken(ctx, &gatewayv1.MintConnectTokenRequest{
		User: user.VezaID(), Entitlements: user.Plans, Seconds: uint32(connectFor.Seconds()),
	})
	return minted.GetToken(), time.UnixMilli(int64(minted.GetExpiresMs())), err
}

// createRoom makes a room in the name of the user, who becomes its owner. The header Idempotency-Key makes its repetition
// harmless, through to Veza.
func (g *Gateway) createRoom(w http.ResponseWriter, request *http.Request, user User) {
	var wanted struct{ Room, Title string }
	if err := json.NewDecoder(http.MaxBytesReader(w, request.Body, 4096)).Decode(&wanted); err != nil {
		answer(w, http.StatusBadRequest, map[string]any{"error": "INVALID_ARGUMENT", "message": `the body is {"room": "…", "title": "…"}`})
		return
	}
	made, err := g.Veza.Rooms.CreateRoom(request.Context(), &gatewayv1.CreateRoomRequest{
		Room: wanted.Room, Title: wanted.Title, Actor: user.VezaID(), IdempotencyKey: request.Header.Get("Idempotency-Key"),
	})
	if err != nil {
		g.refuse(w, err)
		return
	}
	answer(w, http.StatusCreated, map[string]any{"room": made.GetRoom().GetId(), "title": made.GetRoom().GetTitle()})
}

// revoke logs a user out everywhere: here, and of every session with Veza.
func (g *Gateway) revoke(w http.ResponseWriter, request *http.Request, by User) {
	user, found := developmentUsers[request.PathValue("user")]
	if !by.Staff || !found {
		answer(w, http.StatusNotFound, map[string]any{"error": "NOT_FOUND", "message": "there is nothing here for you"})
		return
	}
	g.sessions.end(user)
	revoked, err := g.Veza.Auth.RevokeUser(request.Context(), &gatewayv1.RevokeUserRequest{
		User: user.VezaID(), Reason: "revoked by " + by.Name, IdempotencyKey: veza.NewKey(),
	})
	if err != nil {
		g.refuse(w, err)
		return
	}
	answer(w, http.StatusOK, map[string]any{"sessionsClosed": revoked.GetSessionsClosed()})
}

// refuse tells people what Veza has refused, and the log what went wrong.
func (g *Gateway) refuse(w http.ResponseWriter, err error) {
	code := http.StatusBadGateway
	switch status.Code(err) {
	case codes.InvalidArgument:
		code = http.StatusBadRequest
	case codes.AlreadyExists, codes.FailedPrecondition, codes.Aborted:
		code = http.StatusConflict
	case codes.NotFound:
		code = http.StatusNotFound
	case codes.PermissionDenied:
		code = http.StatusForbidden
	case codes.ResourceExhausted:
		code = http.StatusTooManyRequests
	case codes.Unavailable:
		code = http.StatusServiceUnavailable
	default:
		g.Log.Error("a call to Veza failed", "error", err)
	}
	if wait, ok := veza.RetryAfter(err); ok {
		w.Header().Set("Retry-After", fmt.Sprint(int(wait.Seconds()+1)))
	}
	answer(w, code, map[string]any{"error": veza.Reason(err), "message": status.Convert(err).Message()})
}

func answer(w http.ResponseWriter, code int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(body)
}
