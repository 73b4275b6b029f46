#!/usr/bin/env bash
# What needs no running server.
set -uo pipefail
. "$(dirname "$0")/lib.sh"

engine_is_pure() {
  local beneath
  beneath=$(cargo tree -p veza-engine -e normal --prefix none) || return 1
  if grep -E '^(tokio|quinn|sqlx|hyper|axum|mio|socket2|rand)[ -]' <<<"$beneath"; then
    echo "the engine must not depend on these" >&2
    return 1
  fi
  echo "no I/O beneath the engine: $(wc -l <<<"$beneath") crates, none of them tokio, quinn or sqlx"
}

scripts_parse() {
  local script
  for script in scripts/*.sh certs/*.sh .ci/run; do
    bash -n "$script" || return 1
  done
}

phase "format" cargo fmt --all --check
phase "scripts parse" scripts_parse
phase "engine is pure" engine_is_pure
phase "lints" cargo clippy --quiet --workspace --all-targets --locked -- -D warnings
phase "rustdoc" env RUSTDOCFLAGS="-D warnings" cargo doc --quiet --workspace --no-deps --locked
phase "tidy" cargo test --quiet --locked --test tidy
if have cargo-deny; then
  phase "cargo-deny" cargo deny check bans licenses sources
else
  skip "cargo-deny" "not installed; licences and bans of deny.toml are checked by tidy, advisories by nobody"
fi
if have npm && [ -d clients/web/node_modules ]; then
  phase "page: types, dist, generated messages" scripts/web.sh check
else
  skip "page: types, dist, generated messages" "no npm, or no node modules (make setup)"
fi
if have go; then
  phase "Go module: format, vet, dependencies" scripts/go.sh check
else
  skip "Go module: format, vet, dependencies" "no go here"
fi
if have go && [ -d clients/web/node_modules ]; then
  phase "Go module: generated code" scripts/go.sh check-gen
else
  skip "Go module: generated code" "no go, or no node modules (make setup)"
fi
if [ -d clients/web/node_modules ]; then
  phase "schema: in good form, and breaks nobody" scripts/proto.sh check
  phase "schema: every kind of break is found" scripts/proto.sh test
else
  skip "schema: compatibility" "no node modules (make setup)"
fi
if have python3 && python3 -c 'import yaml' 2>/dev/null; then
  phase "deploy: YAML parses" python3 scripts/deploy_yaml.py
else
  skip "deploy: YAML parses" "python3 has no yaml module here"
fi
summary "make check"
