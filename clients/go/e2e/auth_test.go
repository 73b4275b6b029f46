//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"net"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	veza "github.com/veza-platform/veza/clients/go"
	"github.com/veza-platform/veza/clients/go/authz"
	gatewayv1 "github.com/veza-platform/veza/clients/go/gen/veza/gateway/v1"
	vezav1 "github.com/veza-platform/veza/clients/go/gen/veza/v1"
	"github.com/veza-platform/veza/clients/go/internal/vezatest"
	"github.com/veza-platform/veza/clients/go/tokens"
)

// mint is a fresh token of a user's device, by the server's own key.
func (w *world) mint(user, device string) *gatewayv1.MintConnectTokenResponse {
	w.Helper()
	minted, err := w.Auth.MintConnectToken(w.ctx, &gatewayv1.MintConnectTokenRequest{User: user, Device: device, Seconds: 600, Entitlements: []string{"gold"}})
	if err != nil {
		w.Fatal(err)
	}
	return minted
}

// taken says whether the server takes a token, and why not.
func (w *world) taken(token string) (bool, string) {
	w.Helper()
	validated, err := w.Auth.ValidateToken(w.ctx, &gatewayv1.ValidateTokenRequest{Token: token})
	if err != nil {
		w.Fatal(err)
	}
	return validated.GetValid(), validated.GetReason()
}

var auth = []call{
	{
		method: "ValidateToken",
		good: func(w *world) (string, error) {
			validated, err := w.Auth.ValidateToken(w.ctx, &gatewayv1.ValidateTokenRequest{Token: w.mint("alice", "phone").GetToken()})
			token := validated.GetToken()
			nonsense, why := w.taken("nonsense")
			return expect(validated.GetValid() && token.GetUser() == "alice" && token.GetDevice() == "phone" && token.GetEntitlements()[0] == "gold" && !nonsense && why == "invalid",
				"validated %v", token), err
		},
		bad: func(w *world) error {
			// Whatever the token is, that is an answer; only the service can be at fault.
			_, err := w.stranger().Auth.ValidateToken(w.ctx, &gatewayv1.ValidateTokenRequest{Token: "nonsense"})
			return err
		},
		code: codes.Unauthenticated, reason: "SERVICE_UNKNOWN",
	},
	{
		method: "GetUserInfo",
		good: func(w *world) (string, error) {
			user := fresh("user")
			w.room(user)
			info, err := w.Auth.GetUserInfo(w.ctx, &gatewayv1.GetUserInfoRequest{User: user})
			return expect(info.GetUser() == user && info.GetRooms() == 1 && !info.GetConnected() && info.GetRevokedBeforeMs() == 0, "info %v", info), err
		},
		bad: func(w *world) error {
			_, err := w.Auth.GetUserInfo(w.ctx, &gatewayv1.GetUserInfoRequest{User: strings.Repeat("u", 129)})
			return err
		},
		code: codes.InvalidArgument, reason: "INVALID_ARGUMENT",
	},
	{
		method: "CheckPermission",
		good: func(w *world) (string, error) {
			id := w.room("bob")
			may, err := w.Auth.CheckPermission(w.ctx, &gatewayv1.CheckPermissionRequest{User: "bob", Room: id, Action: vezav1.Action_ACTION_PUBLISH})
			mayNot, _ := w.Auth.CheckPermission(w.ctx, &gatewayv1.CheckPermissionRequest{User: "bob", Room: id, Action: vezav1.Action_ACTION_MANAGE})
			return expect(may.GetAllowed() && !mayNot.GetAllowed() && mayNot.GetReason() == "PERMISSION_DENIED" && mayNot.GetRole() == vezav1.Role_ROLE_MEMBER &&
				mayNot.GetAtLeast() == vezav1.Role_ROLE_ADMIN, "may %v, may not %v", may, mayNot), err
		},
		bad: func(w *world) error {
			_, err := w.Auth.CheckPermission(w.ctx, &gatewayv1.CheckPermissionRequest{User: "bob", Room: w.room("bob")})
			return err
		},
		code: codes.InvalidArgument, reason: "INVALID_ARGUMENT",
	},
	{
		method: "RevokeToken",
		good: func(w *world) (string, error) {
			one, other := w.mint("carol", "phone"), w.mint("carol", "phone")
			byID := &gatewayv1.RevokeTokenRequest_TokenId{TokenId: one.GetTokenId()}
			_, err := w.Auth.RevokeToken(w.ctx, &gatewayv1.RevokeTokenRequest{Which: byID, ExpiresMs: one.GetExpiresMs(), Reason: "lost"})
			taken, why := w.taken(one.GetToken())
			still, _ := w.taken(other.GetToken())
			return expect(!taken && why == "revoked" && still, "taken %v %s, the other %v", taken, why, still), err
		},
		bad: func(w *world) error {
			_, err := w.Auth.RevokeToken(w.ctx, &gatewayv1.RevokeTokenRequest{})
			return err
		},
		code: codes.InvalidArgument, reason: "INVALID_ARGUMENT",
	},
	{
		method: "RevokeDevice",
		good: func(w *world) (string, error) {
			phone, laptop := w.mint("dora", "phone"), w.mint("dora", "laptop")
			_, err := w.Auth.RevokeDevice(w.ctx, &gatewayv1.RevokeDeviceRequest{User: "dora", Device: "phone"})
			taken, why := w.taken(phone.GetToken())
			still, _ := w.taken(laptop.GetToken())
			return expect(!taken && why == "revoked" && still, "taken %v %s, the laptop's %v", taken, why, still), err
		},
		bad: func(w *world) error {
			_, err := w.Auth.RevokeDevice(w.ctx, &gatewayv1.RevokeDeviceRequest{User: "dora"})
			return err
		},
		code: codes.InvalidArgument, reason: "INVALID_ARGUMENT",
	},
	{
		method: "RevokeUser",
		good: func(w *world) (string, error) {
			token := w.mint("mallory", "")
			_, err := w.Auth.RevokeUser(w.ctx, &gatewayv1.RevokeUserRequest{User: "mallory", Reason: "enough"})
			taken, why := w.taken(token.GetToken())
			info, _ := w.Auth.GetUserInfo(w.ctx, &gatewayv1.GetUserInfoRequest{User: "mallory"})
			return expect(!taken && why == "revoked" && info.GetRevokedBeforeMs() > 0, "taken %v %s, info %v", taken, why, info), err
		},
		bad: func(w *world) error {
			_, err := w.Auth.RevokeUser(w.ctx, &gatewayv1.RevokeUserRequest{User: "mallory", Reason: strings.Repeat("r", 513)})
			return err
		},
		code: codes.InvalidArgument, reason: "INVALID_ARGUMENT",
	},
	{
		method: "MintConnectToken",
		good: func(w *world) (string, error) {
			minted := w.mint("alice", "")
			taken, why := w.taken(minted.GetToken())
			lives := time.Until(time.UnixMilli(int64(minted.GetExpiresMs())))
			return expect(taken && lives > 0 && lives <= 10*time.Minute, "taken %v %s, lives %v", taken, why, lives), nil
		},
		bad: func(w *world) error {
			_, err := w.Auth.MintConnectToken(w.ctx, &gatewayv1.MintConnectTokenRequest{User: "alice", Seconds: 3_601})
			return err
		},
		code: codes.InvalidArgument, reason: "INVALID_ARGUMENT",
	},
	{
		method: "GetKeys",
		good: func(w *world) (string, error) {
			found, err := w.Auth.GetKeys(w.ctx, &gatewayv1.GetKeysRequest{})
			var set struct{ Keys []map[string]string }
			if err := json.Unmarshal([]byte(found.GetJwks()), &set); err != nil {
				return "", err
			}
			return expect(len(set.Keys) == 1 && set.Keys[0]["crv"] == "Ed25519" && set.Keys[0]["d"] == "" && found.GetMaxAgeSeconds() > 0, "found %v", found), err
		},
		bad: func(w *world) error {
			_, err := w.stranger().Auth.GetKeys(w.ctx, &gatewayv1.GetKeysRequest{})
			return err
		},
		code: codes.Unauthenticated, reason: "SERVICE_UNKNOWN",
	},
}

