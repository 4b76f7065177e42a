//! The phases of a compilation: which there are, and how long each took.
//!
//! Invariant: every phase is timed where it runs, one after the other, so their times add up to the
//! whole.

use std::fmt;
use std::time::{Duration, Instant};

/// A phase of a compilation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Phase {
    /// ONNX bytes to a decoded model.
    Read,
    /// The model to a typed graph.
    Import,
    /// Folding, shape arithmetic, dead and common code.
    Simplify,
    /// The e-graph: algebra, recognition, layouts, fusion.
    Optimise,
    /// Kernels, schedules, buffers and steps.
    Plan,
    /// Kernels to machine code.
    Generate,
    /// Code and weights to where they run.
    Load,
}

impl Phase {
    /// Every phase, in the order in which they run.
    pub const ALL: [Phase; 7] = [
        Phase::Read,
        Phase::Import,
        Phase::Simplify,
        Phase::Optimise,
        Phase::Plan,
        Phase::Generate,
        Phase::Load,
    ];

    /// What is being done, in one word.
    pub fn name(self) -> &'static str {
        match self {
            Phase::Read => "read",
            Phase::Import => "import",
            Phase::Simplify => "simplify",
            Phase::Optimise => "optimise",
            Phase::Plan => "plan",
            Phase::Generate => "generate",
            Phase::Load => "load",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How long the phases of a compilation took.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Phases {
    times: Vec<(Phase, Duration)>,
}

impl Phases {
    /// Phases that ran, in order, with their times.
    pub fn times(&self) -> &[(Phase, Duration)] {
        &self.times
    }

    /// All of them together.
    pub fn total(&self) -> Duration {
        self.times.iter().map(|(_, time)| *time).sum()
    }

    /// Runs a phase and notes its time.
    pub(crate) fn run<T>(&mut self, phase: Phase, work: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let result = work();
        self.times.push((phase, start.elapsed()));
        result
    }
}
