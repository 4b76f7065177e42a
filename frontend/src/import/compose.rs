//! The operations that importers compose: each with its operands brought to types and shapes that
//! the core operation accepts.
//!
//! Invariant: what is the same already is left as it is, so nothing is composed of no-ops.

use super::build::V;
use super::fault::Fault;
use super::node::Use;
use kiln_ir::op::{self, BinaryFn, Op, UnaryFn};
use kiln_tensor::{DType, Dim, Tensor};

impl Use<'_, '_, '_> {
    /// Adds an operation with one result.
    pub(super) fn add(&mut self, op: impl Into<Op>, inputs: &[V]) -> Result<V, Fault> {
        self.importer.build.add(op, inputs)
    }

    /// A constant.
    pub(super) fn constant(&mut self, tensor: Tensor) -> V {
        self.importer.build.constant(tensor)
    }

    /// A scalar constant of an element type.
    pub(super) fn scalar(&mut self, dtype: DType, value: f64) -> Result<V, Fault> {
        let tensor = Tensor::from_f64(dtype, Vec::new(), &[value]);
        Ok(self.constant(tensor.map_err(|error| Fault::malformed(error.to_string()))?))
    }

    /// `f` of every element.
    pub(super) fn unary(&mut self, f: UnaryFn, x: V) -> Result<V, Fault> {
        self.add(op::Unary { f }, &[x])
    }

    /// `f` of two values, broadcast.
    pub(super) fn binary(&mut self, f: BinaryFn, a: V, b: V) -> Result<V, Fault> {
        let operands = self.aligned(&[a, b])?;
        self.add(op::Binary { f }, &operands)
    }

    /// `f` of a value and a number.
    pub(super) fn with_number(&mut self, f: BinaryFn, x: V, number: f64) -> Result<V, Fault> {
        let number = self.scalar(self.dtype(x), number)?;
        self.binary(f, x, number)
    }

    /// `a` where the condition holds, else `b`, broadcast.
    pub(super) fn select(&mut self, condition: V, a: V, b: V) -> Result<V, Fault> {
        let operands = self.aligned(&[condition, a, b])?;
        self.add(op::Select {}, &operands)
    }

    /// The value in an element type.
    pub(super) fn cast(&mut self, x: V, to: DType) -> Result<V, Fault> {
        if self.dtype(x) == to { Ok(x) } else { self.add(op::Cast { to }, &[x]) }
    }

    /// The value under a shape of as many elements.
    pub(super) fn reshape(&mut self, x: V, shape: Vec<Dim>) -> Result<V, Fault> {
        if self.ty(x).shape == shape { Ok(x) } else { self.add(op::Reshape { shape }, &[x]) }
    }

    /// The value with dimensions permuted.
    pub(super) fn transpose(&mut self, x: V, perm: Vec<usize>) -> Result<V, Fault> {
        if perm.iter().copied().eq(0..self.rank(x)) {
            return Ok(x);
        }
        self.add(op::Transpose { perm }, &[x])
    }

    /// The value stretched to a shape.
    pub(super) fn broadcast(&mut self, x: V, shape: Vec<Dim>) -> Result<V, Fault> {
        if self.ty(x).shape == shape { Ok(x) } else { self.add(op::Broadcast { shape }, &[x]) }
    }

    /// The value, said to have this shape.
    pub(super) fn assume(&mut self, x: V, shape: Vec<Dim>) -> Result<V, Fault> {
        if self.ty(x).shape == shape { Ok(x) } else { self.add(op::Assume { shape }, &[x]) }
    }

    /// A reduction over axes in ascending order.
    pub(super) fn reduce(
        &mut self,
        f: op::ReduceFn,
        x: V,
        mut axes: Vec<usize>,
        keep: bool,
    ) -> Result<V, Fault> {
        axes.sort_unstable();
        self.add(op::Reduce { f, axes, keep }, &[x])
    }

    /// The value with dimensions of 1 put in before and after, to stand at `axis` of `rank`.
    pub(super) fn along(&mut self, x: V, axis: usize, rank: usize) -> Result<V, Fault> {
        let mut shape = vec![Dim::from(1i64); axis];
        shape.extend(self.shape(x));
        shape.resize(rank.max(shape.len()), Dim::from(1i64));
        self.reshape(x, shape)
    }

    /// Operands whose shapes broadcast. Of sizes that may be 1 when the model runs each is stretched
    /// then; others that cannot be shown to be equal are said to be.
    pub(super) fn aligned(&mut self, operands: &[V]) -> Result<Vec<V>, Fault> {
        let shapes: Vec<Vec<Dim>> = operands.iter().map(|&v| self.shape(v)).collect();
        let rank = shapes.iter().map(Vec::len).max().unwrap_or(0);
        let mut target = vec![Dim::from(1i64); rank];
        for shape in &shapes {
            for (slot, dim) in target.iter_mut().rev().zip(shape.iter().rev()) {
                if self.facts().may_stretch(slot, dim) {
                    *slot = self.stretched_size(&slot.clone(), dim)?;
                } else if slot.is(1) || (!dim.is(1) && simpler(dim, slot)) {
                    *slot = dim.clone();
                }
            }
        }
        let mut aligned = Vec::with_capacity(operands.len());
        for (&v, shape) in operands.iter().zip(shapes) {
            let (mut v, offset) = (v, rank - shape.len());
            for (axis, dim) in shape.iter().enumerate() {
                if self.facts().may_stretch(dim, &target[offset + axis]) {
                    v = self.stretch(v, axis, &target[offset + axis].clone())?;
                }
            }
            let shape = self.shape(v);
            aligned.push(self.meeting(v, shape, &target)?);
        }
        Ok(aligned)
    }

    /// The operand with the dimensions of `target`, where it does not have 1.
    fn meeting(&mut self, v: V, mut shape: Vec<Dim>, target: &[Dim]) -> Result<V, Fault> {
        for (dim, wanted) in shape.iter_mut().rev().zip(target.iter().rev()) {
            // What certainly differs is for the operation to refuse, with its own message.
            if !dim.is(1) && self.facts().may_meet(dim, wanted) {
                *dim = wanted.clone();
            }
        }
        self.assume(v, shape)
    }

    /// The value with the last dimensions of `target`, where it does not have 1. Those that are
    /// sizes of their own may turn out to be 1, too, except the last, which is not stretched.
    pub(super) fn fitting(&mut self, v: V, target: &[Dim]) -> Result<V, Fault> {
        let (mut v, shape) = (v, self.shape(v));
        let last = shape.len().saturating_sub(1);
        let wanted = target.get(target.len().saturating_sub(shape.len())..).unwrap_or_default();
        for (axis, (dim, wanted)) in shape.iter().zip(wanted).enumerate().take(last) {
            if dim != wanted && dim.as_symbol().is_some() && wanted.as_const().is_none() {
                v = self.stretch_if_one(v, axis, wanted)?;
            }
        }
        let shape = self.shape(v);
        self.meeting(v, shape, target)
    }

    /// Operands that agree in all dimensions but those that `differs` names, as far as can be
    /// said.
    pub(super) fn agreeing(
        &mut self,
        operands: &[V],
        differs: impl Fn(usize) -> bool,
    ) -> Result<Vec<V>, Fault> {
        let shapes: Vec<Vec<Dim>> = operands.iter().map(|&v| self.shape(v)).collect();
        let mut target = shapes.first().cloned().unwrap_or_default();
        for shape in shapes.iter().filter(|shape| shape.len() == target.len()).collect::<Vec<_>>() {
            for (slot, dim) in target.iter_mut().zip(shape) {
                if simpler(dim, slot) {
                    *slot = dim.clone();
                }
            }
        }
        let mut agreed = Vec::with_capacity(operands.len());
        for (&v, mut shape) in operands.iter().zip(shapes) {
            if shape.len() == target.len() {
                for (number, (dim, wanted)) in shape.iter_mut().zip(&target).enumerate() {
                    if !differs(number) && self.facts().may_meet(dim, wanted) {
                        *dim = wanted.clone();
                    }
                }
            }
            agreed.push(self.assume(v, shape)?);
        }
        Ok(agreed)
    }

    /// The value, said to have `wanted` in dimension `axis` if it might.
    pub(super) fn with_dim(&mut self, v: V, axis: usize, wanted: &Dim) -> Result<V, Fault> {
        let mut shape = self.shape(v);
        let Some(dim) = shape.get_mut(axis) else { return Ok(v) };
        if !self.facts().may_meet(dim, wanted) {
            return Ok(v);
        }
        *dim = wanted.clone();
        self.assume(v, shape)
    }

    /// The value, said to have the dimensions `wanted` where it might, if it has as many.
    pub(super) fn with_dims(&mut self, v: V, wanted: &[Dim]) -> Result<V, Fault> {
        let mut shape = self.shape(v);
        if shape.len() != wanted.len() {
            return Ok(v);
        }
        for (dim, wanted) in shape.iter_mut().zip(wanted) {
            if self.facts().may_meet(dim, wanted) {
                *dim = wanted.clone();
            }
        }
        self.assume(v, shape)
    }

    /// [`Use::with_dim`], and an error where the value has another size there.
    pub(super) fn of_dim(
        &mut self,
        v: V,
        axis: usize,
        wanted: &Dim,
        what: &str,
    ) -> Result<V, Fault> {
        let v = self.with_dim(v, axis, wanted)?;
        self.refuse_another(v, axis, wanted, what)?;
        Ok(v)
    }

    fn refuse_another(&self, v: V, axis: usize, wanted: &Dim, what: &str) -> Result<(), Fault> {
        let ty = self.ty(v);
        match ty.shape.get(axis).and_then(Dim::as_const).zip(wanted.as_const()) {
            Some((size, wanted)) if size != wanted => {
                let message =
                    format!("dimension {axis} of {what} must be {wanted}, but is {size}: {ty}");
                Err(Fault::malformed(message))
            }
            _ => Ok(()),
        }
    }

    /// An error unless the value has this many dimensions.
    pub(super) fn of_rank(&self, v: V, rank: usize, what: &str) -> Result<(), Fault> {
        let ty = self.ty(v);
        if ty.rank() == rank {
            return Ok(());
        }
        let plural = if rank == 1 { "" } else { "s" };
        let message = format!("{what} must have {rank} dimension{plural}, but is {ty}");
        Err(Fault::malformed(message))
    }

    /// An error if the value is a scalar.
    pub(super) fn of_some_rank(&self, v: V, what: &str) -> Result<(), Fault> {
        match self.rank(v) {
            0 => {
                Err(Fault::malformed(format!("{what} must not be a scalar, but is {}", self.ty(v))))
            }
            _ => Ok(()),
        }
    }

    /// [`Use::with_dims`], and an error where the value has other sizes.
    pub(super) fn of_dims(&mut self, v: V, wanted: &[Dim], what: &str) -> Result<V, Fault> {
        self.of_rank(v, wanted.len(), what)?;
        let v = self.with_dims(v, wanted)?;
        let mut dims = wanted.iter().enumerate();
        dims.try_for_each(|(axis, dim)| self.refuse_another(v, axis, dim, what))?;
        Ok(v)
    }

    /// A size as a scalar of an element type.
    pub(super) fn size(&mut self, dim: &Dim, dtype: DType) -> Result<V, Fault> {
        let size = self.add(op::SizeOf { dims: vec![dim.clone()], scalar: true }, &[])?;
        self.cast(size, dtype)
    }

    /// 0, 1, 2 and so on along `axis` of `rank`.
    pub(super) fn counter(
        &mut self,
        length: &Dim,
        dtype: DType,
        axis: usize,
        rank: usize,
    ) -> Result<V, Fault> {
        let numbers = self.add(op::Iota { length: length.clone() }, &[])?;
        let numbers = self.cast(numbers, dtype)?;
        self.along(numbers, axis, rank)
    }

    /// `size` elements from `start` on along `axis`.
    pub(super) fn part(
        &mut self,
        v: V,
        axis: usize,
        start: impl Into<Dim>,
        size: impl Into<Dim>,
    ) -> Result<V, Fault> {
        let mut sizes = self.shape(v);
        let mut starts = vec![Dim::from(0i64); sizes.len()];
        if let (Some(slot), Some(first)) = (sizes.get_mut(axis), starts.get_mut(axis)) {
            (*slot, *first) = (size.into(), start.into());
        }
        if sizes == self.ty(v).shape && starts.iter().all(|start| start.is(0)) {
            return Ok(v);
        }
        let steps = vec![1; sizes.len()];
        self.add(op::Slice { starts, sizes, steps }, &[v])
    }

    /// Element `place` along `axis`, which is dropped.
    pub(super) fn element(&mut self, v: V, axis: usize, place: usize) -> Result<V, Fault> {
        let part = self.part(v, axis, place, 1i64)?;
        let mut shape = self.shape(part);
        shape.remove(axis);
        self.reshape(part, shape)
    }

    /// A tensor of one number everywhere.
    pub(super) fn filled(&mut self, dtype: DType, value: f64, shape: Vec<Dim>) -> Result<V, Fault> {
        let value = self.scalar(dtype, value)?;
        self.broadcast(value, shape)
    }
}

/// Whether a dimension says more than another: a constant most, then what has fewer terms.
fn simpler(dim: &Dim, than: &Dim) -> bool {
    let weight = |dim: &Dim| (dim.as_const().is_none(), dim.to_string().len());
    dim != than && weight(dim) < weight(than)
}