// stranger is a client that shows a token nobody gave it.
func (w *world) stranger() *veza.Client {
	w.Helper()
	return w.server.Client(w, veza.WithToken("a-token-that-no-service-was-given"))
}

// Whoever is revoked is out, with everything that is open, and stays out until there is a newer token.
func TestARevocationReachesLiveSessions(t *testing.T) {
	server := vezatest.Start(t)
	w := &world{T: t, Client: server.Client(t), server: server, ctx: t.Context()}
	const revoked = 4503
	phone, laptop, other := w.mint("alice", "phone"), w.mint("alice", "laptop"), w.mint("bob", "phone")
	onPhone, onLaptop, bobs := server.Connect(t, phone.GetToken()), server.Connect(t, laptop.GetToken()), server.Connect(t, other.GetToken())

	answer, err := w.Auth.RevokeDevice(t.Context(), &gatewayv1.RevokeDeviceRequest{User: "alice", Device: "phone"})
	if err != nil || answer.GetSessionsClosed() != 1 {
		t.Errorf("the phone: %v, %v", answer, err)
	}
	if code := onPhone.Closed(); code != revoked {
		t.Errorf("the phone's session was closed with %v", code)
	}
	user, err := w.Auth.RevokeUser(t.Context(), &gatewayv1.RevokeUserRequest{User: "alice"})
	if err != nil || user.GetSessionsClosed() != 1 {
		t.Errorf("the user: %v, %v", user, err)
	}
	if code := onLaptop.Closed(); code != revoked {
		t.Errorf("the laptop's session was closed with %v", code)
	}
	if _, answer := server.Hello(t, laptop.GetToken()); answer.At("reply", "welcome") != nil {
		t.Errorf("the revoked token was taken: %v", answer)
	}
	if reply := bobs.Ask("ping", map[string]any{"clientTimeMs": 7}); reply["pong"] == nil {
		t.Errorf("bob, of whom nobody spoke, is told %v", reply)
	}
}

