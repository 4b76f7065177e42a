//! Constants in the layouts that kernels read.
//!
//! Invariant: only one piece is in memory at a time, whatever the size of the constant.

use kiln_ir::schedule::{PackedLayout, Part};
use kiln_tensor::Tensor;
use std::io::{self, Write};

/// Bytes that are written at once.
const PIECE: usize = 1 << 16;

/// Writes a constant in a packed layout: element after element of the layout, padded with zeros.
/// `sizes` is the shape that the kernel gives the constant, in the same row-major order.
///
/// The layout must name each dimension whole, or once outer and once inner with the same block;
/// nothing is written beyond it. Errors are those of `to`, or `InvalidInput` where sizes do not fit.
pub fn pack(
    tensor: &Tensor,
    sizes: &[usize],
    layout: &PackedLayout,
    to: &mut impl Write,
) -> io::Result<()> {
    let mismatch =
        || io::Error::new(io::ErrorKind::InvalidInput, "a layout does not fit its tensor");
    let elements: usize = sizes.iter().product();
    if elements != tensor.len() || layout.levels.iter().any(|(dim, _)| *dim >= sizes.len()) {
        return Err(mismatch());
    }
    let (width, bytes) = (tensor.dtype().size(), tensor.bytes());
    // Without levels there is one element, which is a run of one.
    let Some((&(run_dim, _), outer)) = layout.levels.split_last() else {
        return to.write_all(bytes);
    };
    let extents: Vec<usize> = layout.levels.iter().map(|level| extent(*level, sizes)).collect();
    let run = extents[outer.len()];
    let strides: Vec<usize> =
        (0..sizes.len()).map(|dim| sizes[dim + 1..].iter().product()).collect();
    let step = strides[run_dim] * width;
    let runs: usize = extents[..outer.len()].iter().product();
    let mut at = vec![0usize; outer.len()];
    let mut place = vec![0usize; sizes.len()];
    let mut piece: Vec<u8> = Vec::with_capacity(PIECE + run * width);
    for _ in 0..runs {
        place.fill(0);
        for (&(dim, part), &position) in outer.iter().zip(&at) {
            place[dim] += match part {
                Part::Whole | Part::Inner(_) => position,
                Part::Outer(block) => position * block as usize,
            };
        }
        // The whole run lies outside if another dimension does.
        let inside = place
            .iter()
            .zip(sizes)
            .enumerate()
            .all(|(dim, (position, size))| dim == run_dim || position < size);
        let count = if inside { run.min(sizes[run_dim].saturating_sub(place[run_dim])) } else { 0 };
        let first: usize = place.iter().zip(&strides).map(|(p, s)| p * s * width).sum();
        if step == width {
            piece.extend_from_slice(bytes.get(first..first + count * width).ok_or_else(mismatch)?);
        } else {
            for element in 0..count {
                let from = first + element * step;
                piece.extend_from_slice(bytes.get(from..from + width).ok_or_else(mismatch)?);
            }
        }
        piece.resize(piece.len() + (run - count) * width, 0);
        if piece.len() >= PIECE {
            to.write_all(&piece)?;
            piece.clear();
        }
        for (position, extent) in at.iter_mut().zip(&extents).rev() {
            *position += 1;
            if *position < *extent {
                break;
            }
            *position = 0;
        }
    }
    to.write_all(&piece)
}

fn extent((dim, part): (usize, Part), sizes: &[usize]) -> usize {
    match part {
        Part::Whole => sizes[dim],
        Part::Outer(block) => sizes[dim].div_ceil(block.max(1) as usize),
        Part::Inner(block) => block as usize,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panels_are_padded_with_zeros() {
        let values: Vec<u8> = (1..=6).collect();
        let tensor = Tensor::from_slice(vec![2, 3], &values).unwrap();
        let layout = PackedLayout::panels(1, 2, [0]);
        let mut packed = Vec::new();
        pack(&tensor, &[2, 3], &layout, &mut packed).unwrap();
        assert_eq!(packed, [1, 2, 4, 5, 3, 0, 6, 0]);
        assert!(pack(&tensor, &[2, 2], &layout, &mut packed).is_err());
    }

    #[test]
    fn every_order_of_levels_moves_every_element() {
        let sizes = [3, 4, 5];
        let values: Vec<u16> = (0..60).collect();
        let tensor = Tensor::from_slice(sizes.to_vec(), &values).unwrap();
        let layouts = [
            vec![(0, Part::Whole), (1, Part::Whole), (2, Part::Whole)],
            vec![(2, Part::Whole), (1, Part::Whole), (0, Part::Whole)],
            vec![(1, Part::Outer(3)), (2, Part::Whole), (0, Part::Whole), (1, Part::Inner(3))],
            vec![(0, Part::Outer(2)), (0, Part::Inner(2)), (2, Part::Whole), (1, Part::Whole)],
        ];
        for levels in layouts {
            let mut packed = Vec::new();
            let layout = PackedLayout { levels };
            pack(&tensor, &sizes, &layout, &mut packed).unwrap();
            let shape = sizes.map(kiln_tensor::Dim::from);
            let padded: kiln_tensor::Dim = layout.extents(&shape).into_iter().product();
            assert_eq!(Some(packed.len() as i64), padded.as_const().map(|count| 2 * count));
            let mut found: Vec<u16> =
                packed.chunks(2).map(|bytes| u16::from_le_bytes([bytes[0], bytes[1]])).collect();
            found.sort_unstable();
            // All of them once, and zeros in the padding.
            let padding = found.len() - 60;
            assert!(found[..padding].iter().all(|&value| value == 0));
            assert_eq!(found[padding..], values);
        }
    }
}
