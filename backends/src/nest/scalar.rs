//! Scalar programs at one point (or one vector of points) of the register tile.
//!
//! Invariant: memory is only touched where the program reads it: lanes beyond the end of the vector
//! axis and places outside a guarded operand are masked.

use super::build::Builder;
use super::functions::memory_element_of;
use super::interior::Open;
use super::place::{Offset, offset_of, packed, row_major};
use super::{Address, Conversion, Element, Predicate, Type, ValueId};
use kiln_ir::kernel::{
    Access, Index, Kernel, Scalar, ScalarId, ScalarOp, ScalarProgram, Stage, Write,
};
use kiln_ir::op::BinaryFn;
use kiln_ir::schedule::{PackedLayout, PointsPlace};
use kiln_tensor::{DType, Dim};

/// How the elements of an operand are found.
pub(super) enum Layout {
    /// Row-major over its shape.
    RowMajor,
    /// Blocked.
    Packed(PackedLayout),
    /// In scratch memory, from this element on: row-major over its shape, the task's box before the last
    /// dimension.
    Temporary(Dim),
}

/// What stays the same over a whole kernel.
pub(super) struct Context<'k> {
    pub(super) kernel: &'k Kernel,
    /// Where the points of the task stand in temporaries.
    pub(super) points: PointsPlace,
    /// One for each operand.
    pub(super) layouts: Vec<Layout>,
    /// First point of the task along each outer axis.
    pub(super) low: Vec<Offset>,
    /// Points of a full task along each outer axis.
    pub(super) task_box: Vec<Dim>,
}

/// Lanes that lie inside of the vector axis.
#[derive(Clone, Copy)]
pub(super) struct Tail {
    /// How many: a scalar i64, which may be negative or large.
    pub(super) count: ValueId,
    /// The mask of them.
    pub(super) mask: ValueId,
}

/// Where a program is evaluated.
#[derive(Clone)]
pub(super) struct Point<'a> {
    /// Extent of each axis of the stage.
    pub(super) extents: &'a [Dim],
    /// The value of each axis of the stage; along the vector axis one for each lane.
    pub(super) axes: Vec<Offset>,
    /// Lanes of the vector axis; 1 without one.
    pub(super) lanes: u32,
    /// The lanes that lie inside the vector axis, if not all do.
    pub(super) tail: Option<Tail>,
    /// Number of the vector along a reduced vector axis.
    pub(super) slot: Option<usize>,
    /// Dimensions inside of which all guarded reads are known to lie.
    pub(super) inside: &'a [Open],
}

/// Where an access lies at one point.
#[derive(Clone)]
pub(super) struct Reach {
    /// Where in its buffer.
    pub(super) place: Offset,
    /// The mask of what lies inside of its operand, if not all of it does for sure.
    pub(super) guard: Option<ValueId>,
    /// Whether all lanes lie in one place.
    pub(super) uniform: bool,
}

/// Why a program cannot be evaluated; the caller adds the kernel's name.
pub(super) type Malformed = String;

