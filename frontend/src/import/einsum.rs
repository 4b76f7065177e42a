//! Einstein sums over any number of operands.
//!
//! Invariant: operands are contracted from the left, two at a time; a label is summed as soon as
//! nothing later has it.

use super::build::V;
use super::contraction::contract;
use super::fault::Fault;
use super::node::Use;
use super::operator::{Entry, onnx};
use kiln_ir::op::{self, BinaryFn, ReduceFn};
use kiln_tensor::Dim;

type Results = Result<Vec<V>, Fault>;

pub(super) const OPERATORS: &[Entry] = &[onnx("Einsum", 12, einsum)];

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
