//! Convolution with filters of 3×3 by products of transformed tiles, as Winograd has it.
//!
//! Invariant: four multiplications for each place and channel instead of nine; the transforms of operand and
//! result only add and subtract, so rounding stays within a small multiple of that of the sums.

use super::elements::pack_floats;
use super::places::walk;
use super::typing::{equal_dims, exactly, float, rank, same_element};
use super::{OpError, Operation, Run};
use crate::graph::{Graph, TensorType};
use kiln_tensor::{Dim, Tensor};
use serde::{Deserialize, Serialize};

/// `x [N, H, W, C], w [16, C, M] → [N, P, Q, M]`: the convolution of `x`, padded, with the filters `f` of which
/// `w[4i + j] = (G·f·Gᵀ)[i, j]` (see [`Winograd::filter`]); `P = H + before + after − 2`, and likewise `Q`.
///
/// This is F(2×2, 3×3) of Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", 2015: with `d` the
/// 4×4 places of `x` from `(2p − before, 2q − before)` on, the four places of the result from `(2p, 2q)` on are
/// `Aᵀ(Σ_c w ⊙ Bᵀ·d·B)A`. Of a tile that reaches beyond a result of odd sizes, what is inside counts.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Winograd {
    /// Padding before the first element, of rows and columns.
    pub before: [i64; 2],
    /// Padding after the last element.
    pub after: [i64; 2],
}

/// An element of a line, with its sign.
pub type Term = (usize, f64);

impl Winograd {
    /// `Bᵀ`: what makes each of the four elements of a line of a transformed tile.
    pub const TILE: [[Term; 2]; 4] =
        [[(0, 1.0), (2, -1.0)], [(1, 1.0), (2, 1.0)], [(2, 1.0), (1, -1.0)], [(1, 1.0), (3, -1.0)]];
    /// `Aᵀ`: what makes each of the two places of a line of the result.
    pub const PLACES: [[Term; 3]; 2] =
        [[(0, 1.0), (1, 1.0), (2, 1.0)], [(1, 1.0), (2, -1.0), (3, -1.0)]];
    /// `G`, which makes the four elements of a line of a transformed filter.
    const FILTER: [[f64; 3]; 4] =
        [[1.0, 0.0, 0.0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0.0, 0.0, 1.0]];

    /// `G ⊗ G`, in row-major order: the matrix `[16, 9]` that makes `w` of filters `[9, C, M]`.
    pub fn filter() -> Vec<f64> {
        let lines = Self::FILTER
            .iter()
            .flat_map(|row| Self::FILTER.iter().map(move |column| (row, column)));
        let products = lines.flat_map(|(row, column)| {
            row.iter().flat_map(move |a| column.iter().map(move |b| a * b))
        });
        products.collect()
    }
}

impl Operation for Winograd {
    const NAME: &'static str = "Winograd";

    fn infer(&self, inputs: &[&TensorType], _: &[Graph]) -> Result<Vec<TensorType>, OpError> {
        let [x, w] = exactly(inputs)?;
        float(x, "the operand")?;
        same_element(x, w)?;
        rank(x, 4, "the operand")?;
        rank(w, 3, "the filter")?;
        equal_dims(&w.shape[0], &Dim::from(16i64), &format!("places of a tile of {w}"))?;
        equal_dims(&x.shape[3], &w.shape[1], &format!("channels of {x} and {w}"))?;
        let mut shape = vec![x.shape[0].clone()];
        for (number, size) in x.shape[1..3].iter().enumerate() {
            let padding = Dim::from(self.before[number]) + Dim::from(self.after[number]);
            let size = size.clone() + padding - Dim::from(2i64);
            if size.as_const().is_some_and(|size| size < 0) {
                let what = format!("dimension {} of {x} would become {size}", number + 1);
                return Err(OpError::new(format!("{what}, which is no size")));
            }
            shape.push(size);
        }
        shape.push(w.shape[2].clone());
        Ok(vec![TensorType::new(x.dtype, shape)])
    }

    fn evaluate(&self, inputs: &[Tensor], _: &[Graph], _: &Run) -> Result<Vec<Tensor>, OpError> {
        let (dtype, sizes) = self.result(inputs)?;
        let (x, w) = (inputs[0].to_f64(), inputs[1].to_f64());
        let (&[batches, height, width, channels], &[_, rows, columns, filters]) =
            (inputs[0].sizes(), sizes.as_slice())
        else {
            return Err(OpError::new("operand and result must have rank 4"));
        };
        let element = |batch: usize, row: usize, column: usize, channel: usize| {
            let within = |at: usize, before: i64, size: usize| {
                usize::try_from((at as i64).saturating_sub(before)).ok().filter(|&at| at < size)
            };
            let row = within(row, self.before[0], height)?;
            let column = within(column, self.before[1], width)?;
            x.get(((batch * height + row) * width + column) * channels + channel).copied()
        };
        let mut result = vec![0.0; sizes.iter().product()];
        walk(&[batches, rows.div_ceil(2), columns.div_ceil(2)], |at| {
            let &[batch, row, column] = at else { return Ok(()) };
            let mut products = vec![0.0; 16 * filters];
            for channel in 0..channels {
                let tile = |i: usize, j: usize| {
                    element(batch, 2 * row + i, 2 * column + j, channel).unwrap_or(0.0)
                };
                for (place, products) in products.chunks_mut(filters.max(1)).enumerate() {
                    let mut transformed = 0.0;
                    for (i, sign) in Self::TILE[place / 4] {
                        for (j, other) in Self::TILE[place % 4] {
                            transformed += sign * other * tile(i, j);
                        }
                    }
                    let w = &w[(place * channels + channel) * filters..][..filters];
                    products.iter_mut().zip(w).for_each(|(sum, w)| *sum += transformed * w);
                }
            }
            for (number, filter) in (0..4).flat_map(|number| (0..filters).map(move |f| (number, f)))
            {
                let mut sum = 0.0;
                for (i, sign) in Self::PLACES[number / 2] {
                    for (j, other) in Self::PLACES[number % 2] {
                        sum += sign * other * products[(i * 4 + j) * filters + filter];
                    }
                }
                let (row, column) = (2 * row + number / 2, 2 * column + number % 2);
                if row >= rows || column >= columns {
                    continue;
                }
                result[((batch * rows + row) * columns + column) * filters + filter] = sum;
            }
            Ok::<(), OpError>(())
        })?;
        Ok(vec![pack_floats(dtype, sizes, &result)?])
    }
}
