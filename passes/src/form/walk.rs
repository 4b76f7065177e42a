//! Values of a body at index-mapped points: a walk from a value to the operands, which pulls the
//! index back through every movement on the way.
//!
//! Invariant: the scalar that stands for a value has the type it is computed in; halves are widened
//! where they are read, and rounded after every operation: a kernel of many operations computes what
//! those operations compute one by one.

use super::draft::{Context, Fault, computed_in};
use super::index::{Linear, Space, same_place, shifted};
use super::indexing;
use crate::integers::is_widening;
use kiln_ir::kernel::{Access, Axis, Index, Scalar, ScalarId, ScalarOp, ScalarProgram};
use kiln_ir::op::{BinaryFn, Op, PadMode, Slice, UnaryFn};
use kiln_ir::{Node, Producer, ValueId};
use kiln_tensor::{DType, Dim, Tensor};
use std::collections::HashMap;

/// A scalar program in the making, over the axes of one stage.
pub(super) struct Walk<'c> {
    pub(super) context: &'c Context<'c>,
    pub(super) axes: Vec<Axis>,
    pub(super) program: ScalarProgram,
    given: HashMap<ValueId, Vec<(Vec<Index>, ScalarId)>>,
    known: HashMap<(ValueId, Vec<Index>, Outside), ScalarId>,
    outside: Outside,
}

/// What may be said of places outside of an operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Outside {
    /// There are none.
    Never,
    /// What is read there is thrown away.
    Any,
    /// What is read there is this integer.
    Integer(i64),
}

impl<'c> Walk<'c> {
    pub(super) fn new(context: &'c Context<'c>, axes: Vec<Axis>) -> Self {
        Walk {
            context,
            axes,
            program: ScalarProgram::default(),
            given: HashMap::new(),
            known: HashMap::new(),
            outside: Outside::Never,
        }
    }

