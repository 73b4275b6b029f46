#!/usr/bin/env bash
# The Go module: gen | check | check-gen | test. `gen` and `check-gen` need the node modules (make setup), `test` the built
# server, which lies in CARGO_TARGET_DIR or target/; VEZA_BIN names another.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
built=$(realpath -m "${CARGO_TARGET_DIR:-target}")
cd clients/go

buf=$root/clients/web/node_modules/.bin/buf

case "${1:-}" in
  gen)
    "$buf" generate
    ;;
  check)
    unformatted=$(gofmt -l .)
    if [ -n "$unformatted" ]; then
      printf 'gofmt would change:\n%s\n' "$unformatted" >&2
      exit 1
    fi
    go mod tidy -diff
    go vet ./...
    go vet -tags e2e ./...
    ;;
  check-gen)
    # The generated code is what the schema makes now.
    before=$(mktemp -d)
    trap 'rm -rf "$before"' EXIT
    cp -R gen "$before/"
    "$buf" generate
    if ! diff -rq "$before/gen" gen; then
      echo "clients/go/gen is not what proto/ makes: commit what \`scripts/go.sh gen\` has just written" >&2
      exit 1
    fi
    ;;
  test)
    go test -race ./...
    VEZA_BIN=${VEZA_BIN:-$built/debug/veza} go test -race -tags e2e -count=1 ./e2e/... ./example/...
    ;;
  *)
    echo "usage: scripts/go.sh gen|check|check-gen|test" >&2
    exit 2
    ;;
esac
