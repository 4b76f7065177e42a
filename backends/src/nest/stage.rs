//! One stage inside a task: its loops, its register tile, its accumulators.
//!
//! Invariant: accumulators live in values that loops carry, never in memory; all reads of a
//! register tile come before its writes, and a tile holds one point of a sequential axis.

use super::build::Builder;
use super::functions::element_of;
use super::interior::{Decision, Open};
use super::place::Offset;
use super::scalar::{Context, Malformed, Point, Tail};
use super::tile::{Piece, Range, Tile, pieces};
use super::{NestError, Op, Type, ValueId};
use kiln_ir::kernel::{Axis, AxisKind, Combine, Index, ScalarId, ScalarOp, Stage, Write};
use kiln_ir::op::{BinaryFn, ReduceFn};
use kiln_ir::schedule::{LoopLevel, StageSchedule, VectorAxis};
use kiln_tensor::{DType, Dim};

/// Points of a register tile beyond which a schedule is taken for a mistake.
const MOST_POINTS: usize = 1024;

/// One serial loop.
pub(super) struct Level {
    pub(super) axis: usize,
    pub(super) step: i64,
    /// Whether the register tile takes all of the step.
    pub(super) innermost: bool,
}

/// A stage while it is lowered.
pub(super) struct Lowering<'c> {
    pub(super) context: &'c Context<'c>,
    pub(super) stage: &'c Stage,
    axes: Vec<&'c Axis>,
    pub(super) extents: Vec<Dim>,
    pub(super) parallel: Vec<Level>,
    pub(super) reduction: Vec<Level>,
    pub(super) vector: Option<VectorAxis>,
    /// Products that are added up by fused multiply-add and not computed apart.
    pub(super) fused: Vec<ScalarId>,
    pub(super) combines: Vec<(Combine, DType)>,
    /// Before which loop of the reduction there are versions of what follows.
    pub(super) decision: Option<Decision>,
}

/// Builds what a loop runs over the ranges and tiles that it leaves, from the values that it carries
/// in to those that it carries on.
type LoopBody<'b> = dyn FnMut(&[Range], &[Option<Tile>], Vec<ValueId>, &mut Builder) -> Result<Vec<ValueId>, Malformed>
    + 'b;

impl Context<'_> {
    /// Builds a stage over the given ranges of the outer axes.
    pub(super) fn stage(
        &self,
        stage: &Stage,
        how: &StageSchedule,
        outer: &[Range],
        build: &mut Builder,
    ) -> Result<(), NestError> {
        let kernel = &self.kernel.name;
        let malformed = |reason| NestError::Kernel { kernel: kernel.clone(), reason };
        let unfit = |reason| NestError::Schedule { kernel: kernel.clone(), reason };
        let lowering = Lowering::new(self, stage, how, build).map_err(unfit)?;
        let mut ranges = outer.to_vec();
        for axis in &stage.axes {
            let (from, to) = (build.index(0), build.dim(&axis.extent));
            ranges.push(Range { from, to, length: super::tile::Length::of(&axis.extent) });
        }
        let tiles = lowering.start(&ranges);
        lowering.parallel(0, &ranges, &tiles, build).map_err(malformed)
    }
}

impl<'c> Lowering<'c> {
    fn new(
        context: &'c Context<'c>,
        stage: &'c Stage,
        how: &StageSchedule,
        build: &Builder,
    ) -> Result<Self, String> {
        let axes: Vec<&Axis> = context.kernel.outer.iter().chain(&stage.axes).collect();
        let extents = axes.iter().map(|axis| axis.extent.clone()).collect();
        let dtype = |id: &ScalarId| stage.body.dtype(*id).unwrap_or(DType::F32);
        let combines =
            stage.combine.iter().copied().zip(stage.body.results.iter().map(dtype)).collect();
        let mut lowering = Lowering {
            context,
            stage,
            axes,
            extents,
            parallel: Vec::new(),
            reduction: Vec::new(),
            vector: how.vector,
            fused: Vec::new(),
            combines,
            decision: None,
        };
        if let Some(vector) = how.vector {
            if vector.axis >= lowering.axes.len() {
                return Err(format!("there is no axis {} to vectorise", vector.axis));
            }
            if !vector.lanes.is_power_of_two() {
                return Err(format!("{} lanes are not a power of two", vector.lanes));
            }
        }
        lowering.narrow(build);
        lowering.levels(how)?;
        lowering.fused = lowering.fusable();
        lowering.decision = lowering.decision();
        Ok(lowering)
    }

