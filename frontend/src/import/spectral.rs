//! Discrete Fourier transforms, of whole signals and of frames of them.
//!
//! Invariant: an angle is computed from its number modulo the length, so that tables are as exact
//! for the last frequency as for the first.

use super::build::V;
use super::fault::Fault;
use super::node::Use;
use super::operator::{Entry, onnx};
use super::sampling::computed_in;
use kiln_ir::op::{self, BinaryFn, Contract, ContractSpec, UnaryFn};
use kiln_tensor::{DType, Dim, Tensor};
use std::f64::consts::TAU;

type Results = Result<Vec<V>, Fault>;

pub(super) const OPERATORS: &[Entry] = &[onnx("DFT", 17, dft), onnx("STFT", 17, stft)];

/// The longest transform that is one product with a table even if its length is composite.
const LONGEST_TABLE: i64 = 128;
/// The longest frame whose transform is a convolution with the rows of a table.
const LONGEST_FILTER: i64 = 1024;

/// The longest transform: its table of rotations is part of the model.
const LONGEST: i64 = 1 << 22;
/// The most entries of a table.
const LARGEST_TABLE: i64 = 1 << 25;

/// A transform along an axis of real or complex numbers, whose parts are in the last dimension.
#[derive(Clone)]
struct Transform {
    length: Dim,
    inverse: bool,
    /// Whether only the frequencies up to the middle are in the result, or, of an inverse
    /// transform, in the operand, which makes the result real.
    onesided: bool,
}

impl Transform {
    /// How many frequencies there are on one side.
    fn side(&self) -> Dim {
        self.length.floor_div(&Dim::from(2i64)) + Dim::from(1i64)
    }

    fn to_real(&self) -> bool {
        self.inverse && self.onesided
    }

    /// How many elements of the operand take part.
    fn taken(&self) -> Dim {
        if self.to_real() { self.side() } else { self.length.clone() }
    }

    fn results(&self) -> Dim {
        if self.onesided && !self.inverse { self.side() } else { self.length.clone() }
    }

    /// What operand element `n` contributes to result `k`: factors of its real and imaginary part
    /// in the real and the imaginary part.
    fn factors(&self, length: i64, n: i64, k: i64) -> [[f64; 2]; 2] {
        let number = (i128::from(n) * i128::from(k)).rem_euclid(i128::from(length.max(1))) as i64;
        let (sin, cos) = sin_cos(number, length);
        let (scale, sin) = match (self.inverse, self.onesided) {
            (false, _) => (1.0, -sin),
            (true, false) => (1.0 / length as f64, sin),
            // The other side mirrors this one.
            (true, true) if n == 0 || 2 * n == length => (1.0 / length as f64, sin),
            (true, true) => (2.0 / length as f64, sin),
        };
        [[cos * scale, sin * scale], [-sin * scale, cos * scale]]
    }

    /// The table `[elements, parts, results, parts]` of a known length.
    fn table(
        &self,
        dtype: DType,
        length: i64,
        (elements, parts): (i64, i64),
        results: i64,
    ) -> Result<Tensor, Fault> {
        let made: usize = if self.to_real() { 1 } else { 2 };
        let entries =
            [elements, parts, results, made as i64].into_iter().try_fold(1i64, |all, n| {
                all.checked_mul(n.max(1)).filter(|&entries| entries <= LARGEST_TABLE)
            });
        if entries.is_none() {
            return Err(Fault::unsupported(
                format!("a transform of length {length} is too long"),
                "choose a length with small factors",
            ));
        }
        let sizes = [elements, parts, results].map(|size| size.max(0) as usize);
        let mut values = Vec::with_capacity(sizes.iter().product::<usize>() * made);
        for n in 0..elements {
            for part in 0..parts as usize {
                for k in 0..results {
                    values.extend_from_slice(&self.factors(length, n, k)[part][..made]);
                }
            }
        }
        let sizes = [&sizes[..], &[made]].concat();
        let table = Tensor::from_f64(dtype, sizes, &values);
        table.map_err(|error| Fault::malformed(error.to_string()))
    }

