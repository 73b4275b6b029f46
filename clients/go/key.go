package veza

import "crypto/rand"

// NewKey makes an idempotency key: 26 random letters and digits. Use one per deed, and the same in every retry of it. Where
// the platform has an id for the deed (an order, an upload), that is the better key, for it survives a crash.
func NewKey() string {
	return rand.Text()
}
