//! A kernel while it is being formed: operands, axes and stages over the values of one body.
//!
//! Invariant: an axis of extent 1 does not exist (its index is the constant 0), and one whose
//! refinement is wanted stands as two axes.

use super::index::{Space, merged, shifted};
use super::walk::Walk;
use crate::egraph::windows::Windows;
use kiln_ir::kernel::{
    Access, Axis, AxisKind, Combine, Index, Operand, Role, ScalarId, ScalarProgram, Stage, Write,
};
use kiln_ir::op::Op;
use kiln_ir::{Graph, NodeId, TensorType, ValueId};
use kiln_tensor::{DType, Dim, SymbolTable};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

/// Why a body has no kernel; the entry adds which node it is.
pub(super) type Fault = String;

/// What stays the same while kernels for one body are tried.
pub(super) struct Context<'g> {
    pub(super) body: &'g Graph,
    /// What is known of the symbols of the body.
    pub(super) symbols: SymbolTable,
    /// Operand number of each body input.
    pub(super) inputs: BTreeMap<ValueId, usize>,
    /// Index maps between the last pointwise operation and the result, first to last.
    pub(super) tail: Vec<NodeId>,
    /// The parts of the core's result that are combined, if that is not all of it.
    pub(super) windows: Option<Windows>,
    /// Inner extents of axes that are split, by name.
    pub(super) refine: BTreeMap<String, Dim>,
    /// Where stages should change along an axis, by name: ends of segments.
    pub(super) cuts: BTreeMap<String, Vec<Dim>>,
    /// Refinements that would make indices simpler.
    pub(super) wanted: RefCell<BTreeMap<String, Dim>>,
    /// Cuts that would make guards superfluous.
    pub(super) wanted_cuts: RefCell<BTreeMap<String, Vec<Dim>>>,
}

/// A kernel in the making.
pub(super) struct Draft<'c> {
    pub(super) context: &'c Context<'c>,
    pub(super) operands: Vec<Operand>,
    pub(super) outer: Vec<Axis>,
    pub(super) stages: Vec<Stage>,
}

/// What floats are computed in: halves in single precision, everything else in itself.
pub(super) fn computed_in(dtype: DType) -> DType {
    match dtype {
        DType::F16 | DType::BF16 => DType::F32,
        other => other,
    }
}

impl<'c> Draft<'c> {
    /// A kernel whose inputs are those of the body and whose outputs have these types.
    pub(super) fn new(context: &'c Context<'c>, outputs: &[&TensorType]) -> Self {
        let body = context.body;
        let input = |(number, id): (usize, &ValueId)| {
            let ty = body.ty(*id);
            operand(format!("x{number}"), Role::Input, ty.dtype, ty.shape.clone())
        };
        let output = |(number, ty): (usize, &&TensorType)| {
            operand(format!("y{number}"), Role::Output, ty.dtype, ty.shape.clone())
        };
        let inputs = body.inputs().iter().enumerate().map(input);
        let operands = inputs.chain(outputs.iter().enumerate().map(output)).collect();
        Draft { context, operands, outer: Vec::new(), stages: Vec::new() }
    }

    /// Number of the output operand of this number.
    pub(super) fn output(&self, number: usize) -> usize {
        self.context.body.inputs().len() + number
    }

    /// An axis that all stages share.
    pub(super) fn outer_axis(&mut self, name: &str, extent: &Dim, kind: AxisKind) -> Index {
        add_axis(self.context, &mut self.outer, 0, name, extent, kind)
    }

    /// Parallel outer axes over the dimensions of a shape, named by a letter and a number.
    pub(super) fn outer_axes(&mut self, letter: &str, shape: &[Dim]) -> Vec<Index> {
        let dims = shape.iter().enumerate();
        dims.map(|(number, extent)| {
            self.outer_axis(&format!("{letter}{number}"), extent, AxisKind::Parallel)
        })
        .collect()
    }

    /// Scratch memory for each point of the outer axes.
    pub(super) fn temporary(&mut self, name: &str, dtype: DType, shape: Vec<Dim>) -> usize {
        self.operands.push(operand(name.into(), Role::Temporary, dtype, shape));
        self.operands.len() - 1
    }

