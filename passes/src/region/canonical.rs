//! Symbols under other names: so that equal layers are equal, whatever their sizes are called.
//!
//! Invariant: renaming changes nothing but names.

use kiln_ir::{Graph, GraphError, ValueId};
use kiln_tensor::{Dim, Symbol};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// New names for the symbols of a graph, by order of occurrence.
pub(super) fn symbols(graph: &Graph) -> BTreeMap<Symbol, Symbol> {
    let mut names = BTreeMap::new();
    let mut enter = |dim: &Dim| {
        let mut found = BTreeSet::new();
        dim.collect_symbols(&mut found);
        for symbol in found {
            let number = names.len();
            names.entry(symbol).or_insert_with(|| Symbol::new(&format!("r{number}")));
        }
    };
    for &input in graph.inputs() {
        graph.ty(input).shape.iter().for_each(&mut enter);
    }
    for (_, node) in graph.nodes() {
        node.op.clone().dims_mut().into_iter().for_each(|dim| enter(dim));
        for &output in &node.outputs {
            graph.ty(output).shape.iter().for_each(&mut enter);
        }
    }
    names
}

/// The graph with symbols renamed, its bodies included. What has no new name keeps its old one.
pub(crate) fn rename(graph: &Graph, names: &BTreeMap<Symbol, Symbol>) -> Result<Graph, GraphError> {
    rename_from(graph, names, &|source| Some(source.clone()))
}

/// [`rename`] with other names for the model's nodes, too.
pub(crate) fn rename_from(
    graph: &Graph,
    names: &BTreeMap<Symbol, Symbol>,
    source: &impl Fn(&Arc<str>) -> Option<Arc<str>>,
) -> Result<Graph, GraphError> {
    let meanings = names.iter().map(|(old, new)| (old.clone(), Dim::from(new.clone()))).collect();
    substitute(graph, &meanings, source)
}

/// The graph with sizes put in for symbols, its bodies included, and other names for the model's nodes.
/// What is known of a symbol holds for one that is put in for it, too.
pub(crate) fn substitute(
    graph: &Graph,
    meanings: &BTreeMap<Symbol, Dim>,
    source: &impl Fn(&Arc<str>) -> Option<Arc<str>>,
) -> Result<Graph, GraphError> {
    let replace = |dim: &Dim| dim.substitute(&|symbol| meanings.get(symbol).cloned());
    let mut new = Graph::new(graph.name.clone());
    let mut map: Vec<Option<ValueId>> = vec![None; graph.value_count()];
    for &input in graph.inputs() {
        let value = graph.value(input);
        let mut ty = value.ty.clone();
        ty.shape = ty.shape.iter().map(replace).collect();
        let name = value.name.clone().unwrap_or_else(|| Arc::from(""));
        map[input.0 as usize] = Some(new.input(name, ty));
    }
    for (symbol, &bounds) in &graph.symbols {
        let stands = match meanings.get(symbol) {
            Some(meaning) => meaning.as_symbol(),
            None => Some(symbol),
        };
        if let Some(symbol) = stands {
            let known = new.symbols.entry(symbol.clone()).or_insert(bounds);
            *known = known.and(bounds);
        }
    }
    let find = |map: &[Option<ValueId>], value: ValueId| {
        map[value.0 as usize].ok_or(GraphError::UnknownValue(value.0))
    };
    for (_, node) in graph.nodes() {
        let mut op = node.op.clone();
        op.dims_mut().into_iter().for_each(|dim| *dim = replace(dim));
        let inputs =
            node.inputs.iter().map(|&input| find(&map, input)).collect::<Result<Vec<_>, _>>()?;
        let bodies = node.regions.iter().map(|body| substitute(body, meanings, source));
        let bodies = bodies.collect::<Result<Vec<_>, _>>()?;
        let outputs = new.add_node(op, &inputs, bodies, node.source.as_ref().and_then(source))?;
        for (&old, added) in node.outputs.iter().zip(outputs) {
            map[old.0 as usize] = Some(added);
            if let Some(name) = &graph.value(old).name {
                new.set_name(added, name.clone());
            }
        }
    }
    for (&output, name) in graph.outputs().iter().zip(graph.output_names()) {
        let value = find(&map, output)?;
        new.output(value, name.clone())?;
    }
    Ok(new)
}