// The platform's own keys: what the module's minter signs and its ring publishes is what the server takes.
func TestTheServerTakesTheModulesTokens(t *testing.T) {
	first, err := tokens.GenerateKey(tokens.ES256)
	if err != nil {
		t.Fatal(err)
	}
	ring, err := tokens.NewRing(first, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	minter, err := tokens.NewMinter(ring, "veza", "veza")
	if err != nil {
		t.Fatal(err)
	}
	keys := httptest.NewServer(ring)
	defer keys.Close()
	server := vezatest.Start(t, "AUTH_ALGORITHM=ES256", "AUTH_JWKS_URL="+keys.URL)
	client := server.Client(t)
	mint := func() tokens.Token {
		t.Helper()
		token, err := minter.Mint(tokens.Grant{User: veza.UserID(1 << 53), Device: "phone", Entitlements: []string{"gold"}, Lifetime: time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	token := mint()
	validated, err := client.Auth.ValidateToken(t.Context(), &gatewayv1.ValidateTokenRequest{Token: token.Value})
	said := validated.GetToken()
	if err != nil || !validated.GetValid() || said.GetUser() != "9007199254740992" || said.GetDevice() != "phone" || said.GetEntitlements()[0] != "gold" ||
		said.GetTokenId() != token.ID || said.GetExpiresMs() != uint64(token.ExpiresAt.UnixMilli()) || said.GetIssuedMs() == 0 {
		t.Errorf("validated %v, %v", validated, err)
	}
	server.Connect(t, token.Value)

	stranger, err := tokens.GenerateKey(tokens.ES256)
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := tokens.NewRing(stranger, 0)
	if err != nil {
		t.Fatal(err)
	}
	forger, err := tokens.NewMinter(theirs, "veza", "veza")
	if err != nil {
		t.Fatal(err)
	}
	forged, err := forger.Mint(tokens.Grant{User: "1"})
	if err != nil {
		t.Fatal(err)
	}
	if validated, err := client.Auth.ValidateToken(t.Context(), &gatewayv1.ValidateTokenRequest{Token: forged.Value}); err != nil || validated.GetValid() || validated.GetReason() != "invalid" {
		t.Errorf("forged: %v, %v", validated, err)
	}
}

// What the platform is asked when somebody comes in, joins or speaks, and what its answer does.
func TestTheServerAsksThePlatform(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	const secret = "what-the-server-shows-the-platform"
	platform := grpc.NewServer(authz.RequireToken(secret))
	authz.Register(platform, authz.Funcs{
		Connect: func(_ context.Context, request *gatewayv1.ConnectRequest) (authz.Decision, error) {
			if request.GetUser() == "mallory" {
				return authz.Refuse("Your account is closed."), nil
			}
			return authz.Allow(0), nil
		},
		Join: func(_ context.Context, request *gatewayv1.JoinRequest) (authz.Decision, error) {
			if request.GetRoom() == "backstage" {
				return authz.Refuse("This room is for the crew."), nil
			}
			return authz.Allow(0), nil
		},
	})
	go platform.Serve(listener)
	defer platform.Stop()
	asked := []string{"AUTHZ_GRPC_URL=http://" + listener.Addr().String(), "AUTHZ_TIMEOUT_MS=10000", "AUTHZ_ON_PUBLISH=closed"}

	server := vezatest.Start(t, append(asked, "AUTHZ_TOKEN="+secret)...)
	w := &world{T: t, Client: server.Client(t), server: server, ctx: t.Context()}
	alice := server.Connect(t, w.mint("alice", "").GetToken())
	for _, room := range []string{"porch", "backstage"} {
		if reply := alice.Ask("createRoom", map[string]any{"room": room, "title": "A room"}); reply["roomCreated"] == nil {
			t.Errorf("making %s: %v", room, reply)
		}
	}
	if reply := alice.Ask("joinRoom", map[string]any{"room": "porch"}); reply["roomJoined"] == nil {
		t.Errorf("joining what is allowed: %v", reply)
	}
	if reply := alice.Ask("publish", map[string]any{"room": "porch", "cmid": "a-1", "body": "Hello"}); reply["published"] == nil {
		t.Errorf("saying what nobody forbids: %v", reply)
	}
	refused := alice.Ask("joinRoom", map[string]any{"room": "backstage"})
	if said := vezatest.Frame(refused); said.At("error", "code") != "ERROR_CODE_PERMISSION_DENIED" || said.At("error", "message") != "This room is for the crew." {
		t.Errorf("joining what is refused: %v", refused)
	}
	if _, answer := server.Hello(t, w.mint("mallory", "").GetToken()); answer.At("reply", "welcome") != nil {
		t.Errorf("mallory is welcome: %v", answer)
	}

	// Who does not show the secret gets no answer, and the server lets nobody in without one.
	other := vezatest.Start(t, append(asked, "AUTHZ_TOKEN=another")...)
	w = &world{T: t, Client: other.Client(t), server: other, ctx: t.Context()}
	if _, answer := other.Hello(t, w.mint("alice", "").GetToken()); answer.At("reply", "welcome") != nil {
		t.Errorf("welcome without the platform's word: %v", answer)
	}
}
