//! Matrix products in all their forms.
//!
//! Invariant: each becomes one contraction for every two operands, with operands read in the
//! layout that they have.

use super::build::V;
use super::fault::Fault;
use super::node::Use;
use super::operator::{Entry, onnx};
use kiln_ir::op::{self, BinaryFn, ReduceFn};
use kiln_tensor::{DType, Dim};

type Results = Result<Vec<V>, Fault>;

pub(super) const OPERATORS: &[Entry] = &[
    onnx("Einsum", 12, einsum),
    onnx("Gemm", 7, gemm),
    onnx("MatMul", 1, matmul),
    onnx("MatMulInteger", 10, matmul_integer),
];

fn contract(x: &mut Use<'_, '_, '_>, a: V, b: V, spec: op::ContractSpec) -> Result<V, Fault> {
    // A label that both have is one dimension, whatever else it may be called.
    let (mut a, mut b) = (a, b);
    for (axis, label) in spec.lhs.iter().enumerate() {
        let Some(other) = spec.rhs.iter().position(|other| other == label) else { continue };
        let (Some(left), Some(right)) =
            (x.shape(a).get(axis).cloned(), x.shape(b).get(other).cloned())
        else {
            continue;
        };
        if left.as_const().is_some() || right.as_const().is_none() {
            b = x.with_dim(b, other, &left)?;
        } else {
            a = x.with_dim(a, axis, &right)?;
        }
    }
    x.add(op::Contract { spec }, &[a, b])
}

/// NumPy's `matmul`: vectors are promoted, leading dimensions broadcast.
pub(super) fn product(x: &mut Use<'_, '_, '_>, a: V, b: V) -> Result<V, Fault> {
    let (mut a, mut b) = (a, b);
    let (rows, columns) = (x.rank(a) > 1, x.rank(b) > 1);
    if x.rank(a) == 0 || x.rank(b) == 0 {
        return Err(Fault::malformed("a scalar cannot be multiplied as a matrix"));
    }
    let batch = x.rank(a).max(x.rank(b)).saturating_sub(2);
    // Letters but those of the rows, columns and the sum.
    let labels: Vec<u8> =
        (b'a'..=b'z').chain(b'A'..=b'Z').filter(|label| !b"mnk".contains(label)).collect();
    if batch > labels.len() {
        return Err(Fault::unsupported(
            format!("{batch} batch dimensions"),
            "reshape them into one",
        ));
    }
    let mut spec = op::ContractSpec { lhs: Vec::new(), rhs: Vec::new(), out: Vec::new() };
    let (mut left, mut right) = (Vec::new(), Vec::new());
    let mut kept = Vec::new();
    let (a_shape, b_shape) = (x.shape(a), x.shape(b));
    let dim = |shape: &[Dim], number: usize| {
        let missing = batch - shape.len().saturating_sub(2);
        number.checked_sub(missing).map(|number| shape[number].clone())
    };
    for (number, &label) in labels.iter().take(batch).enumerate() {
        let one = |dim: &Option<Dim>| dim.as_ref().is_none_or(|dim| dim.is(1));
        let (in_a, in_b) = (dim(&a_shape, number), dim(&b_shape, number));
        // A dimension that an operand stretches along is none of its own.
        let (has_a, has_b) = (!one(&in_a), !one(&in_b));
        let result = if has_a {
            in_a.clone()
        } else if has_b {
            in_b.clone()
        } else {
            None
        };
        kept.push(result.clone().unwrap_or(Dim::from(1i64)));
        if has_a {
            spec.lhs.push(label);
            left.extend(in_a);
        }
        if has_b {
            spec.rhs.push(label);
            right.extend(in_b);
        }
        if has_a || has_b {
            spec.out.push(label);
        }
    }
    let matrix = |shape: &[Dim]| shape[shape.len().saturating_sub(2)..].to_vec();
    left.extend(matrix(&a_shape));
    right.extend(matrix(&b_shape));
    if rows {
        spec.lhs.push(b'm');
        spec.out.push(b'm');
        kept.push(a_shape[a_shape.len() - 2].clone());
    }
    spec.lhs.push(b'k');
    spec.rhs.push(b'k');
    if columns {
        spec.rhs.push(b'n');
        spec.out.push(b'n');
        kept.push(b_shape[b_shape.len() - 1].clone());
    }
    a = x.reshape(a, left)?;
    b = x.reshape(b, right)?;
    let result = contract(x, a, b, spec)?;
    if x.rank(result) == kept.len() {
        return Ok(result);
    }
    x.reshape(result, kept)
}

fn matmul(x: &mut Use<'_, '_, '_>) -> Results {
    let (a, b) = (x.input(0)?, x.input(1)?);
    Ok(vec![product(x, a, b)?])
}

