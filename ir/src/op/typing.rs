//! Rules that the type inference of many operations shares: operand counts, element types, axes,
//! equal dimensions, broadcasting.
//!
//! Invariant: two dimensions agree only if their normal forms are equal; what might agree at run
//! time is an error here that says how to make it certain.

use super::OpError;
use crate::graph::{Graph, TensorType};
use kiln_tensor::{DType, Dim};

/// The operands, if there are exactly `N`.
pub(super) fn exactly<'a, const N: usize>(
    inputs: &[&'a TensorType],
) -> Result<[&'a TensorType; N], OpError> {
    <[&TensorType; N]>::try_from(inputs)
        .map_err(|_| OpError::new(format!("takes {}, got {}", operands(N), inputs.len())))
}

/// An error unless the number of operands is in the range.
pub(super) fn between(inputs: &[&TensorType], least: usize, most: usize) -> Result<(), OpError> {
    if (least..=most).contains(&inputs.len()) {
        return Ok(());
    }
    Err(OpError::new(format!("takes {least} to {most} operands, got {}", inputs.len())))
}

/// An error unless the node has `count` bodies.
pub(super) fn bodies(regions: &[Graph], count: usize) -> Result<(), OpError> {
    if regions.len() == count {
        return Ok(());
    }
    Err(OpError::new(format!("has {count} bodies, got {}", regions.len())))
}

fn operands(count: usize) -> String {
    if count == 1 { "1 operand".into() } else { format!("{count} operands") }
}

/// An error unless `accepts` holds for the element type.
pub(super) fn element(
    ty: &TensorType,
    what: &str,
    expected: &str,
    accepts: impl Fn(DType) -> bool,
) -> Result<(), OpError> {
    if accepts(ty.dtype) {
        return Ok(());
    }
    Err(OpError::new(format!("{what} must be {expected}, but is {ty}")))
}

/// An error unless the elements are floating-point numbers.
pub(super) fn float(ty: &TensorType, what: &str) -> Result<(), OpError> {
    element(ty, what, "of a floating-point type", DType::is_float)
}

/// An error unless the elements are integers or floating-point numbers.
pub(super) fn numeric(ty: &TensorType, what: &str) -> Result<(), OpError> {
    element(ty, what, "of an integer or floating-point type", is_numeric)
}

/// An error unless the elements are `i32` or `i64`.
pub(super) fn index(ty: &TensorType, what: &str) -> Result<(), OpError> {
    element(ty, what, "i32 or i64", |dtype| matches!(dtype, DType::I32 | DType::I64))
}

/// Whether arithmetic is defined.
pub(super) fn is_numeric(dtype: DType) -> bool {
    dtype.is_integer() || dtype.is_float()
}

/// An error unless both have one element type.
pub(super) fn same_element(a: &TensorType, b: &TensorType) -> Result<(), OpError> {
    if a.dtype == b.dtype {
        return Ok(());
    }
    Err(OpError::new(format!("operands must have one element type, but are {a} and {b}")))
}

/// An error unless the rank is `rank`.
pub(super) fn rank(ty: &TensorType, rank: usize, what: &str) -> Result<(), OpError> {
    if ty.rank() == rank {
        return Ok(());
    }
    Err(OpError::new(format!("{what} must have rank {rank}, but is {ty}")))
}

/// An error unless the type is a scalar of this element type.
pub(super) fn scalar(ty: &TensorType, dtype: DType, what: &str) -> Result<(), OpError> {
    if ty.dtype == dtype && ty.rank() == 0 {
        return Ok(());
    }
    Err(OpError::new(format!("{what} must be {dtype}[], but is {ty}")))
}

/// An error unless `axis` is a dimension of `ty`.
pub(super) fn axis(axis: usize, ty: &TensorType) -> Result<(), OpError> {
    if axis < ty.rank() {
        return Ok(());
    }
    Err(OpError::new(format!("axis {axis} does not exist in {ty} of rank {}", ty.rank())))
}

/// An error unless an attribute has an entry for each of `count` dimensions.
pub(super) fn entries(length: usize, count: usize, what: &str) -> Result<(), OpError> {
    if length == count {
        return Ok(());
    }
    Err(OpError::new(format!("{what} has {length} entries, but there are {count} dimensions")))
}

/// An error unless no entry is zero.
pub(super) fn positive(values: &[usize], what: &str) -> Result<(), OpError> {
    if values.contains(&0) {
        return Err(OpError::new(format!("{what} must be at least 1 everywhere: {values:?}")));
    }
    Ok(())
}

