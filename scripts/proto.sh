#!/usr/bin/env bash
# The schema's compatibility: check | test | accept. Needs the node modules (make setup).
#   check   the schema is in good form and breaks nobody who has proto/accepted.json
#   test    every kind of break is found, in copies of the schema that have it
#   accept  on a release: what the schema says now is kept, too. What breaks somebody is not accepted
set -euo pipefail
cd "$(dirname "$0")/.."

buf=$PWD/clients/web/node_modules/.bin/buf
accepted=$PWD/proto/accepted.json

# against DIRECTORY MORE…: compares the schema in there with what was accepted.
against() {
  local directory=$1
  shift
  "$buf" breaking "$directory" --against "$accepted" --exclude-imports "$@"
}

# A line for each message, enum and service, so that its changes can be read.
by_lines() {
  node -e '
    const { file } = JSON.parse(require("fs").readFileSync(0, "utf8"));
    const lines = (all) => `[\n${all.map((each) => JSON.stringify(each)).join(",\n")}\n]`;
    const declared = ["messageType", "enumType", "service"];
    const one = (it) => {
      const parts = declared.filter((name) => it[name]?.length).map((name) => `,\n"${name}":${lines(it[name])}`);
      const rest = Object.entries(it).filter(([name]) => !declared.includes(name));
      return JSON.stringify(Object.fromEntries(rest)).slice(0, -1) + parts.join("") + "}";
    };
    process.stdout.write(`{"file":[\n${file.map(one).join(",\n")}\n]}\n`);
  '
}

failed=0

# breaks RULE NAME FILE EXPRESSION: the schema with this change (of sed) is refused by this rule.
breaks() {
  local rule=$1 name=$2 found
  changed "${@:3}"
  if found=$(against "$copy" --error-format json); then
    echo "not found: $name" >&2
    failed=1
  elif ! grep -q "\"type\":\"$rule\"" <<<"$found"; then
    printf 'not found by %s: %s:\n%s\n' "$rule" "$name" "$found" >&2
    failed=1
  else
    echo "found: $name"
  fi
}

# allows NAME FILE EXPRESSION
allows() {
  local name=$1
  changed "${@:2}"
  if against "$copy"; then
    echo "allowed: $name"
  else
    echo "refused: $name" >&2
    failed=1
  fi
}

# changed FILE EXPRESSION: makes the copy anew, with this change and no other.
changed() {
  rm -rf "$copy"
  mkdir "$copy"
  cp -R proto/buf.yaml proto/veza "$copy/"
  sed -i -E "$2" "$copy/$1"
  if cmp -s "proto/$1" "$copy/$1"; then
    echo "the schema has nothing any more that $2 would change in $1" >&2
    exit 1
  fi
}

case "${1:-}" in
  check)
    "$buf" lint proto
    against proto
    ;;
  test)
    copy=$(mktemp -d)/proto
    trap 'rm -rf "$(dirname "$copy")"' EXIT
    events=veza/gateway/v1/events.proto
    rooms=veza/v1/rooms.proto

    breaks FIELD_NO_DELETE "a field that is gone" $events '/bool connected = 8;/d'
    breaks FIELD_NO_DELETE "a field that is gone, its number reserved" $events 's/bool connected = 8;/reserved 8;/'
    breaks FIELD_SAME_NAME "a field with another name" $events 's/uint64 lag_ms = 5;/uint64 behind_ms = 5;/'
    breaks FIELD_SAME_JSON_NAME "a field with another name, in JSON too" $rooms 's/uint64 joined_ms =/uint64 member_since_ms =/'
    breaks FIELD_SAME_JSON_NAME "a field with another name in JSON alone" $events 's/uint64 lag_ms = 5;/uint64 lag_ms = 5 [json_name = "lag"];/'
    breaks FIELD_NO_DELETE "a field with another number" $events 's/uint64 lag_ms = 5;/uint64 lag_ms = 55;/'
    breaks FIELD_SAME_TYPE "a field of another type" $events 's/uint64 lag_ms = 5;/string lag_ms = 5;/'
    breaks FIELD_SAME_TYPE "a field of another type that has the same wire" $rooms 's/uint64 joined_ms =/uint32 joined_ms =/'
    breaks FIELD_SAME_CARDINALITY "a field that is there more than once" $events 's/string consumer = 1;/repeated string consumer = 1;/'
    breaks FIELD_SAME_ONEOF "a field that left its oneof" $events '/^message Revoked/,/^}/ { /^  oneof what \{$/d; /^  \}$/d }'
    breaks MESSAGE_NO_DELETE "a message that is gone" $events '/^message DeleteConsumerResponse/d; s/returns \(DeleteConsumerResponse\)/returns (AcknowledgeResponse)/'
    breaks ENUM_VALUE_NO_DELETE "an enum's value that is gone" $events '/EVENT_KIND_REVOKED = 10;/d'
    breaks ENUM_VALUE_SAME_NAME "an enum's value with another name" $rooms 's/ROOM_KIND_PREMIUM = /ROOM_KIND_PAID = /'
    breaks ENUM_VALUE_NO_DELETE "an enum's value with another number" $events 's/EVENT_KIND_REVOKED = 10;/EVENT_KIND_REVOKED = 110;/'
    breaks RPC_NO_DELETE "a call that is gone" $events '/rpc GetConsumer\(/d'
    breaks RPC_SAME_REQUEST_TYPE "a call that is asked otherwise" $events 's/rpc GetConsumer\(GetConsumerRequest\)/rpc GetConsumer(AcknowledgeRequest)/'
    breaks RPC_SAME_RESPONSE_TYPE "a call that answers otherwise" $events 's/returns \(AcknowledgeResponse\)/returns (GetConsumerResponse)/'
    breaks RPC_SAME_SERVER_STREAMING "a call that streams" $events 's/returns \(AcknowledgeResponse\)/returns (stream AcknowledgeResponse)/'
    breaks SERVICE_NO_DELETE "a service that is gone" $events 's/^service Events/service Happenings/'
    breaks FILE_SAME_GO_PACKAGE "code that lands elsewhere" $rooms 's|gen/veza/v1;vezav1|gen/veza/v1;veza|'
    breaks FILE_SAME_PACKAGE "another package" $events 's/^package veza.gateway.v1;/package veza.gateway.v2;/; s/veza\.v1\./.veza.v1./; s/^  (Stream|Review) /  veza.gateway.v1.\1 /'

    allows "a comment" $events 's/^message Idle/\/\/ Nothing new.\nmessage Idle/'
    allows "another field" $events 's/bool connected = 8;/bool connected = 8;\n  uint64 seen_ms = 9;/'
    allows "another value of an enum" $events 's/(EVENT_KIND_REVIEW_CHANGED = 12;)/\1\n  EVENT_KIND_SOMETHING = 13;/'
    allows "another message and another call" $events 's/^(  rpc DeleteConsumer.*)/\1\n  rpc Count(CountRequest) returns (CountResponse);/; s/^message Idle/message CountRequest {}\nmessage CountResponse {}\nmessage Idle/'
    exit "$failed"
    ;;
  accept)
    [ ! -e "$accepted" ] || against proto
    "$buf" build proto --exclude-source-info -o -#format=json | by_lines >"$accepted.new"
    mv "$accepted.new" "$accepted"
    ;;
  *)
    echo "usage: scripts/proto.sh check|test|accept" >&2
    exit 2
    ;;
esac