    /// Gives up the vector axis, or some of its lanes, where the stage or the code generator
    /// cannot have them. Results are the same.
    fn narrow(&mut self, build: &Builder) {
        let Some(mut vector) = self.vector.filter(|vector| vector.lanes > 1) else {
            self.vector = None;
            return;
        };
        let kind = self.axes[vector.axis].kind;
        let ordered = |combine: &(Combine, DType)| !matches!(combine.0, Combine::Reduce(_));
        let tie_order = kind == AxisKind::Reduction && self.combines.iter().any(ordered);
        if kind == AxisKind::Sequential || tie_order {
            self.vector = None;
            return;
        }
        if let Some(bits) = build.capabilities.only_bits {
            match self.uniform_bits(vector.axis) {
                Some(width) if bits / width > 1 => vector.lanes = vector.lanes.min(bits / width),
                _ => {
                    self.vector = None;
                    return;
                }
            }
        }
        self.vector = Some(vector);
    }

    /// The one width that all elements of the stage have, if each access is plain along the axis.
    fn uniform_bits(&self, vector: usize) -> Option<u32> {
        let programs = [&self.stage.body, &self.stage.finish];
        let mut width = None;
        let mut same = |bits: u32| *width.get_or_insert(bits) == bits;
        for (program, (op, dtype)) in
            programs.iter().flat_map(|program| program.code.iter().map(move |op| (program, op)))
        {
            let is_code = |id: ScalarId| program.dtype(id).is_some_and(DType::is_code);
            match op {
                ScalarOp::Constant(_) | ScalarOp::Dim(_) if *dtype == DType::I64 => {}
                ScalarOp::Binary(BinaryFn::Pow, ..) => return None,
                ScalarOp::Index(index) if mentions(index, vector) => return None,
                ScalarOp::Index(_) => {}
                // A code is converted by way of wider elements.
                ScalarOp::Cast(a) if dtype.is_code() || is_code(*a) => return None,
                ScalarOp::Read { access, outside } => {
                    for index in &access.index {
                        let along = mentions(index, vector);
                        if along && (outside.is_some() || index.affine().is_none()) {
                            return None;
                        }
                    }
                    let small = matches!(dtype, DType::Bool | DType::F16 | DType::BF16);
                    if small || !same(element_of(*dtype).bits()) {
                        return None;
                    }
                }
                _ if *dtype == DType::Bool => {}
                _ if matches!(dtype, DType::F16 | DType::BF16) => return None,
                _ if !same(element_of(*dtype).bits()) => return None,
                _ => {}
            }
        }
        for Write { access, .. } in &self.stage.writes {
            if access.index.iter().any(|index| index.affine().is_none()) {
                return None;
            }
            let dtype = self.context.kernel.operands.get(access.operand)?.dtype;
            if matches!(dtype, DType::Bool | DType::F16 | DType::BF16) {
                return None;
            }
        }
        width
    }

