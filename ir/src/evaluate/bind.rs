//! Values of symbols from the sizes of tensors.
//!
//! Invariant: a symbol that is bound is never bound to anything else, and every dimension whose
//! symbols are known has been compared.

use super::EvaluateError;
use crate::graph::{Graph, TensorType, ValueId};
use crate::op::{Bind, Check, OpError, Operation};
use kiln_tensor::{Atom, Dim, Symbol, SymbolValues, Tensor};

/// Compares tensors with the types of values and binds the symbols that these determine: those
/// that stand alone, and those that a linear expression of one unknown gives.
pub(super) fn bind<'t>(
    graph: &Graph,
    tensors: impl Iterator<Item = (ValueId, &'t Tensor)>,
    symbols: &mut SymbolValues,
) -> Result<(), EvaluateError> {
    let mut open: Vec<(ValueId, &Dim, i64)> = Vec::new();
    for (id, tensor) in tensors {
        let ty = graph.ty(id);
        if ty.dtype != tensor.dtype() || ty.rank() != tensor.sizes().len() {
            return Err(EvaluateError::Type {
                name: name(graph, id),
                expected: ty.clone(),
                actual: TensorType::of(tensor),
            });
        }
        let sizes = tensor.sizes().iter().map(|&size| i64::try_from(size).unwrap_or(i64::MAX));
        open.extend(ty.shape.iter().zip(sizes).map(|(dim, size)| (id, dim, size)));
    }
    loop {
        let mut later = Vec::new();
        let before = open.len();
        for (id, dim, size) in open {
            if !settle(graph, id, dim, size, symbols)? {
                later.push((id, dim, size));
            }
        }
        if later.is_empty() || later.len() == before {
            return Ok(());
        }
        open = later;
    }
}

/// Compares one dimension or binds its one unknown symbol; whether that could be done.
fn settle(
    graph: &Graph,
    id: ValueId,
    dim: &Dim,
    size: i64,
    symbols: &mut SymbolValues,
) -> Result<bool, EvaluateError> {
    let known = dim.substitute(&|symbol| symbols.get(symbol).copied().map(Dim::from));
    let mut unknown = Default::default();
    known.collect_symbols(&mut unknown);
    let conflict = |expected: i64| EvaluateError::Conflict {
        name: name(graph, id),
        dim: dim.to_string(),
        expected,
        actual: size,
    };
    if unknown.is_empty() {
        let expected = dim.evaluate(symbols);
        let expected =
            expected.map_err(|error| EvaluateError::Dim { name: name(graph, id), error })?;
        return if expected == size { Ok(true) } else { Err(conflict(expected)) };
    }
    let Some((symbol, factor, offset)) = linear(&known) else { return Ok(false) };
    let rest = size.saturating_sub(offset);
    let value = rest.checked_div(factor).unwrap_or(0);
    if value.saturating_mul(factor) != rest {
        return Err(conflict(value.saturating_mul(factor).saturating_add(offset)));
    }
    if let Some(&bounds) = graph.symbols.get(symbol)
        && (value < bounds.min || bounds.max.is_some_and(|max| value > max))
    {
        let (name, symbol) = (name(graph, id), symbol.clone());
        return Err(EvaluateError::Bounds { name, symbol, value, bounds });
    }
    symbols.insert(symbol.clone(), value);
    Ok(true)
}

/// `(s, factor, offset)` if the expression is `factor·s + offset`.
fn linear(dim: &Dim) -> Option<(&Symbol, i64, i64)> {
    let (offset, (monomial, factor)) = match dim.terms() {
        [term] => (0, term),
        [(constant, offset), term] if constant.is_empty() => (*offset, term),
        _ => return None,
    };
    match monomial.as_slice() {
        [Atom::Symbol(symbol)] => Some((symbol, *factor, offset)),
        _ => None,
    }
}

fn name(graph: &Graph, id: ValueId) -> String {
    graph.value(id).name.as_ref().map_or_else(|| format!("%{}", id.0), |name| name.to_string())
}

/// Gives the symbols of a [`Bind`] their values.
pub(super) fn assign(
    graph: &Graph,
    op: &Bind,
    operands: &[Tensor],
    symbols: &mut SymbolValues,
) -> Result<(), OpError> {
    op.results(operands)?;
    let values = operands.first().map(Tensor::to_i64).unwrap_or_default();
    for (symbol, value) in op.bound(&values) {
        let bounds = graph.symbols.get(symbol).copied().unwrap_or_default();
        if value < bounds.min || bounds.max.is_some_and(|max| value > max) {
            return Err(OpError::new(format!("`{symbol}` is {value}, outside of {bounds}")));
        }
        if let Some(before) = symbols.insert(symbol.clone(), value).filter(|&old| old != value) {
            return Err(OpError::new(format!("`{symbol}` is {before}, but also {value}")));
        }
    }
    Ok(())
}

/// Compares the sizes of a [`Check`].
pub(super) fn check(op: &Check, symbols: &SymbolValues) -> Result<(), OpError> {
    for (left, right) in op.left.iter().zip(&op.right) {
        let unequal = left.unequal(right, symbols);
        if let Some(unequal) = unequal.map_err(|error| OpError::new(error.to_string()))? {
            return Err(OpError::new(unequal.to_string()));
        }
    }
    Ok(())
}
