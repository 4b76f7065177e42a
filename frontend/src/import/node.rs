//! One use of an operator, as its importer sees it: operands, attributes, and the operations that
//! it is composed of.
//!
//! Invariant: whatever the node gives is checked here, so an importer that reads through these
//! functions cannot be made to panic.

use super::Importer;
use super::bounds::Facts;
use super::build::V;
use super::contents::Contents;
use super::fault::Fault;
use crate::resolve::{Attribute, Node};
use kiln_ir::TensorType;
use kiln_tensor::{DType, Dim, Tensor};

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

    /// What another importer makes of other operands, with the attributes of this node.
    pub(super) fn with_inputs<T>(
        &mut self,
        inputs: Vec<Option<V>>,
        import: impl FnOnce(&mut Self) -> T,
    ) -> T {
        let own = std::mem::replace(&mut self.inputs, inputs);
        let result = import(self);
        self.inputs = own;
        result
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

    /// What is known of dimensions.
    pub(super) fn facts(&mut self) -> &mut Facts {
        &mut self.importer.build.facts
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

    /// The elements as sizes or coordinates, which may depend on symbols. What only data tells must
    /// not be negative.
    pub(super) fn dims(&mut self, v: V, what: &str) -> Result<Vec<Dim>, Fault> {
        let Some(contents) = self.importer.build.contents(v) else { return self.sizes(v) };
        let dims = contents.iter().map(|scalar| scalar.as_dim().cloned());
        dims.collect::<Option<_>>()
            .ok_or_else(|| Fault::malformed(format!("{what} must be of whole numbers")))
    }

    /// Whether the elements are known before the model runs.
    pub(super) fn is_known(&self, v: V) -> bool {
        self.importer.build.contents(v).is_some()
    }

    /// The elements as numbers.
    pub(super) fn numbers(&self, v: V, what: &str) -> Result<Vec<f64>, Fault> {
        let constant = self.importer.build.tensor(v).map(Tensor::to_f64);
        constant.ok_or_else(|| Fault::data_dependent(what))
    }
}

/// A place counted from the start, if `0 ≤ place < count`; a negative one counts from the end.
pub(super) fn place(place: i64, count: usize) -> Option<usize> {
    let signed = i64::try_from(count).ok()?;
    let from_start = if place < 0 { place.checked_add(signed)? } else { place };
    usize::try_from(from_start).ok().filter(|&place| place < count)
}
