//! Operators that make tensors out of sizes, numbers and constants, or pass them on.
//!
//! Invariant: a size that depends on the model's inputs stays an expression over its symbols.

use super::build::V;
use super::fault::Fault;
use super::node::Use;
use super::operator::{Entry, onnx};
use super::scalar::Scalar;
use crate::resolve::Attribute;
use kiln_ir::op::{self, BinaryFn, UnaryFn};
use kiln_tensor::{DType, Dim, Tensor, TensorError};

type Results = Result<Vec<V>, Fault>;

pub(super) const OPERATORS: &[Entry] = &[
    onnx("Constant", 1, constant),
    onnx("ConstantOfShape", 9, constant_of_shape),
    onnx("EyeLike", 9, eye_like),
    onnx("Identity", 1, identity),
    onnx("OneHot", 9, one_hot),
    onnx("Range", 11, range),
    onnx("Shape", 1, shape),
    onnx("Size", 1, size),
    onnx("Trilu", 14, trilu),
];

fn identity(x: &mut Use<'_, '_, '_>) -> Results {
    Ok(vec![x.input(0)?])
}

fn constant(x: &mut Use<'_, '_, '_>) -> Results {
    let (name, attribute) = match x.node.attributes.iter().next() {
        Some((name, attribute)) if x.node.attributes.len() == 1 => (*name, attribute),
        _ => return Err(Fault::malformed("a constant must have exactly one attribute")),
    };
    let made = |tensor: Result<Tensor, TensorError>| {
        tensor.map_err(|error| Fault::malformed(error.to_string()))
    };
    let tensor = match (name, attribute) {
        ("value", Attribute::Tensor(tensor)) => {
            let tensor = x.importer.model.tensor(tensor);
            tensor.map_err(|error| {
                let (message, help) = (error.to_string(), error.help().to_owned());
                Fault::Problem { kind: crate::ProblemKind::Tensor, message, help }
            })?
        }
        ("value_float", Attribute::Float(value)) => made(Tensor::scalar(*value))?,
        ("value_int", Attribute::Int(value)) => made(Tensor::scalar(*value))?,
        ("value_floats", Attribute::Floats(values)) => {
            made(Tensor::from_slice(vec![values.len()], values))?
        }
        ("value_ints", Attribute::Ints(values)) => {
            made(Tensor::from_slice(vec![values.len()], values))?
        }
        ("value_string", Attribute::String(_)) => {
            made(Tensor::from_strings(Vec::new(), &[x.string_or(name, "")?]))?
        }
        ("value_strings", Attribute::Strings(_)) => {
            let texts = x.strings(name)?;
            made(Tensor::from_strings(vec![texts.len()], &texts))?
        }
        (name, _) => {
            let message = format!("a constant by attribute `{name}` is not supported");
            return Err(Fault::unsupported(message, "store it as a dense tensor"));
        }
    };
    Ok(vec![x.constant(tensor)])
}

fn shape(x: &mut Use<'_, '_, '_>) -> Results {
    let operand = x.input(0)?;
    let shape = x.shape(operand);
    let rank = shape.len() as i64;
    let bound =
        |at: i64| (if at < 0 { at.saturating_add(rank) } else { at }).clamp(0, rank) as usize;
    let (start, end) = (bound(x.int_or("start", 0)?), bound(x.int_or("end", rank)?));
    let dims = shape.get(start..end).unwrap_or_default().to_vec();
    Ok(vec![x.add(op::SizeOf { dims, scalar: false }, &[])?])
}

fn size(x: &mut Use<'_, '_, '_>) -> Results {
    let operand = x.input(0)?;
    let dims = vec![x.ty(operand).elements()];
    Ok(vec![x.add(op::SizeOf { dims, scalar: true }, &[])?])
}

fn constant_of_shape(x: &mut Use<'_, '_, '_>) -> Results {
    let target = x.input(0)?;
    x.of_rank(target, 1, "the shape of the constant")?;
    let shape = x.dims(target, "the shape of the constant")?;
    if let Some(dim) = shape.iter().find(|dim| dim.as_const().is_some_and(|size| size < 0)) {
        return Err(Fault::malformed(format!("the constant's shape has a dimension of {dim}")));
    }
    let value = match x.attribute("value") {
        None => x.scalar(DType::F32, 0.0)?,
        Some(Attribute::Tensor(tensor)) => {
            let tensor = x.importer.model.tensor(tensor);
            let tensor = tensor.map_err(|error| Fault::malformed(error.to_string()))?;
            let value = x.constant(tensor);
            x.reshape(value, Vec::new())?
        }
        Some(other) => {
            let name = other.type_name();
            return Err(Fault::malformed(format!("attribute `value` is {name}, not a tensor")));
        }
    };
    Ok(vec![x.broadcast(value, shape)?])
}

