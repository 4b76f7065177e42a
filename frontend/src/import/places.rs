//! Numbers that a model gives, against what they must be: indices against the dimensions that they
//! index, lengths and positions against their bounds.
//!
//! Invariant: compiled code keeps every index inside of its operand; an operator whose indices are
//! operands of its own says here that they must be inside by themselves, before it uses them.

use super::build::V;
use super::fault::Fault;
use super::node::Use;
use kiln_ir::op::{self, UnaryFn};
use kiln_routine::Routine;
use kiln_tensor::{DType, Dim};

impl Use<'_, '_, '_> {
    /// Says that indices, counted from the end if negative, lie in a dimension of this size; or, of
    /// several sizes, that those in the last dimension do, one in each.
    pub(super) fn inside(&mut self, indices: V, sizes: &[Dim]) -> Result<(), Fault> {
        if sizes.is_empty() {
            return Ok(());
        }
        if let Ok(known) = self.integers(indices, "the indices") {
            let needed = known.iter().map(|&index| match index {
                ..0 => index.checked_neg(),
                _ => index.checked_add(1),
            });
            let needed: Vec<(Option<i64>, &Dim)> = needed.zip(sizes.iter().cycle()).collect();
            let fits = |&(least, size): &(Option<i64>, &Dim)| {
                least.is_some_and(|least| {
                    self.facts().at_least(size, &Dim::from(least)) == Some(true)
                })
            };
            if needed.iter().all(fits) {
                return Ok(());
            }
        }
        let indices = match self.dtype(indices) {
            DType::I32 | DType::I64 => indices,
            _ => self.cast(indices, DType::I64)?,
        };
        let sizes = self.add(op::SizeOf { dims: sizes.to_vec(), scalar: false }, &[])?;
        self.call(Routine::Inside, &[indices, sizes], Vec::new())?;
        Ok(())
    }

    /// Says that numbers are from `least` to `most`. `what` names them to people.
    pub(super) fn within(
        &mut self,
        numbers: V,
        what: &str,
        [least, most]: [&Dim; 2],
    ) -> Result<(), Fault> {
        if let Ok(known) = self.integers(numbers, what) {
            let mut fits = |number: i64| {
                let number = Dim::from(number);
                let sides = [(&number, least), (most, &number)];
                let sides = sides.map(|(high, low)| self.facts().at_least(high, low));
                if sides.contains(&Some(false)) { Some(false) } else { sides[0].and(sides[1]) }
            };
            if let Some(&number) = known.iter().find(|&&number| fits(number) == Some(false)) {
                let message = format!("{what} must be from {least} to {most}, but is {number}");
                return Err(Fault::malformed(message));
            }
            if known.into_iter().all(|number| fits(number).is_some()) {
                return Ok(());
            }
        }
        let numbers = self.cast(numbers, DType::I64)?;
        let bounds = self.vector(vec![least.clone(), most.clone()])?;
        self.call(Routine::Within { what: what.to_owned() }, &[numbers, bounds], Vec::new())?;
        Ok(())
    }

    /// Says that a number is not 0. `what` names it to people.
    pub(super) fn not_zero(&mut self, v: V, what: &str) -> Result<(), Fault> {
        let mut size = self.unary(UnaryFn::Abs, v)?;
        if self.dtype(v).is_float() {
            size = self.unary(UnaryFn::Ceil, size)?;
        }
        let size = self.cast(size, DType::I64)?;
        let what = format!("the size of {what}");
        self.within(size, &what, [&Dim::from(1i64), &Dim::from(i64::MAX)])
    }
}
