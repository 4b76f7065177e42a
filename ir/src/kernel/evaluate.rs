//! The reference evaluator of kernels: every point one after the other, every place checked.
//!
//! Invariant: follows the definitions of [`Kernel`] word by word and nothing else, so that it can
//! judge kernels against graph operations and compiled code against kernels.

use super::number::Number;
use super::{
    Access, Axis, AxisKind, Combine, Index, Kernel, Role, Scalar, ScalarId, ScalarOp,
    ScalarProgram, Stage, Write,
};
use crate::op::ReduceFn;
use kiln_tensor::{DType, DimError, SymbolValues, Tensor, TensorError};
use thiserror::Error;

/// Why a kernel could not be evaluated.
#[derive(Clone, Debug, Error, PartialEq)]
pub enum KernelError {
    /// A size has no value.
    #[error(transparent)]
    Dim(#[from] DimError),
    /// A buffer could not be made.
    #[error(transparent)]
    Tensor(#[from] TensorError),
    /// The inputs are not those of the kernel.
    #[error("input {number}: expected {expected}, got {actual}")]
    Input {
        /// Which.
        number: usize,
        /// What the kernel declares.
        expected: String,
        /// What was given.
        actual: String,
    },
    /// A place outside of an operand.
    #[error("`{operand}` of shape {shape:?} has no place {index:?}")]
    OutOfBounds {
        /// Name of the operand.
        operand: String,
        /// Its sizes.
        shape: Vec<i64>,
        /// The indices.
        index: Vec<i64>,
    },
    /// An output element that is not written exactly once.
    #[error("element {element} of output `{operand}` is written {times} times")]
    Coverage {
        /// Name of the output.
        operand: String,
        /// Its number in row-major order.
        element: usize,
        /// How often it was written.
        times: u32,
    },
    /// Something refers to what is not there.
    #[error("the kernel is malformed: {0}")]
    Malformed(String),
}

/// Computes the outputs of a kernel, in operand order, from its inputs, in operand order, and the
/// values of its size parameters.
pub fn evaluate(
    kernel: &Kernel,
    params: &SymbolValues,
    inputs: &[Tensor],
) -> Result<Vec<Tensor>, KernelError> {
    let mut given = inputs.iter();
    let mut buffers = Vec::with_capacity(kernel.operands.len());
    for (number, operand) in kernel.operands.iter().enumerate() {
        let shape = sizes(&operand.shape, params)?;
        let actual = if operand.role == Role::Input {
            let tensor = given.next().ok_or_else(|| KernelError::Input {
                number,
                expected: operand.name.clone(),
                actual: "nothing".into(),
            })?;
            let sizes: Vec<i64> = tensor.sizes().iter().map(|&size| size as i64).collect();
            if tensor.dtype() != operand.dtype || sizes != shape {
                return Err(KernelError::Input {
                    number,
                    expected: format!("{} {shape:?}", operand.dtype),
                    actual: format!("{} {sizes:?}", tensor.dtype()),
                });
            }
            tensor.clone()
        } else {
            let sizes = shape.iter().map(|&size| usize::try_from(size).unwrap_or(0)).collect();
            Tensor::zeros(operand.dtype, sizes)?
        };
        let written = vec![0u32; if operand.role == Role::Output { actual.len() } else { 0 }];
        buffers.push(Buffer { shape, tensor: actual, written });
    }
    let mut run = Run { kernel, params, buffers, axes: Vec::new() };
    run.tasks()?;
    let mut outputs = Vec::new();
    let operands = kernel.operands.iter().zip(run.buffers);
    for (operand, buffer) in operands.filter(|(operand, _)| operand.role == Role::Output) {
        if let Some(element) = buffer.written.iter().position(|&times| times == 0) {
            return Err(KernelError::Coverage { operand: operand.name.clone(), element, times: 0 });
        }
        outputs.push(buffer.tensor);
    }
    Ok(outputs)
}

struct Buffer {
    shape: Vec<i64>,
    tensor: Tensor,
    /// For outputs: how often each element was written, counting steps of sequential axes once.
    written: Vec<u32>,
}

struct Run<'k> {
    kernel: &'k Kernel,
    params: &'k SymbolValues,
    buffers: Vec<Buffer>,
    /// Values of the axes that are visible.
    axes: Vec<i64>,
}

fn sizes(dims: &[kiln_tensor::Dim], params: &SymbolValues) -> Result<Vec<i64>, KernelError> {
    Ok(dims.iter().map(|dim| dim.evaluate(params)).collect::<Result<_, _>>()?)
}

/// Every point of a box, last coordinate fastest.
fn points(extents: &[i64]) -> impl Iterator<Item = Vec<i64>> + use<> {
    let extents = extents.to_vec();
    let total: i64 = extents.iter().map(|&extent| extent.max(0)).product();
    (0..total).map(move |number| {
        let mut rest = number;
        let mut point = vec![0; extents.len()];
        for (slot, extent) in point.iter_mut().zip(&extents).rev() {
            *slot = rest % extent;
            rest /= extent;
        }
        point
    })
}

impl Run<'_> {
    fn tasks(&mut self) -> Result<(), KernelError> {
        let outer = &self.kernel.outer;
        let extents = self.extents(outer)?;
        let of_kind = |kind: AxisKind| -> Vec<usize> {
            (0..outer.len()).filter(|&axis| outer[axis].kind == kind).collect()
        };
        let (parallel, sequential) = (of_kind(AxisKind::Parallel), of_kind(AxisKind::Sequential));
        if parallel.len() + sequential.len() != outer.len() {
            return Err(KernelError::Malformed("an outer axis is a reduction".into()));
        }
        let among = |axes: &[usize]| axes.iter().map(|&axis| extents[axis]).collect::<Vec<_>>();
        for point in points(&among(&parallel)) {
            self.axes = vec![0; outer.len()];
            parallel.iter().zip(&point).for_each(|(&axis, &value)| self.axes[axis] = value);
            self.clear_temporaries(!sequential.is_empty())?;
            let mut first = true;
            for step in points(&among(&sequential)) {
                sequential.iter().zip(&step).for_each(|(&axis, &value)| self.axes[axis] = value);
                for stage in &self.kernel.stages {
                    self.stage(stage, first)?;
                }
                first = false;
            }
        }
        Ok(())
    }

