//! One use of an operator, as its importer sees it: operands, attributes, and the operations that
//! it is composed of.
//!
//! Invariant: whatever the node gives is checked here, so an importer that reads through these
//! functions cannot be made to panic.

use super::Importer;
use super::bounds;
use super::build::V;
use super::contents::Contents;
use super::fault::Fault;
use crate::resolve::{Attribute, Node};
use kiln_ir::TensorType;
use kiln_ir::op::{self, BinaryFn, Op, UnaryFn};
use kiln_tensor::{DType, Dim, SymbolTable, Tensor};

/// A use of an operator.
pub(super) struct Use<'i, 'r, 'm> {
    pub(super) importer: &'i mut Importer<'m>,
    pub(super) node: &'r Node<'m>,
    /// Operands; `None` where an optional one is left out.
    pub(super) inputs: Vec<Option<V>>,
}

impl<'r, 'm> Use<'_, 'r, 'm> {
    /// The operator set version in force.
    pub(super) fn opset(&self) -> i64 {
        self.node.site.opset
    }

    /// An operand that must be there.
    pub(super) fn input(&self, number: usize) -> Result<V, Fault> {
        self.optional(number).ok_or_else(|| {
            Fault::malformed(format!("input {number} is missing, {} are given", self.inputs.len()))
        })
    }

    /// An operand that may be left out.
    pub(super) fn optional(&self, number: usize) -> Option<V> {
        self.inputs.get(number).copied().flatten()
    }

    /// All operands, none of which may be left out.
    pub(super) fn all_inputs(&self) -> Result<Vec<V>, Fault> {
        (0..self.inputs.len()).map(|number| self.input(number)).collect()
    }

    /// Whether a result is asked for.
    pub(super) fn wants(&self, output: usize) -> bool {
        self.node.outputs.get(output).is_some_and(Option::is_some)
    }

    fn wrong(&self, name: &str, expected: &str) -> Fault {
        let actual = self.node.attributes.get(name).map_or("missing", Attribute::type_name);
        Fault::malformed(format!("attribute `{name}` must be of type {expected}, but is {actual}"))
    }

    /// The attribute, if it is given.
    pub(super) fn attribute(&self, name: &str) -> Option<&'r Attribute<'m>> {
        self.node.attributes.get(name)
    }

    /// An integer attribute, if it is given.
    pub(super) fn int(&self, name: &str) -> Result<Option<i64>, Fault> {
        match self.attribute(name) {
            None => Ok(None),
            Some(Attribute::Int(value)) => Ok(Some(*value)),
            Some(_) => Err(self.wrong(name, "int")),
        }
    }

    /// An integer attribute or its default.
    pub(super) fn int_or(&self, name: &str, default: i64) -> Result<i64, Fault> {
        Ok(self.int(name)?.unwrap_or(default))
    }

    /// An attribute that is 0 or 1.
    pub(super) fn flag(&self, name: &str, default: bool) -> Result<bool, Fault> {
        Ok(self.int(name)?.map_or(default, |value| value != 0))
    }

    /// A list of integers, if it is given.
    pub(super) fn ints(&self, name: &str) -> Result<Option<&'r [i64]>, Fault> {
        match self.attribute(name) {
            None => Ok(None),
            Some(Attribute::Ints(values)) => Ok(Some(values)),
            Some(_) => Err(self.wrong(name, "ints")),
        }
    }

    /// A number, if it is given.
    pub(super) fn float(&self, name: &str) -> Result<Option<f64>, Fault> {
        match self.attribute(name) {
            None => Ok(None),
            Some(Attribute::Float(value)) => Ok(Some(f64::from(*value))),
            Some(_) => Err(self.wrong(name, "float")),
        }
    }

    /// A number or its default, which is rounded as if it were given.
    pub(super) fn float_or(&self, name: &str, default: f64) -> Result<f64, Fault> {
        Ok(self.float(name)?.unwrap_or(f64::from(default as f32)))
    }

    /// A list of numbers, if it is given.
    pub(super) fn floats(&self, name: &str) -> Result<Option<&'r [f32]>, Fault> {
        match self.attribute(name) {
            None => Ok(None),
            Some(Attribute::Floats(values)) => Ok(Some(values)),
            Some(_) => Err(self.wrong(name, "floats")),
        }
    }

    /// A string or its default.
    pub(super) fn string_or(&self, name: &str, default: &'r str) -> Result<&'r str, Fault> {
        match self.attribute(name) {
            None => Ok(default),
            Some(Attribute::String(text)) => std::str::from_utf8(text)
                .map_err(|_| Fault::malformed(format!("attribute `{name}` is not UTF-8"))),
            Some(_) => Err(self.wrong(name, "string")),
        }
    }

    /// The type of a value.
    pub(super) fn ty(&self, v: V) -> &TensorType {
        self.importer.build.ty(v)
    }

    /// The element type of a value.
    pub(super) fn dtype(&self, v: V) -> DType {
        self.ty(v).dtype
    }

    /// The shape of a value.
    pub(super) fn shape(&self, v: V) -> Vec<Dim> {
        self.ty(v).shape.clone()
    }

    /// The number of dimensions of a value.
    pub(super) fn rank(&self, v: V) -> usize {
        self.ty(v).rank()
    }

    /// What is known of symbols.
    pub(super) fn symbols(&mut self) -> &mut SymbolTable {
        &mut self.importer.build.symbols
    }

    /// An axis counted from the start, which may be given counted from the end.
    pub(super) fn axis(&self, axis: i64, rank: usize) -> Result<usize, Fault> {
        place(axis, rank).ok_or_else(|| {
            Fault::malformed(format!("axis {axis} does not exist in a tensor of rank {rank}"))
        })
    }

    /// Axes counted from the start, none twice, in the order given.
    pub(super) fn axes(&self, axes: &[i64], rank: usize) -> Result<Vec<usize>, Fault> {
        let mut places = Vec::with_capacity(axes.len());
        for &axis in axes {
            let place = self.axis(axis, rank)?;
            if places.contains(&place) {
                return Err(Fault::malformed(format!("axis {axis} is given twice")));
            }
            places.push(place);
        }
        Ok(places)
    }

    /// The elements, which must be known before the model runs.
    pub(super) fn known(&self, v: V, what: &str) -> Result<Contents, Fault> {
        self.importer.build.contents(v).ok_or_else(|| Fault::data_dependent(what))
    }

    /// The elements as integers.
    pub(super) fn integers(&self, v: V, what: &str) -> Result<Vec<i64>, Fault> {
        let contents = self.known(v, what)?;
        let values = contents.iter().map(|scalar| scalar.as_integer());
        values.collect::<Option<_>>().ok_or_else(|| {
            Fault::unsupported(
                format!("{what} must be constant, but depends on the sizes of inputs"),
                "fix the sizes with --dim",
            )
        })
    }

    /// The elements as sizes or coordinates, which may depend on symbols.
    pub(super) fn dims(&self, v: V, what: &str) -> Result<Vec<Dim>, Fault> {
        let contents = self.known(v, what)?;
        let dims = contents.iter().map(|scalar| scalar.as_dim().cloned());
        dims.collect::<Option<_>>()
            .ok_or_else(|| Fault::malformed(format!("{what} must be of whole numbers")))
    }

    /// The elements as numbers.
    pub(super) fn numbers(&self, v: V, what: &str) -> Result<Vec<f64>, Fault> {
        let constant = self.importer.build.tensor(v).map(Tensor::to_f64);
        constant.ok_or_else(|| Fault::data_dependent(what))
    }

    /// The one number of an operand.
    pub(super) fn number(&self, v: V, what: &str) -> Result<f64, Fault> {
        match self.numbers(v, what)?.as_slice() {
            [value] => Ok(*value),
            values => Err(Fault::malformed(format!("{what} has {} elements", values.len()))),
        }
    }

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

    /// Operands whose shapes broadcast: dimensions that cannot be shown to be equal are said to
    /// be.
    pub(super) fn aligned(&mut self, operands: &[V]) -> Result<Vec<V>, Fault> {
        let shapes: Vec<Vec<Dim>> = operands.iter().map(|&v| self.shape(v)).collect();
        let rank = shapes.iter().map(Vec::len).max().unwrap_or(0);
        let mut target = vec![Dim::from(1i64); rank];
        for shape in &shapes {
            for (slot, dim) in target.iter_mut().rev().zip(shape.iter().rev()) {
                if slot.is(1) || (!dim.is(1) && simpler(dim, slot)) {
                    *slot = dim.clone();
                }
            }
        }
        let pairs = operands.iter().zip(shapes);
        pairs.map(|(&v, shape)| self.meeting(v, shape, &target)).collect()
    }

    /// The operand with the dimensions of `target`, where it does not have 1.
    fn meeting(&mut self, v: V, mut shape: Vec<Dim>, target: &[Dim]) -> Result<V, Fault> {
        for (dim, wanted) in shape.iter_mut().rev().zip(target.iter().rev()) {
            // What certainly differs is for the operation to refuse, with its own message.
            if !dim.is(1) && bounds::equal(dim, wanted, self.symbols()) != Some(false) {
                *dim = wanted.clone();
            }
        }
        self.assume(v, shape)
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
                    let same = bounds::equal(dim, wanted, self.symbols());
                    if !differs(number) && same != Some(false) {
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
        if bounds::equal(dim, wanted, self.symbols()) == Some(false) {
            return Ok(v);
        }
        *dim = wanted.clone();
        self.assume(v, shape)
    }
}

/// Whether a dimension says more than another: a constant most, then what has fewer terms.
fn simpler(dim: &Dim, than: &Dim) -> bool {
    let weight = |dim: &Dim| (dim.as_const().is_none(), dim.to_string().len());
    dim != than && weight(dim) < weight(than)
}

/// A place counted from the start, if `0 ≤ place < count`; a negative one counts from the end.
pub(super) fn place(place: i64, count: usize) -> Option<usize> {
    let signed = i64::try_from(count).ok()?;
    let from_start = if place < 0 { place.checked_add(signed)? } else { place };
    usize::try_from(from_start).ok().filter(|&place| place < count)
}
