//! Crops and padding around the centre of a tensor.
//!
//! Invariant: where an odd number of elements is taken or added, the one more is at the end.

use super::build::V;
use super::fault::Fault;
use super::node::Use;
use super::operator::{Entry, onnx};
use kiln_ir::op::{Pad, PadMode};
use kiln_tensor::Dim;

pub(super) const OPERATORS: &[Entry] = &[onnx("CenterCropPad", 18, center_crop_pad)];

fn center_crop_pad(x: &mut Use<'_, '_, '_>) -> Result<Vec<V>, Fault> {
    let operand = x.input(0)?;
    let asked = x.dims(x.input(1)?, "the shape to crop and pad to")?;
    let shape = x.shape(operand);
    let axes = match x.ints("axes")? {
        Some(axes) => x.axes(axes, shape.len())?,
        None => (0..shape.len()).collect(),
    };
    if asked.len() != axes.len() {
        let (given, axes) = (asked.len(), axes.len());
        return Err(Fault::malformed(format!("{given} sizes are given for {axes} axes")));
    }
    let (zero, two) = (Dim::from(0i64), Dim::from(2i64));
    let mut before = vec![zero.clone(); shape.len()];
    let mut after = before.clone();
    for (&axis, size) in axes.iter().zip(&asked) {
        if size.as_const().is_some_and(|size| size < 0) {
            return Err(Fault::malformed(format!("a dimension cannot have size {size}")));
        }
        let more = size.clone() - shape[axis].clone();
        let added = x.facts().maximum(&more, &zero);
        let taken = x.facts().maximum(&-more.clone(), &zero);
        let first = added.floor_div(&two) - taken.floor_div(&two);
        after[axis] = more - first.clone();
        before[axis] = first;
    }
    if before.iter().chain(&after).all(|amount| amount.is(0)) {
        return Ok(vec![operand]);
    }
    let value = x.scalar(x.dtype(operand), 0.0)?;
    Ok(vec![x.add(Pad { before, after, mode: PadMode::Constant }, &[operand, value])?])
}
