//! Fewer axes: neighbouring axes that every access runs over together become one. And more dimensions: one that
//! every access counts by two axes becomes two.
//!
//! Invariant: an operand keeps its elements and their order; only how its shape counts them changes.

use kiln_ir::kernel::{Access, Axis, AxisKind, Index, Kernel, ScalarOp, ScalarProgram, Stage};
use kiln_tensor::Dim;
use std::collections::BTreeSet;

/// The kernel with dimensions of one element dropped and axes joined as far as possible.
pub(super) fn merge_axes(mut kernel: Kernel) -> Kernel {
    drop_ones(&mut kernel);
    while let Some(joint) = find(&kernel) {
        joint.apply(&mut kernel);
    }
    split_dims(&mut kernel);
    kernel
}

/// Dimensions that all accesses count by an axis and, within its steps, by another, as those of groups and of what is
/// in one: as two dimensions, each along an axis alone, whose panels can be laid out.
fn split_dims(kernel: &mut Kernel) {
    for operand in 0..kernel.operands.len() {
        let mut dim = 0;
        while dim < kernel.operands[operand].shape.len() {
            if let Some(inner) = counted_by_two(kernel, operand, dim) {
                let shape = &mut kernel.operands[operand].shape;
                let Some(outer) = shape[dim].exact_div(&inner) else { break };
                shape.splice(dim..=dim, [outer, inner]);
                accesses_mut(kernel, &mut |_, access| {
                    if access.operand == operand
                        && let Some((coarse, fine, _)) = two_axes(&access.index[dim])
                    {
                        access.index.splice(dim..=dim, [coarse, fine].map(Index::Axis));
                    }
                });
            }
            dim += 1;
        }
    }
}

/// What an axis counts in all accesses to a dimension, if another one counts what is within.
fn counted_by_two(kernel: &Kernel, operand: usize, dim: usize) -> Option<Dim> {
    let mut found = None;
    for (stage, access) in accesses(kernel).filter(|(_, access)| access.operand == operand) {
        let (coarse, fine, step) = two_axes(access.index.get(dim)?)?;
        let extent = |axis: usize| kernel.axes(&kernel.stages[stage]).nth(axis).map(|a| &a.extent);
        let fits = extent(fine)? == &step
            && extent(coarse)?.clone() * step.clone() == kernel.operands[operand].shape[dim]
            && step.as_const().is_some_and(|step| step > 1)
            && found.as_ref().is_none_or(|other| *other == step);
        found = Some(fits.then_some(step)?);
    }
    found
}

/// `step·coarse + fine` of two axes.
fn two_axes(index: &Index) -> Option<(usize, usize, Dim)> {
    let affine = index.affine().filter(|affine| affine.offset.is(0))?;
    let mut terms = affine.coefficients.into_iter();
    let ((a, x), (b, y), None) = (terms.next()?, terms.next()?, terms.next()) else { return None };
    match (x.is(1), y.is(1)) {
        (false, true) => Some((a, b, x)),
        (true, false) => Some((b, a, y)),
        _ => None,
    }
}

/// Every access of a kernel with the number of its stage.
fn accesses(kernel: &Kernel) -> impl Iterator<Item = (usize, &Access)> {
    kernel.stages.iter().enumerate().flat_map(|(number, stage)| {
        let reads = stage.body.reads().chain(stage.finish.reads());
        let writes = stage.writes.iter().map(|write| &write.access);
        reads.chain(writes).map(move |access| (number, access))
    })
}

fn accesses_mut(kernel: &mut Kernel, visit: &mut impl FnMut(usize, &mut Access)) {
    for (number, stage) in kernel.stages.iter_mut().enumerate() {
        for program in [&mut stage.body, &mut stage.finish] {
            for (op, _) in &mut program.code {
                if let ScalarOp::Read { access, .. } = op {
                    visit(number, access);
                }
            }
        }
        stage.writes.iter_mut().for_each(|write| visit(number, &mut write.access));
    }
}

