#!/bin/sh
# Makes a certificate authority of one's own (once) and a server certificate signed by it, for staging and for tests
# that should look like production. Run it again for another certificate or a renewal: the authority stays.
#
#   certs/make-ca.sh [-o DIRECTORY] [-d DAYS] NAME_OR_ADDRESS...
#
#   certs/make-ca.sh veza.example '*.veza.example' 192.0.2.7
#
# Writes to DIRECTORY (certs/out): ca.pem, ca.key, server.pem (server certificate, then the authority's), server.key.
set -eu

usage() {
    sed -n '2,9s/^# \{0,1\}//p' "$0" >&2
    exit 2
}

out=$(dirname "$0")/out
days=90
while getopts o:d:h option; do
    case $option in
        o) out=$OPTARG ;;
        d) days=$OPTARG ;;
        *) usage ;;
    esac
done
shift $((OPTIND - 1))
[ $# -gt 0 ] || usage
case $days in
    '' | *[!0-9]* | 0*) echo "error: -d takes a number of days, 1 to 825" >&2; exit 2 ;;
esac
[ "$days" -le 825 ] || { echo "error: -d: browsers refuse certificates of more than 825 days" >&2; exit 2; }
command -v openssl >/dev/null || { echo "error: this needs openssl 1.1.1 or later" >&2; exit 1; }

# Every argument becomes a subject alternative name; nothing else than what a name or an address is made of passes.
names=
for name in "$@"; do
    case $name in
        '' | *[!A-Za-z0-9.:*-]*) echo "error: '$name' is no host name or address" >&2; exit 2 ;;
        *:*) kind=IP ;;
        *[!0-9.]*) kind=DNS ;;
        *) kind=IP ;;
    esac
    names=${names:+$names,}$kind:$name
done

mkdir -p "$out"
work=$(mktemp -d "$out/.new.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM
umask 077

private_key() {
    openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1" 2>/dev/null
}

if [ ! -f "$out/ca.key" ]; then
    private_key "$work/ca.key"
    cat >"$work/ca.cnf" <<'CNF'
[req]
distinguished_name = subject
x509_extensions = authority
prompt = no
[subject]
CN = Veza own authority
[authority]
basicConstraints = critical, CA:TRUE, pathlen:0
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
CNF
    openssl req -new -x509 -sha256 -key "$work/ca.key" -config "$work/ca.cnf" -days 3650 -out "$work/ca.pem"
    chmod 644 "$work/ca.pem"
    mv "$work/ca.pem" "$out/ca.pem"
    mv "$work/ca.key" "$out/ca.key"
    echo "made a new authority: $out/ca.pem"
fi

private_key "$work/server.key"
cat >"$work/server.cnf" <<CNF
[req]
distinguished_name = subject
prompt = no
[subject]
O = Veza
[server]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
subjectAltName = $names
CNF
openssl req -new -sha256 -key "$work/server.key" -config "$work/server.cnf" -out "$work/server.csr"
openssl x509 -req -sha256 -in "$work/server.csr" -CA "$out/ca.pem" -CAkey "$out/ca.key" \
    -set_serial "0x$(openssl rand -hex 16 | sed 's/^./1/')" -days "$days" \
    -extfile "$work/server.cnf" -extensions server -out "$work/leaf.pem" 2>/dev/null
openssl verify -CAfile "$out/ca.pem" "$work/leaf.pem" >/dev/null
cat "$work/leaf.pem" "$out/ca.pem" >"$work/server.pem"
chmod 644 "$work/server.pem"
# The key first: a server that reloads in between sees a pair that does not match, keeps the old one and looks again.
mv "$work/server.key" "$out/server.key"
mv "$work/server.pem" "$out/server.pem"

echo "made a certificate for $names, good for $days days"
echo "  TLS_CERT_FILE=$out/server.pem TLS_KEY_FILE=$out/server.key"
