//! What symbols hide until the model runs: sizes that may come out negative, element counts of
//! reshapes, ends of slices, operands that may be empty.
//!
//! Invariant: no kernel reads outside of its operands because of a size that the compiler could not
//! see: whatever is not certain is checked before the step that relies on it.

use super::scope::Scope;
use kiln_ir::op::{GatherElements, Op, PadMode, ScatterElements};
use kiln_ir::{Graph, Node, ValueId};
use kiln_program::Step;
use kiln_tensor::{Dim, SymbolTable};

/// Checks that a node relies on, those in a fused body included.
pub(super) fn of(scope: &mut Scope, node: &Node, steps: &mut Vec<Step>) {
    let mut found = Vec::new();
    let symbols = &scope.graph.symbols;
    node_checks(scope.graph, node, symbols, &mut found);
    if let (Op::Fused(_), [body]) = (&node.op, node.regions.as_slice()) {
        for (_, inner) in body.nodes() {
            node_checks(body, inner, symbols, &mut found);
        }
    }
    let source = source(node);
    for (left, right) in found {
        if scope.checked.insert((left.clone(), right.clone())) {
            steps.push(Step::CheckEqual { left, right, source: source.clone() });
        }
    }
}

/// The node of the model that a node came from, or what it does.
pub(super) fn source(node: &Node) -> String {
    match (&node.source, &node.op) {
        (Some(source), _) => source.to_string(),
        (None, Op::Fused(fused)) => fused.label.clone(),
        (None, op) => op.name().to_owned(),
    }
}

fn node_checks(graph: &Graph, node: &Node, symbols: &SymbolTable, found: &mut Vec<(Dim, Dim)>) {
    let at_most = |low: Dim, high: &Dim, found: &mut Vec<(Dim, Dim)>| {
        if (high.clone() - low.clone()).bounds(symbols).min < 0 {
            found.push((low.minimum(high), low));
        }
    };
    // Inside a fused body nothing is allocated for a size, so nothing else would notice.
    for dim in node.outputs.iter().flat_map(|&output| &graph.ty(output).shape) {
        at_most(Dim::default(), dim, found);
    }
    // Something is read for every element of the result, so there must be something to read.
    let not_empty = |out: &Dim, x: &Dim, found: &mut Vec<(Dim, Dim)>| {
        let one = Dim::from(1i64);
        if out != x {
            at_most(out.minimum(&one), &x.minimum(&one), found);
        }
    };
    let dims = |id: ValueId| graph.ty(id).shape.iter();
    match &node.op {
        Op::Pad(pad) if pad.mode == PadMode::Constant => {}
        Op::Pad(_) | Op::Resize(_) => {
            let pairs = dims(node.outputs[0]).zip(dims(node.inputs[0]));
            pairs.for_each(|(out, x)| not_empty(out, x, found));
        }
        Op::Reshape(_) => {
            let [from, to] = [node.inputs[0], node.outputs[0]].map(|id| graph.ty(id).elements());
            if from != to {
                found.push((from, to));
            }
        }
        Op::Check(check) => {
            let pairs = check.left.iter().cloned().zip(check.right.iter().cloned());
            found.extend(pairs.filter(|(left, right)| left != right));
        }
        // Every index stands for an element: where it does not say which, its own place does.
        Op::GatherElements(GatherElements { axis })
        | Op::ScatterElements(ScatterElements { axis, .. }) => {
            let pairs = dims(node.inputs[1]).zip(dims(node.inputs[0])).enumerate();
            pairs
                .filter(|(number, _)| number != axis)
                .for_each(|(_, (count, size))| at_most(count.clone(), size, found));
        }
        Op::Assume(assume) => {
            let shape = &graph.ty(node.inputs[0]).shape;
            found.extend(
                shape.iter().cloned().zip(assume.shape.iter().cloned()).filter(|(a, b)| a != b),
            );
        }
        Op::Slice(slice) => {
            let shape = &graph.ty(node.inputs[0]).shape;
            for (dim, extent) in shape.iter().enumerate() {
                let (start, size) = (&slice.starts[dim], &slice.sizes[dim]);
                let one = Dim::from(1i64);
                let reach = (size.clone() - one.clone()) * Dim::from(slice.steps[dim]);
                let last = start.clone() + reach;
                let (low, high) =
                    if slice.steps[dim] > 0 { (start, &last) } else { (&last, start) };
                if size.is(0) {
                    continue;
                }
                at_most(Dim::default(), low, found);
                at_most(high.clone() + one, extent, found);
            }
        }
        _ => {}
    }
}
