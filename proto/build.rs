//! Generates the messages in `redpoll/` with a pure Rust compiler, so that no `protoc` is needed.

use tonic_prost_build::configure;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = ["redpoll/store.proto"];
    for file in files {
        println!("cargo:rerun-if-changed={file}");
    }
    // Cells stay slices of the message they came in.
    configure().bytes(".redpoll.store").compile_fds(protox::compile(files, ["."])?)?;
    Ok(())
}
