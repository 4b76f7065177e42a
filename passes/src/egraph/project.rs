//! Recurrent layers of several steps: what each step multiplies its part of the sequence with is one
//! product for all of them.
//!
//! Invariant: what a step adds up are the same products, those of the sequence before those of the state.
//!
//! A step reads all weights for one row; a product reads them once for all rows. And with the products in
//! the order in which steps run, both directions are one axis, whose points run beside each other.

use crate::PassError;
use crate::simplify::Rebuild;
use kiln_ir::op::{self, Direction, Op, Recurrent};
use kiln_ir::{Graph, Node, ValueId};
use kiln_tensor::Dim;
use std::borrow::Cow;

/// The graph with the products of recurrent layers before them.
pub(super) fn project(graph: &Graph) -> Result<Cow<'_, Graph>, PassError> {
    if !graph.nodes().any(|(_, node)| layer(graph, node).is_some() || !node.regions.is_empty()) {
        return Ok(Cow::Borrowed(graph));
    }
    let mut rebuild = Rebuild::start("project", graph);
    for (_, node) in graph.nodes() {
        match layer(graph, node) {
            Some(layer) => {
                let results = projected(&mut rebuild, node, layer)?;
                rebuild.replace(graph, node, &results)?;
            }
            None => {
                let bodies = node.regions.iter().map(|body| Ok(project(body)?.into_owned()));
                rebuild.keep_with(graph, node, bodies.collect::<Result<Vec<_>, PassError>>()?)?;
            }
        }
    }
    Ok(Cow::Owned(rebuild.finish(graph)?.0))
}

/// The layer that a node is, if it gains.
fn layer<'n>(graph: &Graph, node: &'n Node) -> Option<&'n Recurrent> {
    let Op::Recurrent(layer) = &node.op else { return None };
    let steps = graph.ty(*node.inputs.first()?).shape.first()?;
    let each = layer.cell.activations();
    let (first, second) = layer.activations.split_at_checked(each)?;
    let alike = second.is_empty() || first == second;
    (!layer.projected && alike && !steps.is(0) && !steps.is(1)).then_some(layer)
}

fn projected(
    rebuild: &mut Rebuild,
    node: &Node,
    layer: &Recurrent,
) -> Result<Vec<ValueId>, PassError> {
    let inputs = rebuild.operands(node)?;
    let &[x, w, ref rest @ ..] = inputs.as_slice() else { return Ok(Vec::new()) };
    let (sequence, rows) = (rebuild.new.ty(x).shape.clone(), rebuild.new.ty(w).shape[1].clone());
    let reversed: &[bool] = match layer.direction {
        Direction::Forward => &[false],
        Direction::Reverse => &[true],
        Direction::Bidirectional => &[false, true],
    };
    let mut products = Vec::with_capacity(reversed.len());
    for (number, &reversed) in reversed.iter().enumerate() {
        let own = if reversed { backwards(rebuild, x, node)? } else { x };
        let weights = part(rebuild, w, 0, number, node)?;
        let shape = rebuild.new.ty(w).shape[1..].to_vec();
        let weights = rebuild.add1(op::Reshape { shape }, &[weights], node)?;
        let spec =
            op::ContractSpec { lhs: b"sbi".to_vec(), rhs: b"gi".to_vec(), out: b"sbg".to_vec() };
        let product = rebuild.add1(op::Contract { spec }, &[own, weights], node)?;
        let one = Dim::from(1i64);
        let shape = vec![sequence[0].clone(), one, sequence[1].clone(), rows.clone()];
        products.push(rebuild.add1(op::Reshape { shape }, &[product], node)?);
    }
    let x = joined(rebuild, &products, node)?;
    let inputs = [&[x], rest].concat();
    let op = Recurrent { projected: true, ..layer.clone() };
    let mut results = rebuild.add(op, &inputs, node)?;
    if let Some(y) = results.first_mut() {
        let parts = reversed.iter().enumerate().map(|(number, &reversed)| {
            let own = part(rebuild, *y, 1, number, node)?;
            if reversed { backwards(rebuild, own, node) } else { Ok(own) }
        });
        let parts = parts.collect::<Result<Vec<_>, PassError>>()?;
        *y = joined(rebuild, &parts, node)?;
    }
    Ok(results)
}

/// The only one, or all side by side along the axis of the directions.
fn joined(rebuild: &mut Rebuild, parts: &[ValueId], node: &Node) -> Result<ValueId, PassError> {
    match parts {
        &[only] => Ok(only),
        parts => rebuild.add1(op::Concat { axis: 1 }, parts, node),
    }
}

/// One place along an axis, which stays.
fn part(
    rebuild: &mut Rebuild,
    value: ValueId,
    axis: usize,
    number: usize,
    node: &Node,
) -> Result<ValueId, PassError> {
    let mut sizes = rebuild.new.ty(value).shape.clone();
    let mut starts = vec![Dim::from(0i64); sizes.len()];
    if sizes[axis].is(1) {
        return Ok(value);
    }
    (starts[axis], sizes[axis]) = (Dim::from(number), Dim::from(1i64));
    let steps = vec![1; sizes.len()];
    rebuild.add1(op::Slice { starts, sizes, steps }, &[value], node)
}

/// A sequence from its last step to its first.
fn backwards(rebuild: &mut Rebuild, value: ValueId, node: &Node) -> Result<ValueId, PassError> {
    let sizes = rebuild.new.ty(value).shape.clone();
    let (mut starts, mut steps) = (vec![Dim::from(0i64); sizes.len()], vec![1; sizes.len()]);
    (starts[0], steps[0]) = (sizes[0].clone() - Dim::from(1i64), -1);
    rebuild.add1(op::Slice { starts, sizes, steps }, &[value], node)
}
