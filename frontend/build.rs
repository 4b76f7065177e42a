//! Generates the Rust types of the files in `proto/`, without a `protoc` on the machine.
//!
//! Invariant: every `bytes` field is a `bytes::Bytes`, so that decoding borrows weights.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let descriptors = protox::compile(["proto/onnx-ml.proto", "proto/onnx-data.proto"], ["proto"])?;
    prost_build::Config::new()
        .bytes(["."])
        // The file's comments are prose about ONNX, some of which rustdoc would take for code.
        .disable_comments(["."])
        .compile_fds(descriptors)?;
    println!("cargo::rerun-if-changed=proto");
    Ok(())
}