    /// The table of a length that is not known.
    fn open_table(
        &self,
        x: &mut Use<'_, '_, '_>,
        dtype: DType,
        elements: &Dim,
        parts: i64,
    ) -> Result<V, Fault> {
        let [n, k] =
            [x.counter(elements, DType::I64, 0, 2)?, x.counter(&self.results(), DType::I64, 1, 2)?];
        let length = x.size(&self.length, DType::I64)?;
        let number = x.binary(BinaryFn::Mul, n, k)?;
        let number = x.binary(BinaryFn::Rem, number, length)?;
        let number = x.cast(number, DType::F64)?;
        let length = x.cast(length, DType::F64)?;
        let turns = x.binary(BinaryFn::Div, number, length)?;
        let angle = x.with_number(BinaryFn::Mul, turns, TAU)?;
        let mut cos = x.unary(UnaryFn::Cos, angle)?;
        let mut sin = x.unary(UnaryFn::Sin, angle)?;
        if !self.inverse {
            sin = x.unary(UnaryFn::Neg, sin)?;
        } else {
            let mut scale = x.unary(UnaryFn::Reciprocal, length)?;
            if self.onesided {
                let n = x.cast(n, DType::F64)?;
                let twice = x.with_number(BinaryFn::Mul, n, 2.0)?;
                let middle = x.binary(BinaryFn::Equal, twice, length)?;
                let first = x.with_number(BinaryFn::Equal, n, 0.0)?;
                let alone = x.binary(BinaryFn::Or, middle, first)?;
                let both = x.with_number(BinaryFn::Mul, scale, 2.0)?;
                scale = x.select(alone, scale, both)?;
            }
            cos = x.binary(BinaryFn::Mul, cos, scale)?;
            sin = x.binary(BinaryFn::Mul, sin, scale)?;
        }
        let minus = x.unary(UnaryFn::Neg, sin)?;
        let made = if self.to_real() { 1 } else { 2 };
        let one = Dim::from(1i64);
        let mut rows = Vec::new();
        for row in [[cos, sin], [minus, cos]].into_iter().take(parts as usize) {
            let mut columns = Vec::new();
            for column in row.into_iter().take(made) {
                let mut shape = x.shape(column);
                shape.insert(1, one.clone());
                shape.push(one.clone());
                columns.push(x.reshape(column, shape)?);
            }
            rows.push(concatenated(x, columns, 3)?);
        }
        let table = concatenated(x, rows, 1)?;
        x.cast(table, dtype)
    }

    /// The transform along `axis`.
    fn apply(&self, x: &mut Use<'_, '_, '_>, signal: V, axis: usize) -> Result<V, Fault> {
        let given = x.dtype(signal);
        let dtype = computed_in(&[given]);
        let signal = x.cast(signal, dtype)?;
        let size = x.shape(signal)[axis].clone();
        let elements = x.facts().minimum(&size, &self.taken());
        let signal = x.part(signal, axis, 0i64, elements.clone())?;
        let parts = self.parts(x, signal)?;
        let known = [&self.length, &elements, &self.results()].map(Dim::as_const);
        let result = match known {
            [Some(length), Some(elements), Some(results)] => {
                let in_steps = (LONGEST_TABLE + 1..=LONGEST).contains(&length);
                if in_steps && !self.to_real() && factor(length).is_some() {
                    let missing = Dim::from(length - elements);
                    let signal = lengthened(x, signal, axis, missing)?;
                    let whole = self.in_steps(x, signal, axis, length)?;
                    x.part(whole, axis, 0i64, results)?
                } else {
                    let table = self.table(dtype, length, (elements, parts), results)?;
                    let table = x.constant(table);
                    product(x, signal, axis, table)?
                }
            }
            _ => {
                let table = self.open_table(x, dtype, &elements, parts)?;
                product(x, signal, axis, table)?
            }
        };
        x.cast(result, given)
    }

