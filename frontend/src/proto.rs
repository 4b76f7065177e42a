//! The messages of `onnx-ml.proto` and `onnx-data.proto`, as prost generates them.
//!
//! Invariant: nothing is written by hand here; the format is what the vendored file says.

#![allow(missing_docs, clippy::all)]

include!(concat!(env!("OUT_DIR"), "/onnx.rs"));
