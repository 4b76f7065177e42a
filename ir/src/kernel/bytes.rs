//! Sums of products of bytes, for which processors have an operation of their own.

use super::{Access, Combine, Scalar, ScalarId, ScalarOp, Stage};
use crate::op::{BinaryFn, ReduceFn};
use kiln_tensor::DType;

/// Terms of such a sum that one operation multiplies and adds.
pub const BYTES_AT_ONCE: u32 = 4;

/// What a stage multiplies that adds up, in i32, products of one byte without sign and one with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ByteProduct<'s> {
    /// Where the bytes without sign are read.
    pub unsigned: &'s Access,
    /// What is read outside of their operand, if places may lie there.
    pub outside: Option<Scalar>,
    /// Where those with sign are read, always inside.
    pub signed: &'s Access,
}

impl Stage {
    /// The products, if the stage adds up nothing else.
    pub fn byte_product(&self) -> Option<ByteProduct<'_>> {
        let (&[id], &[Combine::Reduce(ReduceFn::Sum)]) =
            (self.body.results.as_slice(), self.combine.as_slice())
        else {
            return None;
        };
        let (ScalarOp::Binary(BinaryFn::Mul, a, b), DType::I32) = self.instruction(id)? else {
            return None;
        };
        let ((a, a_outside, a_type), (b, b_outside, b_type)) = (self.byte(*a)?, self.byte(*b)?);
        match (a_type, b_type, a_outside, b_outside) {
            (DType::U8, DType::I8, outside, None) => {
                Some(ByteProduct { unsigned: a, outside, signed: b })
            }
            (DType::I8, DType::U8, None, outside) => {
                Some(ByteProduct { unsigned: b, outside, signed: a })
            }
            _ => None,
        }
    }

    fn instruction(&self, id: ScalarId) -> Option<(&ScalarOp, DType)> {
        self.body.code.get(id.0 as usize).map(|(op, dtype)| (op, *dtype))
    }

    /// Where a factor is read, what is outside, and its type in memory.
    fn byte(&self, id: ScalarId) -> Option<(&Access, Option<Scalar>, DType)> {
        let (ScalarOp::Cast(byte), DType::I32) = self.instruction(id)? else { return None };
        match self.instruction(*byte)? {
            (ScalarOp::Read { access, outside }, dtype) => Some((access, *outside, dtype)),
            _ => None,
        }
    }
}