    fn extents(&self, axes: &[Axis]) -> Result<Vec<i64>, KernelError> {
        Ok(axes.iter().map(|axis| axis.extent.evaluate(self.params)).collect::<Result<_, _>>()?)
    }

    /// Zeros where a sequential axis carries them; else what shows that it was never written.
    fn clear_temporaries(&mut self, zeros: bool) -> Result<(), KernelError> {
        for (operand, buffer) in self.kernel.operands.iter().zip(&mut self.buffers) {
            if operand.role == Role::Temporary {
                let fill = if zeros || !operand.dtype.is_float() { 0.0 } else { f64::NAN };
                let sizes = buffer.tensor.sizes().to_vec();
                let values = vec![fill; buffer.tensor.len()];
                buffer.tensor = Tensor::from_f64(operand.dtype, sizes, &values)?;
            }
        }
        Ok(())
    }

    fn stage(&mut self, stage: &Stage, first: bool) -> Result<(), KernelError> {
        let outer = self.axes.len();
        let extents = self.extents(&stage.axes)?;
        let of_kind = |reduction: bool| -> Vec<usize> {
            let is = |axis: &usize| (stage.axes[*axis].kind == AxisKind::Reduction) == reduction;
            (0..extents.len()).filter(is).collect()
        };
        let (parallel, reduction) = (of_kind(false), of_kind(true));
        let among = |axes: &[usize]| axes.iter().map(|&axis| extents[axis]).collect::<Vec<_>>();
        self.axes.resize(outer + extents.len(), 0);
        for point in points(&among(&parallel)) {
            parallel.iter().zip(&point).for_each(|(&axis, &at)| self.axes[outer + axis] = at);
            let mut combined: Option<Vec<Number>> = None;
            if reduction.is_empty() {
                combined = Some(self.program(&stage.body, &[])?);
            } else {
                for point in points(&among(&reduction)) {
                    reduction
                        .iter()
                        .zip(&point)
                        .for_each(|(&axis, &at)| self.axes[outer + axis] = at);
                    let results = self.program(&stage.body, &[])?;
                    combined = Some(combine(stage, combined, results)?);
                }
                reduction.iter().for_each(|&axis| self.axes[outer + axis] = 0);
            }
            let combined = match combined {
                Some(combined) => combined,
                None => neutral(stage)?,
            };
            let (results, values) = self.values(&stage.finish, &combined)?;
            if results.len() != stage.writes.len() {
                return Err(KernelError::Malformed("a stage's writes do not fit".into()));
            }
            for (Write { access, only_if }, result) in stage.writes.iter().zip(results) {
                if let Some(condition) = only_if {
                    let found = values.get(condition.0 as usize);
                    let missing =
                        || KernelError::Malformed(format!("there is no scalar {}", condition.0));
                    if !found.ok_or_else(missing)?.is_true() {
                        continue;
                    }
                }
                if stage.updates() {
                    self.update(access, result, &values)?;
                } else {
                    self.write(access, result, first)?;
                }
            }
        }
        self.axes.truncate(outer);
        Ok(())
    }

