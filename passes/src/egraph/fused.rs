//! Which bodies a `Fused` node may have: the contract between the e-graph, which makes bodies, and
//! the lowering, which turns each of them into exactly one kernel.
//!
//! Invariant: every `Fused` node in an optimised graph satisfies [`parts`]; a lowering may rely on
//! it, and refuses (with a typed error) what does not.
//!
//! # The shape of a body
//! A body has one result and only nodes with one result. It consists of
//! - **leaves**: `Constant` with a single element, `SizeOf`, `Iota`;
//! - **pointwise** nodes: `Unary`, `Binary`, `Select`, `Cast`, `BitCast`;
//! - **movement** nodes: `Reshape`, `Transpose`, `Broadcast`, `Slice`, `Concat`, `Pad` with a
//!   constant value, `Gather`;
//! - at most one **core**, which is either
//!   - *streaming*: `Reduce`, `ArgReduce`, `Softmax`, `Normalize` (reads each element of operand 0
//!     a bounded number of times, in order), or
//!   - *anchored*: `Contract`, `Conv`, `ConvTranspose`, `Winograd`, `Attention`, `WindowReduce`, `Resize`
//!     (reads its operands many times).
//!
//! Every input is used, and every node leads to the result. A constant of more than one element is
//! an input. A `Reshape` that stands alone in the graph is a view of its operand's buffer: it costs
//! nothing, and the e-graph leaves it out of bodies where nothing is gained by taking it in.
//!
//! Without a core the body is a pointwise function of index-mapped reads: the value of the result
//! at an index is found by pulling the index back through movement (`Gather` reads its index,
//! `Concat` selects by range, `Pad` reads with a value outside).
//!
//! With a core, nodes fall into
//! - the **prologue**, on which the core depends. Under operand 0 of a streaming core it is any
//!   pointwise and movement nodes (pull indices back). Under every other operand, and under all
//!   operands of an anchored core, it is only `Transpose`, `Slice` and `Broadcast` chains of a body
//!   input or leaf, and any `Reshape` there adds or drops dimensions of size 1: affine index maps,
//!   nothing computed twice. A core over small integers (a product, a pooling, a resize) may widen
//!   what it reads, and take a zero point off: they are read faster than what they become;
//! - the **epilogue**, pointwise nodes that depend on the core, and reshapes that add or drop
//!   dimensions of size 1. Each has the shape of the core's result but for those, so that element `i`
//!   of the result needs element `i` of the core and no other. Of a contraction it may take slices, all
//!   of one size and without overlap, and combine them: element `i` of the result then needs the `i`-th
//!   of each [window](Windows);
//! - the **side**, pointwise, movement and leaf nodes that the epilogue uses but that neither depend
//!   on the core nor are in its prologue (a node in both is prologue, and may be evaluated in both);
//! - the **tail**, a chain of `Transpose` and merging `Reshape` after all of the epilogue: the write
//!   index stays affine in the axes of the core's result. A merging `Reshape` joins neighbouring
//!   dimensions; it splits none.

use super::windows::Windows;
use crate::integers::is_widening;
use kiln_ir::op::{Op, PadMode};
use kiln_ir::{Graph, Node, NodeId, Producer, ValueId};
use kiln_tensor::Dim;
use thiserror::Error;

/// What a node may be in a fused body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// `Constant` of one element, `SizeOf`, `Iota`.
    Leaf,
    /// One value from one value of each operand.
    Pointwise,
    /// An index map.
    Movement,
    /// A core that reads its first operand in order.
    Streaming,
    /// A core that reads its operands many times.
    Anchored,
    /// Not in any body; a kernel or a routine of its own.
    Alone,
}

/// What an operation may be in a fused body.
pub fn kind(op: &Op) -> Kind {
    match op {
        Op::Constant(constant) if constant.tensor.len() == 1 => Kind::Leaf,
        Op::SizeOf(_) | Op::Iota(_) => Kind::Leaf,
        Op::Unary(_) | Op::Binary(_) | Op::Select(_) => Kind::Pointwise,
        Op::Cast(_) | Op::BitCast(_) | Op::Assume(_) => Kind::Pointwise,
        Op::Pad(pad) if pad.mode == PadMode::Constant => Kind::Movement,
        Op::Reshape(_)
        | Op::Transpose(_)
        | Op::Broadcast(_)
        | Op::Slice(_)
        | Op::Concat(_)
        | Op::Gather(_) => Kind::Movement,
        Op::Reduce(_) | Op::ArgReduce(_) | Op::Softmax(_) | Op::Normalize(_) => Kind::Streaming,
        Op::Contract(_)
        | Op::Conv(_)
        | Op::ConvTranspose(_)
        | Op::Winograd(_)
        | Op::Attention(_)
        | Op::WindowReduce(_)
        | Op::Resize(_) => Kind::Anchored,
        _ => Kind::Alone,
    }
}

