//! Why a kernel cannot be run under a schedule.
//!
//! Invariant: an illegal pair is refused with its reason, never lowered to something else.

use thiserror::Error;

/// Why a kernel under a schedule has no loop nest.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum NestError {
    /// The kernel breaks a rule of the kernel language.
    #[error("kernel `{kernel}` is malformed: {reason}")]
    Kernel {
        /// The kernel's name.
        kernel: String,
        /// The rule.
        reason: String,
    },
    /// The schedule does not fit the kernel.
    #[error("the schedule does not fit kernel `{kernel}`: {reason}")]
    Schedule {
        /// The kernel's name.
        kernel: String,
        /// What does not fit.
        reason: String,
    },
}