    fn program(
        &self,
        program: &ScalarProgram,
        reduced: &[Number],
    ) -> Result<Vec<Number>, KernelError> {
        Ok(self.values(program, reduced)?.0)
    }

    /// The results of a program, and what each of its instructions gives.
    fn values(
        &self,
        program: &ScalarProgram,
        reduced: &[Number],
    ) -> Result<(Vec<Number>, Vec<Number>), KernelError> {
        let mut values: Vec<Number> = Vec::with_capacity(program.code.len());
        let missing = |id: ScalarId| KernelError::Malformed(format!("there is no scalar {}", id.0));
        for (op, dtype) in &program.code {
            let get = |id: &ScalarId| values.get(id.0 as usize).copied().ok_or(missing(*id));
            let type_of = |id: &ScalarId| program.dtype(*id).ok_or(missing(*id));
            let value = match op {
                ScalarOp::Constant(scalar) => Number::of(*scalar, *dtype),
                ScalarOp::Dim(dim) => Number::Int(i128::from(dim.evaluate(self.params)?)),
                ScalarOp::Index(index) => Number::Int(i128::from(self.index(index, &values)?)),
                ScalarOp::Read { access, outside } => self.read(access, *outside, &values)?,
                ScalarOp::Reduced(number) => *reduced.get(*number).ok_or_else(|| {
                    KernelError::Malformed(format!("there is no combined value {number}"))
                })?,
                ScalarOp::Unary(f, a) => Number::unary(*f, get(a)?, type_of(a)?),
                ScalarOp::Binary(f, a, b) => Number::binary(*f, get(a)?, get(b)?, type_of(a)?),
                ScalarOp::Select(c, a, b) => get(if get(c)?.is_true() { a } else { b })?,
                ScalarOp::Cast(a) => get(a)?.cast(type_of(a)?, *dtype),
                ScalarOp::BitCast(a) => {
                    let of = type_of(a)?;
                    let number = get(a)?.bit_cast(of, *dtype);
                    number.ok_or_else(|| KernelError::Malformed(format!("{of} is not {dtype}")))?
                }
            };
            values.push(value);
        }
        let result = |id: &ScalarId| values.get(id.0 as usize).copied().ok_or(missing(*id));
        let results = program.results.iter().map(result).collect::<Result<_, _>>()?;
        Ok((results, values))
    }