/// The parts of a legal body; each list in topological order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parts {
    /// The reduction or contraction, if there is one.
    pub core: Option<NodeId>,
    /// What the core depends on.
    pub prologue: Vec<NodeId>,
    /// What computes element by element from the core's result; all nodes of a body without a core.
    pub epilogue: Vec<NodeId>,
    /// What the epilogue uses besides the core.
    pub side: Vec<NodeId>,
    /// Index maps of the write, first to last.
    pub tail: Vec<NodeId>,
    /// The parts of the core's result that the epilogue combines; none where it is all of it.
    pub windows: Option<Windows>,
}

/// Why a body is not one kernel.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum NotFusible {
    /// The body, or one of its nodes, has not exactly one result.
    #[error("a fused body and its nodes have one result each")]
    Results,
    /// An input or node does not lead to the result.
    #[error("a fused body has an unused input or node")]
    Unused,
    /// A node that is in no body.
    #[error("`{0}` is a kernel of its own")]
    Alone(&'static str),
    /// Two cores.
    #[error("`{0}` and `{1}` are both cores, and a kernel has one")]
    TwoCores(&'static str, &'static str),
    /// Something between the body's inputs and the core that it would compute many times.
    #[error("`{prologue}` before `{core}` would be computed many times")]
    Prologue {
        /// The offending node.
        prologue: &'static str,
        /// The core.
        core: &'static str,
    },
    /// Something after the core that mixes its elements.
    #[error("`{epilogue}` after `{core}` does not keep its elements in place")]
    Epilogue {
        /// The offending node.
        epilogue: &'static str,
        /// The core.
        core: &'static str,
    },
}

/// Whether a body can be one kernel.
pub fn is_fusible(body: &Graph) -> bool {
    parts(body).is_ok()
}

/// The parts of a body, or the first rule (of the module's documentation) that it breaks.
pub fn parts(body: &Graph) -> Result<Parts, NotFusible> {
    let &[result] = body.outputs() else { return Err(NotFusible::Results) };
    all_lead_to(body, result)?;
    let mut core: Option<(NodeId, &Node)> = None;
    for (id, node) in body.nodes() {
        if node.outputs.len() != 1 {
            return Err(NotFusible::Results);
        }
        match kind(&node.op) {
            Kind::Alone => return Err(NotFusible::Alone(node.op.name())),
            Kind::Streaming | Kind::Anchored => match core {
                Some((_, other)) => {
                    return Err(NotFusible::TwoCores(other.op.name(), node.op.name()));
                }
                None => core = Some((id, node)),
            },
            Kind::Leaf | Kind::Pointwise | Kind::Movement => {}
        }
    }
    let Some((core_id, core)) = core else {
        let epilogue = body.nodes().map(|(id, _)| id).collect();
        return Ok(Parts { epilogue, ..Parts::default() });
    };

    let mut parts = Parts { core: Some(core_id), ..Parts::default() };
    let before = before_core(body, core)?;
    let mut after: Vec<Option<Extent>> = vec![None; body.value_count()];
    after[core.outputs[0].0 as usize] = Some(Extent::Whole);
    let mut windows = Windows::default();
    let mut moved = false;
    for (id, node) in body.nodes() {
        if id == core_id {
            continue;
        }
        let output = node.outputs[0];
        let mut extents = node.inputs.iter().filter_map(|input| after[input.0 as usize]);
        let Some(extent) = extents.next() else {
            let list = if before[id.0 as usize] { &mut parts.prologue } else { &mut parts.side };
            list.push(id);
            continue;
        };
        let not_in_place =
            || NotFusible::Epilogue { epilogue: node.op.name(), core: core.op.name() };
        if extents.any(|other| other != extent) {
            return Err(not_in_place());
        }
        after[output.0 as usize] = Some(extent);
        let shape = match extent {
            Extent::Whole => &body.ty(core.outputs[0]).shape,
            Extent::Window => &windows.sizes,
        };
        let in_place = (kind(&node.op) == Kind::Pointwise || moves_only_ones(body, node))
            && !moved
            && long(&body.ty(output).shape).eq(long(shape));
        if in_place {
            parts.epilogue.push(id);
        } else if keeps_writes_affine(body, node) {
            moved = true;
            parts.tail.push(id);
        } else if extent == Extent::Whole && !moved && windows.take(body, core, node) {
            after[output.0 as usize] = Some(Extent::Window);
            parts.epilogue.push(id);
        } else {
            return Err(not_in_place());
        }
    }
    parts.windows = (!windows.starts.is_empty()).then_some(windows);
    tail_is_a_chain(body, &parts, result)?;
    Ok(parts)
}

/// How much of the core's result a value after it stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Extent {
    Whole,
    Window,
}

fn mark(set: &mut [bool], value: ValueId) {
    if let Some(slot) = set.get_mut(value.0 as usize) {
        *slot = true;
    }
}