/// An error unless the dimensions are equal.
pub(super) fn equal_dims(a: &Dim, b: &Dim, what: &str) -> Result<(), OpError> {
    if a == b {
        return Ok(());
    }
    Err(OpError::new(format!("{what}: {}", difference(a, b))))
}

/// An error unless the shapes are equal.
pub(super) fn equal_shapes(a: &[Dim], b: &[Dim], what: &str) -> Result<(), OpError> {
    if a.len() != b.len() {
        return Err(OpError::new(format!("{what}: {} and {} differ in rank", list(a), list(b))));
    }
    let differing = a.iter().zip(b).find(|(a, b)| a != b);
    differing.map_or(Ok(()), |(a_dim, b_dim)| {
        Err(OpError::new(format!(
            "{what}: in {} and {}, {}",
            list(a),
            list(b),
            difference(a_dim, b_dim)
        )))
    })
}

/// An error unless the types are equal.
pub(super) fn equal_types(a: &TensorType, b: &TensorType, what: &str) -> Result<(), OpError> {
    if a.dtype != b.dtype || a.rank() != b.rank() {
        return Err(OpError::new(format!("{what}: {a} and {b} differ")));
    }
    equal_shapes(&a.shape, &b.shape, what)
}

/// How two unequal dimensions differ, and what would help if they might be equal after all.
fn difference(a: &Dim, b: &Dim) -> String {
    if (a.clone() - b.clone()).as_const().is_some() {
        return format!("{a} and {b} differ");
    }
    format!("{a} and {b} cannot be shown to be equal{}", fixing(&[a, b]))
}

/// What a user can do about dimensions that are not known.
pub(super) fn fixing(dims: &[&Dim]) -> String {
    let mut symbols = Default::default();
    dims.iter().for_each(|dim| dim.collect_symbols(&mut symbols));
    let flags: Vec<String> = symbols.iter().map(|name| format!("--dim {name}=N")).collect();
    if flags.is_empty() {
        return String::new();
    }
    format!("; if they are, fix them with {}", flags.join(" or "))
}

/// `[batch, 3]`
pub(super) fn list(shape: &[Dim]) -> String {
    let dims: Vec<String> = shape.iter().map(Dim::to_string).collect();
    format!("[{}]", dims.join(", "))
}

/// The shape that NumPy's rules stretch all the shapes to.
pub(super) fn broadcast(types: &[&TensorType]) -> Result<Vec<Dim>, OpError> {
    let rank = types.iter().map(|ty| ty.rank()).max().unwrap_or(0);
    let mut shape = vec![Dim::from(1i64); rank];
    for ty in types {
        let offset = rank - ty.rank();
        for (slot, dim) in shape.iter_mut().skip(offset).zip(&ty.shape) {
            if slot.is(1) {
                *slot = dim.clone();
            } else if !dim.is(1) && slot != dim {
                let all: Vec<String> = types.iter().map(|ty| ty.to_string()).collect();
                return Err(OpError::new(format!(
                    "{} do not broadcast: {}",
                    all.join(" and "),
                    difference(slot, dim)
                )));
            }
        }
    }
    Ok(shape)
}

/// An error unless `from` stretches to exactly `to`.
pub(super) fn broadcasts_to(from: &[Dim], to: &[Dim], what: &str) -> Result<(), OpError> {
    let Some(offset) = to.len().checked_sub(from.len()) else {
        return Err(OpError::new(format!(
            "{what}: {} has more dimensions than {}",
            list(from),
            list(to)
        )));
    };
    for (dim, target) in from.iter().zip(&to[offset..]) {
        if !dim.is(1) && dim != target {
            return Err(OpError::new(format!(
                "{what}: {} does not stretch to {}: {}",
                list(from),
                list(to),
                difference(dim, target)
            )));
        }
    }
    Ok(())
}

/// How many places a window has along a dimension; where that is constant it is not negative.
pub(super) fn window_places(
    size: &Dim,
    window: &Dim,
    stride: usize,
    dilation: usize,
    padding: (i64, i64),
) -> Result<Dim, OpError> {
    let padded = size.clone() + Dim::from(padding.0) + Dim::from(padding.1);
    let extent = (window.clone() - Dim::from(1i64)) * Dim::from(dilation) + Dim::from(1i64);
    let places = (padded.clone() - extent.clone()).floor_div(&Dim::from(stride)) + Dim::from(1i64);
    if places.as_const().is_some_and(|places| places < 0) {
        return Err(OpError::new(format!(
            "a window of {extent} does not fit into {padded} (size {size} with padding {} and {})",
            padding.0, padding.1
        )));
    }
    Ok(places)
}
