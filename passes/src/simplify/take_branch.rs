//! Replaces an `If` whose condition is known by the body that it takes, and hands constants into
//! bodies.
//!
//! Invariant: only captured values move into a body; carried values of a loop stay its operands.

use super::rebuild::Rebuild;
use super::remove_identity::uniform;
use crate::region::rename;
use crate::{PassError, late};
use kiln_ir::op::Op;
use kiln_ir::{Graph, GraphError, Node, ValueId};
use kiln_tensor::{Symbol, Tensor};
use std::collections::BTreeMap;
use std::sync::Arc;

pub(super) fn take_branch(graph: &Graph) -> Result<(Graph, bool), PassError> {
    let mut rebuild = Rebuild::start("take_branch", graph);
    for (_, node) in graph.nodes() {
        let captured_from = match &node.op {
            Op::If(_) => 1,
            Op::Loop(looped) => looped.carried.saturating_add(2),
            _ => {
                rebuild.keep(graph, node)?;
                continue;
            }
        };
        let inputs = rebuild.operands(node)?;
        let taken = match (&node.op, inputs.first()) {
            (Op::If(_), Some(&condition)) => uniform(&rebuild.new, condition),
            _ => None,
        };
        if let Some(condition) = taken {
            let body = node.regions.get(usize::from(condition == 0.0));
            if let Some(body) = body {
                let outputs = inline(&mut rebuild.new, body, &inputs[1..])
                    .map_err(|error| PassError::Graph { pass: "take_branch", error })?;
                rebuild.replace(graph, node, &outputs)?;
                continue;
            }
        }
        hand_in(&mut rebuild, graph, node, &inputs, captured_from)?;
    }
    rebuild.finish(graph)
}

/// Copies a body into a graph, its inputs bound to `arguments`; the values of its outputs.
///
/// Sizes that only loops of the body know get other names where the graph has one of that name.
pub(crate) fn inline(
    into: &mut Graph,
    body: &Graph,
    arguments: &[ValueId],
) -> Result<Vec<ValueId>, GraphError> {
    let taken = |symbol: &Symbol| into.symbols.contains_key(symbol);
    let mut renaming = BTreeMap::new();
    for symbol in late::bound_inside(body).into_iter().filter(taken) {
        let names = (0..).map(|number| Symbol::new(&format!("{symbol}_{number}")));
        let fresh = names.into_iter().find(|name| !taken(name) && !body.symbols.contains_key(name));
        renaming.extend(fresh.map(|fresh| (symbol, fresh)));
    }
    let renamed = if renaming.is_empty() { None } else { Some(rename(body, &renaming)?) };
    let body = renamed.as_ref().unwrap_or(body);
    let unknown = |value: ValueId| GraphError::UnknownValue(value.0);
    let mut map: Vec<Option<ValueId>> = vec![None; body.value_count()];
    for (&input, &argument) in body.inputs().iter().zip(arguments) {
        map[input.0 as usize] = Some(argument);
    }
    for (symbol, bounds) in &body.symbols {
        into.symbols.entry(symbol.clone()).or_insert(*bounds);
    }
    for (_, node) in body.nodes() {
        let inputs = node
            .inputs
            .iter()
            .map(|&input| map[input.0 as usize].ok_or_else(|| unknown(input)))
            .collect::<Result<Vec<_>, _>>()?;
        let outputs =
            into.add_node(node.op.clone(), &inputs, node.regions.clone(), node.source.clone())?;
        for (&old, &new) in node.outputs.iter().zip(&outputs) {
            map[old.0 as usize] = Some(new);
        }
    }
    body.outputs()
        .iter()
        .map(|&output| map[output.0 as usize].ok_or_else(|| unknown(output)))
        .collect()
}

