//! Sums of products of bytes: four terms in one operation, where the target has it.
//!
//! Invariant: only terms whose bytes lie side by side in both operands are taken together, whatever
//! the axes are; the sum is the same to the bit.

use super::build::Builder;
use super::scalar::{Point, Reach, address_of, is_zero};
use super::stage::Lowering;
use super::{Address, Element, Op, Type, ValueId};
use kiln_ir::kernel::{Access, BYTES_AT_ONCE, Scalar};

/// Terms that one operation takes.
pub(crate) const GROUP: usize = BYTES_AT_ONCE as usize;

impl Lowering<'_> {
    /// Terms of the sums that are taken together where that is possible.
    pub(super) fn group(&self, build: &Builder) -> usize {
        let bits = self.vector.filter(|_| !self.reduces_vector()).map(|vector| 32 * vector.lanes);
        let fits = build.capabilities.dot.zip(bits).is_some_and(|(most, bits)| {
            // Narrower than the narrowest register there is no operation.
            (128..=most).contains(&bits)
        });
        if fits && self.stage.byte_product().is_some() { GROUP } else { 1 }
    }

    /// The sum and the products at these points, if their bytes lie side by side.
    pub(super) fn dot(
        &self,
        points: &[&Point],
        sum: ValueId,
        build: &mut Builder,
    ) -> Option<ValueId> {
        let product = self.stage.byte_product()?;
        let first = *points.first()?;
        let from = self.side_by_side(product.unsigned, product.outside, points, build)?;
        let signed = self.side_by_side(product.signed, None, points, build)?.place;
        let (group, lanes, guard) = (GROUP as u32, first.lanes, from.guard);
        let of_each = signed.stride().is_some_and(|stride| stride.is(GROUP as i64));
        let plain = product.outside.is_none_or(is_zero)
            && guard.is_none_or(|guard| build.ty(guard).lanes == 1)
            && build.ty(sum).lanes == lanes;
        if !(from.uniform && of_each && plain) {
            return None;
        }
        let bytes = Type::new(Element::I8, group);
        let mask = guard.map(|guard| build.widen(guard, group));
        let address = address_of(&from.place, 1, guard, build);
        let four = build.load(product.unsigned.operand as u32, address, mask, bytes);
        let all = Type::new(Element::I8, group * lanes);
        let unsigned = build.pure(Op::Repeat(four), all);
        let mask = first.tail.map(|tail| {
            let four = build.index(GROUP as i64);
            let count = build.mul(tail.count, four);
            build.pure(Op::FirstLanes(count), Type::new(Element::Mask, group * lanes))
        });
        let address = Address::Contiguous(signed.base(build));
        let signed = build.load(product.signed.operand as u32, address, mask, all);
        Some(build.pure(Op::Dot { sum, unsigned, signed }, Type::new(Element::I32, lanes)))
    }

    /// Where an operand is read at the first of the points, if at each of them it is read one element behind
    /// the one before and under the same mask.
    fn side_by_side(
        &self,
        access: &Access,
        outside: Option<Scalar>,
        points: &[&Point],
        build: &mut Builder,
    ) -> Option<Reach> {
        let mut first: Option<Reach> = None;
        for (number, point) in points.iter().enumerate() {
            let program = &self.stage.body;
            let found = self.context.reach(access, outside, program, point, &[], build)?;
            let first = first.get_or_insert_with(|| found.clone());
            if !found.place.follows(&first.place, number as i64) || found.guard != first.guard {
                return None;
            }
        }
        first
    }
}
