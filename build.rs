//! Writes the gRPC services of `veza.gateway.v1`, servers and clients, out of the same schema that `proto` compiles.
//! Their messages are that crate's; it has no I/O, so the services are here.

use prost::Message as _;
use prost_types::FileDescriptorSet;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=build.rs");
    let descriptors = FileDescriptorSet::decode(veza_proto::DESCRIPTORS)?;
    tonic_prost_build::configure()
        .extern_path(".veza.v1", "::veza_proto::v1")
        .extern_path(".veza.gateway.v1", "::veza_proto::gateway::v1")
        // The callback service has a call `Connect`, which would meet the client's constructor of that name.
        .build_transport(false)
        .compile_fds(descriptors)?;
    Ok(())
}
