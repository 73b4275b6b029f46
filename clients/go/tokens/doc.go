// Package tokens mints the tokens that Veza's clients connect with, and publishes the keys they are checked with.
//
// A token is a JWT with exactly the claims the server reads: iss, aud, sub (the user), iat, nbf, exp, jti, device and
// entitlements. The server takes one algorithm, EdDSA when nobody configured another, and finds the public keys under
// AUTH_JWKS_URL, in AUTH_JWKS_FILE, or has the one key of AUTH_KEY_FILE.
package tokens
