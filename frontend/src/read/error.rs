//! Why a file is not a model that can be read.
//!
//! Invariant: each kind has its own code and says what would help.

use std::path::PathBuf;
use thiserror::Error;

/// Why a model could not be read.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The file could not be opened or mapped.
    #[error("cannot read {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The path names a folder, pipe or device.
    #[error("{path} is not a regular file")]
    NotAFile {
        /// The path.
        path: PathBuf,
    },
    /// There are no bytes.
    #[error("the model is empty (0 bytes)")]
    Empty,
    /// More bytes than a protobuf message can have.
    #[error("the model has {bytes} bytes, more than the {limit} that a protobuf message can have")]
    TooLarge {
        /// Length of the file.
        bytes: u64,
        /// Greatest length.
        limit: u64,
    },
    /// The bytes are of another kind of file.
    #[error("this is {kind}, not an ONNX model")]
    OtherFormat {
        /// What the bytes look like.
        kind: &'static str,
    },
    /// The bytes are not a protobuf message.
    #[error("this is not an ONNX model: byte {offset} does not start a protobuf field")]
    NotProtobuf {
        /// Where the message stops making sense.
        offset: usize,
    },
    /// A field runs past the end of the bytes.
    #[error(
        "the model is truncated: the field at byte {offset} needs {needed} bytes, {left} are left"
    )]
    Truncated {
        /// Where the field starts.
        offset: usize,
        /// Length the field declares.
        needed: u64,
        /// Bytes there are.
        left: usize,
    },
    /// The outer message is well formed, something inside it is not.
    #[error("the model is damaged: {detail}")]
    Damaged {
        /// Message and field, as the decoder tells them.
        detail: String,
    },
    /// No `graph`.
    #[error("the model has no graph")]
    NoGraph,
    /// An IR version that is not known.
    #[error("IR version {found} is outside the supported {min} to {max}")]
    IrVersion {
        /// What the model declares.
        found: i64,
        /// Least supported.
        min: i64,
        /// Greatest supported.
        max: i64,
    },
    /// No operator set at all.
    #[error("the model imports no operator set")]
    NoOpset,
    /// An operator set version that is not known.
    #[error("operator set {domain} {found} is outside the supported {min} to {max}")]
    Opset {
        /// The domain.
        domain: String,
        /// What the model declares.
        found: i64,
        /// Least supported.
        min: i64,
        /// Greatest supported.
        max: i64,
    },
    /// The same domain is imported twice with different versions.
    #[error("operator set {domain} is imported both as version {first} and as {second}")]
    OpsetConflict {
        /// The domain.
        domain: String,
        /// One version.
        first: i64,
        /// The other.
        second: i64,
    },
}

impl ReadError {
    /// A stable name of the kind of error.
    pub fn code(&self) -> &'static str {
        match self {
            ReadError::Io { .. } => "read/io",
            ReadError::NotAFile { .. } => "read/not-a-file",
            ReadError::Empty => "read/empty",
            ReadError::TooLarge { .. } => "read/too-large",
            ReadError::OtherFormat { .. } => "read/other-format",
            ReadError::NotProtobuf { .. } => "read/not-protobuf",
            ReadError::Truncated { .. } => "read/truncated",
            ReadError::Damaged { .. } => "read/damaged",
            ReadError::NoGraph => "read/no-graph",
            ReadError::IrVersion { .. } => "read/ir-version",
            ReadError::NoOpset => "read/no-opset",
            ReadError::Opset { .. } => "read/opset",
            ReadError::OpsetConflict { .. } => "read/opset-conflict",
        }
    }

    /// What would help.
    pub fn help(&self) -> &'static str {
        match self {
            ReadError::Io { .. } => "check the path and that it may be read",
            ReadError::NotAFile { .. } => "give the path of an .onnx file",
            ReadError::Empty => "the file was probably not written or not downloaded to its end",
            ReadError::TooLarge { .. } => {
                "save the model with external data: onnx.save(model, path, \
                 save_as_external_data=True)"
            }
            ReadError::OtherFormat { .. } => {
                "export the model to ONNX; for a Git LFS pointer, run `git lfs pull`"
            }
            ReadError::NotProtobuf { .. } => "check that the file is an .onnx file",
            ReadError::Truncated { .. } | ReadError::Damaged { .. } => {
                "fetch or export the file again; onnx.checker.check_model shows whether it is whole"
            }
            ReadError::NoGraph => "export the model again; a model needs a graph",
            ReadError::IrVersion { .. }
            | ReadError::NoOpset
            | ReadError::Opset { .. }
            | ReadError::OpsetConflict { .. } => {
                "convert the model with onnx.version_converter.convert_version, or export it again"
            }
        }
    }
}
