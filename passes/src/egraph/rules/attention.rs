//! Recognition of scaled dot-product attention, whatever the order of its dimensions.
//!
//! Invariant: the two contractions share their batch dimensions by position in the scores, and the
//! softmax runs along the dimension that the second one sums.

use crate::egraph::build::{reshape, shape, transpose, ty, unary};
use crate::egraph::language::{TensorGraph, add_op};
use crate::egraph::pattern::Match;
use egg::{Id, Language};
use kiln_ir::op::{Attention, ContractSpec, Op, UnaryFn};
use kiln_tensor::Dim;

/// Scores may be scaled before (one operand or both) or after the product, or not at all; a mask is added to them,
/// or says which of them stay, or which do not.
pub(super) fn pattern() -> String {
    let product = "(or (Contract@c ?q ?k)
                       (Contract@c (mul ?q #a) ?k)
                       (Contract@c ?q (mul ?k #b))
                       (Contract@c (mul ?q #a) (mul ?k #b)))";
    let scaled = format!("(or {product} (mul {product} #scale) (div {product} #divisor))");
    let masked = format!(
        "(or {scaled} (add {scaled} ?mask) (Select@seen ?mask {scaled} #low)
             (Select@hidden ?mask #low {scaled}))"
    );
    format!("(Contract@o (Softmax@s {masked}) ?v)")
}

/// Labels by their part in attention.
struct Parts {
    /// Labels of the score's batch dimensions in the first and in the second contraction.
    batch: Vec<(u8, u8)>,
    query: (u8, u8),
    key: (u8, u8),
    head: u8,
    value: u8,
    /// Whether the first contraction has the keys on its left.
    swapped: bool,
}

fn parts(scores: &ContractSpec, output: &ContractSpec, axis: usize) -> Option<Parts> {
    let key = (*scores.out.get(axis)?, *output.lhs.get(axis)?);
    if output.summed() != [key.1] || !output.rhs.contains(&key.1) {
        return None;
    }
    let mut batch = Vec::new();
    let mut query = None;
    for (&first, &second) in scores.out.iter().zip(&output.lhs) {
        if first == key.0 {
            continue;
        }
        let shared = (
            scores.lhs.contains(&first) && scores.rhs.contains(&first),
            output.rhs.contains(&second),
        );
        match shared {
            (true, true) => batch.push((first, second)),
            (false, false) if query.is_none() => query = Some((first, second)),
            _ => return None,
        }
    }
    let query = query?;
    let swapped = scores.rhs.contains(&query.0);
    let key_side = if swapped { &scores.lhs } else { &scores.rhs };
    let &[head] = scores.summed().as_slice() else { return None };
    let in_both = scores.lhs.contains(&head) && scores.rhs.contains(&head);
    let mut values = output.rhs.iter().filter(|label| !output.lhs.contains(label));
    let value = *values.next()?;
    let fits = key_side.contains(&key.0)
        && in_both
        && values.next().is_none()
        && output.out.contains(&value)
        && batch.len() <= 2;
    fits.then_some(Parts { batch, query, key, head, value, swapped })
}

/// An operand as `[batch, heads, rows, columns]`.
fn arranged(egraph: &mut TensorGraph, x: Id, labels: &[u8], order: &[u8]) -> Option<Id> {
    let perm: Option<Vec<usize>> =
        order.iter().map(|label| labels.iter().position(|own| own == label)).collect();
    let perm = perm.filter(|perm| perm.len() == labels.len())?;
    let x = transpose(egraph, x, perm)?;
    let dims = with_batch_dims(shape(egraph, x))?;
    reshape(egraph, x, dims)
}

/// `[b, s, d]` as `[b, 1, s, d]`, `[s, d]` as `[1, 1, s, d]`.
fn with_batch_dims(mut dims: Vec<Dim>) -> Option<Vec<Dim>> {
    let missing = 4usize.checked_sub(dims.len())?;
    let batch = dims.len().checked_sub(2)?;
    dims.splice(batch..batch, vec![Dim::from(1i64); missing]);
    Some(dims)
}

pub(super) fn recognise(egraph: &mut TensorGraph, m: &Match) -> Option<Id> {
    let (Op::Contract(scores), Op::Contract(output), Op::Softmax(softmax)) =
        (m.op(egraph, "c")?.clone(), m.op(egraph, "o")?.clone(), m.op(egraph, "s")?.clone())
    else {
        return None;
    };
    let parts = parts(&scores.spec, &output.spec, softmax.axis)?;
    let scale = m.scalar("scale").unwrap_or(1.0) / m.scalar("divisor").unwrap_or(1.0)
        * m.scalar("a").unwrap_or(1.0)
        * m.scalar("b").unwrap_or(1.0);
    if !scale.is_finite() {
        return None;
    }
    let first: Vec<u8> = parts.batch.iter().map(|(first, _)| *first).collect();
    let second: Vec<u8> = parts.batch.iter().map(|(_, second)| *second).collect();
    let (mut q, mut k) = (m.class("q")?, m.class("k")?);
    let (mut q_labels, mut k_labels) = (&scores.spec.lhs, &scores.spec.rhs);
    if parts.swapped {
        std::mem::swap(&mut q, &mut k);
        std::mem::swap(&mut q_labels, &mut k_labels);
    }
    let q = arranged(egraph, q, q_labels, &[&first[..], &[parts.query.0, parts.head]].concat())?;
    let k = arranged(egraph, k, k_labels, &[&first[..], &[parts.key.0, parts.head]].concat())?;
    let value = [&second[..], &[parts.key.1, parts.value]].concat();
    let v = arranged(egraph, m.class("v")?, &output.spec.rhs, &value)?;
    let mut operands = vec![q, k, v];
    if let Some(mask) = m.class("mask") {
        let order = [&first[..], &[parts.query.0, parts.key.0]].concat();
        let mut mask = arranged_mask(egraph, mask, &scores.spec.out, &order)?;
        if m.op(egraph, "hidden").is_some() {
            mask = unary(egraph, UnaryFn::Not, mask)?;
        }
        operands.push(mask);
    }
    let hidden = m.scalar("low").unwrap_or(f64::NEG_INFINITY);
    let attended = add_op(egraph, Attention { scale, causal: false, hidden }, &operands)?;
    // Back to the dimensions and the order of the second contraction.
    let mut dims = shape(egraph, attended);
    dims.drain(first.len()..2);
    let flat = reshape(egraph, attended, dims)?;
    let order = [&second[..], &[parts.query.1, parts.value]].concat();
    let perm: Option<Vec<usize>> =
        output.spec.out.iter().map(|label| order.iter().position(|o| o == label)).collect();
    transpose(egraph, flat, perm?)
}

/// Attention whose keys and values are each repeated for a group of heads, as attention that has the groups
/// share them.
pub(super) fn share(egraph: &mut TensorGraph, m: &Match) -> Option<Id> {
    let attention = m.op(egraph, "a")?.clone();
    let mut operands = m.operands("a")?.to_vec();
    let (k, v) = (once(egraph, operands[1])?, once(egraph, operands[2])?);
    if shape(egraph, k)[1] != shape(egraph, v)[1] {
        return None;
    }
    (operands[1], operands[2]) = (k, v);
    add_op(egraph, attention, &operands)
}

/// `[b, g, t, d]` of a class that has it `[b, g, r, t, d]`, repeated along `r`, as `[b, g·r, t, d]`.
fn once(egraph: &mut TensorGraph, heads: Id) -> Option<Id> {
    let whole = shape(egraph, heads);
    let views = operands_of(egraph, heads, |op| matches!(op, Op::Reshape(_)));
    let (from, single) = views.into_iter().find_map(|view| {
        let repeated = shape(egraph, view);
        let [b, groups, each, keys, width] = repeated.as_slice() else {
            return None;
        };
        let fits = [b.clone(), groups.clone() * each.clone(), keys.clone(), width.clone()];
        let before = [b.clone(), groups.clone(), Dim::from(1i64), keys.clone(), width.clone()];
        let mut stretched = operands_of(egraph, view, |op| matches!(op, Op::Broadcast(_)));
        stretched.retain(|&from| shape(egraph, from) == before);
        let from = *stretched.first().filter(|_| fits == whole.as_slice())?;
        Some((from, vec![b.clone(), groups.clone(), keys.clone(), width.clone()]))
    })?;
    reshape(egraph, from, single)
}

/// The operands of the operations of this kind, of one operand, in a class.
fn operands_of(egraph: &TensorGraph, class: Id, kind: impl Fn(&Op) -> bool) -> Vec<Id> {
    let nodes = egraph[class].nodes.iter();
    let of_kind = nodes.filter(|node| egraph.analysis.op(node.op).is_some_and(&kind));
    of_kind.filter_map(|node| Some(egraph.find(*node.children().first()?))).collect()
}

/// A mask that is added to the scores, as one that stretches to `[b, h, s, t]`.
fn arranged_mask(egraph: &mut TensorGraph, mask: Id, labels: &[u8], order: &[u8]) -> Option<Id> {
    if ty(egraph, mask).rank() > labels.len() {
        return None;
    }
    if labels == order && (order.len() == 4 || ty(egraph, mask).rank() <= 2) {
        return Some(mask);
    }
    let mut dims = shape(egraph, mask);
    let missing = labels.len() - dims.len();
    dims.splice(0..0, vec![Dim::from(1i64); missing]);
    let full = reshape(egraph, mask, dims)?;
    arranged(egraph, full, labels, order)
}