    /// A stage at each point of the outer axes, which must all be there by now.
    pub(super) fn stage(&self) -> StageDraft<'c> {
        StageDraft { context: self.context, outer: self.outer.clone(), axes: Vec::new() }
    }

    /// Writes the body's result in `finish`, given what the core computed at `index` of its own
    /// result.
    pub(super) fn result(
        &self,
        finish: &mut Walk<'c>,
        core: ValueId,
        index: &[Index],
        value: ScalarId,
    ) -> Result<(ScalarId, Access), Fault> {
        if self.context.windows.is_some() {
            return Err("only a contraction is read in parts".into());
        }
        let windows = Windows::whole(&self.context.body.ty(core).shape);
        self.combined(finish, core, &windows, index, &[value])
    }

    /// Writes the body's result in `finish`, given what the core computed at `index` of each of these
    /// windows of its own result.
    pub(super) fn combined(
        &self,
        finish: &mut Walk<'c>,
        core: ValueId,
        windows: &Windows,
        index: &[Index],
        values: &[ScalarId],
    ) -> Result<(ScalarId, Access), Fault> {
        let body = self.context.body;
        let Some(&result) = body.outputs().first() else { return Err("no result".into()) };
        for (start, &value) in windows.starts.iter().zip(values) {
            let value = finish.rounded(value, core)?;
            finish.give(core, &within(start, index), value);
        }
        let before_tail = match self.context.tail.first() {
            Some(&first) => body.node(first).inputs[0],
            None => result,
        };
        let mut place = respread(index, &windows.sizes, &body.ty(before_tail).shape)?;
        let computed = finish.value(before_tail, &place)?;
        let stored = finish.stored(computed, body.ty(result).dtype);
        for &id in &self.context.tail {
            let node = body.node(id);
            let (from, to) = (body.ty(node.inputs[0]), body.ty(node.outputs[0]));
            place = match &node.op {
                Op::Transpose(transpose) => {
                    transpose.perm.iter().map(|&from| place[from].clone()).collect()
                }
                _ => merged(&from.shape, &to.shape, &place)
                    .ok_or("the result is written where no affine index leads")?,
            };
        }
        Ok((stored, Access { operand: self.output(0), index: place }))
    }
}

/// An index of a window as one of what it is a window of.
pub(super) fn within(start: &[Dim], index: &[Index]) -> Vec<Index> {
    index.iter().zip(start).map(|(index, start)| shifted(index, start.clone())).collect()
}

/// An index of a shape as one of a shape that differs in dimensions of size 1.
fn respread(index: &[Index], from: &[Dim], to: &[Dim]) -> Result<Vec<Index>, Fault> {
    let mut long = index.iter().zip(from).filter(|(_, dim)| !dim.is(1)).map(|(index, _)| index);
    let place = |dim: &Dim| if dim.is(1) { Some(Index::zero()) } else { long.next().cloned() };
    let places = to.iter().map(place).collect::<Option<Vec<Index>>>();
    places.ok_or_else(|| "the result has other dimensions than what was computed".into())
}

fn operand(name: String, role: Role, dtype: DType, shape: Vec<Dim>) -> Operand {
    Operand { name, role, dtype, shape }
}

fn add_axis(
    context: &Context,
    axes: &mut Vec<Axis>,
    before: usize,
    name: &str,
    extent: &Dim,
    kind: AxisKind,
) -> Index {
    if extent.is(1) {
        return Index::zero();
    }
    let split = context.refine.get(name).and_then(|inner| Some((inner, extent.exact_div(inner)?)));
    if let Some((inner, outer)) = split {
        let (whole, part) = (format!("{name}o"), format!("{name}i"));
        let outer = add_axis(context, axes, before, &whole, &outer, kind);
        let within = add_axis(context, axes, before, &part, inner, kind);
        return outer.times(inner.clone()) + within;
    }
    axes.push(Axis { name: name.to_owned(), extent: extent.clone(), kind });
    Index::Axis(before + axes.len() - 1)
}

/// A stage in the making.
pub(super) struct StageDraft<'c> {
    context: &'c Context<'c>,
    outer: Vec<Axis>,
    pub(super) axes: Vec<Axis>,
}

impl<'c> StageDraft<'c> {
    /// An axis of this stage alone.
    pub(super) fn axis(&mut self, name: &str, extent: &Dim, kind: AxisKind) -> Index {
        let before = self.outer.len();
        add_axis(self.context, &mut self.axes, before, name, extent, kind)
    }