    /// Sorts the loops, and adds one for every axis that has none: parallel axes outermost,
    /// reduction axes innermost.
    fn levels(&mut self, how: &StageSchedule) -> Result<(), String> {
        let mut explicit: Vec<LoopLevel> = Vec::new();
        for level in &how.loops {
            let Some(axis) = self.axes.get(level.axis) else {
                return Err(format!("there is no axis {} to loop over", level.axis));
            };
            if axis.kind == AxisKind::Sequential && level.axis < self.context.kernel.outer.len() {
                continue;
            }
            let earlier = explicit.iter().rev().find(|other| other.axis == level.axis);
            if level.step == 0 || earlier.is_some_and(|other| other.step < level.step) {
                return Err(format!("steps of axis {} do not fall", level.axis));
            }
            explicit.push(*level);
        }
        let implicit = |axis: usize| {
            let lanes = self.vector.filter(|v| v.axis == axis).map_or(1, |v| v.lanes);
            LoopLevel { axis, step: u64::from(lanes) }
        };
        let missing: Vec<LoopLevel> = (0..self.axes.len())
            .filter(|axis| !explicit.iter().any(|level| level.axis == *axis))
            .map(implicit)
            .collect();
        let (inner, outer): (Vec<LoopLevel>, Vec<LoopLevel>) =
            missing.into_iter().partition(|level| self.is_reduction(level.axis));
        let all: Vec<LoopLevel> = outer.into_iter().chain(explicit).chain(inner).collect();
        for (place, level) in all.iter().enumerate() {
            let innermost = !all[place + 1..].iter().any(|other| other.axis == level.axis);
            let step = i64::try_from(level.step).map_err(|_| "a step is too large".to_owned())?;
            if innermost && step % i64::from(self.lanes(level.axis)) != 0 {
                return Err(format!("step {step} is not a whole number of vectors"));
            }
            let level = Level { axis: level.axis, step, innermost };
            if self.is_reduction(level.axis) {
                self.reduction.push(level);
            } else if self.reduction.is_empty() {
                self.parallel.push(level);
            } else {
                return Err(format!(
                    "the loop over parallel axis {} stands inside a reduction",
                    level.axis
                ));
            }
        }
        let points = |levels: &[Level]| {
            levels.iter().filter(|level| level.innermost).try_fold(1usize, |points, level| {
                let lanes = self.vector.filter(|v| v.axis == level.axis).map_or(1, |v| v.lanes);
                points.checked_mul(usize::try_from(level.step).ok()? / lanes as usize)
            })
        };
        let total = points(&self.parallel)
            .zip(points(&self.reduction))
            .and_then(|(parallel, reduction)| parallel.checked_mul(reduction));
        if total.is_none_or(|total| total > MOST_POINTS) {
            return Err(format!("its register tile has more than {MOST_POINTS} points"));
        }
        Ok(())
    }

    pub(super) fn is_reduction(&self, axis: usize) -> bool {
        self.axes[axis].kind == AxisKind::Reduction
    }

    pub(super) fn reduces_vector(&self) -> bool {
        self.vector.is_some_and(|vector| self.is_reduction(vector.axis))
    }

    /// Float products that only go into a sum.
    fn fusable(&self) -> Vec<ScalarId> {
        let body = &self.stage.body;
        let used_elsewhere = |id: ScalarId| {
            let uses = |op: &ScalarOp| match op {
                ScalarOp::Unary(_, a) | ScalarOp::Cast(a) | ScalarOp::BitCast(a) => *a == id,
                ScalarOp::Binary(_, a, b) => *a == id || *b == id,
                ScalarOp::Select(a, b, c) => *a == id || *b == id || *c == id,
                _ => false,
            };
            body.code.iter().any(|(op, _)| uses(op))
                || body.results.iter().filter(|result| **result == id).count() > 1
        };
        let has_reduction = !self.reduction.is_empty();
        body.results
            .iter()
            .zip(&self.combines)
            .filter(|(id, (combine, dtype))| {
                let product = matches!(
                    body.code.get(id.0 as usize),
                    Some((ScalarOp::Binary(BinaryFn::Mul, ..), _))
                );
                let sum = *combine == Combine::Reduce(ReduceFn::Sum) && dtype.is_float();
                has_reduction && product && sum && !used_elsewhere(**id)
            })
            .map(|(id, _)| *id)
            .collect()
    }