/// Copies a node with bodies, without the captured operands that are constant (they become
/// constants of the bodies) or that no body uses.
fn hand_in(
    rebuild: &mut Rebuild,
    graph: &Graph,
    node: &Node,
    inputs: &[ValueId],
    captured_from: usize,
) -> Result<(), PassError> {
    // A body of an `If` takes the captured values alone, that of a `Loop` all operands.
    let skipped = if matches!(node.op, Op::If(_)) { 1 } else { 0 };
    let mut keep = Vec::new();
    let mut constants: Vec<Option<Tensor>> = Vec::new();
    let used: Vec<Vec<bool>> = node.regions.iter().map(used_inputs).collect();
    for (position, &input) in inputs.iter().enumerate() {
        let constant = rebuild.new.constant_of(input).filter(|_| position >= captured_from);
        let used = position < captured_from
            || used.iter().any(|body| body.get(position - skipped).is_some_and(|&used| used));
        keep.push(constant.is_none() && used);
        constants.push(constant.cloned());
    }
    if keep.iter().all(|&keep| keep) {
        return rebuild.keep(graph, node);
    }
    let error = |error| PassError::Graph { pass: "take_branch", error };
    let regions = node
        .regions
        .iter()
        .map(|body| with_constants(body, &keep[skipped..], &constants[skipped..]))
        .collect::<Result<Vec<_>, _>>()
        .map_err(error)?;
    let kept: Vec<ValueId> =
        inputs.iter().zip(&keep).filter(|(_, keep)| **keep).map(|(&input, _)| input).collect();
    let outputs = rebuild
        .new
        .add_node(node.op.clone(), &kept, regions, node.source.clone())
        .map_err(error)?;
    rebuild.replace(graph, node, &outputs)
}

/// For each input of a body, whether anything reads it.
fn used_inputs(body: &Graph) -> Vec<bool> {
    let uses = body.uses();
    let used =
        |input: &ValueId| !uses[input.0 as usize].is_empty() || body.outputs().contains(input);
    body.inputs().iter().map(used).collect()
}

/// The body with only the inputs to keep; of the others, those that are used are constants now.
fn with_constants(
    body: &Graph,
    keep: &[bool],
    constants: &[Option<Tensor>],
) -> Result<Graph, GraphError> {
    let mut new = Graph::new(body.name.clone());
    new.symbols = body.symbols.clone();
    let mut arguments = Vec::new();
    for (position, &input) in body.inputs().iter().enumerate() {
        let value = body.value(input);
        let argument = match (keep.get(position), constants.get(position)) {
            (Some(false), Some(Some(tensor))) => Some(new.constant(tensor.clone())?),
            (Some(false), _) => None,
            _ => {
                let name = value.name.clone().unwrap_or_else(|| Arc::from(""));
                Some(new.input(name, value.ty.clone()))
            }
        };
        arguments.push((input, argument));
    }
    copy(&mut new, body, &arguments)?;
    Ok(new)
}

/// Copies nodes and outputs of a body whose inputs have been replaced (or are not used).
fn copy(
    new: &mut Graph,
    body: &Graph,
    arguments: &[(ValueId, Option<ValueId>)],
) -> Result<(), GraphError> {
    let mut map: Vec<Option<ValueId>> = vec![None; body.value_count()];
    for (input, argument) in arguments {
        map[input.0 as usize] = *argument;
    }
    let find = |map: &[Option<ValueId>], value: ValueId| {
        map[value.0 as usize].ok_or(GraphError::UnknownValue(value.0))
    };
    for (_, node) in body.nodes() {
        let inputs = node.inputs.iter().map(|&i| find(&map, i)).collect::<Result<Vec<_>, _>>()?;
        let outputs =
            new.add_node(node.op.clone(), &inputs, node.regions.clone(), node.source.clone())?;
        for (&old, &added) in node.outputs.iter().zip(&outputs) {
            map[old.0 as usize] = Some(added);
            if let Some(name) = &body.value(old).name {
                new.set_name(added, name.clone());
            }
        }
    }
    for (&output, name) in body.outputs().iter().zip(body.output_names()) {
        let value = find(&map, output)?;
        new.output(value, name.clone())?;
    }
    Ok(())
}
