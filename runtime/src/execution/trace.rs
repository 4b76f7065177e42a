//! The trace hook: what ran when, for profiles and reports.
//!
//! Invariant: without a trace no clock is read.

use std::time::{Duration, Instant};

/// One launch of a kernel that has ended.
#[derive(Clone, Copy, Debug)]
pub struct LaunchRecord<'a> {
    /// Number of the kernel in the program.
    pub kernel: usize,
    /// Values of its size parameters.
    pub params: &'a [i64],
    /// Name of the kernel.
    pub name: &'a str,
    /// Node of the model that it came from.
    pub source: &'a str,
    /// When it began.
    pub start: Instant,
    /// How long it took, the barrier at its end included.
    pub duration: Duration,
    /// Number of tasks.
    pub tasks: i64,
    /// Threads that shared them.
    pub threads: usize,
    /// Floating-point operations by the kernel's definition.
    pub flops: i64,
    /// Bytes that it read and wrote at least.
    pub bytes: i64,
}

/// Is told of every launch as it ends.
pub trait Trace {
    /// A launch has ended.
    fn launch(&mut self, record: &LaunchRecord<'_>);
}

/// Anything that can be called is a trace.
impl<F: FnMut(&LaunchRecord<'_>)> Trace for F {
    fn launch(&mut self, record: &LaunchRecord<'_>) {
        self(record);
    }
}
