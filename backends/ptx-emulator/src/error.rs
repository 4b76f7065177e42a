//! What is wrong with a text, and what a device refuses.
//!
//! Invariant: an error of a text names its line.

use thiserror::Error;

/// Why a text is not a module that can be executed.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ParseError {
    /// The text is not PTX.
    #[error("line {line}: {message}")]
    Malformed {
        /// Line of the text, from 1.
        line: u32,
        /// What is wrong.
        message: String,
    },
    /// The text may be PTX, but the emulator does not execute it.
    #[error("line {line}: `{what}` is not executed by the emulator: {reason}")]
    Unsupported {
        /// Line of the text, from 1.
        line: u32,
        /// The instruction or directive.
        what: String,
        /// Which part of it.
        reason: String,
    },
    /// The text is beyond a bound.
    #[error("line {line}: more than {limit} {what}")]
    TooLarge {
        /// Line of the text, from 1.
        line: u32,
        /// What there is too much of.
        what: &'static str,
        /// The bound.
        limit: u64,
    },
}

impl ParseError {
    /// A text that is not PTX.
    pub(crate) fn malformed(line: u32, message: impl Into<String>) -> Self {
        ParseError::Malformed { line, message: message.into() }
    }

    /// Something that is not executed.
    pub(crate) fn unsupported(
        line: u32,
        what: impl Into<String>,
        reason: impl Into<String>,
    ) -> Self {
        ParseError::Unsupported { line, what: what.into(), reason: reason.into() }
    }

    /// The line that the error is about.
    pub fn line(&self) -> u32 {
        match self {
            ParseError::Malformed { line, .. }
            | ParseError::Unsupported { line, .. }
            | ParseError::TooLarge { line, .. } => *line,
        }
    }
}

/// What a device refuses between launches.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum DeviceError {
    /// More memory than the limits allow.
    #[error("{bytes} bytes would be {total} in all; the device has {limit}")]
    Memory {
        /// Bytes that were asked for.
        bytes: u64,
        /// Bytes that would then be allocated.
        total: u64,
        /// Bytes of the device.
        limit: u64,
    },
    /// An address that is not the start of a live allocation.
    #[error("{0:#x} is not the start of an allocation")]
    NotAllocated(u64),
    /// Bytes that are not all inside of one live allocation.
    #[error("{bytes} bytes at {address:#x} are not inside of an allocation")]
    OutOfBounds {
        /// First byte.
        address: u64,
        /// Number of bytes.
        bytes: u64,
    },
    /// Bytes that nothing has written.
    #[error("the byte at {0:#x} was never written")]
    Uninitialised(u64),
}
