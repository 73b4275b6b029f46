#!/usr/bin/env bash
# The page and its SDK: install | build | check | test.
set -euo pipefail
script=$(realpath "$0")
cd "$(dirname "$0")/../clients/web"

installed() {
  [ node_modules/.package-lock.json -nt package-lock.json ] && [ node_modules/.package-lock.json -nt package.json ]
}

case "${1:-}" in
  install)
    if ! installed; then
      npm ci
      touch node_modules/.package-lock.json
    fi
    ;;
  build)
    "$script" install
    npm run --silent build
    ;;
  check)
    npm run --silent check
    npm run --silent build:check
    # The generated messages are what the schema makes now.
    before=$(mktemp -d)
    trap 'rm -rf "$before"' EXIT
    cp -R src/gen "$before/"
    npm run --silent gen
    if ! diff -r "$before/gen" src/gen; then
      echo "src/gen is not what proto/ makes: commit what \`npm run gen\` has just written" >&2
      exit 1
    fi
    ;;
  test)
    npm test
    ;;
  *)
    echo "usage: scripts/web.sh install|build|check|test" >&2
    exit 2
    ;;
esac