/// Dimensions of one element that are only ever indexed with 0 say nothing.
fn drop_ones(kernel: &mut Kernel) {
    for operand in 0..kernel.operands.len() {
        let mut dim = 0;
        while dim < kernel.operands[operand].shape.len() {
            let zero = Index::zero();
            let plain = kernel.operands[operand].shape[dim].is(1)
                && accesses(kernel)
                    .filter(|(_, access)| access.operand == operand)
                    .all(|(_, access)| access.index.get(dim) == Some(&zero));
            if !plain {
                dim += 1;
                continue;
            }
            kernel.operands[operand].shape.remove(dim);
            accesses_mut(kernel, &mut |_, access| {
                if access.operand == operand {
                    access.index.remove(dim);
                }
            });
        }
    }
}

/// An axis and the one after it, of one stage or of all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Pair {
    /// The stage; all of them for outer axes.
    stage: Option<usize>,
    /// Number of the first axis.
    first: usize,
}

/// Axes that are joined at once, because they share operands, and the dimensions that join.
#[derive(Debug, Default)]
struct Joint {
    pairs: BTreeSet<Pair>,
    /// Operand and the first of two dimensions.
    dims: BTreeSet<(usize, usize)>,
}

fn find(kernel: &Kernel) -> Option<Joint> {
    let outer = (0..kernel.outer.len().saturating_sub(1)).map(|first| Pair { stage: None, first });
    let own = kernel.stages.iter().enumerate().flat_map(|(number, stage)| {
        let start = kernel.outer.len();
        (start..(start + stage.axes.len()).saturating_sub(1))
            .map(move |first| Pair { stage: Some(number), first })
    });
    outer.chain(own).find_map(|pair| Joint::from(kernel, pair))
}

impl Joint {
    /// What must be joined along with a pair, if all of that can be.
    fn from(kernel: &Kernel, pair: Pair) -> Option<Joint> {
        let mut joint = Joint { pairs: BTreeSet::from([pair]), dims: BTreeSet::new() };
        loop {
            let before = (joint.pairs.len(), joint.dims.len());
            for pair in joint.pairs.clone() {
                joint.dims.extend(dims_of(kernel, pair)?);
            }
            for (operand, dim) in joint.dims.clone() {
                joint.pairs.extend(pairs_of(kernel, operand, dim)?);
            }
            if (joint.pairs.len(), joint.dims.len()) == before {
                return joint.is_apart().then_some(joint);
            }
        }
    }

    /// Whether no axis or dimension is in two pairs at once.
    fn is_apart(&self) -> bool {
        let axes = self
            .pairs
            .iter()
            .all(|pair| !self.pairs.contains(&Pair { first: pair.first + 1, ..*pair }));
        axes && self.dims.iter().all(|&(operand, dim)| !self.dims.contains(&(operand, dim + 1)))
    }

    fn apply(&self, kernel: &mut Kernel) {
        for &(operand, dim) in self.dims.iter().rev() {
            let shape = &mut kernel.operands[operand].shape;
            let inner = shape.remove(dim + 1);
            shape[dim] = shape[dim].clone() * inner;
            accesses_mut(kernel, &mut |_, access| {
                if access.operand == operand {
                    access.index.remove(dim + 1);
                }
            });
        }
        for pair in self.pairs.iter().rev() {
            let axis = pair.first;
            let outer = kernel.outer.len();
            let axes = match pair.stage {
                Some(stage) => &mut kernel.stages[stage].axes,
                None => &mut kernel.outer,
            };
            let at = if pair.stage.is_some() { axis - outer } else { axis };
            let inner = axes.remove(at + 1);
            axes[at].extent = axes[at].extent.clone() * inner.extent;
            let renumber =
                |number: usize| Index::Axis(if number > axis { number - 1 } else { number });
            for (number, stage) in kernel.stages.iter_mut().enumerate() {
                if pair.stage.is_none_or(|own| own == number) {
                    renumber_stage(stage, &renumber);
                }
            }
        }
    }
}