    /// Sequential outer axes have one point, which no loop here runs over.
    fn start(&self, ranges: &[Range]) -> Vec<Option<Tile>> {
        let looped = |axis: usize| {
            self.parallel.iter().chain(&self.reduction).any(|level| level.axis == axis)
        };
        ranges
            .iter()
            .enumerate()
            .map(|(axis, range)| {
                (!looped(axis)).then_some(Tile {
                    base: range.from,
                    count: 1,
                    lanes: 1,
                    inside: None,
                })
            })
            .collect()
    }

    fn lanes(&self, axis: usize) -> u32 {
        self.vector.filter(|vector| vector.axis == axis).map_or(1, |vector| vector.lanes)
    }

    /// Runs `body` for each block of an outer loop or each tile of an innermost one; `carried` are
    /// handed from iteration to iteration.
    pub(super) fn over(
        &self,
        level: &Level,
        ranges: &[Range],
        tiles: &[Option<Tile>],
        carried: Vec<ValueId>,
        build: &mut Builder,
        body: &mut LoopBody<'_>,
    ) -> Result<Vec<ValueId>, Malformed> {
        let range = &ranges[level.axis];
        if !level.innermost {
            let open = build.open_for(range.from, range.to, level.step, &carried);
            let from = open.variable();
            let step = build.index(level.step);
            let full = build.add(from, step);
            let length = range.length.block(level.step);
            let even = length.as_const() == Some(level.step);
            let to = if even { full } else { build.min(full, range.to) };
            let mut inner = ranges.to_vec();
            inner[level.axis] = Range { from, to, length };
            let next = body(&inner, tiles, open.inside(), build)?;
            return Ok(build.close_for(open, &next));
        }
        let mut carried = carried;
        let mut from = range.from;
        let lanes = self.lanes(level.axis);
        let masks = build.capabilities.masks;
        let all = pieces(&range.length, level.step, lanes, masks);
        let alone = all.len() == 1;
        for piece in &all {
            let end = range.end_of(piece, from, build);
            let mut inner = tiles.to_vec();
            if alone && self.takes_once(piece, range) {
                inner[level.axis] = Some(self.tile(piece, from, range, build));
                carried = body(ranges, &inner, carried, build)?;
            } else {
                let open = build.open_for(from, end, piece.points, &carried);
                inner[level.axis] = Some(self.tile(piece, open.variable(), range, build));
                let next = body(ranges, &inner, open.inside(), build)?;
                carried = build.close_for(open, &next);
            }
            from = end;
        }
        Ok(carried)
    }

    /// Whether a range is one tile of this piece for sure.
    fn takes_once(&self, piece: &Piece, range: &Range) -> bool {
        range.length.as_const().is_some_and(|length| {
            length > 0 && length <= piece.points && (piece.masked || length == piece.points)
        })
    }

    fn tile(&self, piece: &Piece, base: ValueId, range: &Range, build: &mut Builder) -> Tile {
        let inside = piece.masked.then(|| match piece.rest {
            Some(rest) => build.index(rest),
            None => build.sub(range.to, base),
        });
        let count = piece.points / i64::from(piece.lanes);
        Tile { base, count, lanes: piece.lanes, inside }
    }

    fn parallel(
        &self,
        depth: usize,
        ranges: &[Range],
        tiles: &[Option<Tile>],
        build: &mut Builder,
    ) -> Result<(), Malformed> {
        let Some(level) = self.parallel.get(depth) else {
            return self.register_tile(ranges, tiles, build);
        };
        self.over(level, ranges, tiles, Vec::new(), build, &mut |ranges, tiles, _, build| {
            self.parallel(depth + 1, ranges, tiles, build)?;
            Ok(Vec::new())
        })?;
        Ok(())
    }