/// `start, start + delta, …` below `limit`.
pub(super) fn range(x: &mut Use<'_, '_, '_>) -> Results {
    let (start, limit, delta) = (x.input(0)?, x.input(1)?, x.input(2)?);
    let dtype = x.dtype(start);
    let known = [start, limit, delta].iter().all(|&v| x.is_known(v));
    let length = match known {
        true => range_length(x, start, limit, delta)?,
        false => late_range_length(x, start, limit, delta)?,
    };
    let steps = x.add(op::Iota { length }, &[])?;
    let steps = x.cast(steps, dtype)?;
    let (start, delta) = (x.reshape(start, Vec::new())?, x.reshape(delta, Vec::new())?);
    let scaled = x.binary(BinaryFn::Mul, steps, delta)?;
    Ok(vec![x.binary(BinaryFn::Add, scaled, start)?])
}

/// The length of a range whose bounds are data.
fn late_range_length(x: &mut Use<'_, '_, '_>, start: V, limit: V, delta: V) -> Result<Dim, Fault> {
    let mut bounds = [start, limit, delta];
    for bound in &mut bounds {
        let one = x.reshape(*bound, Vec::new())?;
        // Integers up to 2⁵³ are exact in f64, and no longer range fits into memory.
        *bound = x.cast(one, DType::F64)?;
    }
    let [start, limit, delta] = bounds;
    x.not_zero(delta, "the step")?;
    let span = x.binary(BinaryFn::Sub, limit, start)?;
    let count = x.binary(BinaryFn::Div, span, delta)?;
    let count = x.unary(UnaryFn::Ceil, count)?;
    let count = x.with_number(BinaryFn::Max, count, 0.0)?;
    let count = x.cast(count, DType::I64)?;
    x.sizes(count)?.pop().ok_or(Fault::Silent)
}

/// `max(⌈(limit − start)/delta⌉, 0)`.
fn range_length(x: &mut Use<'_, '_, '_>, start: V, limit: V, delta: V) -> Result<Dim, Fault> {
    let what = "the bounds of a range";
    let [start, limit, delta] =
        [x.known(start, what)?, x.known(limit, what)?, x.known(delta, what)?];
    let ([start], [limit], [delta]) = (&start[..], &limit[..], &delta[..]) else {
        return Err(Fault::malformed("a bound of the range is not one number"));
    };
    let numbers = [start, limit, delta].map(Scalar::as_number);
    if let [Some(start), Some(limit), Some(delta)] = numbers {
        let count = ((limit - start) / delta).ceil().max(0.0);
        if count.is_nan() || count > i64::MAX as f64 {
            return Err(Fault::malformed(format!("a range by steps of {delta} does not end")));
        }
        return Ok(Dim::from(count as i64));
    }
    let whole = |scalar: &Scalar| scalar.as_dim().cloned();
    let (Some(start), Some(limit), Some(step)) = (whole(start), whole(limit), delta.as_integer())
    else {
        return Err(Fault::data_dependent(what));
    };
    let span = match step {
        0 => return Err(Fault::malformed("a range by steps of 0 does not end")),
        step if step > 0 => limit - start,
        _ => start - limit,
    };
    let zero = Dim::from(0i64);
    let span = if x.facts().at_least_of_sizes(&span, &zero) {
        span
    } else {
        x.facts().maximum(&span, &zero)
    };
    Ok(span.ceil_div(&Dim::from(step.saturating_abs())))
}

/// 0, 1, 2 and so on along one of `rank` dimensions.
pub(super) fn counted(
    x: &mut Use<'_, '_, '_>,
    length: Dim,
    axis: usize,
    rank: usize,
) -> Result<V, Fault> {
    let numbers = x.add(op::Iota { length }, &[])?;
    x.along(numbers, axis, rank)
}

