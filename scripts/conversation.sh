#!/usr/bin/env bash
# Starts the built server on free ports and has a stranger hold the conversation that docs/PROTOCOL.md prints.
set -euo pipefail
cd "$(dirname "$0")/.."

data=$(mktemp -d)
log="$data/server.log"
PORT=0 WS_PORT=0 PROMETHEUS_PORT=0 GRPC_PORT=0 HOST=127.0.0.1 VEZA_DATA_DIR="$data/veza" \
  "${CARGO_TARGET_DIR:-target}/debug/veza" >"$log" 2>&1 &
server=$!
trap 'kill "$server" 2>/dev/null || true; wait "$server" 2>/dev/null || true; rm -rf "$data"' EXIT

for _ in $(seq 100); do
  url=$(grep -o 'http://localhost:[0-9]*' "$log" | head -n 1 || true)
  [ -n "$url" ] && break
  sleep 0.1
done
if [ -z "${url:-}" ]; then
  echo "the server did not start:" >&2
  cat "$log" >&2
  exit 1
fi
python3 tests/strangers/conversation.py "$url"