    fn index(&self, index: &Index, values: &[Number]) -> Result<i64, KernelError> {
        let overflow = || KernelError::Malformed(format!("index {index} overflows"));
        let positive = |divisor: i64| {
            let zero = || KernelError::Malformed(format!("{index} divides by {divisor}"));
            (divisor > 0).then_some(divisor).ok_or_else(zero)
        };
        Ok(match index {
            Index::Axis(axis) => *self
                .axes
                .get(*axis)
                .ok_or_else(|| KernelError::Malformed(format!("there is no axis {axis}")))?,
            Index::Dim(dim) => dim.evaluate(self.params)?,
            Index::Scalar(id) => {
                let value = values.get(id.0 as usize).ok_or_else(overflow)?;
                i64::try_from(value.int()).map_err(|_| overflow())?
            }
            Index::Add(a, b) => {
                let (a, b) = (self.index(a, values)?, self.index(b, values)?);
                a.checked_add(b).ok_or_else(overflow)?
            }
            Index::Mul(a, factor) => {
                let a = self.index(a, values)?;
                a.checked_mul(factor.evaluate(self.params)?).ok_or_else(overflow)?
            }
            Index::FloorDiv(a, divisor) => {
                self.index(a, values)?.div_euclid(positive(divisor.evaluate(self.params)?)?)
            }
            Index::Mod(a, divisor) => {
                self.index(a, values)?.rem_euclid(positive(divisor.evaluate(self.params)?)?)
            }
            Index::Clamp(a, low, high) => {
                let (low, high) = (low.evaluate(self.params)?, high.evaluate(self.params)?);
                self.index(a, values)?.max(low).min(high)
            }
        })
    }

    /// The place of an element in row-major order; `None` if it is outside.
    fn place(
        &self,
        access: &Access,
        values: &[Number],
    ) -> Result<(Option<usize>, Vec<i64>), KernelError> {
        let buffer = self.buffers.get(access.operand).ok_or_else(|| {
            KernelError::Malformed(format!("there is no operand {}", access.operand))
        })?;
        let indices = access
            .index
            .iter()
            .map(|index| self.index(index, values))
            .collect::<Result<Vec<_>, _>>()?;
        if indices.len() != buffer.shape.len() {
            let name = &self.kernel.operands[access.operand].name;
            return Err(KernelError::Malformed(format!("`{name}` is indexed with another rank")));
        }
        let inside = indices.iter().zip(&buffer.shape).all(|(at, size)| (0..*size).contains(at));
        let place =
            indices.iter().zip(&buffer.shape).fold(0, |place, (at, size)| place * size + at);
        Ok((inside.then_some(place as usize), indices))
    }

    fn read(
        &self,
        access: &Access,
        outside: Option<Scalar>,
        values: &[Number],
    ) -> Result<Number, KernelError> {
        let (place, index) = self.place(access, values)?;
        let operand = &self.kernel.operands[access.operand];
        let buffer = &self.buffers[access.operand];
        let element = place.and_then(|place| {
            let bytes = buffer.tensor.bytes().get(place * operand.dtype.size()..)?;
            Number::load(operand.dtype, bytes)
        });
        match (element, outside) {
            (Some(value), _) => Ok(value),
            (None, Some(outside)) => Ok(Number::of(outside, operand.dtype)),
            (None, None) => Err(self.out_of_bounds(access.operand, index)),
        }
    }

    fn store(&mut self, operand: usize, place: usize, value: Number) {
        let dtype = self.kernel.operands[operand].dtype;
        let buffer = &mut self.buffers[operand];
        let size = dtype.size();
        if let Some(slot) = buffer.tensor.bytes_mut().get_mut(place * size..(place + 1) * size) {
            slot.copy_from_slice(&value.store(dtype));
        }
    }

    /// A write to a place that was written before, unless it lies outside.
    fn update(
        &mut self,
        access: &Access,
        value: Number,
        values: &[Number],
    ) -> Result<(), KernelError> {
        let (Some(place), _) = self.place(access, values)? else { return Ok(()) };
        let operand = &self.kernel.operands[access.operand];
        match (&operand.role, self.buffers[access.operand].written.get(place)) {
            (Role::Input, _) => {
                Err(KernelError::Malformed(format!("input `{}` is written", operand.name)))
            }
            (Role::Output, None | Some(0)) => Err(KernelError::Coverage {
                operand: operand.name.clone(),
                element: place,
                times: 0,
            }),
            _ => {
                self.store(access.operand, place, value);
                Ok(())
            }
        }
    }

