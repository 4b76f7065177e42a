//! Operators whose results are as large as the data says: what is not zero, first few, distinct.
//!
//! Invariant: only the selection itself is a routine; what is done with the places that it finds is
//! composed of core operations.

use super::build::V;
use super::fault::Fault;
use super::node::Use;
use super::operator::{Entry, onnx};
use kiln_ir::TensorType;
use kiln_ir::op;
use kiln_routine::Routine;
use kiln_tensor::{Bounds, DType, Dim};

type Results = Result<Vec<V>, Fault>;

pub(super) const OPERATORS: &[Entry] = &[
    onnx("Compress", 9, compress),
    onnx("NonMaxSuppression", 10, non_max_suppression),
    onnx("NonZero", 9, |x| {
        let operand = x.input(0)?;
        Ok(vec![x.non_zero(operand)?])
    }),
    onnx("TopK", 1, top_k),
    onnx("Unique", 11, unique),
];

impl Use<'_, '_, '_> {
    /// The results of a routine, of these types.
    pub(super) fn call(
        &mut self,
        routine: Routine,
        operands: &[V],
        results: Vec<TensorType>,
    ) -> Result<Vec<V>, Fault> {
        self.importer.build.add_node(op::Call { routine, results }, operands, Vec::new())
    }

    /// [`Use::call`] of a routine with one result.
    pub(super) fn call1(
        &mut self,
        routine: Routine,
        operands: &[V],
        result: TensorType,
    ) -> Result<V, Fault> {
        self.call(routine, operands, vec![result])?.pop().ok_or(Fault::Silent)
    }

    /// A size that a routine finds.
    pub(super) fn found(&mut self, name: &str) -> Dim {
        Dim::symbol(self.importer.build.found_symbol(name, Bounds::default()))
    }

    /// Coordinates of what is not zero, `i64[rank, n]`.
    fn non_zero(&mut self, operand: V) -> Result<V, Fault> {
        let operand = match self.rank(operand) {
            0 => self.reshape(operand, vec![Dim::from(1i64)])?,
            _ => operand,
        };
        let shape = vec![Dim::from(self.rank(operand)), self.found("nonzero")];
        self.call1(Routine::NonZero, &[operand], TensorType::new(DType::I64, shape))
    }
}

fn compress(x: &mut Use<'_, '_, '_>) -> Results {
    let (mut operand, condition) = (x.input(0)?, x.input(1)?);
    if x.rank(condition) != 1 || x.dtype(condition) != DType::Bool {
        let ty = x.ty(condition);
        return Err(Fault::malformed(format!("the condition must be bool[n], but is {ty}")));
    }
    x.of_some_rank(operand, "the operand")?;
    let axis = match x.int("axis")? {
        Some(axis) => x.axis(axis, x.rank(operand))?,
        None => {
            let elements = x.ty(operand).elements();
            operand = x.reshape(operand, vec![elements])?;
            0
        }
    };
    let places = x.non_zero(condition)?;
    let count = x.shape(places)[1].clone();
    let places = x.reshape(places, vec![count])?;
    let (size, length) = (x.shape(operand)[axis].clone(), x.shape(condition)[0].clone());
    if x.facts().at_least(&size, &length) != Some(true) {
        x.inside(places, &[size])?;
    }
    Ok(vec![x.add(op::Gather { axis }, &[operand, places])?])
}

/// How many was an attribute before opset 10.
fn top_k(x: &mut Use<'_, '_, '_>) -> Results {
    let operand = x.input(0)?;
    let mut shape = x.shape(operand);
    let axis = x.axis(x.int_or("axis", -1)?, shape.len())?;
    let count = if x.opset() < 10 {
        let k = x.int("k")?.ok_or_else(|| Fault::malformed("attribute `k` is missing"))?;
        vec![Dim::from(k)]
    } else {
        x.dims(x.input(1)?, "how many elements to take")?
    };
    let [count] = &count[..] else {
        return Err(Fault::malformed("how many elements to take must be one number"));
    };
    let possible = count.as_const().zip(shape[axis].as_const());
    if possible.is_some_and(|(count, size)| !(0..=size).contains(&count)) {
        let size = &shape[axis];
        return Err(Fault::malformed(format!("{count} of {size} elements are to be taken")));
    }
    let largest = x.flag("largest", true)?;
    shape[axis] = count.clone();
    let k = x.add(op::SizeOf { dims: vec![count.clone()], scalar: true }, &[])?;
    let values = TensorType::new(x.dtype(operand), shape.clone());
    let results = vec![values, TensorType::new(DType::I64, shape)];
    x.call(Routine::TopK { axis, largest }, &[operand, k], results)
}

fn unique(x: &mut Use<'_, '_, '_>) -> Results {
    let operand = x.input(0)?;
    let mut shape = x.shape(operand);
    let axis = x.int("axis")?.map(|axis| x.axis(axis, shape.len())).transpose()?;
    let sorted = x.flag("sorted", true)?;
    let count = x.found("distinct");
    let all = match axis {
        None => std::mem::replace(&mut shape, vec![count.clone()]).into_iter().product(),
        Some(axis) => std::mem::replace(&mut shape[axis], count.clone()),
    };
    let places = |size: Dim| TensorType::new(DType::I64, vec![size]);
    let values = TensorType::new(x.dtype(operand), shape);
    let results = vec![values, places(count.clone()), places(all), places(count)];
    x.call(Routine::Unique { axis, sorted }, &[operand], results)
}

fn non_max_suppression(x: &mut Use<'_, '_, '_>) -> Results {
    let (boxes, scores) = (x.input(0)?, x.input(1)?);
    for (v, what) in [(boxes, "boxes"), (scores, "scores")] {
        if x.rank(v) != 3 || x.dtype(v) != DType::F32 {
            let ty = x.ty(v);
            return Err(Fault::malformed(format!("the {what} must be f32[_, _, _], not {ty}")));
        }
    }
    let centres = x.flag("center_point_box", false)?;
    let mut given = |number: usize, dtype: DType, absent: f64| match x.optional(number) {
        Some(v) if x.dtype(v) != dtype => {
            let ty = x.ty(v);
            Err(Fault::malformed(format!("input {number} must be one {dtype}, but is {ty}")))
        }
        Some(v) => x.reshape(v, Vec::new()),
        None => x.scalar(dtype, absent),
    };
    let most = given(2, DType::I64, 0.0)?;
    let (iou, least) = (given(3, DType::F32, 0.0)?, given(4, DType::F32, f64::NEG_INFINITY)?);
    let shape = vec![x.found("selected"), Dim::from(3i64)];
    let routine = Routine::NonMaxSuppression { centres };
    let operands = [boxes, scores, most, iou, least];
    Ok(vec![x.call1(routine, &operands, TensorType::new(DType::I64, shape))?])
}
