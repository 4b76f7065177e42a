//! Merges chains of movement: two transposes, reshapes, slices, broadcasts or casts in a row.
//!
//! Invariant: the merged operation reads the same elements in the same order; a conversion that is left
//! out is one to a type that holds every number of the type before.

use super::rebuild::Rebuild;
use super::remove_identity::stretches_alone;
use crate::PassError;
use kiln_ir::op::{Binary, Broadcast, Op, Reshape, Slice, Transpose};
use kiln_ir::{Graph, Node, Producer, ValueId};
use kiln_tensor::{DType, Dim};

pub(super) fn merge_chains(graph: &Graph) -> Result<(Graph, bool), PassError> {
    let mut rebuild = Rebuild::start("merge_chains", graph);
    for (_, node) in graph.nodes() {
        let inputs = rebuild.operands(node)?;
        match merged(&rebuild.new, node, &inputs) {
            Some((op, operands)) => {
                let outputs = rebuild.add(op, &operands, node)?;
                rebuild.replace(graph, node, &outputs)?;
            }
            None => rebuild.keep(graph, node)?,
        }
    }
    rebuild.finish(graph)
}

/// The operation that made a value, and its operands.
fn maker(graph: &Graph, value: ValueId) -> Option<&Node> {
    match graph.value(value).producer {
        Producer::Node { node, .. } => Some(graph.node(node)),
        Producer::Input(_) => None,
    }
}

fn merged(graph: &Graph, node: &Node, inputs: &[ValueId]) -> Option<(Op, Vec<ValueId>)> {
    match (&node.op, inputs) {
        (Op::Binary(binary), &[a, b]) => without_broadcast(graph, node, binary, a, b),
        (Op::Transpose(outer), &[x]) => {
            if let Some(shape) = moves_only_ones(graph, x, &outer.perm) {
                return Some((Reshape { shape }.into(), vec![x]));
            }
            let made = maker(graph, x)?;
            let Op::Transpose(inner) = &made.op else { return None };
            let perm = outer.perm.iter().map(|&from| inner.perm[from]).collect();
            Some((Transpose { perm }.into(), made.inputs.clone()))
        }
        (Op::Reshape(outer), &[x]) => {
            let made = maker(graph, x)?;
            let Op::Reshape(_) = &made.op else { return None };
            Some((outer.clone().into(), made.inputs.clone()))
        }
        (Op::Broadcast(outer), &[x]) => {
            let made = maker(graph, x)?;
            let Op::Broadcast(_) = &made.op else { return None };
            Some((Broadcast { shape: outer.shape.clone() }.into(), made.inputs.clone()))
        }
        (Op::Slice(outer), &[x]) => {
            let made = maker(graph, x)?;
            let Op::Slice(inner) = &made.op else { return None };
            Some((after(inner, outer)?.into(), made.inputs.clone()))
        }
        (Op::Cast(outer), &[x]) => {
            let made = maker(graph, x)?;
            let (Op::Cast(inner), &[from]) = (&made.op, made.inputs.as_slice()) else {
                return None;
            };
            let dtype = graph.ty(from).dtype;
            // An integer that has no place in another wraps; a float does not.
            let wraps = dtype.is_integer() && outer.to.is_integer() && !inner.to.is_integer();
            let kept = holds(inner.to, dtype) && !wraps;
            kept.then(|| (outer.clone().into(), made.inputs.clone()))
        }
        _ => None,
    }
}

/// Whether a type holds every number of another, so that a conversion to it loses nothing.
fn holds(wide: DType, narrow: DType) -> bool {
    // Digits of a float, the hidden one among them.
    let digits = |dtype: DType| match dtype {
        DType::F16 => 11,
        DType::BF16 => 8,
        DType::F32 => 24,
        DType::F64 => 53,
        _ => 0,
    };
    match (narrow.integer_range(), wide.integer_range()) {
        (Some((least, most)), Some((wide_least, wide_most))) => {
            wide != DType::Bool && wide_least <= least && most <= wide_most
        }
        (Some((_, most)), None) => most < 1 << digits(wide),
        (None, None) if narrow.format().is_some() => matches!(wide, DType::F32 | DType::F64),
        (None, None) => matches!(
            (narrow, wide),
            (DType::F16 | DType::BF16, DType::F32 | DType::F64) | (DType::F32, DType::F64)
        ),
        (None, Some(_)) => false,
    }
}

/// `Binary(Broadcast(a), b)` where the operation stretches `a` by itself.
fn without_broadcast(
    graph: &Graph,
    node: &Node,
    binary: &Binary,
    a: ValueId,
    b: ValueId,
) -> Option<(Op, Vec<ValueId>)> {
    let source = |value: ValueId| match maker(graph, value) {
        Some(made) if matches!(made.op, Op::Broadcast(_)) => made.inputs.first().copied(),
        _ => None,
    };
    let result = Op::from(binary.clone());
    let shape = node.op.infer(&[graph.ty(a), graph.ty(b)], &[]).ok()?.pop()?.shape;
    let fits =
        |a: ValueId, b: ValueId| stretches_alone(&graph.ty(a).shape, &graph.ty(b).shape, &shape);
    match (source(a), source(b)) {
        (Some(from), _) if fits(from, b) => Some((result, vec![from, b])),
        (_, Some(from)) if fits(a, from) => Some((result, vec![a, from])),
        _ => None,
    }
}

/// The shape after a transpose that keeps the order of all dimensions but those of size 1.
fn moves_only_ones(graph: &Graph, x: ValueId, perm: &[usize]) -> Option<Vec<Dim>> {
    let shape = &graph.ty(x).shape;
    let kept = || perm.iter().filter(|&&from| !shape[from].is(1));
    kept()
        .zip(kept().skip(1))
        .all(|(a, b)| a < b)
        .then(|| perm.iter().map(|&from| shape[from].clone()).collect())
}

/// One slice that does what `inner` and then `outer` do.
fn after(inner: &Slice, outer: &Slice) -> Option<Slice> {
    let dims = inner.starts.iter().zip(&inner.steps).zip(outer.starts.iter().zip(&outer.steps));
    let mut starts = Vec::new();
    let mut steps = Vec::new();
    for ((start, &step), (outer_start, &outer_step)) in dims {
        starts.push(start.clone() + outer_start.clone() * Dim::from(step));
        steps.push(step.checked_mul(outer_step)?);
    }
    Some(Slice { starts, sizes: outer.sizes.clone(), steps })
}
