//! Compiles the schema without `protoc`: protox reads it, prost writes the types, pbjson their canonical JSON.

use std::path::PathBuf;

use prost::Message;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=veza");
    let descriptors = protox::compile(["veza/v1/session.proto", "veza/v1/rooms.proto", "veza/v1/chat.proto"], ["."])?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    let encoded = descriptors.encode_to_vec();
    std::fs::write(out.join("descriptors.bin"), &encoded)?;
    prost_build::Config::new().bytes(["."]).compile_fds(descriptors)?;
    pbjson_build::Builder::new().register_descriptors(&encoded)?.ignore_unknown_fields().build(&[".veza.v1"])?;
    Ok(())
}
