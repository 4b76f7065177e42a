//! Versions of a reduction: for where guarded reads lie inside of their operands, as those of a convolution
//! do but at the border of its image, and for where they may not.
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

/// A dimension that reads may reach beyond: where in it they lie, and where it ends.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Open {
    pub(super) index: Index,
    pub(super) extent: Dim,
}

/// What is looked at before a loop of the reduction.
#[derive(Clone, Debug)]
pub(super) struct Decision {
    /// Before which of the loops.
    pub(super) depth: usize,
    /// Dimensions of which all reads may lie inside, more of them first: each is a version.
    pub(super) versions: Vec<Vec<Open>>,
}

/// Builds a version in which these dimensions need no guards, from the values that it is handed to those
/// that it hands on.
type Version<'b, 'd> =
    dyn FnMut(&'d [Open], Vec<ValueId>, &mut Builder) -> Result<Vec<ValueId>, Malformed> + 'b;

impl Lowering<'_> {
    /// Where it should be looked at whether guarded reads lie inside, and of which dimensions: of all where
    /// nothing that the guards depend on changes any more. Where they depend on the last loop, before the
    /// first one: of all, or of those alone in which the points of the tile differ, since a guard that is the
    /// same for all of them costs little.
    pub(super) fn decision(&self) -> Option<Decision> {
        let open = self.open()?;
        let level = |open: &Open| {
            let axes = open.index.affine()?.coefficients;
            self.reduction.iter().rposition(|level| axes.contains_key(&level.axis))
        };
        let after = open.iter().filter_map(level).max().map_or(0, |last| last + 1);
        let depth = if after < self.reduction.len() { after } else { 0 };
        let rest: BTreeSet<usize> =
            self.reduction[depth..].iter().map(|level| level.axis).collect();
        let mut points = rest.iter().map(|&axis| self.extents[axis].as_const());
        let points = points.try_fold(1i64, |all, points| all.checked_mul(points?));
        if points.is_some_and(|points| points < WORTH) {
            return None;
        }
        let differs = |open: &Open| {
            let axes = open.index.affine().map(|affine| affine.coefficients);
            let tiled = |axis: &usize| self.parallel.iter().any(|l| l.axis == *axis && l.step > 1);
            axes.is_some_and(|axes| axes.keys().any(tiled))
        };
        let some: Vec<Open> = open.iter().filter(|open| differs(open)).cloned().collect();
        let possible = open.iter().all(|open| self.may_lie_inside(open, &rest));
        let mut versions = Vec::new();
        if depth > 0 || possible {
            versions.push(open);
        }
        if depth == 0 && !some.is_empty() && versions.first() != Some(&some) {
            versions.push(some);
        }
        (!versions.is_empty()).then_some(Decision { depth, versions })
    }

    /// Whether all points of these axes can lie inside of a dimension.
    fn may_lie_inside(&self, open: &Open, axes: &BTreeSet<usize>) -> bool {
        let Some(affine) = open.index.affine() else { return false };
        let mut reach = Dim::from(0i64);
        for (axis, coefficient) in affine.coefficients {
            if axes.contains(&axis) {
                reach = reach + coefficient * (self.extents[axis].clone() - Dim::from(1i64));
            }
        }
        (open.extent.clone() - reach).as_const().is_none_or(|room| room > 0)
    }

    /// The dimensions that guarded reads of the body may reach beyond; `None` if there are none, or some
    /// of which corners do not tell.
    fn open(&self) -> Option<Vec<Open>> {
        let mut open: Vec<Open> = Vec::new();
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
                let dimension = Open { index: index.clone(), extent: extent.clone() };
                if !open.contains(&dimension) {
                    open.push(dimension);
                }
            }
        }
        (!open.is_empty()).then_some(open)
    }

    /// Runs `body` in the first of the versions that fits, or in one where all guards stay.
    pub(super) fn in_versions<'d>(
        &self,
        versions: &'d [Vec<Open>],
        ranges: &[Range],
        tiles: &[Option<Tile>],
        carried: Vec<ValueId>,
        build: &mut Builder,
        body: &mut Version<'_, 'd>,
    ) -> Result<Vec<ValueId>, Malformed> {
        let Some((open, others)) = versions.split_first() else {
            return body(&[], carried, build);
        };
        let inside = self.all_inside(open, ranges, tiles, build);
        let inside = inside.ok_or("a guard is of no corner")?;
        build.either(inside, |inside, build| {
            let carried = carried.clone();
            if inside {
                body(open, carried, build)
            } else {
                self.in_versions(others, ranges, tiles, carried, build, body)
            }
        })
    }

    /// Whether the first and the last point of the register tile, and of the loops that are still to
    /// come, lie inside of these dimensions; `None` if that cannot be told.
    fn all_inside(
        &self,
        open: &[Open],
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
        for Open { index, extent } in open {
            let extent = build.dim(extent);
            for axes in [&first, &last] {
                let point = Point {
                    extents: &self.extents,
                    axes: axes.clone(),
                    lanes: 1,
                    tail: None,
                    slot: None,
                    inside: &[],
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