/// 8-bit integers less their zero points, in 32 bits.
fn matmul_integer(x: &mut Use<'_, '_, '_>) -> Results {
    let operands = [x.input(0)?, x.input(1)?];
    let mut shifted = operands;
    for (number, operand) in operands.into_iter().enumerate() {
        let wide = x.cast(operand, DType::I32)?;
        shifted[number] = match x.optional(2 + number) {
            None => wide,
            Some(zero) => {
                let zero = x.cast(zero, DType::I32)?;
                // A vector is one for each row of the first operand, each column of the second.
                let rank = x.rank(zero);
                let zero = if number == 0 && rank == 1 { x.along(zero, 0, 2)? } else { zero };
                x.binary(BinaryFn::Sub, wide, zero)?
            }
        };
    }
    Ok(vec![product(x, shifted[0], shifted[1])?])
}

/// `alpha·A·B + beta·C`.
fn gemm(x: &mut Use<'_, '_, '_>) -> Results {
    let (a, b) = (x.input(0)?, x.input(1)?);
    for operand in [a, b] {
        if x.rank(operand) != 2 {
            let ty = x.ty(operand);
            return Err(Fault::malformed(format!(
                "the operands must be matrices, but one is {ty}"
            )));
        }
    }
    let lhs = if x.flag("transA", false)? { b"km" } else { b"mk" };
    let rhs = if x.flag("transB", false)? { b"nk" } else { b"kn" };
    let spec = op::ContractSpec { lhs: lhs.to_vec(), rhs: rhs.to_vec(), out: b"mn".to_vec() };
    let mut result = contract(x, a, b, spec)?;
    let (alpha, beta) = (x.float_or("alpha", 1.0)?, x.float_or("beta", 1.0)?);
    if alpha != 1.0 {
        result = x.with_number(BinaryFn::Mul, result, alpha)?;
    }
    if let Some(mut c) = x.optional(2) {
        if beta != 1.0 {
            c = x.with_number(BinaryFn::Mul, c, beta)?;
        }
        result = x.binary(BinaryFn::Add, result, c)?;
    }
    Ok(vec![result])
}

/// One operand of an Einstein sum.
struct Term {
    v: V,
    labels: Vec<u8>,
}

/// Labels of operands and result, the ellipsis as capital letters that the equation does not use.
fn equation(text: &str, ranks: &[usize]) -> Result<(Vec<Vec<u8>>, Vec<u8>), Fault> {
    let wrong = |why: &str| Fault::malformed(format!("equation `{text}` {why}"));
    let plain: String = text.chars().filter(|c| !c.is_whitespace()).collect();
    let (operands, out) = match plain.split_once("->") {
        Some((operands, out)) => (operands, Some(out)),
        None => (plain.as_str(), None),
    };
    let terms: Vec<&str> = operands.split(',').collect();
    if terms.len() != ranks.len() {
        return Err(wrong(&format!("has {} terms for {} operands", terms.len(), ranks.len())));
    }
    let used = |label: &u8| plain.as_bytes().contains(label);
    let free: Vec<u8> = (b'A'..=b'Z').chain(b'a'..=b'z').filter(|label| !used(label)).collect();
    let mut most = 0;
    let mut labels = Vec::with_capacity(terms.len());
    for (term, &rank) in terms.iter().zip(ranks) {
        let named = term.replace("...", "");
        if !named.bytes().all(|label| label.is_ascii_alphabetic()) {
            return Err(wrong("has a label that is no letter"));
        }
        let Some(hidden) = rank.checked_sub(named.len()) else {
            return Err(wrong(&format!("has {} labels for rank {rank}", named.len())));
        };
        most = most.max(hidden);
        let (before, after) = match term.split_once("...") {
            Some(parts) => parts,
            None if hidden == 0 => (*term, ""),
            None => return Err(wrong(&format!("has {} labels for rank {rank}", named.len()))),
        };
        // Dimensions of an ellipsis broadcast, so they are told apart from the last.
        let hidden = free.iter().take(hidden).rev().copied().collect::<Vec<u8>>();
        if hidden.len() + named.len() != rank {
            return Err(wrong("has more labels than there are letters"));
        }
        labels.push([before.as_bytes(), &hidden, after.as_bytes()].concat());
    }
    let ellipsis: Vec<u8> = free.iter().take(most).rev().copied().collect();
    let out = match out {
        Some(out) => match out.split_once("...") {
            Some((before, after)) => [before.as_bytes(), &ellipsis, after.as_bytes()].concat(),
            None => out.as_bytes().to_vec(),
        },
        None => {
            // Labels that occur once, in alphabetical order.
            let all: Vec<u8> = labels.concat();
            let once = |label: &u8| all.iter().filter(|other| *other == label).count() == 1;
            let mut named: Vec<u8> = all
                .iter()
                .copied()
                .filter(|label| once(label) && !ellipsis.contains(label))
                .collect();
            named.sort_unstable();
            [ellipsis, named].concat()
        }
    };
    Ok((labels, out))
}

