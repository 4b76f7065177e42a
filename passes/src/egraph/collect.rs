//! Chains of sums and products with constants, as exporters write biases and batch normalisation,
//! collected into one factor and one term.
//!
//! Invariant: results move by rounding alone, as after a `Reassociating` rule: no factor leaves the normal
//! numbers of its type, and no term overflows. Rules could do the same, but a chain of n constants has
//! more bracketings than an e-graph should hold.

use super::magnitude::{MODERATE, NORMAL, Range, invertible};
use crate::PassError;
use crate::simplify::Rebuild;
use kiln_ir::op::{Binary, BinaryFn, Op, Unary, UnaryFn};
use kiln_ir::{Graph, GraphError, Node, NodeId, OpError, Producer, ValueId};
use kiln_tensor::Tensor;

/// The graph with its chains collected, its bodies included.
pub(super) fn collect(graph: &Graph) -> Result<Graph, PassError> {
    let chains = Chains::of(graph);
    let mut rebuild = Rebuild::start("collect", graph);
    for (id, node) in graph.nodes() {
        match chains.ending(id) {
            Some(chain) => {
                let value = chain.build(&mut rebuild, node)?;
                rebuild.replace(graph, node, &[value])?;
            }
            None => {
                let bodies = node.regions.iter().map(collect).collect::<Result<Vec<_>, _>>()?;
                rebuild.keep_with(graph, node, bodies)?;
            }
        }
    }
    Ok(rebuild.finish(graph)?.0)
}

/// One operation of a chain on what comes before.
#[derive(Clone, Copy, Debug)]
enum Link {
    Plus(ValueId),
    Minus(ValueId),
    /// The constant minus what comes before.
    From(ValueId),
    Times(ValueId),
    Over(ValueId),
}

impl Link {
    fn scales(self) -> bool {
        matches!(self, Link::Times(_) | Link::Over(_))
    }
}

struct Chain {
    base: ValueId,
    links: Vec<Link>,
}

struct Chains<'g> {
    graph: &'g Graph,
    uses: Vec<Vec<NodeId>>,
}

impl<'g> Chains<'g> {
    fn of(graph: &'g Graph) -> Self {
        Chains { graph, uses: graph.uses() }
    }

    /// What a node does to its one operand that is no constant.
    fn link(&self, node: &Node) -> Option<(ValueId, Link)> {
        let (Op::Binary(binary), &[a, b], &[output]) =
            (&node.op, node.inputs.as_slice(), node.outputs.as_slice())
        else {
            return None;
        };
        let constant = |value: ValueId| self.graph.constant_of(value).is_some();
        let (rest, known, first) = match (constant(a), constant(b)) {
            (false, true) => (a, b, true),
            (true, false) => (b, a, false),
            _ => return None,
        };
        let ty = self.graph.ty(output);
        // One element gains nothing, and is often a scale by which much is rounded.
        if !ty.dtype.is_float() || self.graph.ty(rest) != ty || ty.elements().is(1) {
            return None;
        }
        let link = match (binary.f, first) {
            (BinaryFn::Add, _) => Link::Plus(known),
            (BinaryFn::Sub, true) => Link::Minus(known),
            (BinaryFn::Sub, false) => Link::From(known),
            (BinaryFn::Mul, _) => Link::Times(known),
            (BinaryFn::Div, true) if self.graph.constant_of(known).is_some_and(invertible) => {
                Link::Over(known)
            }
            _ => return None,
        };
        Some((rest, link))
    }

    /// Whether nothing but the next link sees a value.
    fn passes_on(&self, value: ValueId) -> bool {
        self.uses[value.0 as usize].len() == 1 && !self.graph.outputs().contains(&value)
    }

    /// The chain that ends at a node, if it is worth collecting.
    fn ending(&self, id: NodeId) -> Option<Chain> {
        let node = self.graph.node(id);
        let (mut base, link) = self.link(node)?;
        let output = node.outputs[0];
        let user = self.uses[output.0 as usize].first().map(|&user| self.graph.node(user));
        if self.passes_on(output) && user.is_some_and(|user| self.link(user).is_some()) {
            return None;
        }
        let mut links = vec![link];
        while let Producer::Node { node, .. } = self.graph.value(base).producer
            && self.passes_on(base)
            && let Some((before, link)) = self.link(self.graph.node(node))
        {
            links.push(link);
            base = before;
        }
        links.reverse();
        let factors = links.iter().filter(|link| link.scales()).count();
        let turned = links.first().is_some_and(|first| !first.scales()) && factors == 1;
        let shorter = factors > 1 || links.len() - factors > 1;
        let worth = shorter || turned && self.is_weighted(base);
        (worth && self.keeps_range(&links)).then_some(Chain { base, links })
    }