    /// 1 for real numbers, 2 for complex ones.
    fn parts(&self, x: &Use<'_, '_, '_>, signal: V) -> Result<i64, Fault> {
        let last = x.shape(signal).pop().unwrap_or_default();
        if last.as_const().is_none() {
            return Err(Fault::unsupported(
                format!(
                    "whether numbers are real or complex must be known, but there are `{last}` parts"
                ),
                "fix the last dimension of the signal with --dim",
            ));
        }
        last.as_const().filter(|parts| (1..=2).contains(parts)).ok_or_else(|| {
            let ty = x.ty(signal);
            Fault::malformed(format!("the last dimension of {ty} must be 1 (real) or 2 (complex)"))
        })
    }

    /// Cooley and Tukey's factorisation, "An algorithm for the machine calculation of complex
    /// Fourier series", 1965: with `n = b·n₁ + n₂` and `k = k₁ + a·k₂` the transform of length
    /// `a·b` is one of length `a` over `n₁`, a rotation by `n₂·k₁`, and one of length `b` over `n₂`.
    fn in_steps(
        &self,
        x: &mut Use<'_, '_, '_>,
        signal: V,
        axis: usize,
        length: i64,
    ) -> Result<V, Fault> {
        let whole = Transform { length: Dim::from(length), onesided: false, ..self.clone() };
        let dtype = x.dtype(signal);
        let parts = self.parts(x, signal)?;
        let Some(a) = factor(length).filter(|_| length > LONGEST_TABLE) else {
            let table = whole.table(dtype, length, (length, parts), length)?;
            let table = x.constant(table);
            return product(x, signal, axis, table);
        };
        let b = length / a;
        let mut shape = x.shape(signal);
        shape.splice(axis..=axis, [Dim::from(a), Dim::from(b)]);
        let apart = x.reshape(signal, shape)?;
        let first = whole.in_steps(x, apart, axis, a)?;
        // Scaled by the two transforms already.
        let turn = Transform { inverse: false, ..whole.clone() };
        let mut values = Vec::new();
        for k in 0..a {
            for n in 0..b {
                let [row, _] = turn.factors(length, n, k);
                let sin = if self.inverse { -row[1] } else { row[1] };
                values.extend([row[0], sin, -sin, row[0]]);
            }
        }
        let sizes = vec![a as usize, b as usize, 2, 2];
        let turns = Tensor::from_f64(dtype, sizes, &values);
        let turns = turns.map_err(|error| Fault::malformed(error.to_string()))?;
        let turns = x.constant(turns);
        let rank = x.rank(first);
        let labels = labels(rank + 1)?;
        let (own, new) = (labels[..rank].to_vec(), labels[rank]);
        let rhs = vec![own[axis], own[axis + 1], own[rank - 1], new];
        let out = [&own[..rank - 1], &[new]].concat();
        let spec = ContractSpec { lhs: own, rhs, out };
        let turned = x.add(Contract { spec }, &[first, turns])?;
        let second = whole.in_steps(x, turned, axis + 1, b)?;
        let mut perm: Vec<usize> = (0..rank).collect();
        perm.swap(axis, axis + 1);
        let ordered = x.transpose(second, perm)?;
        let mut shape = x.shape(ordered);
        shape.splice(axis..=axis + 1, [Dim::from(length)]);
        x.reshape(ordered, shape)
    }
}

/// Sine and cosine of `number/length` of a turn. Whole eighths of a turn are taken off first, so
/// that what is 0, 1 or equal stays so.
fn sin_cos(number: i64, length: i64) -> (f64, f64) {
    let (eight, length) = (i128::from(number) * 8, i128::from(length.max(1)));
    let (octant, rest) = (eight.div_euclid(length), eight.rem_euclid(length));
    let octant = octant.rem_euclid(8);
    // Odd octants are measured from their end.
    let within = if octant % 2 == 0 { rest } else { length - rest };
    let angle = TAU / 8.0 * (within as f64 / length as f64);
    let (sin, cos) = angle.sin_cos();
    match octant {
        0 => (sin, cos),
        1 => (cos, sin),
        2 => (cos, -sin),
        3 => (sin, -cos),
        4 => (-sin, -cos),
        5 => (-cos, -sin),
        6 => (-cos, sin),
        _ => (-sin, cos),
    }
}

