//! The verifier of kernels: names, types, ranks, roles, kinds of axes, coverage of outputs.
//!
//! Invariant: a kernel that passes is well-formed whatever its size parameters are; only whether
//! unguarded reads stay inside is left to those who made it.

use super::{
    Access, AxisKind, Combine, Index, Kernel, Role, ScalarId, ScalarOp, ScalarProgram, Stage, Write,
};
use kiln_tensor::{DType, Dim, Symbol};
use std::collections::BTreeSet;
use thiserror::Error;

/// What is wrong with a kernel, and where.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("kernel `{kernel}`{}: {reason}", .stage.map(|stage| format!(", stage {stage}")).unwrap_or_default())]
pub struct VerifyError {
    /// Name of the kernel.
    pub kernel: String,
    /// Number of the stage, if the fault is in one.
    pub stage: Option<usize>,
    /// The rule that is broken.
    pub reason: String,
}

type Check = Result<(), String>;

/// Checks every rule of the kernel language that does not depend on sizes.
pub fn verify(kernel: &Kernel) -> Result<(), VerifyError> {
    let at = |stage: Option<usize>| {
        move |reason: String| VerifyError { kernel: kernel.name.clone(), stage, reason }
    };
    declarations(kernel).map_err(at(None))?;
    for (number, stage) in kernel.stages.iter().enumerate() {
        Checker { kernel, stage }.check().map_err(at(Some(number)))?;
    }
    updated(kernel).map_err(at(None))?;
    outputs(kernel).map_err(at(None))
}

fn declared<'d>(kernel: &Kernel, dims: impl IntoIterator<Item = &'d Dim>) -> Check {
    let mut used: BTreeSet<Symbol> = BTreeSet::new();
    dims.into_iter().for_each(|dim| dim.collect_symbols(&mut used));
    match used.iter().find(|symbol| !kernel.symbols.contains_key(symbol)) {
        Some(symbol) => Err(format!("symbol `{symbol}` is not declared")),
        None => Ok(()),
    }
}

fn declarations(kernel: &Kernel) -> Check {
    let mut names = BTreeSet::new();
    let mut last = 0;
    for operand in &kernel.operands {
        if !names.insert(&operand.name) {
            return Err(format!("two operands are called `{}`", operand.name));
        }
        let rank = match operand.role {
            Role::Input => 0,
            Role::Output => 1,
            Role::Temporary => 2,
        };
        if rank < last {
            return Err("operands must be inputs, then outputs, then temporaries".into());
        }
        last = rank;
        declared(kernel, &operand.shape)?;
    }
    if let Some(axis) = kernel.outer.iter().find(|axis| axis.kind == AxisKind::Reduction) {
        return Err(format!("outer axis `{}` is a reduction", axis.name));
    }
    for stage in &kernel.stages {
        let mut names = BTreeSet::new();
        for axis in kernel.axes(stage) {
            if !names.insert(&axis.name) {
                return Err(format!("two axes are called `{}`", axis.name));
            }
        }
        let reduces = stage.axes.iter().find(|axis| axis.kind == AxisKind::Reduction);
        if let (true, Some(axis)) = (stage.updates(), reduces) {
            return Err(format!("axis `{}` of an updating stage is a reduction", axis.name));
        }
        declared(kernel, kernel.axes(stage).map(|axis| &axis.extent))?;
    }
    Ok(())
}

struct Checker<'k> {
    kernel: &'k Kernel,
    stage: &'k Stage,
}