fn renumber_stage(stage: &mut Stage, axis: &impl Fn(usize) -> Index) {
    let again = |index: &mut Index| *index = index.map(axis, &|id| id);
    for program in [&mut stage.body, &mut stage.finish] {
        for (op, _) in &mut program.code {
            match op {
                ScalarOp::Index(index) => again(index),
                ScalarOp::Read { access, .. } => access.index.iter_mut().for_each(again),
                _ => {}
            }
        }
    }
    let writes = stage.writes.iter_mut();
    writes.for_each(|write| write.access.index.iter_mut().for_each(again));
}

/// The two axes of a pair.
fn axes(kernel: &Kernel, pair: Pair) -> Option<(&Axis, &Axis)> {
    let outer = kernel.outer.len();
    let (list, at) = match pair.stage {
        Some(stage) => (&kernel.stages.get(stage)?.axes, pair.first.checked_sub(outer)?),
        None => (&kernel.outer, pair.first),
    };
    Some((list.get(at)?, list.get(at + 1)?))
}

/// The dimensions that a pair of axes runs over; `None` if it does not do so in step everywhere.
fn dims_of(kernel: &Kernel, pair: Pair) -> Option<Vec<(usize, usize)>> {
    let (a, b) = axes(kernel, pair)?;
    if a.kind != b.kind || a.kind == AxisKind::Sequential {
        return None;
    }
    let seen = |stage: usize| pair.stage.is_none_or(|own| own == stage);
    let mentions = |index: &Index| mentions(index, pair.first) || mentions(index, pair.first + 1);
    for stage in kernel.stages.iter().enumerate().filter(|(number, _)| seen(*number)) {
        let asks = |program: &ScalarProgram| {
            program.code.iter().any(|(op, _)| matches!(op, ScalarOp::Index(i) if mentions(i)))
        };
        if asks(&stage.1.body) || asks(&stage.1.finish) {
            return None;
        }
    }
    let mut dims = Vec::new();
    for (_, access) in accesses(kernel).filter(|(stage, _)| seen(*stage)) {
        let used: Vec<usize> =
            (0..access.index.len()).filter(|&dim| mentions(&access.index[dim])).collect();
        match used.as_slice() {
            [] => {}
            &[dim, next] if next == dim + 1 => {
                let shape = &kernel.operands[access.operand].shape;
                let in_step = access.index[dim] == Index::Axis(pair.first)
                    && access.index[next] == Index::Axis(pair.first + 1)
                    && shape[dim] == a.extent
                    && shape[next] == b.extent;
                if !in_step {
                    return None;
                }
                dims.push((access.operand, dim));
            }
            _ => return None,
        }
    }
    Some(dims)
}

/// The pairs of axes that run over a pair of dimensions; `None` if another index does.
fn pairs_of(kernel: &Kernel, operand: usize, dim: usize) -> Option<Vec<Pair>> {
    let mut pairs = Vec::new();
    for (stage, access) in accesses(kernel).filter(|(_, access)| access.operand == operand) {
        let (Index::Axis(a), Index::Axis(b)) = (access.index.get(dim)?, access.index.get(dim + 1)?)
        else {
            return None;
        };
        let own = (*a >= kernel.outer.len()).then_some(stage);
        let pair = Pair { stage: own, first: *a };
        if *b != a + 1 || axes(kernel, pair).is_none() {
            return None;
        }
        pairs.push(pair);
    }
    Some(pairs)
}

fn mentions(index: &Index, axis: usize) -> bool {
    match index {
        Index::Axis(number) => *number == axis,
        Index::Dim(_) | Index::Scalar(_) => false,
        Index::Add(a, b) => mentions(a, axis) || mentions(b, axis),
        Index::Mul(a, _) | Index::FloorDiv(a, _) | Index::Mod(a, _) | Index::Clamp(a, ..) => {
            mentions(a, axis)
        }
    }
}