impl Context<'_> {
    /// The value of every instruction of a program. Those in `skipped` are not computed: their
    /// entry means nothing, and no other instruction may use it.
    pub(super) fn evaluate(
        &self,
        program: &ScalarProgram,
        point: &Point,
        reduced: &[ValueId],
        skipped: &[ScalarId],
        build: &mut Builder,
    ) -> Result<Vec<ValueId>, Malformed> {
        let mut values: Vec<ValueId> = Vec::with_capacity(program.code.len());
        for (number, (op, dtype)) in program.code.iter().enumerate() {
            let value = if skipped.contains(&ScalarId(number as u32)) {
                build.index(0)
            } else {
                self.instruction(program, op, *dtype, point, reduced, &values, build)?
            };
            values.push(value);
        }
        Ok(values)
    }

    #[allow(clippy::too_many_arguments)]
    fn instruction(
        &self,
        program: &ScalarProgram,
        op: &ScalarOp,
        dtype: DType,
        point: &Point,
        reduced: &[ValueId],
        values: &[ValueId],
        build: &mut Builder,
    ) -> Result<ValueId, Malformed> {
        let get = |id: &ScalarId| value_of(values, *id);
        let dtype_of = |id: &ScalarId| {
            program.dtype(*id).ok_or_else(|| format!("there is no scalar {}", id.0))
        };
        Ok(match op {
            ScalarOp::Constant(scalar) => build.scalar(*scalar, dtype),
            ScalarOp::Dim(dim) => build.dim(dim),
            ScalarOp::Index(index) => {
                let offset = self
                    .offset(index, program, point, values, build)
                    .ok_or_else(|| format!("index {index} is malformed"))?;
                if offset.is_uniform() {
                    offset.base(build)
                } else {
                    offset.lanes(point.lanes, build)
                }
            }
            ScalarOp::Read { access, outside } => {
                let what = self.read(access, *outside, program, point, values, build);
                what.ok_or_else(|| format!("operand {} is read malformed", access.operand))?
            }
            ScalarOp::Reduced(number) => *reduced
                .get(*number)
                .ok_or_else(|| format!("there is no combined value {number}"))?,
            ScalarOp::Unary(f, a) => build.unary_fn(*f, get(a)?, dtype_of(a)?),
            ScalarOp::Binary(BinaryFn::Pow, a, b) if dtype.is_float() => {
                let literal = match program.code.get(b.0 as usize) {
                    Some((ScalarOp::Constant(Scalar::Float(value)), _)) => Some(*value),
                    _ => None,
                };
                let (a, b) = (get(a)?, get(b)?);
                let simple = literal.and_then(|literal| build.float_pow_literal(a, literal));
                simple.unwrap_or_else(|| build.float_pow(a, b))
            }
            ScalarOp::Binary(f, a, b) => build.binary_fn(*f, get(a)?, get(b)?, dtype_of(a)?),
            ScalarOp::Select(c, a, b) => build.select(get(c)?, get(a)?, get(b)?),
            ScalarOp::Cast(a) => build.cast(get(a)?, dtype_of(a)?, dtype),
            ScalarOp::BitCast(a) => build.bit_cast(get(a)?, dtype_of(a)?, dtype),
        })
    }

    pub(super) fn offset(
        &self,
        index: &Index,
        program: &ScalarProgram,
        point: &Point,
        values: &[ValueId],
        build: &mut Builder,
    ) -> Option<Offset> {
        let mut scalar = |id: ScalarId, build: &mut Builder| {
            let value = *values.get(id.0 as usize)?;
            match (build.ty(value).element, program.dtype(id)?) {
                (Element::I64, _) => Some(value),
                (Element::I8 | Element::I16 | Element::I32, dtype) => {
                    let how = if dtype.is_signed() {
                        Conversion::SignExtend
                    } else {
                        Conversion::ZeroExtend
                    };
                    Some(build.convert(how, value, Element::I64))
                }
                _ => None,
            }
        };
        let axis = |number: usize| point.axes.get(number).cloned();
        offset_of(index, &axis, &mut scalar, point.lanes, build)
    }

    /// The place of an element in its operand's buffer.
    fn place(
        &self,
        operand: usize,
        indices: Vec<Offset>,
        point: &Point,
        build: &mut Builder,
    ) -> Option<Offset> {
        let shape = &self.kernel.operands.get(operand)?.shape;
        if indices.len() != shape.len() {
            return None;
        }
        match self.layouts.get(operand)? {
            Layout::RowMajor => Some(row_major(indices, shape, build)),
            Layout::Packed(layout) => packed(&indices, shape, layout, point.lanes, build),
            Layout::Temporary(start) => {
                let mut all = Vec::with_capacity(self.low.len() + indices.len());
                for (axis, low) in point.axes.iter().zip(&self.low) {
                    let minus = low.clone().times(&Dim::from(-1i64), build);
                    all.push(axis.clone().plus(minus, build));
                }
                // A sequential axis has one point at a time: its box is 1 and its low the point.
                let slices = self.points.slices(indices.len());
                all.splice(0..0, indices[..slices].iter().cloned());
                all.extend(indices.into_iter().skip(slices));
                let (slices, last) = shape.split_at(slices);
                let extents: Vec<Dim> = [slices, &self.task_box, last].concat();
                Some(row_major(all, &extents, build).plus(start.clone().into(), build))
            }
        }
    }

    fn read(
        &self,
        access: &Access,
        outside: Option<Scalar>,
        program: &ScalarProgram,
        point: &Point,
        values: &[ValueId],
        build: &mut Builder,
    ) -> Option<ValueId> {
        let dtype = self.kernel.operands.get(access.operand)?.dtype;
        let reach = self.reach(access, outside, program, point, values, build)?;
        let Reach { place, guard, uniform } = reach;
        let lanes = if uniform { 1 } else { point.lanes };
        let mask = match (guard, point.tail.filter(|_| !uniform).map(|tail| tail.mask)) {
            (Some(a), Some(b)) => Some(build.and(a, b)),
            (a, b) => a.or(b),
        };
        let mask = mask.map(|mask| build.widen(mask, lanes));
        // A scalar is not read at all behind its guard.
        let uniform_guard = guard.filter(|guard| lanes > 1 && build.ty(*guard).lanes == 1);
        let address = address_of(&place, lanes, uniform_guard, build);
        let ty = Type::new(memory_element_of(dtype), lanes);
        let loaded = build.load(access.operand as u32, address, mask, ty);
        let value = build.register_form(loaded, dtype);
        Some(match (guard, outside) {
            (Some(guard), Some(outside)) if !is_zero(outside) => {
                let outside = build.scalar(outside, dtype);
                build.select(guard, value, outside)
            }
            _ => value,
        })
    }

    /// Where an access lies.
    pub(super) fn reach(
        &self,
        access: &Access,
        outside: Option<Scalar>,
        program: &ScalarProgram,
        point: &Point,
        values: &[ValueId],
        build: &mut Builder,
    ) -> Option<Reach> {
        let operand = self.kernel.operands.get(access.operand)?;
        let mut indices = Vec::with_capacity(access.index.len());
        for index in &access.index {
            indices.push(self.offset(index, program, point, values, build)?);
        }
        let same_indices = indices.iter().all(Offset::is_uniform);
        let guard = match outside {
            Some(_) => self.guard(access, &operand.shape, &indices, point, build),
            None => None,
        };
        let place = self.place(access.operand, indices, point, build)?;
        // A temporary's place also depends on the outer axes, whatever its indices say.
        let uniform = same_indices && place.is_uniform();
        Some(Reach { place, guard, uniform })
    }

    /// Whether an access lies inside of its operand, if it may not.
    fn guard(
        &self,
        access: &Access,
        shape: &[Dim],
        indices: &[Offset],
        point: &Point,
        build: &mut Builder,
    ) -> Option<ValueId> {
        let mut guard = None;
        for ((index, offset), extent) in access.index.iter().zip(indices).zip(shape) {
            let known = |open: &&Open| open.index == *index && open.extent == *extent;
            if self.surely_inside(index, extent, point.extents)
                || point.inside.iter().any(|open| known(&open))
            {
                continue;
            }
            let extent = build.dim(extent);
            let value = if offset.is_uniform() {
                offset.base(build)
            } else {
                offset.lanes(point.lanes, build)
            };
            // As an unsigned number a negative index is beyond every extent.
            let inside = build.compare(Predicate::LessUnsigned, value, extent);
            guard = Some(match guard {
                Some(others) => build.and(others, inside),
                None => inside,
            });
        }
        guard
    }

    /// Whether an index lies in `0..extent` at every point of the domain, whatever the sizes are.
    pub(super) fn surely_inside(&self, index: &Index, extent: &Dim, extents: &[Dim]) -> bool {
        let symbols = &self.kernel.symbols;
        let Some(affine) = index.affine() else { return false };
        let (mut least, mut most) = (affine.offset.clone(), affine.offset);
        for (axis, coefficient) in affine.coefficients {
            let Some(points) = extents.get(axis) else { return false };
            let reach = coefficient.clone() * (points.clone() - Dim::from(1i64));
            let bounds = coefficient.bounds(symbols);
            if bounds.min >= 0 {
                most = most + reach;
            } else if bounds.max.is_some_and(|max| max <= 0) {
                least = least + reach;
            } else {
                return false;
            }
        }
        let room = extent.clone() - Dim::from(1i64) - most;
        least.bounds(symbols).min >= 0 && room.bounds(symbols).min >= 0
    }

    /// Writes the results of a stage's `finish`, given what its instructions gave.
    pub(super) fn write(
        &self,
        stage: &Stage,
        results: &[ValueId],
        values: &[ValueId],
        point: &Point,
        build: &mut Builder,
    ) -> Result<(), Malformed> {
        for (Write { access, only_if }, value) in stage.writes.iter().zip(results) {
            let malformed = || format!("operand {} is written malformed", access.operand);
            let operand = self.kernel.operands.get(access.operand).ok_or_else(malformed)?;
            let mut indices = Vec::with_capacity(access.index.len());
            for index in &access.index {
                let offset = self.offset(index, &stage.finish, point, values, build);
                indices.push(offset.ok_or_else(malformed)?);
            }
            let guard = match stage.updates() {
                true => self.guard(access, &operand.shape, &indices, point, build),
                false => None,
            };
            let condition = only_if.map(|id| value_of(values, id)).transpose()?;
            let guard = match (guard, condition) {
                (Some(guard), Some(condition)) => Some(build.and(guard, condition)),
                (guard, condition) => guard.or(condition),
            };
            let place = self.place(access.operand, indices, point, build).ok_or_else(malformed)?;
            let lanes = if place.is_uniform() { 1 } else { point.lanes };
            let value = build.memory_form(*value, operand.dtype);
            if build.ty(value).lanes > lanes {
                return Err("lanes of the vector axis are written to one place".to_owned());
            }
            if build.ty(value).element != memory_element_of(operand.dtype) {
                return Err(format!("operand {} is written with another type", access.operand));
            }
            let value = build.widen(value, lanes);
            let uniform = guard.filter(|guard| build.ty(*guard).lanes == 1);
            let address = address_of(&place, lanes, None, build);
            let mask = point.tail.filter(|_| lanes > 1).map(|tail| tail.mask);
            let mask = match (guard.filter(|_| uniform.is_none()), mask) {
                (Some(a), Some(b)) => Some(build.and(a, b)),
                (a, b) => a.or(b),
            };
            build.store_if(uniform, access.operand as u32, address, value, mask);
        }
        Ok(())
    }
}

