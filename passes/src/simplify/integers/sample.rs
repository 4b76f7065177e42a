//! Pooling and resizing of what stands for small integers.
//!
//! Invariant: what picks one of several numbers picks the integer; of what weighs several, or may give a
//! number of its own, the zero point is taken off before, and the scale, which is above zero, behind.

use super::super::rebuild::Rebuild;
use super::dequantised::Dequantised;
use super::scaled;
use crate::PassError;
use kiln_ir::op::{CoordinateMode, Op, ResizeMode, WindowFn, WindowReduce};
use kiln_ir::{Graph, Node, ValueId};
use kiln_tensor::DType;

/// An operation whose results are each one of its operand's numbers, or a weighted sum of several.
pub(super) struct Sample<'g> {
    operand: Dequantised<'g>,
    scale: f64,
    picks: bool,
}

impl<'g> Sample<'g> {
    pub(super) fn of(graph: &'g Graph, node: &Node) -> Option<Self> {
        let picks = match &node.op {
            Op::WindowReduce(window) => match window.f {
                WindowFn::Max => meets_elements(window),
                WindowFn::Sum | WindowFn::Mean { .. } => false,
            },
            Op::Resize(resize) => match (&resize.coordinates, resize.mode) {
                // A number of the operation's own is no integer.
                (CoordinateMode::TfCropAndResize { .. }, _) => return None,
                (_, ResizeMode::Nearest(_)) => true,
                (_, ResizeMode::Linear | ResizeMode::Cubic { .. }) => false,
            },
            _ => return None,
        };
        let &[x] = node.inputs.as_slice() else { return None };
        let operand = Dequantised::of(graph, x).filter(|_| graph.ty(x).dtype == DType::F32)?;
        let scale = operand.uniform()?;
        Some(Sample { operand, scale, picks })
    }

    /// The result of the node, written anew.
    pub(super) fn write(&self, rebuild: &mut Rebuild, node: &Node) -> Result<ValueId, PassError> {
        let sampled = if self.picks {
            let integers = self.operand.integers(rebuild, node)?;
            let picked = rebuild.add1(node.op.clone(), &[integers], node)?;
            self.operand.shift(rebuild, picked, DType::F32, node)?
        } else {
            let numbers = self.operand.write(rebuild, DType::F32, node)?;
            rebuild.add1(node.op.clone(), &[numbers], node)?
        };
        scaled(rebuild, sampled, Vec::new(), &[self.scale], node)
    }
}

/// Whether no place of a window has nothing but padding in it: the least number is no integer's.
fn meets_elements(window: &WindowReduce) -> bool {
    let padding = window.before.iter().zip(&window.after);
    let mut dims = padding.zip(window.window.iter().zip(&window.dilations));
    dims.all(|((&before, &after), (&length, &dilation))| {
        let most = before.max(after);
        most <= 0 || dilation == 1 && most < length as i64
    })
}
