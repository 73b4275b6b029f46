# Sourced by the other scripts: phases with their times, and what had to be skipped.
# shellcheck shell=bash

cd "$(dirname "${BASH_SOURCE[0]}")/.."

PHASES=()
SKIPPED=()
FAILED=0

# phase NAME COMMAND…: runs it, notes how long it took and whether it failed, and goes on.
phase() {
  local name=$1 begun=$SECONDS result=ok
  shift
  printf '\n=== %s\n' "$name"
  if ! "$@"; then
    result=FAILED
    FAILED=1
  fi
  PHASES+=("$(printf '%6d s  %-6s  %s' $((SECONDS - begun)) "$result" "$name")")
}

# skip NAME WHY: says loudly that something was not run.
skip() {
  printf '\n!!! SKIPPED: %s: %s\n' "$1" "$2"
  SKIPPED+=("$1: $2")
  [ -z "${SKIPS_FILE:-}" ] || printf '%s: %s\n' "$1" "$2" >>"$SKIPS_FILE"
}

have() {
  command -v "$1" >/dev/null 2>&1
}

# summary TITLE: the phases' times, what was skipped, and the exit code.
summary() {
  printf '\n=== %s: %d s in all\n' "$1" "$SECONDS"
  printf '%s\n' "${PHASES[@]}"
  local entry
  for entry in "${SKIPPED[@]}"; do
    printf '!!! SKIPPED: %s\n' "$entry"
  done
  if [ "$FAILED" -ne 0 ]; then
    printf '\n%s: FAILED\n' "$1"
    exit 1
  fi
  printf '\n%s: ok\n' "$1"
}