    /// An axis along which the stage updates, even if it has one point.
    pub(super) fn sequential(&mut self, name: &str, extent: &Dim) -> Index {
        let kind = AxisKind::Sequential;
        self.axes.push(Axis { name: name.to_owned(), extent: extent.clone(), kind });
        Index::Axis(self.outer.len() + self.axes.len() - 1)
    }

    /// A program over the axes that are there by now.
    pub(super) fn walk(&self) -> Walk<'c> {
        Walk::new(self.context, self.outer.iter().chain(&self.axes).cloned().collect())
    }

    /// A stage without reduction.
    pub(super) fn pointwise<W: Into<Write>>(self, finish: Walk, writes: Vec<W>) -> Stage {
        let (body, combine) = (ScalarProgram::default(), Vec::new());
        let writes = writes.into_iter().map(Into::into).collect();
        Stage { axes: self.axes, body, combine, finish: finish.program, writes }
    }

    /// A stage that combines the results of `body`.
    pub(super) fn reducing(
        self,
        body: Walk,
        combine: Vec<Combine>,
        finish: Walk,
        writes: Vec<Access>,
    ) -> Result<Stage, Fault> {
        let reduces = self.axes.iter().any(|axis| axis.kind == AxisKind::Reduction);
        if !reduces {
            // All reduced dimensions have one element, which is the combined value already.
            return without_reduction(self.axes, body.program, finish.program, writes);
        }
        let (body, finish) = (body.program, finish.program);
        let writes = writes.into_iter().map(Into::into).collect();
        Ok(Stage { axes: self.axes, body, combine, finish, writes })
    }
}

/// A stage whose `finish` computes what its body would hand over.
fn without_reduction(
    axes: Vec<Axis>,
    body: ScalarProgram,
    finish: ScalarProgram,
    writes: Vec<Access>,
) -> Result<Stage, Fault> {
    use kiln_ir::kernel::ScalarOp;
    let mut joined = ScalarProgram { code: body.code, results: Vec::new() };
    let mut places: Vec<ScalarId> = Vec::with_capacity(finish.code.len());
    for (op, dtype) in finish.code {
        if let ScalarOp::Reduced(number) = op {
            let result = body.results.get(number).copied();
            places.push(result.ok_or_else(|| format!("nothing is handed over as {number}"))?);
            continue;
        }
        let missing = Cell::new(None);
        let at = |id: ScalarId| {
            places.get(id.0 as usize).copied().unwrap_or_else(|| {
                missing.set(Some(id));
                id
            })
        };
        let moved = |index: &Index| index.map(&Index::Axis, &at);
        let op = match op {
            ScalarOp::Unary(f, a) => ScalarOp::Unary(f, at(a)),
            ScalarOp::Binary(f, a, b) => ScalarOp::Binary(f, at(a), at(b)),
            ScalarOp::Select(c, a, b) => ScalarOp::Select(at(c), at(a), at(b)),
            ScalarOp::Cast(a) => ScalarOp::Cast(at(a)),
            ScalarOp::BitCast(a) => ScalarOp::BitCast(at(a)),
            ScalarOp::Index(index) => ScalarOp::Index(moved(&index)),
            ScalarOp::Read { access, outside } => {
                let index = access.index.iter().map(moved).collect();
                ScalarOp::Read { access: Access { index, ..access }, outside }
            }
            other @ (ScalarOp::Reduced(_) | ScalarOp::Constant(_) | ScalarOp::Dim(_)) => other,
        };
        if let Some(id) = missing.get() {
            return Err(format!("there is no scalar {}", id.0));
        }
        places.push(joined.push(op, dtype));
    }
    for id in finish.results {
        let place = places.get(id.0 as usize).copied();
        joined.results.push(place.ok_or_else(|| format!("there is no scalar {}", id.0))?);
    }
    let writes = writes.into_iter().map(Into::into).collect();
    Ok(Stage { axes, body: ScalarProgram::default(), combine: Vec::new(), finish: joined, writes })
}

impl Context<'_> {
    pub(super) fn space<'a>(&'a self, axes: &'a [Axis]) -> Space<'a> {
        Space { axes, symbols: &self.symbols, wanted: &self.wanted }
    }
}
