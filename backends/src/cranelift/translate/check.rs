//! The typing rules of nest operations.
//!
//! Invariant: what passes here is translated without a further question about types.

use super::Failure;
use crate::nest::{
    Address, BinaryOp, Conversion, Element, GROUP, Nest, Op, Predicate, Store, Type, UnaryOp,
    ValueId,
};

/// The most lanes that a vector may have.
const MAX_LANES: u32 = 256;

struct Checker<'n> {
    nest: &'n Nest,
}

/// Checks the definition of a value.
pub(super) fn definition(nest: &Nest, value: ValueId, op: &Op) -> Result<Type, Failure> {
    let checker = Checker { nest };
    let ty = checker.ty(value)?;
    if !(1..=MAX_LANES).contains(&ty.lanes) {
        return Err(format!("a vector has 1 to {MAX_LANES} lanes, not {}", ty.lanes));
    }
    checker.op(ty, op)?;
    Ok(ty)
}

/// Checks a store.
pub(super) fn store(nest: &Nest, store: &Store) -> Result<(), Failure> {
    let checker = Checker { nest };
    let ty = checker.ty(store.value)?;
    checker.access(ty, store.buffer, store.address, store.mask)
}

/// Checks that a value has a type.
pub(super) fn is(nest: &Nest, value: ValueId, ty: Type) -> Result<(), Failure> {
    Checker { nest }.is(value, ty)
}

impl Checker<'_> {
    fn ty(&self, value: ValueId) -> Result<Type, Failure> {
        self.nest.type_of(value).ok_or_else(|| format!("{value} has no type"))
    }

    fn is(&self, value: ValueId, expected: Type) -> Result<(), Failure> {
        let actual = self.ty(value)?;
        require(actual == expected, || format!("{value} is {actual}, expected {expected}"))
    }

    fn all(&self, values: &[ValueId], expected: Type) -> Result<(), Failure> {
        values.iter().try_for_each(|value| self.is(*value, expected))
    }

    fn op(&self, ty: Type, op: &Op) -> Result<(), Failure> {
        let Type { element, lanes } = ty;
        let of = |ok: bool| require(ok, || format!("there is no such operation on {ty}"));
        let index = || require(ty == Type::INDEX, || format!("gives i64, not {ty}"));
        match *op {
            Op::Begin | Op::End => index(),
            Op::Param(number) => {
                let count = self.nest.params.len();
                require((number as usize) < count, || format!("there are {count} parameters"))?;
                index()
            }
            Op::Constant(_) => of(lanes == 1),
            Op::Splat(a) => self.is(a, Type::new(element, 1)),
            Op::LaneNumbers => of(is_integer(element)),
            Op::FirstLanes(a) => {
                of(element == Element::Mask)?;
                self.is(a, Type::INDEX)
            }
            Op::Load { buffer, address, mask } => self.access(ty, buffer, address, mask),
            Op::Unary(function, a) => {
                let _: UnaryOp = function;
                of(element.is_float())?;
                self.is(a, ty)
            }
            Op::Binary(function, a, b) => {
                of(is_defined(function, element))?;
                self.all(&[a, b], ty)
            }
            Op::Fma(a, b, c) => {
                of(element.is_float())?;
                self.all(&[a, b, c], ty)
            }
            Op::Repeat(a) => {
                let operand = self.ty(a)?;
                of(operand.element == element && lanes.is_multiple_of(operand.lanes))
            }
            Op::Dot { sum, unsigned, signed } => {
                of(element == Element::I32)?;
                self.is(sum, ty)?;
                self.all(&[unsigned, signed], Type::new(Element::I8, GROUP as u32 * lanes))
            }
            Op::Compare(predicate, a, b) => {
                let operand = self.ty(a)?;
                of(ty == Type::new(Element::Mask, operand.lanes))?;
                require(compares(predicate, operand.element), || {
                    format!("{predicate:?} does not compare {operand}")
                })?;
                self.is(b, operand)
            }
            Op::Select(mask, a, b) => {
                self.is(mask, Type::new(Element::Mask, lanes))?;
                self.all(&[a, b], ty)
            }
            Op::Convert(conversion, a) => {
                let from = self.ty(a)?;
                let same_lanes = from.lanes == lanes;
                require(same_lanes && converts(conversion, from.element, element), || {
                    format!("{conversion:?} does not make {ty} of {from}")
                })
            }
            Op::Reduce(function, a) => {
                of(lanes == 1 && is_defined(function, element) && is_associative(function))?;
                let operand = self.ty(a)?;
                require(operand.element == element, || format!("{operand} is not reduced to {ty}"))
            }
        }
    }

    fn access(
        &self,
        ty: Type,
        buffer: u32,
        address: Address,
        mask: Option<ValueId>,
    ) -> Result<(), Failure> {
        let found = self.nest.buffers.get(buffer as usize);
        let buffer = found.ok_or_else(|| format!("there is no buffer {buffer}"))?;
        require(
            ty.element != Element::Mask && ty.element.bits() as usize == buffer.dtype.size() * 8,
            || format!("{ty} does not lie in memory of {}", buffer.dtype),
        )?;
        match address {
            Address::Contiguous(start) => self.is(start, Type::INDEX)?,
            Address::Strided(start, stride) => self.all(&[start, stride], Type::INDEX)?,
            Address::Scattered(offsets) => self.is(offsets, Type::new(Element::I64, ty.lanes))?,
        }
        match mask {
            Some(mask) => self.is(mask, Type::new(Element::Mask, ty.lanes)),
            None => Ok(()),
        }
    }
}

