//! Kernels of a loaded model: the code of each, and better code once there is some.
//!
//! Invariant: code that was called once stays where it is for as long as the model lives, and so does how
//! its work is cut up.

use crate::loader::{KernelFunction, LoadedCode};
use kiln_program::Partition;
use std::sync::{Arc, OnceLock};

/// One version of a kernel.
#[derive(Debug)]
pub(crate) struct Version {
    function: KernelFunction,
    partition: Partition,
    /// What the function lies in.
    _code: Arc<LoadedCode>,
}

impl Version {
    /// A function of this code, which is a kernel.
    pub(crate) fn new(
        function: KernelFunction,
        partition: Partition,
        code: &Arc<LoadedCode>,
    ) -> Self {
        Version { function, partition, _code: Arc::clone(code) }
    }

    pub(crate) fn function(&self) -> KernelFunction {
        self.function
    }

    pub(crate) fn partition(&self) -> &Partition {
        &self.partition
    }
}

/// Which version of a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tier {
    /// The one that the model was loaded with.
    First,
    /// The one that came later.
    Better,
}

/// A kernel with the versions that there are.
#[derive(Debug)]
pub(crate) struct Kernel {
    first: Version,
    better: OnceLock<Version>,
}

impl Kernel {
    pub(crate) fn new(first: Version) -> Self {
        Kernel { first, better: OnceLock::new() }
    }

    /// The best version that there is now.
    pub(crate) fn best(&self) -> (Tier, &Version) {
        match self.better.get() {
            Some(better) => (Tier::Better, better),
            None => (Tier::First, &self.first),
        }
    }

    /// Runs this version from now on, unless it was given another one before: code that is called may not go.
    /// Whether it does.
    pub(crate) fn improve(&self, better: Version) -> bool {
        self.better.set(better).is_ok()
    }
}