fn value_of(values: &[ValueId], id: ScalarId) -> Result<ValueId, Malformed> {
    values.get(id.0 as usize).copied().ok_or_else(|| format!("there is no scalar {}", id.0))
}

pub(super) fn is_zero(scalar: Scalar) -> bool {
    match scalar {
        Scalar::Float(value) => value.to_bits() == 0,
        Scalar::Int(value) => value == 0,
        Scalar::Pair(low, high) => (low, high) == (0, 0),
    }
}

/// Where the lanes lie. Where a scalar guard keeps all of them from being touched, the address is
/// one inside the buffer: processors take hundreds of cycles over a masked access to a page that is
/// not there, and around a padded image there may be none.
pub(super) fn address_of(
    place: &Offset,
    lanes: u32,
    guard: Option<ValueId>,
    build: &mut Builder,
) -> Address {
    let base = |build: &mut Builder| match guard {
        Some(guard) => place.base_if(guard, build),
        None => place.base(build),
    };
    match place.stride() {
        _ if lanes == 1 => Address::Contiguous(base(build)),
        Some(stride) if stride.is(1) => Address::Contiguous(base(build)),
        Some(stride) => {
            let start = base(build);
            Address::Strided(start, build.dim(stride))
        }
        None => Address::Scattered(place.lanes(lanes, build)),
    }
}
