//! Moves the transposes that regions left at their edges towards the outputs, over the whole graph,
//! until they meet their inverses.
//!
//! Invariant: only transposes from channels last to channels first move; a transpose moves past an
//! operation only if no other, larger one is needed for that.
//!
//! Of two dimensions besides the batch it cannot be said which are the channels, so there a transpose
//! moves only if a convolution made what it transposes; but all of them meet reshapes that flatten an
//! image or make one.

use crate::PassError;
use crate::layout::{
    Channels, has_channels_last, inverse, moves_channels, permuted, through, through_all,
};
use crate::simplify::Rebuild;
use kiln_ir::op::{Op, Reshape, Transpose};
use kiln_ir::{Graph, Node, ValueId};
use kiln_tensor::{Dim, Symbol};
use std::collections::BTreeMap;
use std::slice;

/// What an unknown size is taken for where sizes are compared.
const UNKNOWN: i64 = 64;

/// The graph with its transposes moved, its bodies included.
pub(super) fn sink(graph: &Graph) -> Result<Graph, PassError> {
    let rebuild = Rebuild::start("sink", graph);
    let convolved = convolved(graph);
    let (held, last) = (BTreeMap::new(), BTreeMap::new());
    let mut sinking = Sinking { graph, rebuild, convolved, held, last };
    for (_, node) in graph.nodes() {
        if !sinking.moved(node)? {
            sinking.keep(node)?;
        }
    }
    for &output in graph.outputs() {
        sinking.plain(output)?;
    }
    Ok(sinking.rebuild.finish(graph)?.0)
}

/// A value of the old graph as a transpose of one of the new.
#[derive(Clone)]
struct Held {
    value: ValueId,
    perm: Vec<usize>,
    /// Whether it moves past operations that keep its dimensions.
    sinks: bool,
}

struct Sinking<'g> {
    graph: &'g Graph,
    rebuild: Rebuild,
    /// Old values that have their channels last because a convolution made them.
    convolved: Vec<bool>,
    /// Old values that are transposes which no one needed as such yet.
    held: BTreeMap<ValueId, Held>,
    /// Old values that exist with their channels last, too.
    last: BTreeMap<ValueId, ValueId>,
}

