//! Conversions of floats to integers that saturate, as MLIR operations.
//!
//! Invariant: towards zero, NaN to 0, what is beyond the integers to the last of them. A scalar is LLVM's own
//! `fptosi.sat`; vectors are written out, since LLVM would convert them lane by lane.

use super::EmitError;
use super::emit::{Emitter, Raw};
use super::operations::{overload, predicate_code};
use crate::nest::{Element, Predicate, Type};
use melior::ir::{Block, Type as MlirType};

impl<'c> Emitter<'c, '_> {
    /// `value` of a type as integers of another, with or without sign.
    pub(super) fn to_integer(
        &self,
        block: &Block<'c>,
        value: Raw,
        from: Type,
        ty: Type,
        signed: bool,
    ) -> Result<Raw, EmitError> {
        let result = self.attributes.of(ty)?;
        let family = if signed { "fptosi" } else { "fptoui" };
        if ty.lanes == 1 {
            let name = format!("llvm.{family}.sat.{}.{}", overload(ty), overload(from));
            return self.intrinsic(block, &name, &[value], result);
        }
        let bits = ty.element.bits();
        // The first number beyond, a power of two and so a float.
        let beyond = 2f64.powi(if signed { bits as i32 - 1 } else { bits as i32 });
        let least = if signed { -beyond } else { 0.0 };
        let float = self.attributes.of(from)?;
        let floats =
            |value: f64| self.everywhere(block, float, from, float_bits(value, from.element));
        let most = floats(last_before(beyond, from.element))?;
        let [least, beyond] = [floats(least)?, floats(beyond)?];
        // In this order, and with comparisons that hold of no NaN, both are one instruction.
        let above = self.compare(block, Predicate::Greater, [value, least], from)?;
        let raised = self.one(block, "arith.select", &[above, value, least], float, &[])?;
        let below = self.compare(block, Predicate::Less, [raised, most], from)?;
        let within = self.one(block, "arith.select", &[below, raised, most], float, &[])?;
        let name = if signed { "arith.fptosi" } else { "arith.fptoui" };
        let mut whole = self.one(block, name, &[within], result, &[])?;
        let last = if signed { (1u64 << (bits - 1)) - 1 } else { u64::MAX >> (64 - bits) };
        let last = self.everywhere(block, result, ty, last)?;
        let past = self.compare(block, Predicate::GreaterEqual, [value, beyond], from)?;
        whole = self.one(block, "arith.select", &[past, last, whole], result, &[])?;
        if !signed {
            // NaN was taken for the least, which is 0.
            return Ok(whole);
        }
        let zero = self.everywhere(block, result, ty, 0)?;
        let none = self.compare(block, Predicate::Unordered, [value, value], from)?;
        self.one(block, "arith.select", &[none, zero, whole], result, &[])
    }

    fn compare(
        &self,
        block: &Block<'c>,
        predicate: Predicate,
        operands: [Raw; 2],
        ty: Type,
    ) -> Result<Raw, EmitError> {
        let (name, number) = predicate_code(predicate, true);
        let mask = self.attributes.of(Type::new(Element::Mask, ty.lanes))?;
        let attributes = [self.named("predicate", &format!("{number} : i64"))?];
        self.one(block, name, &operands, mask, &attributes)
    }

    /// A number, by its bits, in every lane.
    fn everywhere(
        &self,
        block: &Block<'c>,
        vector: MlirType<'c>,
        ty: Type,
        bits: u64,
    ) -> Result<Raw, EmitError> {
        let value = self.attributes.constant(bits, ty.element)?;
        let name = melior::ir::Identifier::new(self.attributes.context(), "value");
        let scalar = self.attributes.of(Type::new(ty.element, 1))?;
        let scalar = self.one(block, "arith.constant", &[], scalar, &[(name, value)])?;
        self.one(block, "vector.broadcast", &[scalar], vector, &[])
    }
}

fn float_bits(value: f64, element: Element) -> u64 {
    if element == Element::F64 { value.to_bits() } else { u64::from((value as f32).to_bits()) }
}

/// The last float before a positive one.
fn last_before(value: f64, element: Element) -> f64 {
    if element == Element::F64 { value.next_down() } else { f64::from((value as f32).next_down()) }
}