/// The factor of a number that is nearest to its root from below, if it is not prime.
fn factor(number: i64) -> Option<i64> {
    let root = (number.max(0) as f64).sqrt() as i64;
    (2..=root).rev().find(|candidate| number % candidate == 0)
}

/// Letters for dimensions.
fn labels(count: usize) -> Result<Vec<u8>, Fault> {
    let labels: Vec<u8> = (b'a'..=b'z').chain(b'A'..=b'Z').take(count).collect();
    if labels.len() == count {
        return Ok(labels);
    }
    Err(Fault::unsupported("the signal has too many dimensions", "join some with Reshape"))
}

/// The sum over `axis` and the last dimension of the products with a table
/// `[elements, parts, results, parts]`.
fn product(x: &mut Use<'_, '_, '_>, signal: V, axis: usize, table: V) -> Result<V, Fault> {
    let rank = x.rank(signal);
    let labels = labels(rank + 2)?;
    let lhs = labels[..rank].to_vec();
    let (results, parts) = (labels[rank], labels[rank + 1]);
    let rhs = vec![lhs[axis], lhs[rank - 1], results, parts];
    let mut out = lhs.clone();
    (out[axis], out[rank - 1]) = (results, parts);
    x.add(Contract { spec: ContractSpec { lhs, rhs, out } }, &[signal, table])
}

fn concatenated(x: &mut Use<'_, '_, '_>, parts: Vec<V>, axis: usize) -> Result<V, Fault> {
    match parts.as_slice() {
        [only] => Ok(*only),
        _ => x.add(op::Concat { axis }, &parts),
    }
}

/// The tensor with zeros at the end of a dimension.
fn lengthened(x: &mut Use<'_, '_, '_>, v: V, axis: usize, missing: Dim) -> Result<V, Fault> {
    if missing.is(0) {
        return Ok(v);
    }
    let before = vec![Dim::from(0i64); x.rank(v)];
    let mut after = before.clone();
    after[axis] = missing;
    let zero = x.scalar(x.dtype(v), 0.0)?;
    x.add(op::Pad { before, after, mode: op::PadMode::Constant }, &[v, zero])
}

/// A number that is given as a tensor of one element.
fn one_size(x: &mut Use<'_, '_, '_>, v: V, what: &str) -> Result<Dim, Fault> {
    let dims = x.dims(v, what)?;
    let [dim] = dims.as_slice() else {
        return Err(Fault::malformed(format!("{what} must be one number, but is {}", x.ty(v))));
    };
    if dim.as_const().is_some_and(|size| size < 1) {
        return Err(Fault::malformed(format!("{what} must be at least 1, but is {dim}")));
    }
    Ok(dim.clone())
}

fn floats(x: &Use<'_, '_, '_>, signal: V) -> Result<(), Fault> {
    if x.dtype(signal).is_float() && x.rank(signal) >= 2 {
        return Ok(());
    }
    let ty = x.ty(signal);
    Err(Fault::malformed(format!("the signal must be floats with a dimension for parts, not {ty}")))
}