    pub(super) fn space(&self) -> Space<'_> {
        self.context.space(&self.axes)
    }

    /// Says what a value is at an index; it is not computed any more.
    pub(super) fn give(&mut self, value: ValueId, index: &[Index], scalar: ScalarId) {
        self.given.entry(value).or_default().push((index.to_vec(), scalar));
    }

    pub(super) fn push(&mut self, op: ScalarOp, dtype: DType) -> ScalarId {
        self.program.push(op, dtype)
    }

    /// A constant of a type that is computed in.
    pub(super) fn float(&mut self, value: f64, dtype: DType) -> ScalarId {
        self.push(ScalarOp::Constant(Scalar::Float(value)), dtype)
    }

    pub(super) fn int(&mut self, value: i64, dtype: DType) -> ScalarId {
        self.push(ScalarOp::Constant(Scalar::Int(value)), dtype)
    }

    /// Zero of any type.
    pub(super) fn zero(&mut self, dtype: DType) -> ScalarId {
        self.push(ScalarOp::Constant(zero_of(dtype)), dtype)
    }

    pub(super) fn unary(&mut self, f: UnaryFn, a: ScalarId) -> Result<ScalarId, Fault> {
        let dtype = self.dtype(a)?;
        let result = f.result(dtype).ok_or_else(|| format!("{f:?} is not defined on {dtype}"))?;
        Ok(self.push(ScalarOp::Unary(f, a), result))
    }

    pub(super) fn binary(
        &mut self,
        f: BinaryFn,
        a: ScalarId,
        b: ScalarId,
    ) -> Result<ScalarId, Fault> {
        let dtype = self.dtype(a)?;
        let result = f.result(dtype).ok_or_else(|| format!("{f:?} is not defined on {dtype}"))?;
        Ok(self.push(ScalarOp::Binary(f, a, b), result))
    }

    pub(super) fn select(
        &mut self,
        condition: ScalarId,
        a: ScalarId,
        b: ScalarId,
    ) -> Result<ScalarId, Fault> {
        let dtype = self.dtype(a)?;
        Ok(if a == b { a } else { self.push(ScalarOp::Select(condition, a, b), dtype) })
    }

    /// The value converted, if it has another type.
    pub(super) fn cast(&mut self, a: ScalarId, to: DType) -> Result<ScalarId, Fault> {
        Ok(if self.dtype(a)? == to { a } else { self.push(ScalarOp::Cast(a), to) })
    }

    /// What was computed for a value of the body, rounded to the value's own type if that is a half.
    pub(super) fn rounded(&mut self, scalar: ScalarId, value: ValueId) -> Result<ScalarId, Fault> {
        let (dtype, wide) = (self.context.body.ty(value).dtype, self.dtype(scalar)?);
        if computed_in(dtype) == dtype || wide != computed_in(dtype) {
            return Ok(scalar);
        }
        let half = self.push(ScalarOp::Cast(scalar), dtype);
        self.cast(half, wide)
    }

    /// The value in the type of the operand that it is written to.
    pub(super) fn stored(&mut self, a: ScalarId, dtype: DType) -> ScalarId {
        match self.program.dtype(a) {
            Some(own) if own == dtype => a,
            _ => self.push(ScalarOp::Cast(a), dtype),
        }
    }

    pub(super) fn dtype(&self, id: ScalarId) -> Result<DType, Fault> {
        self.program.dtype(id).ok_or_else(|| format!("there is no scalar {}", id.0))
    }

    /// The value of an index, as i64.
    pub(super) fn index(&mut self, index: &Index) -> ScalarId {
        match Linear::of(index).index() {
            Index::Scalar(id) if self.program.dtype(id) == Some(DType::I64) => id,
            Index::Dim(dim) => match dim.as_const() {
                Some(value) => self.int(value, DType::I64),
                None => self.push(ScalarOp::Dim(dim), DType::I64),
            },
            index => self.push(ScalarOp::Index(index), DType::I64),
        }
    }

    /// Reads an operand in the type that it is computed in.
    pub(super) fn read(
        &mut self,
        operand: usize,
        dtype: DType,
        index: &[Index],
        outside: Option<Scalar>,
    ) -> ScalarId {
        let index = index.iter().map(|index| Linear::of(index).index()).collect();
        let outside = outside.or(match self.outside {
            Outside::Never => None,
            Outside::Any => Some(zero_of(dtype)),
            Outside::Integer(value) => Some(Scalar::Int(value)),
        });
        let access = Access { operand, index };
        let value = self.push(ScalarOp::Read { access, outside }, dtype);
        match computed_in(dtype) {
            own if own == dtype => value,
            wide => self.push(ScalarOp::Cast(value), wide),
        }
    }

    /// Runs `part` where what it computes may be thrown away.
    pub(super) fn guarded<T>(&mut self, part: impl FnOnce(&mut Self) -> T) -> T {
        self.with_outside(Outside::Any, part)
    }

    fn with_outside<T>(&mut self, outside: Outside, part: impl FnOnce(&mut Self) -> T) -> T {
        let before = std::mem::replace(&mut self.outside, outside);
        let result = part(self);
        self.outside = before;
        result
    }

    /// The element of a value at an index.
    pub(super) fn value(&mut self, value: ValueId, index: &[Index]) -> Result<ScalarId, Fault> {
        if let Some(given) = self.given.get(&value) {
            let found = given.iter().find(|(place, _)| same_place(place, index));
            let (_, scalar) = found.ok_or("an element is needed where another one is computed")?;
            return Ok(*scalar);
        }
        let key = (value, index.to_vec(), self.outside);
        if let Some(&known) = self.known.get(&key) {
            return Ok(known);
        }
        let body = self.context.body;
        let scalar = match body.value(value).producer {
            Producer::Input(_) => {
                let operand = self.context.inputs.get(&value);
                let &operand = operand.ok_or("a value has no operand")?;
                self.read(operand, body.ty(value).dtype, index, None)
            }
            Producer::Node { node, output } => {
                let node = body.node(node);
                if output != 0 || node.outputs.len() != 1 {
                    return Err(format!("{} has several results", node.op.name()));
                }
                self.node(node, value, index)?
            }
        };
        self.known.insert(key, scalar);
        Ok(scalar)
    }

    /// The element of an operand that is stretched to the shape of the result.
    pub(super) fn stretched(
        &mut self,
        operand: ValueId,
        index: &[Index],
    ) -> Result<ScalarId, Fault> {
        let shape = &self.context.body.ty(operand).shape;
        let aligned = aligned(shape, index)?;
        self.value(operand, &aligned)
    }

    fn node(&mut self, node: &Node, value: ValueId, index: &[Index]) -> Result<ScalarId, Fault> {
        let body = self.context.body;
        let inputs = &node.inputs;
        let shape_of = |value: ValueId| &body.ty(value).shape;
        match &node.op {
            Op::Constant(constant) => self.constant(&constant.tensor),
            Op::SizeOf(size) => self.one_of(&size.dims, index),
            Op::Iota(_) => Ok(self.index(&index[0])),
            Op::Unary(unary) => {
                let x = self.value(inputs[0], index)?;
                let result = self.unary(unary.f, x)?;
                if is_exact(unary.f) { Ok(result) } else { self.rounded(result, value) }
            }
            Op::Binary(binary) => {
                let a = self.stretched(inputs[0], index)?;
                let b = self.stretched(inputs[1], index)?;
                let result = self.binary(binary.f, a, b)?;
                match binary.f {
                    BinaryFn::Min | BinaryFn::Max => Ok(result),
                    _ => self.rounded(result, value),
                }
            }
            Op::Select(_) => {
                let condition = self.stretched(inputs[0], index)?;
                let a = self.stretched(inputs[1], index)?;
                let b = self.stretched(inputs[2], index)?;
                self.select(condition, a, b)
            }
            Op::Cast(cast) => {
                let x = self.value(inputs[0], index)?;
                if body.ty(inputs[0]).dtype == cast.to {
                    return Ok(x);
                }
                // Through the named type, so that halves are rounded.
                let exact = self.push(ScalarOp::Cast(x), cast.to);
                self.cast(exact, computed_in(cast.to))
            }
            Op::BitCast(cast) => {
                let x = self.value(inputs[0], index)?;
                // The bits of a half are those of the half, not of what it is computed in.
                let exact = self.cast(x, body.ty(inputs[0]).dtype)?;
                let bits = self.push(ScalarOp::BitCast(exact), cast.to);
                self.cast(bits, computed_in(cast.to))
            }
            Op::Assume(_) => self.value(inputs[0], index),
            Op::Reshape(_) => {
                let from = self.space().reshaped(shape_of(inputs[0]), shape_of(value), index);
                self.value(inputs[0], &from)
            }
            Op::Transpose(transpose) => self.value(inputs[0], &turned(index, &transpose.perm)),
            Op::Broadcast(_) => self.stretched(inputs[0], index),
            Op::Slice(slice) => self.value(inputs[0], &picked(index, slice)),
            Op::Concat(concat) => self.concat(node, concat.axis, index),
            Op::Pad(pad) if pad.mode == PadMode::Constant => {
                self.padded(inputs[0], inputs[1], &pad.before, index)
            }
            Op::Pad(pad) => self.mirrored(inputs[0], pad.mode, &pad.before, index),
            Op::Gather(gather) => indexing::gather(self, inputs, gather.axis, index),
            Op::GatherElements(gather) => {
                indexing::gather_elements(self, inputs, gather.axis, index)
            }
            Op::GatherNd(gather) => indexing::gather_nd(self, inputs, gather.batch_dims, index),
            other => Err(format!("{} has no value at one point", other.name())),
        }
    }

    fn constant(&mut self, tensor: &Tensor) -> Result<ScalarId, Fault> {
        let dtype = computed_in(tensor.dtype());
        let scalar = if dtype.is_code() {
            let half = |bytes: &[u8]| {
                bytes.iter().rev().fold(0, |bits, &byte| bits << 8 | i64::from(byte))
            };
            match tensor.bytes().split_at_checked(8).filter(|_| dtype == DType::C128) {
                Some((low, high)) => Some(Scalar::Pair(half(low), half(high))),
                None => Some(Scalar::Int(half(tensor.bytes()))),
            }
            .filter(|_| tensor.len() == 1)
        } else if dtype.is_float() {
            tensor.to_f64().first().copied().map(Scalar::Float)
        } else {
            tensor.to_i64().first().copied().map(Scalar::Int)
        };
        match scalar {
            Some(scalar) if tensor.len() == 1 => Ok(self.push(ScalarOp::Constant(scalar), dtype)),
            _ => Err("a constant inside a kernel must have one element".into()),
        }
    }

    fn one_of(&mut self, dims: &[Dim], index: &[Index]) -> Result<ScalarId, Fault> {
        let all: Vec<ScalarId> =
            dims.iter().map(|dim| self.index(&Index::Dim(dim.clone()))).collect();
        let Some((&first, others)) = all.split_first() else { return Ok(self.int(0, DType::I64)) };
        let mut chosen = first;
        for (number, &other) in others.iter().enumerate() {
            let at = self.index(&index[0]);
            let this = self.int(number as i64 + 1, DType::I64);
            let equal = self.binary(BinaryFn::Equal, at, this)?;
            chosen = self.select(equal, other, chosen)?;
        }
        Ok(chosen)
    }

    /// The operand that an index falls in; all of them, with a choice, where that is open.
    fn concat(&mut self, node: &Node, axis: usize, index: &[Index]) -> Result<ScalarId, Fault> {
        let body = self.context.body;
        let mut start = Dim::default();
        let mut parts = Vec::with_capacity(node.inputs.len());
        for &input in &node.inputs {
            let length = body.ty(input).shape[axis].clone();
            let mut place = index.to_vec();
            place[axis] = shifted(&index[axis], -start.clone());
            let sides = self.space().sides(&place[axis], &length);
            if sides == (true, true) {
                return self.value(input, &place);
            }
            start = start + length;
            parts.push((input, place, sides, start.clone()));
        }
        self.want_cuts(&index[axis], parts.iter().map(|(.., end)| end.clone()).collect());
        let mut chosen: Option<ScalarId> = None;
        for (number, (input, place, ..)) in parts.iter().enumerate().rev() {
            let value = self.guarded(|walk| walk.value(*input, place))?;
            chosen = Some(match chosen {
                None => value,
                Some(later) => {
                    let at = self.index(&index[axis]);
                    let end = self.index(&Index::Dim(parts[number].3.clone()));
                    let before = self.binary(BinaryFn::Less, at, end)?;
                    self.select(before, value, later)?
                }
            });
        }
        chosen.ok_or_else(|| "nothing is concatenated".into())
    }

    /// Asks that stages change where the segments of a plain axis do.
    fn want_cuts(&self, index: &Index, ends: Vec<Dim>) {
        if let Index::Axis(axis) = index
            && let Some(axis) = self.axes.get(*axis)
            && ends.last() == Some(&axis.extent)
        {
            self.context.wanted_cuts.borrow_mut().entry(axis.name.clone()).or_insert(ends);
        }
    }

    fn padded(
        &mut self,
        x: ValueId,
        value: ValueId,
        before: &[Dim],
        index: &[Index],
    ) -> Result<ScalarId, Fault> {
        let place: Vec<Index> = index
            .iter()
            .zip(before)
            .map(|(index, before)| shifted(index, -before.clone()))
            .collect();
        let outside = self.value(value, &[])?;
        self.or_else(x, &place, outside)
    }

    /// The element of a value at an index, or zero where that lies outside of it.
    pub(super) fn bounded(&mut self, x: ValueId, index: &[Index]) -> Result<ScalarId, Fault> {
        let zero = self.zero(computed_in(self.context.body.ty(x).dtype));
        self.or_else(x, index, zero)
    }

    /// The element of a value at an index, or another scalar where that lies outside of it.
    pub(super) fn or_else(
        &mut self,
        x: ValueId,
        index: &[Index],
        outside: ScalarId,
    ) -> Result<ScalarId, Fault> {
        let ty = self.context.body.ty(x);
        if index.iter().zip(&ty.shape).all(|(place, extent)| self.space().inside(place, extent)) {
            return self.value(x, index);
        }
        if let Some(&(ScalarOp::Constant(constant), _)) = self.program.code.get(outside.0 as usize)
            && !matches!(constant, Scalar::Pair(..))
            && let Some((operand, index)) = self.seen_through(x, index)
        {
            return Ok(self.read(operand, ty.dtype, &index, Some(constant)));
        }
        let zero = match self.program.code.get(outside.0 as usize) {
            Some((ScalarOp::Constant(Scalar::Float(value)), _)) => *value == 0.0,
            Some((ScalarOp::Constant(Scalar::Int(value)), _)) => *value == 0,
            _ => false,
        };
        if let Some(integer) = self.integer_of_zero(x).filter(|_| zero) {
            return self.with_outside(Outside::Integer(integer), |walk| walk.value(x, index));
        }
        let inside = self.guarded(|walk| walk.value(x, index))?;
        match self.all_within(index, &ty.shape)? {
            Some(condition) => self.select(condition, inside, outside),
            None => Ok(inside),
        }
    }

    /// Whether an index lies inside of a shape, if that is not known.
    pub(super) fn all_within(
        &mut self,
        index: &[Index],
        shape: &[Dim],
    ) -> Result<Option<ScalarId>, Fault> {
        let mut condition = None;
        for (place, extent) in index.iter().zip(shape) {
            let sides = self.space().sides(place, extent);
            if sides == (true, true) {
                continue;
            }
            condition = match (condition, self.within(place, extent, sides)?) {
                (Some(a), Some(b)) => Some(self.binary(BinaryFn::And, a, b)?),
                (a, b) => a.or(b),
            };
        }
        Ok(condition)
    }

    /// The operand that a value is a view of, and where in it an element lies: outside of the operand just
    /// where the index is outside of the value, as that of a slice is along what the slice has whole.
    fn seen_through(&self, x: ValueId, index: &[Index]) -> Option<(usize, Vec<Index>)> {
        let body = self.context.body;
        let (mut at, mut index) = (x, index.to_vec());
        loop {
            if let Some(&operand) = self.context.inputs.get(&at) {
                return Some((operand, index));
            }
            let Producer::Node { node, .. } = body.value(at).producer else { return None };
            let node = body.node(node);
            let &from = node.inputs.first().filter(|_| !self.given.contains_key(&at))?;
            match &node.op {
                Op::Assume(_) => {}
                Op::Transpose(transpose) => index = turned(&index, &transpose.perm),
                Op::Slice(slice) => {
                    let (own, whole) = (&body.ty(at).shape, &body.ty(from).shape);
                    for (dim, place) in index.iter().enumerate() {
                        let same = own[dim] == whole[dim] && slice.starts[dim].is(0);
                        if !(same && slice.steps[dim] == 1 || self.space().inside(place, &own[dim]))
                        {
                            return None;
                        }
                    }
                    index = picked(&index, slice);
                }
                _ => return None,
            }
            at = from;
        }
    }

    /// The small integer that stands for 0 where a value is made of those of an operand: read outside of
    /// it, it needs no other guard.
    fn integer_of_zero(&self, x: ValueId) -> Option<i64> {
        let body = self.context.body;
        let (mut at, mut zero) = (x, 0);
        while !self.context.inputs.contains_key(&at) {
            let Producer::Node { node, .. } = body.value(at).producer else { return None };
            let node = body.node(node);
            if !is_widening(body, node) {
                return None;
            }
            if let (Op::Binary(_), Some(&by)) = (&node.op, node.inputs.get(1)) {
                let by = body.constant_of(by).filter(|by| by.len() == 1)?;
                zero += by.to_i64().first()?;
            }
            at = *node.inputs.first()?;
        }
        let (least, most) = body.ty(at).dtype.integer_range()?;
        (least..=most).contains(&i128::from(zero)).then_some(zero)
    }

    /// Whether an index lies in `0..extent`, given on which sides it is known to.
    pub(super) fn within(
        &mut self,
        index: &Index,
        extent: &Dim,
        (not_below, not_above): (bool, bool),
    ) -> Result<Option<ScalarId>, Fault> {
        let at = self.index(index);
        let mut condition = None;
        if !not_below {
            let zero = self.int(0, DType::I64);
            condition = Some(self.binary(BinaryFn::GreaterEqual, at, zero)?);
        }
        if !not_above {
            let end = self.index(&Index::Dim(extent.clone()));
            let below = self.binary(BinaryFn::Less, at, end)?;
            condition = Some(match condition {
                Some(other) => self.binary(BinaryFn::And, other, below)?,
                None => below,
            });
        }
        Ok(condition)
    }

    fn mirrored(
        &mut self,
        x: ValueId,
        mode: PadMode,
        before: &[Dim],
        index: &[Index],
    ) -> Result<ScalarId, Fault> {
        let shape = &self.context.body.ty(x).shape;
        let one = Dim::from(1i64);
        let mut from = Vec::with_capacity(shape.len());
        for ((index, before), size) in index.iter().zip(before).zip(shape) {
            let place = shifted(index, -before.clone());
            if self.space().inside(&place, size) {
                from.push(place);
                continue;
            }
            let last = size.clone() - one.clone();
            from.push(match mode {
                PadMode::Edge => Index::Clamp(Box::new(place), Dim::default(), last),
                PadMode::Wrap => place.modulo(size.maximum(&one)),
                PadMode::Reflect | PadMode::Constant => {
                    // The tensor and its mirror repeat with this period.
                    let period = (last.clone() * Dim::from(2i64)).maximum(&one);
                    let along = self.index(&place.modulo(period));
                    let turn = self.index(&Index::Dim(last));
                    let beyond = self.binary(BinaryFn::Sub, along, turn)?;
                    let distance = self.unary(UnaryFn::Abs, beyond)?;
                    Index::Scalar(self.binary(BinaryFn::Sub, turn, distance)?)
                }
            });
        }
        self.value(x, &from)
    }
}