fn einsum(x: &mut Use<'_, '_, '_>) -> Results {
    let operands = x.all_inputs()?;
    let ranks: Vec<usize> = operands.iter().map(|&v| x.rank(v)).collect();
    let text = x.string_or("equation", "")?;
    let (labels, out) = equation(text, &ranks)?;
    let mut terms = Vec::with_capacity(operands.len());
    for (v, labels) in operands.into_iter().zip(labels) {
        terms.push(on_diagonals(x, Term { v, labels })?);
    }
    let mut terms = terms.into_iter();
    let mut sum = terms.next().ok_or_else(|| Fault::malformed("there are no operands"))?;
    while let Some(next) = terms.next() {
        let later = |label: &u8| {
            out.contains(label) || terms.as_slice().iter().any(|term| term.labels.contains(label))
        };
        let mut kept: Vec<u8> = Vec::new();
        for label in sum.labels.iter().chain(&next.labels) {
            if later(label) && !kept.contains(label) {
                kept.push(*label);
            }
        }
        let (left, right) = without_ones(x, &sum, &next)?;
        let missing = |label: &u8| !left.labels.contains(label) && !right.labels.contains(label);
        let (ones, out): (Vec<u8>, Vec<u8>) = kept.into_iter().partition(missing);
        let spec = op::ContractSpec { lhs: left.labels, rhs: right.labels, out: out.clone() };
        let v = contract(x, left.v, right.v, spec)?;
        // Dimensions of 1 that both had.
        let shape = [vec![Dim::from(1i64); ones.len()], x.shape(v)].concat();
        sum = Term { v: x.reshape(v, shape)?, labels: [ones, out].concat() };
    }
    let axes = (0..sum.labels.len()).filter(|&axis| !out.contains(&sum.labels[axis])).collect();
    let v = x.reduce(ReduceFn::Sum, sum.v, axes, false)?;
    sum.labels.retain(|label| out.contains(label));
    let places = out.iter().map(|label| sum.labels.iter().position(|other| other == label));
    let perm: Option<Vec<usize>> = places.collect();
    let perm = perm.ok_or_else(|| Fault::malformed("the result has a label of no operand"))?;
    Ok(vec![x.transpose(v, perm)?])
}

/// Both operands without dimensions of 1 that the other one stretches.
fn without_ones(x: &mut Use<'_, '_, '_>, a: &Term, b: &Term) -> Result<(Term, Term), Fault> {
    let mut pair = [(a, b), (b, a)].into_iter().map(|(term, other)| {
        let shape = x.shape(term.v);
        let size = |term: &Term, label: &u8| {
            let place = term.labels.iter().position(|other| other == label)?;
            Some(x.shape(term.v)[place].clone())
        };
        let kept = term
            .labels
            .iter()
            .zip(shape)
            .filter(|(label, dim)| !dim.is(1) || size(other, label).is_none());
        let (labels, shape): (Vec<u8>, Vec<Dim>) = kept.map(|(label, dim)| (*label, dim)).unzip();
        Ok((labels, shape, term.v))
    });
    let mut next = || pair.next().unwrap_or(Err(Fault::Silent));
    let ((labels, shape, v), (other_labels, other_shape, other)) = (next()?, next()?);
    let left = Term { v: x.reshape(v, shape)?, labels };
    Ok((left, Term { v: x.reshape(other, other_shape)?, labels: other_labels }))
}

/// A label that an operand has twice means its diagonal.
fn on_diagonals(x: &mut Use<'_, '_, '_>, term: Term) -> Result<Term, Fault> {
    let Term { mut v, mut labels } = term;
    let twice = |labels: &[u8]| {
        let pairs = (0..labels.len()).flat_map(|j| (0..j).map(move |i| (i, j)));
        pairs.into_iter().find(|&(i, j)| labels[i] == labels[j])
    };
    while let Some((i, j)) = twice(&labels) {
        let shape = x.shape(v);
        v = x.with_dim(v, j, &shape[i])?;
        let rank = shape.len();
        let row = super::shape::counted(x, shape[i].clone(), i, rank)?;
        let column = super::shape::counted(x, shape[i].clone(), j, rank)?;
        let on = x.binary(BinaryFn::Equal, row, column)?;
        let zero = x.scalar(x.dtype(v), 0.0)?;
        let masked = x.select(on, v, zero)?;
        v = x.reduce(ReduceFn::Sum, masked, vec![j], false)?;
        labels.remove(j);
    }
    Ok(Term { v, labels })
}
