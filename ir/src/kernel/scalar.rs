//! Scalar programs: what is computed at one point of an iteration domain.
//!
//! Invariant: straight-line and single-assignment; an instruction only uses results of earlier
//! ones, and every instruction has exactly one element type.

use super::Index;
use crate::op::{BinaryFn, UnaryFn};
use kiln_tensor::{DType, Dim};
use serde::{Deserialize, Serialize};

/// The result of an instruction, by position.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ScalarId(pub u32);

/// A constant of an element type. Floats and integers are both carried exactly.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub enum Scalar {
    /// For floating-point types.
    Float(f64),
    /// For integer types, `bool` (0 or 1) and codes of at most 64 bits.
    Int(i64),
    /// For codes of 128 bits: the low and the high half.
    Pair(i64, i64),
}

/// Bitwise, so that NaN equals itself and -0 differs from 0: kernels are compared by structure.
impl PartialEq for Scalar {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Scalar::Float(a), Scalar::Float(b)) => a.to_bits() == b.to_bits(),
            (Scalar::Int(a), Scalar::Int(b)) => a == b,
            (Scalar::Pair(a, b), Scalar::Pair(c, d)) => (a, b) == (c, d),
            _ => false,
        }
    }
}

/// A place in an operand.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Access {
    /// Number of the operand in the kernel.
    pub operand: usize,
    /// One index for each dimension of the operand.
    pub index: Vec<Index>,
}

/// One instruction.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ScalarOp {
    /// A constant.
    Constant(Scalar),
    /// A size that is fixed for a launch; i64.
    Dim(Dim),
    /// The value of an index expression; i64.
    Index(Index),
    /// An element of an operand. Where any index falls outside the operand's shape the value is
    /// `outside`; without `outside` the indices are known to be inside.
    Read {
        /// The place.
        access: Access,
        /// The value beyond the edge.
        outside: Option<Scalar>,
    },
    /// In `finish`: the combined value of this result of `body`.
    Reduced(usize),
    /// A function of one value; the operand has the instruction's type (or is a float, for the
    /// predicates).
    Unary(UnaryFn, ScalarId),
    /// A function of two values of equal type.
    Binary(BinaryFn, ScalarId, ScalarId),
    /// `condition ? then : otherwise`.
    Select(ScalarId, ScalarId, ScalarId),
    /// Conversion to the instruction's type.
    Cast(ScalarId),
    /// The number of the instruction's type, which is as wide, that has the same bits.
    BitCast(ScalarId),
}

/// A straight-line program.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ScalarProgram {
    /// Instructions with the types of their results.
    pub code: Vec<(ScalarOp, DType)>,
    /// What the program hands on.
    pub results: Vec<ScalarId>,
}

impl ScalarProgram {
    /// Appends an instruction; an equal one that is there already is used again.
    pub fn push(&mut self, op: ScalarOp, dtype: DType) -> ScalarId {
        let entry = (op, dtype);
        let position = self.code.iter().position(|other| *other == entry).unwrap_or_else(|| {
            self.code.push(entry);
            self.code.len() - 1
        });
        ScalarId(position as u32)
    }

    /// The element type of an instruction's result, if there is such an instruction.
    pub fn dtype(&self, id: ScalarId) -> Option<DType> {
        self.code.get(id.0 as usize).map(|(_, dtype)| *dtype)
    }

    /// Every place that the program reads.
    pub fn reads(&self) -> impl Iterator<Item = &Access> {
        self.code.iter().filter_map(|(op, _)| match op {
            ScalarOp::Read { access, .. } => Some(access),
            _ => None,
        })
    }
}