    /// Whether the factor and the term that come of a chain are as good as its constants.
    fn keeps_range(&self, links: &[Link]) -> bool {
        let of = |constant| self.graph.constant_of(constant).and_then(Range::of);
        let (mut factor, mut term) = (Range::ONE, None);
        links.iter().all(|&link| match link {
            Link::Plus(by) | Link::Minus(by) | Link::From(by) => of(by).is_some_and(|by| {
                term = Some(term.map_or(by, |term: Range| term.plus(by)));
                by.is_below(NORMAL)
            }),
            Link::Times(by) | Link::Over(by) => of(by).is_some_and(|by| {
                let by_inverse = matches!(link, Link::Over(_));
                let times = if by_inverse { by.inverse() } else { by };
                factor = factor.times(times);
                term = term.map(|term| term.times(times));
                let moderate = by.within(MODERATE) && factor.within(NORMAL);
                moderate && term.is_none_or(|term| term.is_below(MODERATE * NORMAL))
            }),
        })
    }

    /// Whether a value is made with constant weights, which a factor can go into.
    fn is_weighted(&self, value: ValueId) -> bool {
        let Producer::Node { node, .. } = self.graph.value(value).producer else { return false };
        let node = self.graph.node(node);
        matches!(node.op, Op::Conv(_) | Op::ConvTranspose(_) | Op::Contract(_))
            && node.inputs.iter().any(|&input| self.graph.constant_of(input).is_some())
    }
}

impl Chain {
    /// `base·factor + term`
    fn build(&self, rebuild: &mut Rebuild, like: &Node) -> Result<ValueId, PassError> {
        let base = rebuild.value(self.base)?;
        let mut affine = Affine { rebuild, like, factor: None, term: None };
        for &link in &self.links {
            affine.apply(link, base)?;
        }
        let Affine { rebuild, factor, term, .. } = affine;
        let mut value = base;
        for (f, operand) in [(BinaryFn::Mul, factor), (BinaryFn::Add, term)] {
            if let Some(operand) = operand {
                value = rebuild.add1(Binary { f }, &[value, operand], like)?;
            }
        }
        Ok(value)
    }
}

/// A factor and a term that grow link by link.
struct Affine<'a> {
    rebuild: &'a mut Rebuild,
    like: &'a Node,
    factor: Option<ValueId>,
    term: Option<ValueId>,
}

impl Affine<'_> {
    fn apply(&mut self, link: Link, base: ValueId) -> Result<(), PassError> {
        match link {
            Link::Plus(by) => {
                let by = self.rebuild.value(by)?;
                self.term = Some(self.binary(BinaryFn::Add, self.term, by)?);
            }
            Link::Minus(by) => {
                let by = self.rebuild.value(by)?;
                let by = self.unary(UnaryFn::Neg, by)?;
                self.term = Some(self.binary(BinaryFn::Add, self.term, by)?);
            }
            Link::From(by) => {
                let dtype = self.rebuild.new.ty(base).dtype;
                let minus_one = Tensor::from_f64(dtype, vec![], &[-1.0])
                    .map_err(|error| self.fault(error.to_string()))?;
                let minus_one = self.rebuild.new.constant(minus_one);
                self.scale(
                    minus_one.map_err(|error| PassError::Graph { pass: "collect", error })?,
                )?;
                let by = self.rebuild.value(by)?;
                self.term = Some(self.binary(BinaryFn::Add, self.term, by)?);
            }
            Link::Times(by) => {
                let by = self.rebuild.value(by)?;
                self.scale(by)?;
            }
            Link::Over(by) => {
                let by = self.rebuild.value(by)?;
                let by = self.unary(UnaryFn::Reciprocal, by)?;
                self.scale(by)?;
            }
        }
        Ok(())
    }

    fn scale(&mut self, by: ValueId) -> Result<(), PassError> {
        self.factor = Some(self.binary(BinaryFn::Mul, self.factor, by)?);
        if self.term.is_some() {
            self.term = Some(self.binary(BinaryFn::Mul, self.term, by)?);
        }
        Ok(())
    }

    /// `f(a, b)`, or `b` if there is no `a` yet.
    fn binary(
        &mut self,
        f: BinaryFn,
        a: Option<ValueId>,
        b: ValueId,
    ) -> Result<ValueId, PassError> {
        match a {
            Some(a) => self.rebuild.add1(Binary { f }, &[a, b], self.like),
            None => Ok(b),
        }
    }

    fn unary(&mut self, f: UnaryFn, a: ValueId) -> Result<ValueId, PassError> {
        self.rebuild.add1(Unary { f }, &[a], self.like)
    }

    fn fault(&self, reason: String) -> PassError {
        let node = self.like.source.clone();
        let error = GraphError::Op { op: "Constant", node, error: OpError::new(reason) };
        PassError::Graph { pass: "collect", error }
    }
}
