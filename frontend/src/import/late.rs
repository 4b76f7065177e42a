//! Sizes that are data: symbols that stand for the elements of a tensor once it is computed.
//!
//! Invariant: a value is bound once where it is in view, and what is known of its elements before
//! the model runs is not bound at all.

use super::build::{Builder, V};
use super::contents::MOST_ELEMENTS;
use super::fault::Fault;
use super::node::Use;
use kiln_ir::op::{self, BinaryFn, Op};
use kiln_tensor::{Bounds, DType, Dim};

impl Use<'_, '_, '_> {
    /// The elements of an integer scalar or vector as sizes; those that only data tells are symbols
    /// that get their value when the model runs. A negative one ends the run with an error.
    pub(super) fn sizes(&mut self, v: V) -> Result<Vec<Dim>, Fault> {
        self.elements(v, Bounds::default())
    }

    /// [`Use::sizes`] for what may be negative as well.
    pub(super) fn amounts(&mut self, v: V) -> Result<Vec<Dim>, Fault> {
        self.elements(v, Bounds { min: i64::MIN / 2, max: None })
    }

    /// The elements that are known, each in its place.
    pub(super) fn apart(&mut self, v: V) -> Result<Vec<Option<Dim>>, Fault> {
        let mut elements = Vec::new();
        for part in self.importer.build.parts(v)? {
            match part {
                Part::Known(dims) => elements.extend(dims.into_iter().map(Some)),
                Part::Data(v) => elements.resize(elements.len() + self.count(v)?, None),
            }
        }
        Ok(elements)
    }

    /// The size that two meeting dimensions broadcast to when the model runs, one of which may be
    /// 1 then; if they are neither equal nor 1, the run ends with an error.
    pub(super) fn stretched_size(&mut self, a: &Dim, b: &Dim) -> Result<Dim, Fault> {
        let (size, other) = match (a.as_const(), b.as_const()) {
            (Some(_), _) => (a.clone(), b),
            (None, Some(_)) => (b.clone(), a),
            (None, None) => {
                let meeting = self.importer.build.meeting_sizes(a, b);
                if let Some(size) = self.importer.build.stretched(&meeting) {
                    return Ok(size);
                }
                let (a_size, b_size) = (self.size(a, DType::I64)?, self.size(b, DType::I64)?);
                let stretched = self.with_number(BinaryFn::Equal, a_size, 1.0)?;
                let size = self.select(stretched, b_size, a_size)?;
                let size = self.sizes(size)?.pop().ok_or(Fault::Silent)?;
                self.importer.build.remember_stretched(meeting, size.clone());
                self.check(b.misfit(&size), Dim::default())?;
                return Ok(size);
            }
        };
        // Not 1 itself, so the other one is stretched to it.
        self.check(other.misfit(&size), Dim::default())?;
        Ok(size)
    }

    /// The value with a dimension that may be 1 when the model runs stretched to `size`.
    pub(super) fn stretch(&mut self, v: V, axis: usize, size: &Dim) -> Result<V, Fault> {
        let shape = self.shape(v);
        if shape[axis] == *size || shape[axis].is(1) {
            return Ok(v);
        }
        let before = vec![Dim::default(); shape.len()];
        let mut after = before.clone();
        after[axis] = size.clone() - shape[axis].clone();
        self.add(op::Pad { before, after, mode: op::PadMode::Edge }, &[v])
    }

    /// The value with a dimension that is `size`, or 1, when the model runs stretched to `size`.
    pub(super) fn stretch_if_one(&mut self, v: V, axis: usize, size: &Dim) -> Result<V, Fault> {
        let dim = self.shape(v)[axis].clone();
        if dim == *size || dim.is(1) {
            return Ok(v);
        }
        self.check(dim.misfit(size), Dim::default())?;
        self.stretch(v, axis, size)
    }

    fn elements(&mut self, v: V, bounds: Bounds) -> Result<Vec<Dim>, Fault> {
        let mut dims = Vec::new();
        for part in self.importer.build.parts(v)? {
            dims.extend(match part {
                Part::Known(dims) => dims,
                Part::Data(v) => self.bound(v, bounds)?,
            });
        }
        Ok(dims)
    }

    /// Symbols for the elements of a value.
    fn bound(&mut self, v: V, bounds: Bounds) -> Result<Vec<Dim>, Fault> {
        if let Some(dims) = self.importer.build.symbols_of(v, bounds) {
            return Ok(dims);
        }
        let count = self.count(v)?;
        let data = self.cast(v, DType::I64)?;
        let data = self.reshape(data, vec![Dim::from(count)])?;
        let name = self.importer.build.name_of(v).unwrap_or("size").to_owned();
        let symbols = (0..count).map(|_| self.importer.build.found_symbol(&name, bounds));
        let symbols: Vec<Dim> = symbols.map(Dim::symbol).collect();
        let bind = op::Bind { symbols: symbols.clone() };
        self.importer.build.add_node(bind, &[data], Vec::new())?;
        self.importer.build.remember(v, bounds, symbols.clone());
        Ok(symbols)
    }

    /// The number of elements of a vector or scalar that says shapes or axes: it gives the rank of
    /// a result, so it must be known.
    pub(super) fn count(&self, v: V) -> Result<usize, Fault> {
        let elements = self.ty(v).elements();
        let count = elements.as_const().and_then(|count| usize::try_from(count).ok());
        count.filter(|&count| count <= MOST_ELEMENTS).ok_or_else(|| {
            Fault::unsupported(
                format!("how many dimensions there are must be known, but is `{elements}`"),
                "fix the length of the shape's input with --dim",
            )
        })
    }

    /// Dimensions as data.
    pub(super) fn vector(&mut self, dims: Vec<Dim>) -> Result<V, Fault> {
        self.add(op::SizeOf { dims, scalar: false }, &[])
    }

    /// A run in which the two differ ends with an error.
    pub(super) fn check(&mut self, left: Dim, right: Dim) -> Result<(), Fault> {
        let check = op::Check { left: vec![left], right: vec![right] };
        self.importer.build.add_node(check, &[], Vec::new()).map(drop)
    }

    /// Axes that are data, counted from the start: `i64[n]`, each less than `rank` and another.
    pub(super) fn late_axes(&mut self, axes: V, rank: usize) -> Result<V, Fault> {
        let count = self.count(axes)?;
        let axes = self.cast(axes, DType::I64)?;
        let axes = self.reshape(axes, vec![Dim::from(count)])?;
        self.inside(axes, &[Dim::from(rank)])?;
        let negative = self.with_number(BinaryFn::Less, axes, 0.0)?;
        let from_end = self.with_number(BinaryFn::Add, axes, rank as f64)?;
        let axes = self.select(negative, from_end, axes)?;
        if count > 1 {
            let marked = self.among(axes, rank)?;
            let marked = self.cast(marked, DType::I64)?;
            let distinct = self.reduce(op::ReduceFn::Sum, marked, vec![0], false)?;
            let count = Dim::from(count);
            self.within(distinct, "the number of distinct axes", [&count, &count])?;
        }
        Ok(axes)
    }

    /// Which of `rank` dimensions are among the axes: `bool[rank]`.
    pub(super) fn among(&mut self, axes: V, rank: usize) -> Result<V, Fault> {
        let places = self.add(op::Iota { length: Dim::from(rank) }, &[])?;
        let places = self.along(places, 1, 2)?;
        let axes = self.along(axes, 0, 2)?;
        let equal = self.binary(BinaryFn::Equal, places, axes)?;
        self.reduce(op::ReduceFn::Any, equal, vec![0], false)
    }

    /// For each of the marked dimensions (`bool[rank]`), and likewise for the others, its place
    /// among its like: `i64[rank]`.
    fn rank_among(&mut self, marked: V) -> Result<V, Fault> {
        let ones = self.cast(marked, DType::I64)?;
        let sum = op::ReduceFn::Sum;
        self.add(op::Accumulate { f: sum, axis: 0, exclusive: true, reverse: false }, &[ones])
    }

    /// The order of dimensions that has the marked ones (`bool[rank]`) last, each part in order:
    /// `i64[rank]`. `last` is their number.
    pub(super) fn marked_last(&mut self, marked: V, last: usize) -> Result<V, Fault> {
        let rank = self.count(marked)?;
        let others = self.unary(op::UnaryFn::Not, marked)?;
        let (among_marked, among_others) = (self.rank_among(marked)?, self.rank_among(others)?);
        let behind = self.with_number(BinaryFn::Add, among_marked, (rank - last) as f64)?;
        let place = self.select(marked, behind, among_others)?;
        self.inverse(place)
    }

    /// The inverse of a permutation `i64[rank]`.
    pub(super) fn inverse(&mut self, perm: V) -> Result<V, Fault> {
        let rank = Dim::from(self.count(perm)?);
        let places = self.add(op::Iota { length: rank.clone() }, &[])?;
        let zeros = self.filled(DType::I64, 0.0, vec![rank])?;
        let scatter = op::ScatterElements { axis: 0, reduction: op::ScatterReduction::None };
        self.add(scatter, &[zeros, perm, places])
    }

    /// The elements of `i64[n]` at places `i64[m]`.
    pub(super) fn pick(&mut self, from: V, at: V) -> Result<V, Fault> {
        self.add(op::Gather { axis: 0 }, &[from, at])
    }

    /// The value with dimensions in an order that is data: `perm` is `i64[rank]`.
    pub(super) fn permuted(&mut self, v: V, perm: V) -> Result<V, Fault> {
        let shape = self.shape(v);
        let rank = shape.len();
        let mut strides = vec![Dim::from(1i64); rank];
        for axis in (1..rank).rev() {
            strides[axis - 1] = strides[axis].clone() * shape[axis].clone();
        }
        let (dims, strides) = (self.vector(shape)?, self.vector(strides)?);
        let (dims, strides) = (self.pick(dims, perm)?, self.pick(strides, perm)?);
        let (sizes, elements) = (self.sizes(dims)?, self.ty(v).elements());
        self.check(sizes.iter().cloned().product(), elements.clone())?;
        let mut at = self.scalar(DType::I64, 0.0)?;
        for (axis, size) in sizes.iter().enumerate() {
            let stride = self.element(strides, 0, axis)?;
            let place = self.add(op::Iota { length: size.clone() }, &[])?;
            let place = self.along(place, axis, rank)?;
            let place = self.binary(BinaryFn::Mul, place, stride)?;
            at = self.binary(BinaryFn::Add, at, place)?;
        }
        let flat = self.reshape(v, vec![elements])?;
        self.add(op::Gather { axis: 0 }, &[flat, at])
    }
}

