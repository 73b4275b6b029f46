#!/usr/bin/env bash
# Installs what the tests need and is missing. Rust itself is expected: rust-toolchain's version stands in Cargo.toml.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

if ! have cargo; then
  echo "Rust is missing: install it from https://rustup.rs, then run this again" >&2
  exit 1
fi

missing=()
want() { # want COMMAND PACKAGE
  have "$1" || missing+=("$2")
}
want cc build-essential
want cmake cmake
want chromium chromium
want strace strace
want python3 python3
want curl curl
want node nodejs
want npm npm
want go golang-go
want oggenc vorbis-tools
want lame lame
want flac flac
# Debian keeps the server's programs out of the path.
ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || missing+=(postgresql)

if [ ${#missing[@]} -gt 0 ]; then
  if [ "$(id -u)" -ne 0 ] || ! have apt-get; then
    echo "!!! missing: ${missing[*]}; this script installs them only as root on Debian. Tests that need them will say so."
  else
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -q
    apt-get install -y -q --no-install-recommends "${missing[@]}"
  fi
fi

if have npm; then
  scripts/web.sh install
fi
echo "everything that could be installed is there"
