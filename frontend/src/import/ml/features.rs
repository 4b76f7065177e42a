//! Operators on features by themselves: chosen, scaled, filled in, encoded.
//!
//! Invariant: where features have numbers of their own, they are along the last dimension.

use super::super::build::V;
use super::super::fault::Fault;
use super::super::node::Use;
use super::super::operator::{Entry, ml};
use super::super::reduction::{l1, l2};
use super::attributes::{integers, numbers, places, table, texts};
use kiln_ir::op::{self, BinaryFn, ReduceFn, UnaryFn};
use kiln_tensor::{DType, Dim};

type Results = Result<Vec<V>, Fault>;

pub(super) const OPERATORS: &[Entry] = &[
    ml("ArrayFeatureExtractor", 1, extract),
    ml("Binarizer", 1, binarize),
    ml("FeatureVectorizer", 1, vectorize),
    ml("Imputer", 1, impute),
    ml("Normalizer", 1, normalize),
    ml("OneHotEncoder", 1, one_hot),
    ml("Scaler", 1, scale),
];

/// Features by their places, of one row if the operand is a vector.
fn extract(x: &mut Use<'_, '_, '_>) -> Results {
    let (operand, places) = (x.input(0)?, x.input(1)?);
    let Some(last) = x.rank(operand).checked_sub(1) else {
        return Err(Fault::malformed("a scalar has no features"));
    };
    let count = x.ty(places).elements();
    let places = x.reshape(places, vec![count])?;
    let size = x.shape(operand)[last].clone();
    x.inside(places, &[size])?;
    let chosen = x.add(op::Gather { axis: last }, &[operand, places])?;
    if last > 0 {
        return Ok(vec![chosen]);
    }
    let row = [vec![Dim::from(1i64)], x.shape(chosen)].concat();
    Ok(vec![x.reshape(chosen, row)?])
}

fn binarize(x: &mut Use<'_, '_, '_>) -> Results {
    let operand = x.input(0)?;
    let threshold = x.float_or("threshold", 0.0)?;
    let above = x.with_number(BinaryFn::Greater, operand, threshold)?;
    Ok(vec![x.cast(above, x.dtype(operand))?])
}

/// The first `count` features of each row, with zeros where there are fewer.
fn of_width(x: &mut Use<'_, '_, '_>, v: V, count: i64) -> Result<V, Fault> {
    let shape = x.shape(v);
    let (batch, features) = match &shape[..] {
        [] => return Err(Fault::malformed("a scalar has no features")),
        [features] => (Dim::from(1i64), features.clone()),
        [batch, rest @ ..] => (batch.clone(), rest.iter().cloned().product()),
    };
    let matrix = x.reshape(v, vec![batch.clone(), features.clone()])?;
    let matrix = x.cast(matrix, DType::F32)?;
    let Some(own) = features.as_const() else {
        return x.with_dim(matrix, 1, &Dim::from(count));
    };
    if own >= count {
        let (starts, sizes) = (vec![Dim::from(0i64); 2], vec![batch, Dim::from(count)]);
        return x.add(op::Slice { starts, sizes, steps: vec![1; 2] }, &[matrix]);
    }
    let before = vec![Dim::from(0i64); 2];
    let after = vec![Dim::from(0i64), Dim::from(count - own)];
    let zero = x.scalar(DType::F32, 0.0)?;
    x.add(op::Pad { before, after, mode: op::PadMode::Constant }, &[matrix, zero])
}

fn vectorize(x: &mut Use<'_, '_, '_>) -> Results {
    let (operands, counts) = (x.all_inputs()?, integers(x, "inputdimensions")?);
    if operands.is_empty() || operands.len() != counts.len() || counts.iter().any(|&n| n < 0) {
        let given = operands.len();
        return Err(Fault::malformed(format!("inputdimensions {counts:?} for {given} operands")));
    }
    let mut parts = Vec::with_capacity(operands.len());
    for (v, count) in operands.into_iter().zip(counts) {
        parts.push(of_width(x, v, count)?);
    }
    let parts = x.agreeing(&parts, |axis| axis == 1)?;
    Ok(vec![if let [only] = parts[..] { only } else { x.add(op::Concat { axis: 1 }, &parts)? }])
}

