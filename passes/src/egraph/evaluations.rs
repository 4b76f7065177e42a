//! How much a kernel computes for one element.
//!
//! Invariant: counts what the lowering would compute: a value that is needed twice at one place once, at
//! two places twice.

use super::fused::{Kind, kind};
use kiln_ir::{Graph, Producer, ValueId};
use std::collections::BTreeSet;

/// Scalar operations for one element of a body, at most. A value that is read at several indices,
/// as by a concatenation with what was made of it, is computed for each: a chain of those would
/// double with every operation.
pub(super) const MOST_EVALUATIONS: u64 = 96;

/// Scalar operations for one element of the result, or of what a core reads, whichever are more.
pub(super) fn evaluations(body: &Graph) -> u64 {
    let core = body
        .nodes()
        .map(|(_, node)| node)
        .find(|node| matches!(kind(&node.op), Kind::Streaming | Kind::Anchored));
    let of = |values: &[ValueId]| Evaluation { body, places: 0, seen: BTreeSet::new() }.of(values);
    of(body.outputs()).max(core.map_or(0, |core| of(&core.inputs)))
}

/// Scalars that a kernel computes: one for each value and each place that it is needed at.
struct Evaluation<'b> {
    body: &'b Graph,
    /// How many different places there are so far; the first is that of the result.
    places: usize,
    /// What was met, and where.
    seen: BTreeSet<(ValueId, usize)>,
}

impl Evaluation<'_> {
    fn of(mut self, values: &[ValueId]) -> u64 {
        let mut pending: Vec<(ValueId, usize)> = values.iter().map(|&value| (value, 0)).collect();
        let mut count = 0;
        while let Some((value, place)) = pending.pop() {
            let Producer::Node { node, .. } = self.body.value(value).producer else { continue };
            let node = self.body.node(node);
            let kind = kind(&node.op);
            if kind == Kind::Leaf || !self.seen.insert((value, place)) {
                continue;
            }
            count += 1;
            if count > MOST_EVALUATIONS {
                break;
            }
            if matches!(kind, Kind::Streaming | Kind::Anchored) {
                continue;
            }
            for &input in &node.inputs {
                // Each operand of a movement is read at a place of its own.
                let moves = kind == Kind::Movement;
                self.places += usize::from(moves);
                pending.push((input, if moves { self.places } else { place }));
            }
        }
        count
    }
}
