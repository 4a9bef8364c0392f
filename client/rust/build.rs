//! Generates the messages and the stub of `dirty.v1` with protoc, which must be on PATH or named by $PROTOC.

use std::path::Path;

fn main() -> std::io::Result<()> {
    let protos = Path::new("../../proto");
    tonic_prost_build::configure()
        .build_server(false)
        .build_transport(false)
        .bytes(".")
        .compile_protos(
            &[protos.join("dirty/v1/arbiter.proto")],
            &[protos.to_path_buf()],
        )
}