fn impute(x: &mut Use<'_, '_, '_>) -> Results {
    let operand = x.input(0)?;
    let dtype = x.dtype(operand);
    let (floats, ints) =
        (numbers(x, "imputed_value_floats")?, integers(x, "imputed_value_int64s")?);
    let floating = dtype.is_float();
    let count = if floating { floats.len() } else { ints.len() };
    if count == 0 {
        return Err(Fault::malformed(format!("there are no imputed values for {dtype}")));
    }
    let values = if floating {
        table(x, dtype, vec![count], &floats)?
    } else {
        let values = places(x, &ints)?;
        x.cast(values, dtype)?
    };
    // One for each feature, or the first for all.
    let features = x.shape(operand).last().cloned().unwrap_or(Dim::from(1i64));
    let values = if features.is(count as i64) {
        values
    } else {
        let first = op::Slice {
            starts: vec![Dim::from(0i64)],
            sizes: vec![Dim::from(1i64)],
            steps: vec![1],
        };
        x.add(first, &[values])?
    };
    let missing = if floating {
        let replaced = x.float_or("replaced_value_float", 0.0)?;
        if replaced.is_nan() {
            x.unary(UnaryFn::IsNan, operand)?
        } else {
            x.with_number(BinaryFn::Equal, operand, replaced)?
        }
    } else {
        let replaced = places(x, &[x.int_or("replaced_value_int64", 0)?])?;
        let replaced = x.reshape(replaced, Vec::new())?;
        let wide = x.cast(operand, DType::I64)?;
        x.binary(BinaryFn::Equal, wide, replaced)?
    };
    Ok(vec![x.select(missing, values, operand)?])
}

/// Each row over its greatest element or its length, which is left as it is where that is 0.
fn normalize(x: &mut Use<'_, '_, '_>) -> Results {
    let operand = x.input(0)?;
    let rank = x.rank(operand);
    if !(1..=2).contains(&rank) {
        let ty = x.ty(operand);
        return Err(Fault::malformed(format!("the operand must have rank 1 or 2, but is {ty}")));
    }
    let axes = [rank - 1];
    let v = x.cast(operand, DType::F32)?;
    let norm = match x.string_or("norm", "MAX")? {
        "MAX" => x.reduce(ReduceFn::Max, v, axes.to_vec(), true)?,
        "L1" => l1(x, v, &axes)?,
        "L2" => l2(x, v, &axes)?,
        other => return Err(Fault::malformed(format!("norm `{other}` is not known"))),
    };
    let nothing = x.with_number(BinaryFn::Equal, norm, 0.0)?;
    let one = x.scalar(DType::F32, 1.0)?;
    let divisor = x.select(nothing, one, norm)?;
    Ok(vec![x.binary(BinaryFn::Div, v, divisor)?])
}

/// A new last dimension with 1 at the category. A value of no category gives zeros, or is an error
/// if `zeros` is 0.
fn one_hot(x: &mut Use<'_, '_, '_>) -> Results {
    let operand = x.input(0)?;
    let (ints, strings) = (integers(x, "cats_int64s")?, x.strings("cats_strings")?);
    if !ints.is_empty() && !strings.is_empty() {
        return Err(Fault::malformed("`cats_int64s` and `cats_strings` are both given"));
    }
    let of_strings = x.dtype(operand) == DType::String;
    if if of_strings { strings.is_empty() } else { ints.is_empty() } {
        let ty = x.ty(operand);
        return Err(Fault::malformed(format!("there are no categories for {ty}")));
    }
    let mut shape = x.shape(operand);
    shape.push(Dim::from(1i64));
    let column = x.reshape(operand, shape.clone())?;
    let (column, categories) = if of_strings {
        (column, texts(x, &strings)?)
    } else {
        (x.cast(column, DType::I64)?, places(x, &ints)?)
    };
    let hot = x.binary(BinaryFn::Equal, column, categories)?;
    if !x.flag("zeros", true)? {
        let ones = x.cast(hot, DType::I64)?;
        let count = x.reduce(ReduceFn::Sum, ones, vec![shape.len() - 1], false)?;
        let all = x.shape(categories).first().cloned().unwrap_or_default();
        let what = "how many categories an element equals (`zeros` is 0)";
        x.within(count, what, [&Dim::from(1i64), &all])?;
    }
    Ok(vec![x.cast(hot, DType::F32)?])
}

/// `(x − offset)·scale`.
fn scale(x: &mut Use<'_, '_, '_>) -> Results {
    let operand = x.input(0)?;
    let features = x.shape(operand).last().cloned().unwrap_or(Dim::from(1i64));
    let mut result = x.cast(operand, DType::F32)?;
    for (name, f) in [("offset", BinaryFn::Sub), ("scale", BinaryFn::Mul)] {
        let values = numbers(x, name)?;
        if values.is_empty() {
            continue;
        }
        let count = values.len();
        if count != 1 && features.as_const().is_some_and(|features| features != count as i64) {
            let message = format!("{count} numbers of `{name}` are given for {features} features");
            return Err(Fault::malformed(message));
        }
        let values = table(x, DType::F32, vec![count], &values)?;
        result = x.binary(f, result, values)?;
    }
    Ok(vec![result])
}