/// Where an element of a transposed value lies in what was transposed.
fn turned(index: &[Index], perm: &[usize]) -> Vec<Index> {
    let mut from = vec![Index::zero(); index.len()];
    for (index, &dim) in index.iter().zip(perm) {
        from[dim] = index.clone();
    }
    from
}

/// Where an element of a slice lies in what it is of.
fn picked(index: &[Index], slice: &Slice) -> Vec<Index> {
    let places = index.iter().zip(slice.starts.iter().zip(&slice.steps));
    let place = |(index, (start, &step)): (&Index, (&Dim, &i64))| {
        shifted(&index.clone().times(step), start.clone())
    };
    places.map(place).collect()
}

/// Whether a function of a half is a half.
fn is_exact(f: UnaryFn) -> bool {
    matches!(
        f,
        UnaryFn::Neg
            | UnaryFn::Abs
            | UnaryFn::Sign
            | UnaryFn::Relu
            | UnaryFn::IsNan
            | UnaryFn::IsInf
    ) || matches!(f, UnaryFn::Floor | UnaryFn::Ceil | UnaryFn::Round)
}

/// The index of an operand that stretches to the shape of a result.
pub(super) fn aligned(shape: &[Dim], index: &[Index]) -> Result<Vec<Index>, Fault> {
    let missing =
        index.len().checked_sub(shape.len()).ok_or("an operand has too many dimensions")?;
    Ok(shape
        .iter()
        .zip(&index[missing..])
        .map(|(dim, index)| if dim.is(1) { Index::zero() } else { index.clone() })
        .collect())
}

/// Zero of an element type.
pub(super) fn zero_of(dtype: DType) -> Scalar {
    if dtype.is_float() { Scalar::Float(0.0) } else { Scalar::Int(0) }
}
