//! The program: what a compiled model is once no compiler is needed any more.
//!
//! Invariant: plain data; sizes are dimension expressions, places are numbers, and everything that
//! execution relies on can be validated without running anything.

mod artefact;
mod code;
mod place;
mod program;
mod validate;

pub use artefact::{Artefact, ArtefactError, Contents, VERSION, write};
pub use code::{Architecture, CodeVariant, Partition, check_partitions};
pub use place::{Lifetime, Placement, place};
pub use program::{
    Buffer, BufferId, Coverage, KernelEntry, Location, LoopStep, Port, Program, Step, WeightRange,
};
pub use validate::ProgramError;
