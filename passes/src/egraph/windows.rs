//! Windows of a core's result: a body may combine several parts of what its core computes, as the two
//! halves of a gated product are.
//!
//! Invariant: all windows are of one size and none overlaps another, so that no element is computed twice.

use kiln_ir::op::{Op, Slice};
use kiln_ir::{Graph, Node, ValueId};
use kiln_tensor::Dim;

/// Parts of a core's result, element by element of which the body's result is computed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Windows {
    /// Their size along each dimension of the core's result.
    pub sizes: Vec<Dim>,
    /// Where each begins along each dimension, all different.
    pub starts: Vec<Vec<Dim>>,
}

impl Windows {
    /// One window, of all.
    pub fn whole(shape: &[Dim]) -> Self {
        Windows { sizes: shape.to_vec(), starts: vec![vec![Dim::default(); shape.len()]] }
    }

    /// Takes a slice of a core's result in; whether it is one that may be.
    pub(super) fn take(&mut self, body: &Graph, core: &Node, node: &Node) -> bool {
        let (Op::Contract(_), Op::Slice(slice), &[x]) =
            (&core.op, &node.op, node.inputs.as_slice())
        else {
            return false;
        };
        let shape = |value: ValueId| body.ty(value).shape.as_slice();
        if slice.steps.iter().any(|&step| step != 1) {
            return false;
        }
        let Some((start, sizes)) = window(slice, shape(x), shape(core.outputs[0])) else {
            return false;
        };
        if !self.starts.is_empty() && self.sizes != sizes {
            return false;
        }
        if !self.starts.contains(&start) {
            if !self.starts.iter().all(|other| are_apart(other, &start, &sizes)) {
                return false;
            }
            self.starts.push(start);
        }
        self.sizes = sizes;
        true
    }
}

/// Where a slice of a value begins, and its sizes, in a shape that has other dimensions of size 1 than the
/// value's; `None` if it has others besides.
fn window(slice: &Slice, of: &[Dim], shape: &[Dim]) -> Option<(Vec<Dim>, Vec<Dim>)> {
    let mut long = (0..of.len()).filter(|&dim| !of[dim].is(1));
    let mut window = (Vec::new(), Vec::new());
    for dim in shape {
        let (start, size) = match dim.is(1) {
            true => (Dim::default(), dim.clone()),
            false => {
                let at = long.next().filter(|&at| of[at] == *dim)?;
                (slice.starts[at].clone(), slice.sizes[at].clone())
            }
        };
        window.0.push(start);
        window.1.push(size);
    }
    // Of a dimension of size 1 nothing may be missing.
    let mut ones = (0..of.len()).filter(|&dim| of[dim].is(1));
    let complete = ones.all(|dim| slice.sizes[dim].is(1));
    (long.next().is_none() && complete).then_some(window)
}

/// Whether two windows of one size have nothing in common.
fn are_apart(a: &[Dim], b: &[Dim], sizes: &[Dim]) -> bool {
    a.iter().zip(b).zip(sizes).any(|((a, b), size)| {
        let distance = (a.clone() - b.clone()).as_const();
        distance.zip(size.as_const()).is_some_and(|(distance, size)| distance.abs() >= size)
    })
}
