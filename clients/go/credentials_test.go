package veza

import (
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"
)

func TestATokenIsExchangedInItsFile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "token")
		file := &tokenFile{path: path}
		write := func(content string) {
			t.Helper()
			if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		expect := func(want string) {
			t.Helper()
			if token, err := file.token(t.Context()); err != nil || token != want {
				t.Errorf("%q, %v; not %q", token, err, want)
			}
		}
		if _, err := file.token(t.Context()); err == nil {
			t.Error("there was no file")
		}
		write("first\n")
		expect("first")
		write("second\n")
		time.Sleep(tokenFileFresh - 1)
		expect("first")
		time.Sleep(1)
		expect("second")
	})
}