impl Sinking<'_> {
    /// The new value that is an old one, transposed if need be.
    fn plain(&mut self, old: ValueId) -> Result<ValueId, PassError> {
        if !self.rebuild.has(old)
            && let Some(Held { value, perm, .. }) = self.held.get(&old).cloned()
        {
            let moved = self.add(Transpose { perm }.into(), &[value], None)?;
            self.rebuild.bind(self.graph, old, moved)?;
        }
        self.rebuild.value(old)
    }

    fn keep(&mut self, node: &Node) -> Result<(), PassError> {
        let operands =
            node.inputs.iter().map(|&input| self.plain(input)).collect::<Result<Vec<_>, _>>()?;
        if let (Op::Transpose(transpose), &[input], &[output]) =
            (&node.op, node.inputs.as_slice(), node.outputs.as_slice())
            && moves_channels(&transpose.perm) == Some(Channels::ToLast)
        {
            let value = self.add(node.op.clone(), &operands, Some(node))?;
            self.last.insert(input, value);
            return self.rebuild.bind(self.graph, output, value);
        }
        let bodies = node.regions.iter().map(sink).collect::<Result<Vec<_>, _>>()?;
        self.rebuild.keep_with(self.graph, node, bodies)
    }

    /// Whether the result of a node is held as a transpose now.
    fn moved(&mut self, node: &Node) -> Result<bool, PassError> {
        let (&[output], Some(&first)) = (node.outputs.as_slice(), node.inputs.first()) else {
            return Ok(false);
        };
        if let Op::Transpose(transpose) = &node.op {
            return self.transposed(&transpose.perm, first, output);
        }
        if let Op::Reshape(reshape) = &node.op {
            return self.reshaped(&reshape.shape, node);
        }
        let Some(perm) = self.some_perm(node) else { return Ok(false) };
        let moved = if let Some(op) = through_all(&node.op, &perm) {
            let Some(operands) = self.alike(node, &perm)? else { return Ok(false) };
            Some((self.add(op, &operands, Some(node))?, perm))
        } else if let (Some(held), Some((op, after))) =
            (self.held.get(&first).cloned(), through(&node.op, &perm))
        {
            let mut operands = vec![held.value];
            for &other in &node.inputs[1..] {
                operands.push(self.plain(other)?);
            }
            Some((self.add(op, &operands, Some(node))?, after))
        } else {
            None
        };
        let Some((value, perm)) = moved else { return Ok(false) };
        self.hold(output, Held { value, perm, sinks: true })?;
        Ok(true)
    }

    fn hold(&mut self, output: ValueId, held: Held) -> Result<(), PassError> {
        if held.perm.iter().copied().eq(0..held.perm.len()) {
            return self.rebuild.bind(self.graph, output, held.value);
        }
        self.held.insert(output, held);
        Ok(())
    }

    /// A reshape of `[n, c, …]` that keeps these two, whatever it does to places: the same on what has
    /// its channels last.
    fn reshaped(&mut self, to: &[Dim], node: &Node) -> Result<bool, PassError> {
        let (input, output) = (node.inputs[0], node.outputs[0]);
        let Some(held) = self.held.get(&input).cloned() else { return Ok(false) };
        // Whatever else is held, such as what a reduction left of it, has its channels elsewhere.
        if moves_channels(&held.perm) != Some(Channels::ToFirst) {
            return Ok(false);
        }
        let ([batch, channels, from @ ..], [first, second, places @ ..]) =
            (self.graph.ty(input).shape.as_slice(), to)
        else {
            return Ok(false);
        };
        let count = |dims: &[Dim]| -> Dim { dims.iter().cloned().product() };
        if (batch, channels) != (first, second) || count(from) != count(places) {
            return Ok(false);
        }
        let shape = [slice::from_ref(batch), places, slice::from_ref(channels)].concat();
        let rank = shape.len();
        let value = self.add(Reshape { shape }.into(), &[held.value], Some(node))?;
        let perm = [0, rank - 1].into_iter().chain(1..rank - 1).collect();
        self.hold(output, Held { value, perm, sinks: held.sinks })?;
        Ok(true)
    }

    /// A transpose: cancelled, or held if it is one that moves.
    fn transposed(
        &mut self,
        perm: &[usize],
        input: ValueId,
        output: ValueId,
    ) -> Result<bool, PassError> {
        if let Some(held) = self.held.get(&input).cloned() {
            let both = permuted(&held.perm, perm);
            let cancelled = both.iter().copied().eq(0..both.len());
            if !cancelled && moves_channels(&both) != Some(Channels::ToFirst) {
                return Ok(false);
            }
            self.hold(output, Held { perm: both, ..held })?;
            return Ok(true);
        }
        if moves_channels(perm) != Some(Channels::ToFirst) {
            return Ok(false);
        }
        let sinks = perm.len() > 3 || self.convolved[input.0 as usize];
        let held = Held { value: self.plain(input)?, perm: perm.to_vec(), sinks };
        self.hold(output, held)?;
        Ok(true)
    }

    /// The transpose of the node's first operand that is one, if it is of the result's rank.
    fn some_perm(&self, node: &Node) -> Option<Vec<usize>> {
        let several = matches!(node.op, Op::Binary(_) | Op::Select(_) | Op::Concat(_));
        let inputs = if several { &node.inputs[..] } else { &node.inputs[..1] };
        let rank = self.graph.ty(node.outputs[0]).rank();
        let mut sinking = inputs.iter().filter_map(|input| self.held.get(input));
        let perm = &sinking.find(|held| held.sinks)?.perm;
        (!several || perm.len() == rank).then(|| perm.clone())
    }

    /// The operands as they are before a transpose that all of them are given; `None` if that costs
    /// more than it saves.
    fn alike(&mut self, node: &Node, perm: &[usize]) -> Result<Option<Vec<ValueId>>, PassError> {
        let back = inverse(perm);
        let to_last = moves_channels(&back) == Some(Channels::ToLast);
        // What exists with its channels last, if that is what is asked for.
        let last = |this: &Self, input: ValueId| {
            let same = to_last && this.graph.ty(input).rank() == back.len();
            this.last.get(&input).copied().filter(|_| same)
        };
        let (mut saved, mut spent) = (0.0, 0.0);
        for &input in &node.inputs {
            let shape = &self.graph.ty(input).shape;
            if self.held.get(&input).is_some_and(|held| held.perm == perm) {
                saved += elements(shape);
            } else if last(self, input).is_some()
                || self.graph.constant_of(input).is_some()
                || keeps_order(&stretched(shape, perm.len()), &back)
            {
                continue;
            } else {
                spent += elements(shape);
            }
        }
        if spent > saved {
            return Ok(None);
        }
        let mut operands = Vec::with_capacity(node.inputs.len());
        for &input in &node.inputs {
            let known = match self.held.get(&input) {
                Some(held) if held.perm == perm => Some(held.value),
                _ => last(self, input),
            };
            operands.push(match known {
                Some(value) => value,
                None => self.before(input, &back)?,
            });
        }
        Ok(Some(operands))
    }

    /// An operand transposed, with leading dimensions written out first.
    fn before(&mut self, input: ValueId, back: &[usize]) -> Result<ValueId, PassError> {
        let mut value = self.plain(input)?;
        let shape = stretched(&self.graph.ty(input).shape, back.len());
        if shape.iter().all(|dim| dim.is(1)) {
            return Ok(value);
        }
        if shape.len() != self.graph.ty(input).rank() {
            value = self.add(Reshape { shape }.into(), &[value], None)?;
        }
        let moved = self.add(Transpose { perm: back.to_vec() }.into(), &[value], None)?;
        if moves_channels(back) == Some(Channels::ToLast)
            && self.graph.ty(input).rank() == back.len()
        {
            self.last.insert(input, moved);
        }
        Ok(moved)
    }

    fn add(
        &mut self,
        op: Op,
        operands: &[ValueId],
        like: Option<&Node>,
    ) -> Result<ValueId, PassError> {
        let source = like.and_then(|node| node.source.clone());
        let error = |error| PassError::Graph { pass: "sink", error };
        let results = self.rebuild.new.add_node(op, operands, Vec::new(), source).map_err(error)?;
        // Every operation that moves has one result.
        Ok(results[0])
    }
}

