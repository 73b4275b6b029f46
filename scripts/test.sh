#!/usr/bin/env bash
# Everything, on a fresh machine too. What cannot run here is named at the end.
set -uo pipefail
. "$(dirname "$0")/lib.sh"

# What the scripts below had to skip is told at the end again.
SKIPS_FILE=$(mktemp)
export SKIPS_FILE

phase "setup" scripts/setup.sh
[ "$FAILED" -eq 0 ] || summary "make test"
phase "check" scripts/check.sh
phase "build the server" cargo build --locked --bin veza
phase "cargo test" cargo test --workspace --locked
if have npm && [ -d clients/web/node_modules ]; then
  phase "page and SDK" scripts/web.sh test
else
  skip "page and SDK" "no npm or no node modules here"
fi
if have go; then
  phase "Go module, against the server" scripts/go.sh test
else
  skip "Go module, against the server" "no go here"
fi
if have python3; then
  phase "a stranger's conversation" scripts/conversation.sh
else
  skip "a stranger's conversation" "no python3 here"
fi
have chromium || skip "the browser" "no chromium here; tests that drive it cannot have run"
ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 ||
  skip "PostgreSQL" "not installed here; the store's suite cannot have run on it"
have strace || skip "syncs counted by strace" "no strace here; the test that counts them cannot have run"
mapfile -t SKIPPED <"$SKIPS_FILE"
rm -f "$SKIPS_FILE"
summary "make test"