impl Checker<'_> {
    fn check(&self) -> Check {
        let Stage { axes, body, combine, finish, writes } = self.stage;
        self.program(body, None)?;
        self.program(finish, Some(body))?;
        let reduces = axes.iter().any(|axis| axis.kind == AxisKind::Reduction);
        if body.results.len() != combine.len() && (reduces || !combine.is_empty()) {
            return Err(format!(
                "{} results of the body have {} combiners",
                body.results.len(),
                combine.len()
            ));
        }
        for (number, how) in combine.iter().enumerate() {
            let follows = number > 0 && !matches!(combine[number - 1], Combine::Reduce(_));
            if *how == Combine::Follow && !follows {
                return Err(format!("result {number} follows no key"));
            }
        }
        if finish.results.len() != writes.len() {
            return Err("results and writes of `finish` differ in number".into());
        }
        for (id, write) in finish.results.iter().zip(writes) {
            self.write(finish.dtype(*id), &write.access)?;
            if let Some(condition) = write.only_if
                && finish.dtype(condition) != Some(DType::Bool)
            {
                return Err(format!("s{} decides about a write, and is no bool", condition.0));
            }
        }
        Ok(())
    }

    /// Types and places of a program; `finish` is given the body, whose results it may use.
    fn program(&self, program: &ScalarProgram, body: Option<&ScalarProgram>) -> Check {
        for (number, (op, dtype)) in program.code.iter().enumerate() {
            self.instruction(program, number, op, *dtype, body)
                .map_err(|reason| format!("instruction s{number}: {reason}"))?;
        }
        match program.results.iter().find(|id| program.dtype(**id).is_none()) {
            Some(id) => Err(format!("there is no result s{}", id.0)),
            None => Ok(()),
        }
    }

    fn instruction(
        &self,
        program: &ScalarProgram,
        number: usize,
        op: &ScalarOp,
        dtype: DType,
        body: Option<&ScalarProgram>,
    ) -> Check {
        let type_of = |id: &ScalarId| {
            let earlier = (id.0 as usize) < number;
            let found = program.dtype(*id).filter(|_| earlier);
            found.ok_or_else(|| format!("s{} is not computed before", id.0))
        };
        let is = |actual: DType| match actual == dtype {
            true => Ok(()),
            false => Err(format!("has type {dtype}, but computes {actual}")),
        };
        let function = |result: Option<DType>, of: DType| {
            is(result.ok_or_else(|| format!("is not defined on {of}"))?)
        };
        match op {
            ScalarOp::Constant(_) => Ok(()),
            ScalarOp::Dim(dim) => {
                declared(self.kernel, [dim])?;
                is(DType::I64)
            }
            ScalarOp::Index(index) => {
                self.index(index, program, number, body.is_some())?;
                is(DType::I64)
            }
            ScalarOp::Read { access, outside: _ } => {
                let operand = self.operand(access)?;
                for index in &access.index {
                    self.index(index, program, number, body.is_some())?;
                }
                is(operand.dtype)
            }
            ScalarOp::Reduced(result) => {
                let body = body.ok_or("the body has no combined values")?;
                let id = body.results.get(*result).ok_or("there is no such combined value")?;
                is(body.dtype(*id).unwrap_or(dtype))
            }
            ScalarOp::Unary(f, a) => {
                let a = type_of(a)?;
                function(f.result(a), a)
            }
            ScalarOp::Binary(f, a, b) => {
                let (a, b) = (type_of(a)?, type_of(b)?);
                if a != b {
                    return Err(format!("mixes {a} and {b}"));
                }
                function(f.result(a), a)
            }
            ScalarOp::Select(condition, a, b) => {
                if type_of(condition)? != DType::Bool {
                    return Err("the condition is not a bool".into());
                }
                is(type_of(a)?)?;
                is(type_of(b)?)
            }
            ScalarOp::Cast(a) => match type_of(a)? {
                from if from == dtype || from.converts_to(dtype) => Ok(()),
                from => Err(format!("{from} is not converted to {dtype}")),
            },
            ScalarOp::BitCast(a) => match type_of(a)? {
                from if from.bits() == dtype.bits() => Ok(()),
                from => Err(format!("{from} is not as wide as {dtype}")),
            },
        }
    }

    fn operand(&self, access: &Access) -> Result<&super::Operand, String> {
        let operand = self.kernel.operands.get(access.operand);
        let operand = operand.ok_or_else(|| format!("there is no operand {}", access.operand))?;
        if access.index.len() != operand.shape.len() {
            return Err(format!(
                "`{}` has {} dimensions, but {} indices",
                operand.name,
                operand.shape.len(),
                access.index.len()
            ));
        }
        Ok(operand)
    }

    fn index(&self, index: &Index, program: &ScalarProgram, number: usize, finish: bool) -> Check {
        let again = |index: &Index| self.index(index, program, number, finish);
        match index {
            Index::Axis(axis) => {
                let found = self.kernel.axes(self.stage).nth(*axis);
                let axis = found.ok_or_else(|| format!("there is no axis a{axis}"))?;
                if finish && axis.kind == AxisKind::Reduction {
                    return Err(format!("`finish` mentions reduction axis `{}`", axis.name));
                }
                Ok(())
            }
            Index::Dim(dim) => declared(self.kernel, [dim]),
            Index::Scalar(id) => match program.dtype(*id) {
                Some(dtype) if (id.0 as usize) < number && dtype.is_integer() => Ok(()),
                _ => Err(format!("s{} is no integer that is computed before", id.0)),
            },
            Index::Add(a, b) => {
                again(a)?;
                again(b)
            }
            Index::Mul(a, dim) | Index::FloorDiv(a, dim) | Index::Mod(a, dim) => {
                declared(self.kernel, [dim])?;
                again(a)
            }
            Index::Clamp(a, low, high) => {
                declared(self.kernel, [low, high])?;
                again(a)
            }
        }
    }

    /// A write; one of an updating stage may go where its program says.
    fn write(&self, dtype: Option<DType>, access: &Access) -> Check {
        let operand = self.operand(access)?;
        if operand.role == Role::Input {
            return Err(format!("writes to input `{}`", operand.name));
        }
        if dtype != Some(operand.dtype) {
            return Err(format!("writes {dtype:?} to `{}` of {}", operand.name, operand.dtype));
        }
        let (none, updates) = (ScalarProgram::default(), self.stage.updates());
        let program = if updates { &self.stage.finish } else { &none };
        for index in &access.index {
            self.index(index, program, program.code.len(), true)?;
            if !updates && index.affine().is_none() {
                return Err(format!("writes `{}` at {index}, which is not affine", operand.name));
            }
        }
        Ok(())
    }
}

