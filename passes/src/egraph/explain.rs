//! What other choices would have cost: for each operation that was chosen, what else its class holds.
//!
//! Invariant: an alternative's total is the cost of a whole choice that uses it, and so a bound on the least
//! of such costs; the choice itself is not changed.

use super::extract::Table;
use super::language::{Head, TensorGraph, TensorNode};
use super::report::{Alternative, Decision};
use kiln_ir::op::Op;
use kiln_ir::text;

/// More decisions than this are counted, so that a report can be read.
const MOST_DECISIONS: usize = 8;
/// Only so many alternatives are told of each.
const MOST_ALTERNATIVES: usize = 3;
/// Differences below this share of the whole are no reason.
const REAL: f64 = 1e-3;

/// The closest decisions of a choice, in the order in which values are computed, and how many more there
/// are. `chosen` has the number of an e-node for each class.
pub(super) fn decisions(
    egraph: &TensorGraph,
    table: &Table,
    chosen: &[Option<usize>],
) -> (Vec<Decision>, usize) {
    let (Some(order), Some(cost)) = (table.order(chosen), table.cost(chosen)) else {
        return (Vec::new(), 0);
    };
    // Where the search for what suits an alternative begins: with all else as it is.
    let mut found: Vec<(usize, Vec<(f64, usize)>)> = Vec::new();
    for &class in &order {
        let mut others: Vec<(f64, usize)> = (0..table.ways(class))
            .filter(|&pick| chosen[class] != Some(pick))
            .filter_map(|pick| Some((table.with(chosen, class, pick)?, pick)))
            .filter(|(total, _)| (total - cost).abs() > REAL * cost)
            .collect();
        others.sort_by(|a, b| a.0.total_cmp(&b.0));
        if !others.is_empty() {
            found.push((class, others));
        }
    }
    let mut closest: Vec<usize> = (0..found.len()).collect();
    closest.sort_by(|&a, &b| found[a].1[0].0.total_cmp(&found[b].1[0].0));
    closest.truncate(MOST_DECISIONS);
    closest.sort_unstable();
    let more = found.len() - closest.len();
    let told = closest.into_iter().filter_map(|number| {
        let (class, others) = &found[number];
        decision(egraph, table, chosen, *class, others)
    });
    (told.collect(), more)
}

fn decision(
    egraph: &TensorGraph,
    table: &Table,
    chosen: &[Option<usize>],
    class: usize,
    found: &[(f64, usize)],
) -> Option<Decision> {
    let id = table.id(class);
    let what = |pick: usize| Some(described(egraph, egraph[id].nodes.get(pick)?));
    let pick = chosen[class]?;
    let own = what(pick)?;
    let mut others: Vec<Alternative> = Vec::new();
    for &(total, pick) in found {
        let what = what(pick)?;
        // Of two that read alike only the cheaper one says something.
        let known = what == own || others.iter().any(|other| other.what == what);
        if !known && others.len() < MOST_ALTERNATIVES {
            let total = table.forced(chosen, class, pick).unwrap_or(total);
            others.push(Alternative { what, price: table.price(class, pick), total });
        }
    }
    others.sort_by(|a, b| a.total.total_cmp(&b.total));
    let at = egraph.analysis.sources.get(&id).cloned().unwrap_or_default();
    (!others.is_empty()).then(|| Decision {
        at,
        what: own,
        price: table.price(class, pick),
        others,
    })
}

/// An operation with its attributes; a fused one by what it does.
fn described(egraph: &TensorGraph, node: &TensorNode) -> String {
    match egraph.analysis.head(node.op) {
        Head::Input(number) => format!("input {number}"),
        Head::Op(Op::Fused(fused), _) => fused.label.clone(),
        Head::Op(op, _) => text::print_operation(op),
    }
}
