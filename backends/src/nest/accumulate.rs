//! Reductions inside a register tile: accumulators, what is added to them, how they end.
//!
//! Invariant: every point of the reduction axes reaches one accumulator of its parallel point once;
//! lanes beyond the range leave theirs as they are. What a block of an axis adds up is added to the rest
//! at its end, so that roundings grow with the lengths of blocks and their number, not with their product.

use super::build::Builder;
use super::interior::Open;
use super::scalar::{Malformed, Point};
use super::stage::{Lowering, value};
use super::tile::{Range, Tile};
use super::{Op, Predicate, Type, ValueId};
use kiln_ir::kernel::{Combine, ScalarOp};
use kiln_ir::op::ReduceFn;
use kiln_tensor::DType;

/// The accumulators of one result at one point: one for each vector along a reduced vector axis
/// and, without masks, a scalar one for its rest; else one.
type Slots = Vec<ValueId>;

impl Lowering<'_> {
    /// Combined values of every point.
    pub(super) fn reduce(
        &self,
        points: &[Point],
        ranges: &[Range],
        tiles: &[Option<Tile>],
        build: &mut Builder,
    ) -> Result<Vec<Vec<ValueId>>, Malformed> {
        let slots = self.slots(build.capabilities.masks);
        let mut start = Vec::new();
        for point in points {
            for (combine, dtype) in &self.combines {
                let neutral = match combine {
                    Combine::Reduce(f) => build.neutral(*f, *dtype),
                    Combine::ArgMax { .. } => build.neutral(ReduceFn::Max, *dtype),
                    Combine::ArgMin { .. } => build.neutral(ReduceFn::Min, *dtype),
                    Combine::Follow => build.neutral(ReduceFn::Sum, *dtype),
                };
                for lanes in &slots {
                    start.push(build.widen(neutral, lanes.unwrap_or(point.lanes)));
                }
            }
        }
        let neutral = start.clone();
        let end = self.reduction(0, None, ranges, tiles, [&neutral, &start], build)?;
        let mut all = end.chunks(slots.len());
        let mut reduced = Vec::with_capacity(points.len());
        for _ in points {
            let mut values = Vec::with_capacity(self.combines.len());
            for (combine, dtype) in &self.combines {
                let slots: Slots = all.next().map(<[_]>::to_vec).unwrap_or_default();
                values.push(self.gather_slots(*combine, *dtype, &slots, build));
            }
            reduced.push(values);
        }
        Ok(reduced)
    }

    /// Lanes of each accumulator of one result at one point; `None` for those of the point.
    fn slots(&self, masks: bool) -> Vec<Option<u32>> {
        match self.vector.filter(|_| self.reduces_vector()) {
            Some(vector) => {
                let step = self.reduction.iter().rev().find(|level| level.axis == vector.axis);
                let vectors = step.map_or(1, |level| level.step / i64::from(vector.lanes));
                let rest = (!masks).then_some(Some(1));
                (0..vectors).map(|_| Some(vector.lanes)).chain(rest).collect()
            }
            None => vec![None],
        }
    }

    /// The accumulators of one result as one value.
    fn gather_slots(
        &self,
        combine: Combine,
        dtype: DType,
        slots: &Slots,
        build: &mut Builder,
    ) -> ValueId {
        let Combine::Reduce(f) = combine else { return slots[0] };
        let op = Builder::combiner(f, dtype);
        let (mut wide, mut narrow): (Vec<ValueId>, Vec<ValueId>) =
            slots.iter().partition(|slot| self.reduces_vector() && build.ty(**slot).lanes > 1);
        // Halve the vectors pairwise, then their lanes.
        while wide.len() > 1 {
            wide = wide
                .chunks(2)
                .map(|pair| match pair {
                    [a, b] => build.binary(op, *a, *b),
                    _ => pair[0],
                })
                .collect();
        }
        for value in wide {
            let scalar = Type::new(build.ty(value).element, 1);
            narrow.push(build.pure(Op::Reduce(op, value), scalar));
        }
        let first = narrow[0];
        narrow[1..].iter().fold(first, |sum, value| build.binary(op, sum, *value))
    }

    /// The loops from this depth on, from neutral accumulators or from those that are `carried`; `inside`
    /// are the dimensions inside of which guarded reads are known to lie, once that was looked at.
    fn reduction(
        &self,
        depth: usize,
        inside: Option<&[Open]>,
        ranges: &[Range],
        tiles: &[Option<Tile>],
        [neutral, carried]: [&[ValueId]; 2],
        build: &mut Builder,
    ) -> Result<Vec<ValueId>, Malformed> {
        if let (None, Some(decision)) = (inside, &self.decision)
            && decision.depth == depth
        {
            let mut rest = |inside: &[Open], carried: Vec<ValueId>, build: &mut Builder| {
                self.reduction(depth, Some(inside), ranges, tiles, [neutral, &carried], build)
            };
            let carried = carried.to_vec();
            return self.in_versions(&decision.versions, ranges, tiles, carried, build, &mut rest);
        }
        let Some(level) = self.reduction.get(depth) else {
            return self.accumulate(inside.unwrap_or_default(), tiles, carried.to_vec(), build);
        };
        let carried = carried.to_vec();
        let apart = !level.innermost && self.sums_apart();
        self.over(level, ranges, tiles, carried, build, &mut |ranges, tiles, carried, build| {
            let from = if apart { neutral } else { &carried };
            let sums = self.reduction(depth + 1, inside, ranges, tiles, [neutral, from], build)?;
            Ok(if apart { self.added(&carried, &sums, build) } else { sums })
        })
    }

    /// Whether blocks of the reduction are combined apart: floats are rounded less, and order does not
    /// matter.
    fn sums_apart(&self) -> bool {
        let rounds = |(combine, dtype): &(Combine, DType)| {
            *combine == Combine::Reduce(ReduceFn::Sum) && dtype.is_float()
        };
        self.combines.iter().all(rounds)
    }

    /// The accumulators and what a block has added up.
    fn added(&self, carried: &[ValueId], sums: &[ValueId], build: &mut Builder) -> Vec<ValueId> {
        let mut all = Vec::with_capacity(carried.len());
        for (&rest, &sum) in carried.iter().zip(sums) {
            all.push(build.binary(super::BinaryOp::Add, rest, sum));
        }
        all
    }

    /// Evaluates the body over the whole register tile and adds it to the accumulators.
    fn accumulate(
        &self,
        inside: &[Open],
        tiles: &[Option<Tile>],
        mut carried: Vec<ValueId>,
        build: &mut Builder,
    ) -> Result<Vec<ValueId>, Malformed> {
        let slots = self.slots(build.capabilities.masks).len();
        let results = self.combines.len();
        let parallel: usize = tiles
            .iter()
            .enumerate()
            .filter(|(axis, _)| !self.is_reduction(*axis))
            .map(|(_, tile)| tile.map_or(1, |tile| tile.count as usize))
            .product();
        // Axes count outer first, so reduction points vary fastest unless a parallel axis stands
        // behind one; `place` numbers the parallel part of each point.
        let places = self.parallel_places(tiles);
        debug_assert!(places.iter().all(|place| *place < parallel));
        let points = self.points(tiles, true, inside, build);
        // Evaluate in the order reduction point, then parallel point: independent accumulators
        // follow each other.
        let mut order: Vec<usize> = (0..points.len()).collect();
        let mut seen = vec![0usize; parallel];
        let mut rounds = vec![0usize; points.len()];
        for (number, place) in places.iter().enumerate() {
            rounds[number] = seen[*place];
            seen[*place] += 1;
        }
        // Terms that one operation takes stand together, if there are whole groups of them.
        let group = self.group(build);
        let whole = rounds.iter().max().is_some_and(|last| (last + 1).is_multiple_of(group));
        let group = if whole { group } else { 1 };
        order.sort_by_key(|&number| {
            let round = rounds[number];
            (round / group, places[number], round % group)
        });
        let width = results * slots;
        for numbers in order.chunks(group) {
            let together: Vec<&Point> = numbers.iter().map(|&number| &points[number]).collect();
            let place = numbers.first().map_or(0, |&number| places[number]) * width;
            let sums = carried.get_mut(place..place + width).ok_or("accumulators do not fit")?;
            if group > 1
                && let Some(sum) = self.dot(&together, sums[0], build)
            {
                sums[0] = sum;
                continue;
            }
            for point in together {
                self.add(point, sums, build)?;
            }
        }
        Ok(carried)
    }

    /// Evaluates the body at one point and adds it to the point's accumulators.
    fn add(
        &self,
        point: &Point,
        sums: &mut [ValueId],
        build: &mut Builder,
    ) -> Result<(), Malformed> {
        let slots = sums.len() / self.combines.len().max(1);
        let values = self.context.evaluate(&self.stage.body, point, &[], &self.fused, build)?;
        let slot = point.slot.map_or(0, |slot| slot.min(slots - 1));
        let mut wins = None;
        for (result, (combine, dtype)) in self.combines.iter().enumerate() {
            let sum = &mut sums[result * slots + slot];
            let old = *sum;
            let id = self.stage.body.results[result];
            let new = match combine {
                Combine::Reduce(f) => {
                    let product =
                        self.fused.contains(&id).then(|| &self.stage.body.code[id.0 as usize].0);
                    match product {
                        Some(ScalarOp::Binary(_, a, b)) => {
                            let (a, b) = (value(&values, *a)?, value(&values, *b)?);
                            build.fma(a, b, old)
                        }
                        _ => {
                            let op = Builder::combiner(*f, *dtype);
                            build.binary(op, old, value(&values, id)?)
                        }
                    }
                }
                Combine::ArgMax { .. } | Combine::ArgMin { .. } => {
                    let key = value(&values, id)?;
                    let better = build.compare(key_predicate(*combine, *dtype), key, old);
                    wins = Some(better);
                    build.select(better, key, old)
                }
                Combine::Follow => {
                    let better = wins.ok_or("a carried value follows no key")?;
                    build.select(better, value(&values, id)?, old)
                }
            };
            let lanes = build.ty(old).lanes;
            let new = build.widen(new, lanes);
            let reduces_vector = point.slot.is_some();
            *sum = match point.tail.filter(|_| reduces_vector) {
                Some(tail) => build.select(tail.mask, new, old),
                None => new,
            };
        }
        Ok(())
    }

    /// For each point of the whole register tile in order, the number of its parallel part.
    fn parallel_places(&self, tiles: &[Option<Tile>]) -> Vec<usize> {
        let mut places = vec![0usize];
        for (axis, tile) in tiles.iter().enumerate() {
            let count = tile.map_or(1, |tile| tile.count as usize);
            let reduction = self.is_reduction(axis);
            places = places
                .into_iter()
                .flat_map(|place| {
                    (0..count)
                        .map(move |number| if reduction { place } else { place * count + number })
                })
                .collect();
        }
        places
    }
}

fn key_predicate(combine: Combine, dtype: DType) -> Predicate {
    let signed = dtype.is_signed();
    match combine {
        Combine::ArgMin { last: false } if signed => Predicate::Less,
        Combine::ArgMin { last: true } if signed => Predicate::LessEqual,
        Combine::ArgMin { last: false } => Predicate::LessUnsigned,
        Combine::ArgMin { last: true } => Predicate::LessEqualUnsigned,
        Combine::ArgMax { last: true } if signed => Predicate::GreaterEqual,
        Combine::ArgMax { last: true } => Predicate::GreaterEqualUnsigned,
        _ if signed => Predicate::Greater,
        _ => Predicate::GreaterUnsigned,
    }
}