fn dft(x: &mut Use<'_, '_, '_>) -> Results {
    let signal = x.input(0)?;
    floats(x, signal)?;
    let axis = match (x.opset() < 20, x.optional(2)) {
        (true, _) => x.int_or("axis", 1)?,
        (false, None) => -2,
        (false, Some(axis)) if !x.is_known(axis) => return along_data(x, signal, axis),
        (false, Some(axis)) => match x.integers(axis, "the axis")?.as_slice() {
            [axis] => *axis,
            _ => return Err(Fault::malformed("the axis must be one number")),
        },
    };
    let rank = x.rank(signal);
    let axis = x.axis(axis, rank)?;
    if axis == rank - 1 {
        return Err(Fault::malformed("the last dimension holds parts and cannot be transformed"));
    }
    let (inverse, onesided) = (x.flag("inverse", false)?, x.flag("onesided", false)?);
    let size = x.shape(signal)[axis].clone();
    let length = match x.optional(1) {
        Some(length) => one_size(x, length, "the length of the transform")?,
        None if inverse && onesided => (size - Dim::from(1i64)) * Dim::from(2i64),
        None => size,
    };
    Ok(vec![Transform { length, inverse, onesided }.apply(x, signal, axis)?])
}

/// A transform along an axis that is data: it is moved before the parts, and back then.
fn along_data(x: &mut Use<'_, '_, '_>, signal: V, axis: V) -> Results {
    let rank = x.rank(signal);
    if x.count(axis)? != 1 {
        return Err(Fault::malformed("the axis must be one number"));
    }
    let axis = x.late_axes(axis, rank)?;
    let marked = x.among(axis, rank)?;
    let parts = x.add(op::Iota { length: Dim::from(rank) }, &[])?;
    let parts = x.with_number(BinaryFn::Equal, parts, (rank - 1) as f64)?;
    let moved = x.binary(BinaryFn::Or, marked, parts)?;
    let order = x.marked_last(moved, 2)?;
    let last = x.permuted(signal, order)?;
    let (shape, own) = (x.shape(last), x.shape(signal)[rank - 1].clone());
    let shape = [&shape[..rank - 1], &[own]].concat();
    let last = x.assume(last, shape)?;
    let (inverse, onesided) = (x.flag("inverse", false)?, x.flag("onesided", false)?);
    let size = x.shape(last)[rank - 2].clone();
    let length = match x.optional(1) {
        Some(length) => one_size(x, length, "the length of the transform")?,
        None if inverse && onesided => (size - Dim::from(1i64)) * Dim::from(2i64),
        None => size,
    };
    let made = Transform { length, inverse, onesided }.apply(x, last, rank - 2)?;
    let parts = x.shape(made)[rank - 1].clone();
    let back = x.inverse(order)?;
    let made = x.permuted(made, back)?;
    let shape = [&x.shape(made)[..rank - 1], &[parts]].concat();
    Ok(vec![x.assume(made, shape)?])
}

fn stft(x: &mut Use<'_, '_, '_>) -> Results {
    let mut signal = x.input(0)?;
    floats(x, signal)?;
    if x.rank(signal) == 2 {
        let shape = [x.shape(signal), vec![Dim::from(1i64)]].concat();
        signal = x.reshape(signal, shape)?;
    }
    let shape = x.shape(signal);
    if shape.len() != 3 {
        return Err(Fault::malformed(format!("the signal must have rank 3: {}", x.ty(signal))));
    }
    let step = one_size(x, x.input(1)?, "the step between frames")?;
    let given = x.optional(3).map(|length| one_size(x, length, "the length of a frame"));
    let given = given.transpose()?;
    let window = x.optional(2);
    if let Some(window) = window.filter(|&window| x.rank(window) != 1) {
        return Err(Fault::malformed(format!("the window must be a list: {}", x.ty(window))));
    }
    let length = match (&given, window) {
        (Some(length), _) => length.clone(),
        (None, Some(window)) => x.shape(window)[0].clone(),
        (None, None) => shape[1].clone(),
    };
    let window = match window {
        Some(window) => {
            let window = x.with_dim(window, 0, &length)?;
            if x.shape(window)[0] != length {
                let window = x.ty(window);
                let message = format!("a window {window} does not fit frames of {length}");
                return Err(Fault::malformed(message));
            }
            Some(window)
        }
        None => None,
    };
    let transform =
        Transform { length: length.clone(), inverse: false, onesided: x.flag("onesided", true)? };
    let spare = shape[1].clone() - length.clone();
    if spare.as_const().is_some_and(|spare| spare < 0) {
        let message = format!("a frame of {length} does not fit a signal of {}", shape[1]);
        return Err(Fault::malformed(message));
    }
    if let (Some(step), Some(length)) = (step.as_const(), length.as_const())
        && length <= LONGEST_FILTER
    {
        return Ok(vec![filtered(x, signal, window, &transform, (step, length))?]);
    }
    let frames = spare.floor_div(&step) + Dim::from(1i64);
    let first = x.counter(&frames, DType::I64, 0, 2)?;
    let step = x.size(&step, DType::I64)?;
    let first = x.binary(BinaryFn::Mul, first, step)?;
    let within = x.counter(&length, DType::I64, 1, 2)?;
    let places = x.binary(BinaryFn::Add, first, within)?;
    let mut framed = x.add(op::Gather { axis: 1 }, &[signal, places])?;
    if let Some(window) = window {
        let window = x.cast(window, x.dtype(signal))?;
        let window = x.along(window, 0, 2)?;
        framed = x.binary(BinaryFn::Mul, framed, window)?;
    }
    Ok(vec![transform.apply(x, framed, 2)?])
}