/// Neighbouring elements of a vector.
#[derive(Debug)]
pub(super) enum Part {
    /// Known as expressions.
    Known(Vec<Dim>),
    /// All elements of this value, which is data.
    Data(V),
}

impl Builder {
    /// The elements of a vector or scalar, those that are known apart from those that are data.
    fn parts(&self, v: V) -> Result<Vec<Part>, Fault> {
        if let Some(contents) = self.contents(v) {
            let dims: Option<Vec<Dim>> = contents.iter().map(|s| s.as_dim().cloned()).collect();
            return match dims {
                Some(dims) => Ok(vec![Part::Known(dims)]),
                None => Err(Fault::malformed("sizes must be whole numbers")),
            };
        }
        if !self.ty(v).dtype.is_integer() || self.ty(v).rank() > 1 {
            let ty = self.ty(v);
            return Err(Fault::malformed(format!("sizes must be integers in a vector, not {ty}")));
        }
        // Exporters put vectors together from single elements, most of which are known.
        match self.producer(v) {
            Some((Op::Concat(_), operands)) => {
                let parts = operands.into_iter().map(|operand| self.parts(operand));
                Ok(parts.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
            }
            Some((Op::Reshape(_) | Op::Assume(_), operands)) if self.ty(operands[0]).rank() < 2 => {
                self.parts(operands[0])
            }
            Some((Op::Cast(_), operands)) if self.ty(operands[0]).dtype.is_integer() => {
                self.parts(operands[0])
            }
            _ => Ok(vec![Part::Data(v)]),
        }
    }
}
