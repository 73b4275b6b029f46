package veza

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"
)

// bearer puts the service's token on every call.
type bearer struct {
	token    func(context.Context) (string, error)
	insecure bool
}

// GetRequestMetadata implements credentials.PerRPCCredentials.
func (b bearer) GetRequestMetadata(ctx context.Context, _ ...string) (map[string]string, error) {
	token, err := b.token(ctx)
	if err != nil {
		return nil, err
	}
	if token == "" || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
		return nil, errors.New("the service's token is empty, or holds what no header may")
	}
	return map[string]string{"authorization": "Bearer " + token}, nil
}

// RequireTransportSecurity implements credentials.PerRPCCredentials.
func (b bearer) RequireTransportSecurity() bool {
	return !b.insecure
}

// tokenFileFresh is how long what was read of a token's file is used.
const tokenFileFresh = time.Second

// tokenFile is a token that stands in a file and may be exchanged there.
type tokenFile struct {
	path string

	mu    sync.Mutex
	value string
	read  time.Time
}

func (f *tokenFile) token(context.Context) (string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.value != "" && time.Since(f.read) < tokenFileFresh {
		return f.value, nil
	}
	content, err := os.ReadFile(f.path)
	if err != nil {
		return "", fmt.Errorf("the service's token: %w", err)
	}
	f.value, f.read = strings.TrimSpace(string(content)), time.Now()
	return f.value, nil
}
