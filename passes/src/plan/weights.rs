//! The weight section: constants in the layouts that kernels read, and where each lies.
//!
//! Invariant: nothing is copied while planning; a constant is written when the artefact is, element
//! by element from where it is.

use super::Planner;
use super::error::PlanError;
use crate::tile::pack;
use kiln_ir::schedule::{PackedLayout, Part};
use kiln_program::{BufferId, Location, WeightRange};
use kiln_tensor::{ALIGNMENT, DType, Dim, Tensor};
use std::collections::BTreeMap;
use std::io::{self, Write};

/// A constant in the weight section.
#[derive(Clone, Debug)]
pub struct Weight {
    /// Where it lies.
    pub range: WeightRange,
    /// Its value; the tensor may be a window into a mapped file.
    pub tensor: Tensor,
    /// The shape that the kernel gives it, and its layout; as it is if `None`.
    pub packing: Option<(Vec<usize>, PackedLayout)>,
}

impl Weight {
    /// Writes the `range.length` bytes of the constant. Errors are those of `to`.
    pub fn write(&self, to: &mut impl Write) -> io::Result<()> {
        match &self.packing {
            Some((sizes, layout)) => pack(&self.tensor, sizes, layout, to),
            None => to.write_all(self.tensor.bytes()),
        }
    }
}

/// What tells constants apart: their bytes (by place) and type, and the layout they are wanted in.
type Key = (usize, usize, DType, Vec<usize>, Option<(Vec<usize>, PackedKey)>);
type PackedKey = Vec<(usize, u8, u64)>;

#[derive(Default)]
pub(super) struct Weights {
    weights: Vec<Weight>,
    end: u64,
    known: BTreeMap<Key, BufferId>,
}

impl Weights {
    pub(super) fn finish(self) -> Vec<Weight> {
        self.weights
    }
}

impl Planner {
    /// A constant in row-major order.
    pub(super) fn plain_constant(&mut self, tensor: &Tensor) -> Result<BufferId, PlanError> {
        self.constant(tensor, None)
    }

    /// A constant in a layout.
    pub(super) fn constant(
        &mut self,
        tensor: &Tensor,
        packing: Option<(Vec<usize>, PackedLayout)>,
    ) -> Result<BufferId, PlanError> {
        let adopted = self.objects.adopt(tensor).map_err(|_| PlanError::Object)?;
        let tensor = &adopted;
        let key: Key = (
            tensor.bytes().as_ptr() as usize,
            tensor.bytes().len(),
            tensor.dtype(),
            tensor.sizes().to_vec(),
            packing.as_ref().map(|(sizes, layout)| (sizes.clone(), packed_key(layout))),
        );
        if let Some(&known) = self.weights.known.get(&key) {
            return Ok(known);
        }
        let length = match &packing {
            Some((sizes, layout)) => {
                let shape: Vec<Dim> = sizes.iter().map(|&size| Dim::from(size)).collect();
                let elements: Dim = layout.extents(&shape).into_iter().product();
                let elements = elements.as_const().and_then(|count| u64::try_from(count).ok());
                let bytes = |count: u64| count.checked_mul(tensor.dtype().size() as u64);
                elements.and_then(bytes).ok_or(PlanError::WeightsTooLarge)?
            }
            None => tensor.bytes().len() as u64,
        };
        let offset = self.weights.end.next_multiple_of(ALIGNMENT as u64);
        let end = offset.checked_add(length).filter(|&end| end <= i64::MAX as u64);
        self.weights.end = end.ok_or(PlanError::WeightsTooLarge)?;
        let range = WeightRange { offset, length };
        let shape = tensor.sizes().iter().map(|&size| Dim::from(size)).collect();
        let buffer = self.buffer(tensor.dtype(), shape, Location::Weights(range));
        self.weights.weights.push(Weight { range, tensor: tensor.clone(), packing });
        self.weights.known.insert(key, buffer);
        Ok(buffer)
    }
}

fn packed_key(layout: &PackedLayout) -> PackedKey {
    let level = |&(dim, part): &(usize, Part)| match part {
        Part::Whole => (dim, 0, 0),
        Part::Outer(block) => (dim, 1, block),
        Part::Inner(block) => (dim, 2, block),
    };
    layout.levels.iter().map(level).collect()
}