fn all_lead_to(body: &Graph, result: ValueId) -> Result<(), NotFusible> {
    let mut used = vec![false; body.value_count()];
    mark(&mut used, result);
    for (_, node) in body.nodes().rev() {
        if !node.outputs.iter().any(|output| used[output.0 as usize]) {
            return Err(NotFusible::Unused);
        }
        node.inputs.iter().for_each(|&input| mark(&mut used, input));
    }
    let inputs_used = body.inputs().iter().all(|input| used[input.0 as usize]);
    inputs_used.then_some(()).ok_or(NotFusible::Unused)
}

/// Which nodes the core depends on; an error if one of them is more than an index map where only
/// index maps are free.
fn before_core(body: &Graph, core: &Node) -> Result<Vec<bool>, NotFusible> {
    let mut before = vec![false; body.nodes().len()];
    let streaming = kind(&core.op) == Kind::Streaming;
    for (position, &operand) in core.inputs.iter().enumerate() {
        let computes = streaming && position == 0;
        let widens = reads_integers(&core.op);
        // A node may be reached under one operand freely and under another strictly, so each walk
        // has its own marks.
        let mut seen = vec![false; body.nodes().len()];
        let mut pending = vec![operand];
        while let Some(value) = pending.pop() {
            let Producer::Node { node: id, .. } = body.value(value).producer else { continue };
            if std::mem::replace(&mut seen[id.0 as usize], true) {
                continue;
            }
            let node = body.node(id);
            let affine = matches!(node.op, Op::Transpose(_) | Op::Slice(_) | Op::Broadcast(_))
                || moves_only_ones(body, node)
                || kind(&node.op) == Kind::Leaf;
            if !(computes || affine || widens && is_widening(body, node)) {
                return Err(NotFusible::Prologue {
                    prologue: node.op.name(),
                    core: core.op.name(),
                });
            }
            before[id.0 as usize] = true;
            pending.extend(&node.inputs);
        }
    }
    Ok(before)
}

/// Whether a core may widen small integers as it reads them.
fn reads_integers(core: &Op) -> bool {
    matches!(
        core,
        Op::Contract(_) | Op::Conv(_) | Op::ConvTranspose(_) | Op::WindowReduce(_) | Op::Resize(_)
    )
}

/// Whether a node is a reshape that only adds or drops dimensions of size 1.
fn moves_only_ones(body: &Graph, node: &Node) -> bool {
    let (Op::Reshape(reshape), &[input]) = (&node.op, node.inputs.as_slice()) else { return false };
    long(&body.ty(input).shape).eq(long(&reshape.shape))
}

/// The dimensions of a shape that are not 1.
fn long(shape: &[Dim]) -> impl Iterator<Item = &Dim> {
    shape.iter().filter(|dim| !dim.is(1))
}

fn keeps_writes_affine(body: &Graph, node: &Node) -> bool {
    match (&node.op, node.inputs.as_slice(), node.outputs.as_slice()) {
        (Op::Transpose(_), _, _) => true,
        (Op::Reshape(_), &[input], &[output]) => {
            only_merges(&body.ty(input).shape, &body.ty(output).shape)
        }
        _ => false,
    }
}

/// Whether a reshape joins neighbouring dimensions, or adds and drops ones, and splits none.
pub fn only_merges(from: &[Dim], to: &[Dim]) -> bool {
    let mut from = from.iter().filter(|dim| !dim.is(1)).peekable();
    for target in to.iter().filter(|dim| !dim.is(1)) {
        let Some(first) = from.next() else { return false };
        let mut product = first.clone();
        while product != *target {
            let Some(next) = from.next() else { return false };
            product = product * next.clone();
        }
    }
    from.next().is_none()
}

/// The tail is linear: each of its nodes has one user, the next, and the last is the result.
fn tail_is_a_chain(body: &Graph, parts: &Parts, result: ValueId) -> Result<(), NotFusible> {
    let Some(core) = parts.core else { return Ok(()) };
    for (position, &id) in parts.tail.iter().enumerate() {
        let node = body.node(id);
        let next = parts.tail.get(position + 1).map(|&next| body.node(next));
        let chained = match next {
            Some(next) => next.inputs == node.outputs,
            None => node.outputs == [result],
        };
        if !chained {
            return Err(NotFusible::Epilogue {
                epilogue: node.op.name(),
                core: body.node(core).op.name(),
            });
        }
    }
    // The first of the tail takes the last of the epilogue, whose other users would be moved too.
    if let Some(&first) = parts.tail.first() {
        let taken = &body.node(first).inputs;
        let shared = body
            .nodes()
            .any(|(id, node)| id != first && node.inputs.iter().any(|input| taken.contains(input)));
        if shared {
            return Err(NotFusible::Epilogue {
                epilogue: body.node(first).op.name(),
                core: body.node(core).op.name(),
            });
        }
    }
    Ok(())
}