/// Each output is written, and where one write does it, its places are all places, once. Updates
/// only follow what was written.
fn outputs(kernel: &Kernel) -> Check {
    let writes = |operand: usize| {
        kernel.stages.iter().filter(|stage| !stage.updates()).flat_map(move |stage| {
            stage
                .writes
                .iter()
                .filter(move |write| write.access.operand == operand)
                .map(move |write| (stage, write))
        })
    };
    for (number, operand) in kernel.bound_operands() {
        if operand.role != Role::Output {
            continue;
        }
        let mut found = writes(number);
        match (found.next(), found.next()) {
            (None, _) => return Err(format!("output `{}` is never written", operand.name)),
            (Some((stage, write)), None) if write.only_if.is_none() => {
                covers(kernel, stage, &write.access)
                    .map_err(|reason| format!("the write of `{}` {reason}", operand.name))?;
            }
            // Several writes share the places among them, and some are left out; that is for the evaluator to
            // judge.
            _ => {}
        }
    }
    Ok(())
}

/// Every operand that a stage updates is written by one before it.
fn updated(kernel: &Kernel) -> Check {
    for (number, stage) in kernel.stages.iter().enumerate().filter(|(_, stage)| stage.updates()) {
        for Write { access, .. } in &stage.writes {
            let before = kernel.stages[..number].iter().flat_map(|stage| &stage.writes);
            if !before.into_iter().any(|earlier| earlier.access.operand == access.operand) {
                let name = kernel.operands.get(access.operand).map_or("?", |operand| &operand.name);
                return Err(format!("`{name}` is updated before it is written"));
            }
        }
    }
    Ok(())
}

/// Whether an affine write visits every place of its operand exactly once.
fn covers(kernel: &Kernel, stage: &Stage, access: &Access) -> Check {
    // Of no places each is visited once.
    if kernel.operands[access.operand].shape.iter().any(|extent| extent.is(0)) {
        return Ok(());
    }
    let axes: Vec<_> = kernel.axes(stage).collect();
    let mut used = vec![false; axes.len()];
    for (dim, (index, extent)) in
        access.index.iter().zip(&kernel.operands[access.operand].shape).enumerate()
    {
        let affine = index.affine().ok_or("is not affine")?;
        let mut start = affine.offset;
        let mut terms: Vec<(usize, Dim)> = affine.coefficients.into_iter().collect();
        // Digits of a mixed-radix number: each counts what all finer ones span.
        let mut span = Dim::from(1i64);
        while !terms.is_empty() {
            let back = -span.clone();
            let next = terms.iter().position(|(_, factor)| *factor == span || *factor == back);
            let (axis, factor) = match next {
                Some(position) => terms.remove(position),
                None => return Err(format!("skips places in dimension {dim}")),
            };
            if std::mem::replace(&mut used[axis], true) {
                return Err(format!("uses axis `{}` twice", axes[axis].name));
            }
            if factor == back {
                // An axis that runs backwards starts at its last place.
                start = start + back * (axes[axis].extent.clone() - Dim::from(1i64));
            }
            span = span * axes[axis].extent.clone();
        }
        if !start.is(0) {
            return Err(format!("starts at {start} in dimension {dim}"));
        }
        if span != *extent {
            return Err(format!("visits {span} of {extent} places in dimension {dim}"));
        }
    }
    let idle = axes
        .iter()
        .zip(&used)
        .find(|(axis, used)| !**used && axis.kind == AxisKind::Parallel && !axis.extent.is(1));
    match idle {
        Some((axis, _)) => Err(format!("repeats places along axis `{}`", axis.name)),
        None => Ok(()),
    }
}