fn require(ok: bool, reason: impl FnOnce() -> Failure) -> Result<(), Failure> {
    if ok { Ok(()) } else { Err(reason()) }
}

fn is_integer(element: Element) -> bool {
    !element.is_float() && element != Element::Mask
}

/// Whether an operation is one on this element.
pub(in crate::cranelift) fn is_defined(op: BinaryOp, element: Element) -> bool {
    match op {
        BinaryOp::Add | BinaryOp::Sub | BinaryOp::Mul => element != Element::Mask,
        BinaryOp::Div | BinaryOp::Min | BinaryOp::Max => element.is_float(),
        BinaryOp::And | BinaryOp::Or | BinaryOp::Xor => !element.is_float(),
        BinaryOp::DivSigned
        | BinaryOp::DivUnsigned
        | BinaryOp::RemSigned
        | BinaryOp::RemUnsigned
        | BinaryOp::ShiftLeft
        | BinaryOp::ShiftRight
        | BinaryOp::ShiftRightLogical
        | BinaryOp::MinSigned
        | BinaryOp::MaxSigned
        | BinaryOp::MinUnsigned
        | BinaryOp::MaxUnsigned => is_integer(element),
    }
}

/// Whether lanes may be combined in any order.
pub(in crate::cranelift) fn is_associative(op: BinaryOp) -> bool {
    match op {
        BinaryOp::Add
        | BinaryOp::Mul
        | BinaryOp::And
        | BinaryOp::Or
        | BinaryOp::Xor
        | BinaryOp::Min
        | BinaryOp::Max
        | BinaryOp::MinSigned
        | BinaryOp::MaxSigned
        | BinaryOp::MinUnsigned
        | BinaryOp::MaxUnsigned => true,
        BinaryOp::Sub
        | BinaryOp::Div
        | BinaryOp::DivSigned
        | BinaryOp::DivUnsigned
        | BinaryOp::RemSigned
        | BinaryOp::RemUnsigned
        | BinaryOp::ShiftLeft
        | BinaryOp::ShiftRight
        | BinaryOp::ShiftRightLogical => false,
    }
}

/// Whether values of an element can be compared so.
pub(in crate::cranelift) fn compares(predicate: Predicate, element: Element) -> bool {
    match predicate {
        Predicate::Equal | Predicate::NotEqual => true,
        Predicate::Less | Predicate::LessEqual | Predicate::Greater | Predicate::GreaterEqual => {
            element != Element::Mask
        }
        Predicate::LessUnsigned
        | Predicate::LessEqualUnsigned
        | Predicate::GreaterUnsigned
        | Predicate::GreaterEqualUnsigned => is_integer(element),
        Predicate::Unordered => element.is_float(),
    }
}

/// Whether a conversion goes from one element to another.
pub(in crate::cranelift) fn converts(conversion: Conversion, from: Element, to: Element) -> bool {
    let integers = is_integer(from) && is_integer(to);
    match conversion {
        Conversion::SignExtend => integers && from.bits() < to.bits(),
        Conversion::ZeroExtend => {
            (integers && from.bits() < to.bits()) || (from == Element::Mask && is_integer(to))
        }
        Conversion::Truncate => integers && from.bits() > to.bits(),
        Conversion::SignedToFloat | Conversion::UnsignedToFloat => {
            is_integer(from) && to.is_float()
        }
        Conversion::FloatToSigned | Conversion::FloatToUnsigned => {
            from.is_float() && is_integer(to)
        }
        Conversion::FloatToFloat => from.is_float() && to.is_float() && from != to,
        Conversion::Bits => {
            from.bits() == to.bits() && from != Element::Mask && to != Element::Mask
        }
        Conversion::HalfToSingle => from == Element::I16 && to == Element::F32,
        Conversion::SingleToHalf => from == Element::F32 && to == Element::I16,
    }
}
