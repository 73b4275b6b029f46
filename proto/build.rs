//! Compiles the schema without `protoc`: protox reads it, prost writes the types, pbjson their canonical JSON.

use std::path::PathBuf;

use prost::Message;

/// What clients and the server say to each other. All of it has JSON: the subprotocol `veza.v1.json`.
const SESSION: [&str; 4] =
    ["veza/v1/session.proto", "veza/v1/rooms.proto", "veza/v1/chat.proto", "veza/v1/audio.proto"];

/// What the platform's backend and the server say to each other.
const GATEWAY: [&str; 10] = [
    "veza/gateway/v1/auth.proto",
    "veza/gateway/v1/authz.proto",
    "veza/gateway/v1/common.proto",
    "veza/gateway/v1/devices.proto",
    "veza/gateway/v1/effects.proto",
    "veza/gateway/v1/events.proto",
    "veza/gateway/v1/messages.proto",
    "veza/gateway/v1/moderation.proto",
    "veza/gateway/v1/rooms.proto",
    "veza/gateway/v1/streams.proto",
];

/// What webhooks deliver as JSON: an event, and whatever it holds.
const EVENT: [&str; 27] = [
    "Event",
    "MessageStored",
    "RoomMade",
    "RoomAltered",
    "MemberJoined",
    "MemberLeft",
    "MemberRoleChanged",
    "MemberSanctioned",
    "SessionConnected",
    "SessionDisconnected",
    "Revoked",
    "StreamChanged",
    "Stream",
    "StreamCategory",
    "StreamVisibility",
    "StreamState",
    "StreamProfile",
    "NowPlaying",
    "ReviewChanged",
    "Review",
    "ReviewState",
    "ReviewSource",
    "ReviewCategory",
    "ReviewAppeal",
    "Score",
    "Decision",
    "Outcome",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=veza");
    let mut descriptors = protox::compile(SESSION.iter().chain(&GATEWAY), ["."])?;
    prost_build::Config::new().bytes(["."]).compile_fds(descriptors.clone())?;
    // Comments are for the generated types; what the server carries with it names things only.
    for file in &mut descriptors.file {
        file.source_code_info = None;
    }
    let encoded = descriptors.encode_to_vec();
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("descriptors.bin"), &encoded)?;
    let with_json: Vec<String> = EVENT.iter().map(|name| format!(".veza.gateway.v1.{name}")).collect();
    let with_json = [&[String::from(".veza.v1")], with_json.as_slice()].concat();
    pbjson_build::Builder::new().register_descriptors(&encoded)?.ignore_unknown_fields().build(&with_json)?;
    Ok(())
}