    fn write(&mut self, access: &Access, value: Number, first: bool) -> Result<(), KernelError> {
        let (place, index) = self.place(access, &[])?;
        let operand = &self.kernel.operands[access.operand];
        let Some(place) = place else { return Err(self.out_of_bounds(access.operand, index)) };
        self.store(access.operand, place, value);
        let buffer = &mut self.buffers[access.operand];
        match operand.role {
            Role::Input => {
                Err(KernelError::Malformed(format!("input `{}` is written", operand.name)))
            }
            Role::Temporary => Ok(()),
            Role::Output => {
                // A later step of a sequential axis may overwrite what an earlier one wrote.
                let times = &mut buffer.written[place];
                *times = if first { *times + 1 } else { (*times).max(1) };
                if *times > 1 {
                    return Err(KernelError::Coverage {
                        operand: operand.name.clone(),
                        element: place,
                        times: *times,
                    });
                }
                Ok(())
            }
        }
    }

    fn out_of_bounds(&self, operand: usize, index: Vec<i64>) -> KernelError {
        KernelError::OutOfBounds {
            operand: self.kernel.operands[operand].name.clone(),
            shape: self.buffers[operand].shape.clone(),
            index,
        }
    }
}

fn result_type(stage: &Stage, number: usize) -> Result<DType, KernelError> {
    let id = stage.body.results.get(number);
    id.and_then(|id| stage.body.dtype(*id))
        .ok_or_else(|| KernelError::Malformed(format!("the body has no result {number}")))
}

/// The combined value of no points at all.
fn neutral(stage: &Stage) -> Result<Vec<Number>, KernelError> {
    let each = stage.combine.iter().enumerate().map(|(number, combine)| {
        let dtype = result_type(stage, number)?;
        Ok(match combine {
            Combine::Reduce(f) => Number::neutral(*f, dtype),
            Combine::ArgMax { .. } => Number::neutral(ReduceFn::Max, dtype),
            Combine::ArgMin { .. } => Number::neutral(ReduceFn::Min, dtype),
            Combine::Follow => Number::neutral(ReduceFn::Sum, dtype),
        })
    });
    each.collect()
}

fn combine(
    stage: &Stage,
    before: Option<Vec<Number>>,
    results: Vec<Number>,
) -> Result<Vec<Number>, KernelError> {
    if results.len() != stage.combine.len() {
        return Err(KernelError::Malformed("a stage's combiners do not fit its body".into()));
    }
    let Some(before) = before else {
        // The first point of an empty combination; sums still start from zero.
        return combine(stage, Some(neutral(stage)?), results);
    };
    let mut wins = false;
    let mut combined = Vec::with_capacity(results.len());
    for (number, (how, (old, new))) in
        stage.combine.iter().zip(before.into_iter().zip(results)).enumerate()
    {
        let dtype = result_type(stage, number)?;
        let float = |number: Number| match number {
            Number::Float(value) => value,
            Number::Int(value) => value as f64,
            Number::Code(_) => f64::NAN,
        };
        let order = match (old, new) {
            (Number::Int(old), Number::Int(new)) => Some(new.cmp(&old)),
            (old, new) => float(new).partial_cmp(&float(old)),
        };
        combined.push(match how {
            Combine::Reduce(f) => Number::combine(*f, old, new, dtype),
            Combine::ArgMax { last } => {
                wins = order.is_some_and(|order| order.is_gt() || (*last && order.is_eq()));
                if wins { new } else { old }
            }
            Combine::ArgMin { last } => {
                wins = order.is_some_and(|order| order.is_lt() || (*last && order.is_eq()));
                if wins { new } else { old }
            }
            Combine::Follow if wins => new,
            Combine::Follow => old,
        });
    }
    Ok(combined)
}

#[cfg(test)]
mod tests;