/// Whether `column − row` is compared with `k` as `f` says, over the last two dimensions.
fn diagonal(x: &mut Use<'_, '_, '_>, f: BinaryFn, shape: &[Dim], k: V) -> Result<V, Fault> {
    let [.., rows, columns] = shape else {
        return Err(Fault::malformed("the operand must have at least 2 dimensions"));
    };
    let row = counted(x, rows.clone(), 0, 2)?;
    let column = counted(x, columns.clone(), 1, 2)?;
    let distance = x.binary(BinaryFn::Sub, column, row)?;
    x.binary(f, distance, k)
}

pub(super) fn trilu(x: &mut Use<'_, '_, '_>) -> Results {
    let operand = x.input(0)?;
    let k = match x.optional(1) {
        Some(k) => x.reshape(k, Vec::new())?,
        None => x.scalar(DType::I64, 0.0)?,
    };
    let upper = x.flag("upper", true)?;
    let f = if upper { BinaryFn::GreaterEqual } else { BinaryFn::LessEqual };
    let (shape, dtype) = (x.shape(operand), x.dtype(operand));
    let kept = diagonal(x, f, &shape, k)?;
    let zero = x.scalar(dtype, 0.0)?;
    Ok(vec![x.select(kept, operand, zero)?])
}

fn eye_like(x: &mut Use<'_, '_, '_>) -> Results {
    let operand = x.input(0)?;
    x.of_rank(operand, 2, "the operand")?;
    let dtype = match x.int("dtype")? {
        None => x.dtype(operand),
        Some(number) => i32::try_from(number)
            .ok()
            .and_then(|number| crate::read::element_type(number).ok())
            .ok_or_else(|| Fault::malformed(format!("type {number} is not known")))?,
    };
    let k = x.int_or("k", 0)?;
    let k = x.constant(Tensor::scalar(k).map_err(|error| Fault::malformed(error.to_string()))?);
    let shape = x.shape(operand);
    let on = diagonal(x, BinaryFn::Equal, &shape, k)?;
    Ok(vec![x.cast(on, dtype)?])
}

/// `values` holds what stands elsewhere and at the index; negative indices count from the end.
fn one_hot(x: &mut Use<'_, '_, '_>) -> Results {
    let (indices, depth, values) = (x.input(0)?, x.input(1)?, x.input(2)?);
    x.of_some_rank(indices, "the indices")?;
    let values = x.of_dims(values, &[Dim::from(2i64)], "the values")?;
    let rank = x.rank(indices);
    let axis = x.axis(x.int_or("axis", -1)?, rank + 1)?;
    let contents = match x.importer.build.contents(depth) {
        Some(contents) => contents,
        None => {
            let whole = x.cast(depth, DType::I64)?;
            x.sizes(whole)?.into_iter().map(Scalar::whole).collect()
        }
    };
    let depth = match &contents[..] {
        [depth] => match (depth.as_dim(), depth.as_number()) {
            (Some(depth), _) => depth.clone(),
            (None, Some(depth)) => Dim::from(depth as i64),
            (None, None) => return Err(Fault::data_dependent("the depth")),
        },
        other => return Err(Fault::malformed(format!("the depth has {} elements", other.len()))),
    };
    let mut shape = x.shape(indices);
    shape.insert(axis, Dim::from(1i64));
    let indices = x.reshape(indices, shape)?;
    let indices = x.cast(indices, DType::I64)?;
    let depth_value = x.add(op::SizeOf { dims: vec![depth.clone()], scalar: true }, &[])?;
    let from_end = x.binary(BinaryFn::Add, indices, depth_value)?;
    let negative = x.with_number(BinaryFn::Less, indices, 0.0)?;
    let indices = x.select(negative, from_end, indices)?;
    let places = counted(x, depth, axis, rank + 1)?;
    let hot = x.binary(BinaryFn::Equal, indices, places)?;
    let mut parts = [values; 2];
    for (number, part) in parts.iter_mut().enumerate() {
        let starts = vec![Dim::from(number)];
        let slice = op::Slice { starts, sizes: vec![Dim::from(1i64)], steps: vec![1] };
        let value = x.add(slice, &[values])?;
        *part = x.reshape(value, Vec::new())?;
    }
    Ok(vec![x.select(hot, parts[1], parts[0])?])
}
