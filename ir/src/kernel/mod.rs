//! Kernels: what one launch computes, as iteration domains, index maps and scalar bodies.
//!
//! Invariant: a kernel says nothing of loop order, tiles, vectors or threads; any legal schedule
//! of it computes the same values (up to the rounding of reassociated reductions).

mod bytes;
mod evaluate;
mod index;
pub(crate) mod number;
mod scalar;
mod text;
mod verify;

pub use bytes::{BYTES_AT_ONCE, ByteProduct};
pub use evaluate::{KernelError, evaluate};
pub use index::{Affine, Index};
pub use scalar::{Access, Scalar, ScalarId, ScalarOp, ScalarProgram};
pub use verify::{VerifyError, verify};

use crate::op::ReduceFn;
use kiln_tensor::{DType, Dim, SymbolTable};
use serde::{Deserialize, Serialize};

/// What one launch computes.
///
/// The domain is nested: the `outer` axes are common to all stages, and for each point of them the
/// stages run in order. A point of the outer axes depends on no other point, except along
/// sequential axes. A matrix product has outer axes `m, n` and one stage with the reduction axis
/// `k`; a softmax has the rows as outer axes and three stages over the columns.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Kernel {
    /// Name for people, e.g. `contract_add_relu`; not unique.
    pub name: String,
    /// Bounds of the symbols that occur in extents, shapes and indices. They are local to the kernel
    /// (so that equal layers have equal kernels) and are its size parameters: a launch passes
    /// their values in the order of their names.
    pub symbols: SymbolTable,
    /// Buffers that the kernel touches: inputs, then outputs, then temporaries.
    pub operands: Vec<Operand>,
    /// Axes shared by all stages, outermost first; all parallel or sequential.
    pub outer: Vec<Axis>,
    /// What is computed at each point of the outer axes, in order.
    pub stages: Vec<Stage>,
}

/// A buffer that a kernel touches, indexed in row-major order of its shape.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Operand {
    /// Name in text forms, unique in the kernel.
    pub name: String,
    /// Whose buffer it is.
    pub role: Role,
    /// Element type.
    pub dtype: DType,
    /// Shape; the index maps have one index for each dimension.
    pub shape: Vec<Dim>,
}

/// Whose buffer an operand is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Role {
    /// Read only, bound by the program.
    Input,
    /// Written, each element exactly once but for updates; bound by the program. A sequential axis
    /// may read what an earlier step wrote.
    Output,
    /// Scratch that lives for one point of the parallel outer axes and is not seen from outside.
    /// With a sequential outer axis it keeps its contents from one step to the next, and starts as
    /// zeros.
    Temporary,
}

/// One loop variable, running from 0 to its extent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Axis {
    /// Name in text forms, unique among the axes that are visible together.
    pub name: String,
    /// Number of points.
    pub extent: Dim,
    /// What may be done with its points.
    pub kind: AxisKind,
}

/// What may be done with the points of an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AxisKind {
    /// Points are independent: any order, any number at a time.
    Parallel,
    /// Points are combined by the stage's reduction: any order, in parts.
    Reduction,
    /// Points run in ascending order, each seeing what the ones before wrote.
    Sequential,
}

/// One step of a kernel, at one point of the outer axes.
///
/// For each point of the stage's parallel axes: `body` is evaluated at every point of the
/// reduction axes and its results are combined by `combine`, result by result; then `finish` is
/// evaluated once with the combined values as [`ScalarOp::Reduced`], and its results are written.
/// Without reduction axes `body` is evaluated once and handed to `finish` as it is.
///
/// A stage with a sequential axis of its own *updates*: its points run in ascending order, the last
/// sequential axis fastest, and each may read what those before it wrote. Its writes may go where
/// integer scalars of `finish` say, and several times to one place, which an earlier stage has
/// written; what falls outside of the operand is left out. It has no reduction axes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stage {
    /// Axes of this stage alone. Axis numbers in index maps count the outer axes first.
    pub axes: Vec<Axis>,
    /// Evaluated at every point of outer, parallel and reduction axes.
    pub body: ScalarProgram,
    /// How each result of `body` is combined over the reduction axes.
    pub combine: Vec<Combine>,
    /// Evaluated once for each point of outer and parallel axes; may not mention reduction axes.
    pub finish: ScalarProgram,
    /// Where each result of `finish` goes.
    pub writes: Vec<Write>,
}

/// Where a result of a stage goes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Write {
    /// The place; affine in outer and parallel axes, and inside of the operand, unless the stage updates.
    pub access: Access,
    /// The `bool` of `finish` without which nothing is written, as of the part of a tile that reaches beyond a
    /// result.
    pub only_if: Option<ScalarId>,
}

impl From<Access> for Write {
    fn from(access: Access) -> Self {
        Write { access, only_if: None }
    }
}

/// How the results of a stage's body are combined over its reduction axes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Combine {
    /// With a plain combiner, starting from its neutral element. `Mean` does not occur: it is a sum
    /// with a division in `finish`.
    Reduce(ReduceFn),
    /// Result `i` is a key; result `i + 1` (with `Follow`) is carried along: the pair with the
    /// greatest key wins, the first point in axis order on ties (the last if `last`).
    ArgMax {
        /// Whether the last of equal keys wins.
        last: bool,
    },
    /// As `ArgMax` for the least key.
    ArgMin {
        /// Whether the last of equal keys wins.
        last: bool,
    },
    /// Carried along with the key before it.
    Follow,
}

impl Stage {
    /// Whether the stage writes in order, at places that it computes.
    pub fn updates(&self) -> bool {
        self.axes.iter().any(|axis| axis.kind == AxisKind::Sequential)
    }
}

impl Kernel {
    /// Axes visible in a stage, in the order that axis numbers count: outer, then the stage's own.
    pub fn axes<'a>(&'a self, stage: &'a Stage) -> impl Iterator<Item = &'a Axis> {
        self.outer.iter().chain(&stage.axes)
    }

    /// Operands that the program binds (inputs and outputs), with their numbers.
    pub fn bound_operands(&self) -> impl Iterator<Item = (usize, &Operand)> {
        self.operands.iter().enumerate().filter(|(_, operand)| operand.role != Role::Temporary)
    }
}