/// Which values follow from a convolution with its channels last, and nothing has rearranged since.
fn convolved(graph: &Graph) -> Vec<bool> {
    let mut convolved = vec![false; graph.value_count()];
    for (_, node) in graph.nodes() {
        let made = match &node.op {
            op if has_channels_last(op) => true,
            Op::Transpose(_) | Op::Reshape(_) | Op::Contract(_) => false,
            _ => node.inputs.iter().any(|input| convolved[input.0 as usize]),
        };
        node.outputs.iter().for_each(|output| convolved[output.0 as usize] = made);
    }
    convolved
}

/// A shape with leading ones up to a rank.
fn stretched(shape: &[Dim], rank: usize) -> Vec<Dim> {
    let missing = rank.saturating_sub(shape.len());
    std::iter::repeat_n(Dim::from(1i64), missing).chain(shape.iter().cloned()).collect()
}

/// Whether a transpose moves no dimension but those of size 1, so that it is only a reshape.
fn keeps_order(shape: &[Dim], perm: &[usize]) -> bool {
    let kept: Vec<usize> = perm.iter().copied().filter(|&from| !shape[from].is(1)).collect();
    kept.is_sorted()
}

fn elements(shape: &[Dim]) -> f64 {
    let known = |dim: &Dim| {
        let guess = dim.substitute(&|_: &Symbol| Some(Dim::from(UNKNOWN)));
        guess.as_const().unwrap_or(UNKNOWN) as f64
    };
    shape.iter().map(known).product()
}