/// The transform of frames as a convolution, whose filters are the rows of the table under the
/// window.
fn filtered(
    x: &mut Use<'_, '_, '_>,
    signal: V,
    window: Option<V>,
    transform: &Transform,
    (step, length): (i64, i64),
) -> Result<V, Fault> {
    let given = x.dtype(signal);
    let dtype = computed_in(&[given]);
    let parts = transform.parts(x, signal)?;
    let results = transform.results().as_const().unwrap_or(length);
    let table = transform.table(dtype, length, (length, parts), results)?;
    let mut table = x.constant(table);
    if let Some(window) = window {
        let window = x.cast(window, dtype)?;
        let window = x.along(window, 0, 4)?;
        table = x.binary(BinaryFn::Mul, table, window)?;
    }
    // [elements, parts, results, parts] to filters over the operand's parts.
    let filters = x.transpose(table, vec![2, 3, 1, 0])?;
    let filters = x.reshape(filters, [2 * results, parts, length].map(Dim::from).to_vec())?;
    let signal = x.cast(signal, dtype)?;
    let signal = x.transpose(signal, vec![0, 2, 1])?;
    let conv = op::Conv {
        strides: vec![step as usize],
        dilations: vec![1],
        before: vec![0],
        after: vec![0],
        groups: 1,
        layout: op::ConvLayout::ChannelsFirst,
    };
    let made = x.add(conv, &[signal, filters])?;
    let made = x.transpose(made, vec![0, 2, 1])?;
    let mut shape = x.shape(made);
    shape.splice(2..=2, [Dim::from(results), Dim::from(2i64)]);
    let made = x.reshape(made, shape)?;
    x.cast(made, given)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn angles_are_exact_where_they_can_be() {
        assert_eq!(sin_cos(0, 7), (0.0, 1.0));
        assert_eq!(sin_cos(3, 6), (-0.0, -1.0));
        assert_eq!(sin_cos(3, 12), (1.0, -0.0));
        assert_eq!(sin_cos(9, 12), (-1.0, 0.0));
        for number in 0..360 {
            let (sin, cos) = (f64::from(number as i32) / 360.0 * TAU).sin_cos();
            let (own_sin, own_cos) = sin_cos(number, 360);
            assert!((sin - own_sin).abs() < 1e-15 && (cos - own_cos).abs() < 1e-15, "{number}");
        }
    }

    #[test]
    fn lengths_are_split_near_their_root() {
        assert_eq!(factor(1024), Some(32));
        assert_eq!(factor(400), Some(20));
        assert_eq!(factor(6), Some(2));
        assert_eq!(factor(1009), None);
        assert_eq!(factor(1), None);
    }
}
