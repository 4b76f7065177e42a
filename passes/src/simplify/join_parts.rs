//! Joins what was split: neighbouring slices of one value that are concatenated again become one slice,
//! and slices of a concatenation read the part that they lie in.
//!
//! Invariant: the same elements are read in the same order. A concatenation is only read past if nobody
//! needs it whole, so that no value more than before is stored.

use super::rebuild::Rebuild;
use crate::PassError;
use kiln_ir::op::{Concat, Op, Slice};
use kiln_ir::{Graph, Node, NodeId, Producer, ValueId};
use kiln_tensor::{Dim, SymbolTable};
use std::collections::BTreeMap;

pub(super) fn join_parts(graph: &Graph) -> Result<(Graph, bool), PassError> {
    let inside = inside_of_parts(graph);
    let mut rebuild = Rebuild::start("join_parts", graph);
    for (id, node) in graph.nodes() {
        let made = match &node.op {
            Op::Concat(concat) => joined(&mut rebuild, concat, node)?,
            Op::Slice(_) => match inside.get(&id) {
                Some((slice, part)) => {
                    let part = rebuild.value(*part)?;
                    Some(rebuild.add1(slice.clone(), &[part], node)?)
                }
                None => None,
            },
            _ => None,
        };
        match made {
            Some(value) => rebuild.replace(graph, node, &[value])?,
            None => rebuild.keep(graph, node)?,
        }
    }
    rebuild.finish(graph)
}

/// The concatenation with fewer parts, if some are empty or neighbours among them are slices that continue each
/// other.
fn joined(
    rebuild: &mut Rebuild,
    concat: &Concat,
    node: &Node,
) -> Result<Option<ValueId>, PassError> {
    let parts = rebuild.operands(node)?;
    let mut kept: Vec<ValueId> = Vec::new();
    let empty = |part: ValueId| rebuild.new.ty(part).shape[concat.axis].is(0);
    let filled: Vec<ValueId> = parts.iter().copied().filter(|&part| !empty(part)).collect();
    // Of nothing but empty parts one stays.
    let filled = if filled.is_empty() { parts[..1].to_vec() } else { filled };
    for &part in &filled {
        let last = kept.last().and_then(|&last| slice_of(&rebuild.new, last));
        let both = last.zip(slice_of(&rebuild.new, part)).and_then(|((a, of), (b, from))| {
            Some((continued(&a, &b, concat.axis).filter(|_| of == from)?, of))
        });
        match both {
            Some((both, of)) => {
                kept.pop();
                kept.push(rebuild.add1(both, &[of], node)?);
            }
            None => kept.push(part),
        }
    }
    match kept.as_slice() {
        kept if kept.len() == parts.len() => Ok(None),
        &[all] => Ok(Some(all)),
        kept => rebuild.add1(concat.clone(), kept, node).map(Some),
    }
}

/// How a value is cut out of another.
fn slice_of(graph: &Graph, value: ValueId) -> Option<(Slice, ValueId)> {
    let Producer::Node { node, .. } = graph.value(value).producer else { return None };
    match (&graph.node(node).op, graph.node(node).inputs.as_slice()) {
        (Op::Slice(slice), &[of]) => Some((slice.clone(), of)),
        _ => None,
    }
}

/// Two slices as one, if along the axis the second begins where the first ends, and they are equal in
/// all else.
fn continued(first: &Slice, second: &Slice, axis: usize) -> Option<Slice> {
    let step = *first.steps.get(axis)?;
    let end = first.starts.get(axis)?.clone() + first.sizes.get(axis)?.clone() * Dim::from(step);
    let same = |a: &[Dim], b: &[Dim]| {
        a.len() == b.len() && (0..a.len()).all(|dim| dim == axis || a[dim] == b[dim])
    };
    let continues = *second.starts.get(axis)? == end
        && first.steps == second.steps
        && same(&first.starts, &second.starts)
        && same(&first.sizes, &second.sizes);
    continues.then(|| {
        let mut both = first.clone();
        both.sizes[axis] = both.sizes[axis].clone() + second.sizes[axis].clone();
        both
    })
}

/// Slices of concatenations of which nothing else is used than slices of single parts: each with the part
/// and what it is of that.
fn inside_of_parts(graph: &Graph) -> BTreeMap<NodeId, (Slice, ValueId)> {
    let uses = graph.uses();
    let mut found = BTreeMap::new();
    for (_, node) in graph.nodes() {
        let (Op::Concat(concat), &[whole]) = (&node.op, node.outputs.as_slice()) else { continue };
        if graph.outputs().contains(&whole) {
            continue;
        }
        let inside = uses[whole.0 as usize].iter().map(|&user| {
            let Op::Slice(slice) = &graph.node(user).op else { return None };
            Some((user, part_of(graph, concat, node, slice)?))
        });
        found.extend(inside.collect::<Option<Vec<_>>>().into_iter().flatten());
    }
    found
}

/// The part of a concatenation that a slice lies in, and the slice of that.
fn part_of(graph: &Graph, concat: &Concat, node: &Node, slice: &Slice) -> Option<(Slice, ValueId)> {
    let axis = concat.axis;
    let (start, size) = (slice.starts.get(axis)?, slice.sizes.get(axis)?);
    if slice.steps.get(axis) != Some(&1) {
        return None;
    }
    let mut before = Dim::from(0i64);
    for &part in &node.inputs {
        let end = before.clone() + graph.ty(part).shape.get(axis)?.clone();
        let own = start.clone() - before;
        if is_natural(&own, &graph.symbols)
            && is_natural(&(end.clone() - start.clone() - size.clone()), &graph.symbols)
        {
            let mut inside = slice.clone();
            inside.starts[axis] = own;
            return Some((inside, part));
        }
        before = end;
    }
    None
}

/// Whether a size is never below 0.
fn is_natural(dim: &Dim, symbols: &SymbolTable) -> bool {
    dim.bounds(symbols).min >= 0
}
