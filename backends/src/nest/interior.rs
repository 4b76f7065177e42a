//! Two versions of a reduction: one for where all guarded reads lie inside of their operands, as those of
//! a convolution do but at the border of its image, and one for where some may not.
//!
//! Invariant: which version runs depends on corners of the register tile alone, and guards stay where
//! they cannot be decided by those.

use super::build::Builder;
use super::place::Offset;
use super::scalar::{Malformed, Point};
use super::stage::Lowering;
use super::tile::{Range, Tile};
use super::{Predicate, ValueId};
use kiln_ir::kernel::{Index, ScalarOp};
use kiln_tensor::Dim;
use std::collections::BTreeSet;

/// Points of a reduction that repay looking where they lie, and a second version of the code.
const WORTH: i64 = 2;

/// A dimension that reads may reach beyond.
struct Open<'k> {
    index: &'k Index,
    extent: &'k Dim,
}

/// Builds one version, from the values that it is handed to those that it hands on.
type Version<'b> =
    dyn FnMut(bool, Vec<ValueId>, &mut Builder) -> Result<Vec<ValueId>, Malformed> + 'b;

impl Lowering<'_> {
    /// Before which of the loops of the reduction it should be looked at whether all guarded reads lie
    /// inside: where nothing that the guards depend on changes any more, or else before all.
    pub(super) fn decision(&self) -> Option<usize> {
        let open = self.open()?;
        let mut axes = BTreeSet::new();
        for dimension in &open {
            axes.extend(dimension.index.affine()?.coefficients.into_keys());
        }
        let last = self.reduction.iter().rposition(|level| axes.contains(&level.axis));
        let after = last.map_or(0, |last| last + 1);
        let depth = if after < self.reduction.len() { after } else { 0 };
        let rest: BTreeSet<usize> =
            self.reduction[depth..].iter().map(|level| level.axis).collect();
        let mut points = rest.into_iter().map(|axis| self.extents[axis].as_const());
        let points = points.try_fold(1i64, |all, points| all.checked_mul(points?));
        points.is_none_or(|points| points >= WORTH).then_some(depth)
    }

    /// The dimensions that guarded reads of the body may reach beyond; `None` if there are none, or some
    /// of which corners do not tell.
    fn open(&self) -> Option<Vec<Open<'_>>> {
        let mut open = Vec::new();
        for (op, _) in &self.stage.body.code {
            let ScalarOp::Read { access, outside: Some(_) } = op else { continue };
            let shape = &self.context.kernel.operands.get(access.operand)?.shape;
            for (index, extent) in access.index.iter().zip(shape) {
                if self.context.surely_inside(index, extent, &self.extents) {
                    continue;
                }
                let symbols = &self.context.kernel.symbols;
                for (axis, coefficient) in &index.affine()?.coefficients {
                    let vector = self.vector.is_some_and(|vector| vector.axis == *axis);
                    // Along what rises with every axis, the first and the last corner are the outermost.
                    if vector || coefficient.bounds(symbols).min < 0 {
                        return None;
                    }
                }
                open.push(Open { index, extent });
            }
        }
        (!open.is_empty()).then_some(open)
    }

    /// Runs `body` in the version that fits: with what it is told, whether all guarded reads lie inside.
    pub(super) fn in_two_versions(
        &self,
        ranges: &[Range],
        tiles: &[Option<Tile>],
        carried: Vec<ValueId>,
        build: &mut Builder,
        body: &mut Version<'_>,
    ) -> Result<Vec<ValueId>, Malformed> {
        match self.all_inside(ranges, tiles, build) {
            Some(inside) => {
                build.either(inside, |inside, build| body(inside, carried.clone(), build))
            }
            None => body(false, carried, build),
        }
    }

    /// Whether the first and the last point of the register tile, and of the loops that are still to
    /// come, lie inside; `None` if that cannot be told.
    fn all_inside(
        &self,
        ranges: &[Range],
        tiles: &[Option<Tile>],
        build: &mut Builder,
    ) -> Option<ValueId> {
        let one = build.index(1);
        let (mut first, mut last) = (Vec::new(), Vec::new());
        for (tile, range) in tiles.iter().zip(ranges) {
            let (from, to) = match tile {
                // Lanes lie along an axis that no guard depends on.
                Some(tile) => {
                    let more = build.index(tile.count - 1);
                    (tile.base, build.add(tile.base, more))
                }
                None => (range.from, build.sub(range.to, one)),
            };
            first.push(Offset::value(build, from));
            last.push(Offset::value(build, to));
        }
        let mut inside = None;
        for Open { index, extent } in self.open()? {
            let extent = build.dim(extent);
            for axes in [&first, &last] {
                let point = Point {
                    extents: &self.extents,
                    axes: axes.clone(),
                    lanes: 1,
                    tail: None,
                    slot: None,
                    inside: false,
                };
                let program = &self.stage.body;
                let place = self.context.offset(index, program, &point, &[], build)?.base(build);
                // As an unsigned number a negative index is beyond every extent.
                let within = build.compare(Predicate::LessUnsigned, place, extent);
                inside = Some(match inside {
                    Some(others) => build.and(others, within),
                    None => within,
                });
            }
        }
        inside
    }
}