    fn register_tile(
        &self,
        ranges: &[Range],
        tiles: &[Option<Tile>],
        build: &mut Builder,
    ) -> Result<(), Malformed> {
        let points = self.points(tiles, false, &[], build);
        let reduced: Vec<Vec<ValueId>> = if self.reduction.is_empty() {
            let mut reduced = Vec::with_capacity(points.len());
            for point in &points {
                let body = &self.stage.body;
                let values = self.context.evaluate(body, point, &[], &[], build)?;
                reduced.push(results(body, &values)?);
            }
            reduced
        } else {
            self.reduce(&points, ranges, tiles, build)?
        };
        let finish = &self.stage.finish;
        let mut written = Vec::with_capacity(points.len());
        for (point, reduced) in points.iter().zip(&reduced) {
            let values = self.context.evaluate(finish, point, reduced, &[], build)?;
            written.push((results(finish, &values)?, values));
        }
        for (point, (results, values)) in points.iter().zip(&written) {
            self.context.write(self.stage, results, values, point, build)?;
        }
        Ok(())
    }

    /// Every point (or vector of points) of the register tile along the axes that have a tile;
    /// along reduction axes only if `reduction`. Guarded reads lie inside of the dimensions `inside`.
    pub(super) fn points<'p>(
        &'p self,
        tiles: &[Option<Tile>],
        reduction: bool,
        inside: &'p [Open],
        build: &mut Builder,
    ) -> Vec<Point<'p>> {
        let extents = &self.extents;
        let mut points =
            vec![Point { extents, axes: Vec::new(), lanes: 1, tail: None, slot: None, inside }];
        for (axis, tile) in tiles.iter().enumerate() {
            let tile = tile.filter(|_| reduction || !self.is_reduction(axis));
            let is_vector = self.vector.is_some_and(|vector| vector.axis == axis);
            let mut next = Vec::new();
            for point in points {
                let Some(tile) = tile else {
                    let mut axes = point.axes.clone();
                    axes.push(Offset::default());
                    next.push(Point { axes, ..point });
                    continue;
                };
                for number in 0..tile.count {
                    let mut point = point.clone();
                    let first = number * i64::from(tile.lanes);
                    let mut value = Offset::value(build, tile.base).shifted(first);
                    if tile.lanes > 1 {
                        value = value.along_lanes();
                        point.lanes = tile.lanes;
                        point.tail = tail(&tile, first, build);
                    }
                    if is_vector && self.is_reduction(axis) {
                        point.slot =
                            Some(if tile.lanes > 1 { number as usize } else { usize::MAX });
                    }
                    point.axes.push(value);
                    next.push(point);
                }
            }
            points = next;
        }
        points
    }
}

/// The lanes that lie inside the range, of the vector that starts `first` points in.
fn tail(tile: &Tile, first: i64, build: &mut Builder) -> Option<Tail> {
    let inside = tile.inside?;
    let first = build.index(first);
    let count = build.sub(inside, first);
    if build.as_const(count).is_some_and(|count| count >= i64::from(tile.lanes)) {
        return None;
    }
    let mask = Type::new(super::Element::Mask, tile.lanes);
    Some(Tail { count, mask: build.pure(Op::FirstLanes(count), mask) })
}

fn mentions(index: &Index, axis: usize) -> bool {
    match index {
        Index::Axis(number) => *number == axis,
        Index::Dim(_) => false,
        // What the scalar depends on is not known here.
        Index::Scalar(_) => true,
        Index::Add(a, b) => mentions(a, axis) || mentions(b, axis),
        Index::Mul(a, _) | Index::FloorDiv(a, _) | Index::Mod(a, _) | Index::Clamp(a, ..) => {
            mentions(a, axis)
        }
    }
}

pub(super) fn value(values: &[ValueId], id: ScalarId) -> Result<ValueId, Malformed> {
    values.get(id.0 as usize).copied().ok_or_else(|| format!("there is no scalar {}", id.0))
}

fn results(
    program: &kiln_ir::kernel::ScalarProgram,
    values: &[ValueId],
) -> Result<Vec<ValueId>, Malformed> {
    program.results.iter().map(|id| value(values, *id)).collect()
}
