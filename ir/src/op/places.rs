//! Row-major walks over tensors for the reference evaluation.
//!
//! Invariant: a walk visits every place of the box exactly once, last coordinate fastest.

use super::OpError;
use kiln_tensor::Tensor;

/// Distance in elements between neighbours of each dimension of a row-major tensor.
pub(super) fn strides(sizes: &[usize]) -> Vec<isize> {
    let mut strides = vec![1isize; sizes.len()];
    for number in (1..sizes.len()).rev() {
        strides[number - 1] = strides[number].saturating_mul(sizes[number] as isize);
    }
    strides
}

/// The strides with which a tensor of `sizes` is read as one of rank `rank` that it stretches to.
pub(super) fn stretched(sizes: &[usize], rank: usize) -> Vec<isize> {
    let own = strides(sizes);
    let stride = |(&size, stride)| if size == 1 { 0 } else { stride };
    let mut all = vec![0; rank - sizes.len()];
    all.extend(sizes.iter().zip(own).map(stride));
    all
}

/// Calls `visit` with the coordinates of every place.
pub(super) fn walk<E>(
    sizes: &[usize],
    mut visit: impl FnMut(&[usize]) -> Result<(), E>,
) -> Result<(), E> {
    if sizes.contains(&0) {
        return Ok(());
    }
    let mut at = vec![0; sizes.len()];
    loop {
        visit(&at)?;
        let mut number = sizes.len();
        loop {
            if number == 0 {
                return Ok(());
            }
            number -= 1;
            at[number] += 1;
            if at[number] < sizes[number] {
                break;
            }
            at[number] = 0;
        }
    }
}

/// Offsets of every place in `K` tensors, each with its strides and its offset of the first place.
pub(super) fn offsets<const K: usize>(
    sizes: &[usize],
    strides: [&[isize]; K],
    first: [isize; K],
) -> impl Iterator<Item = [usize; K]> {
    let count: usize = if sizes.contains(&0) { 0 } else { sizes.iter().product() };
    let mut at = vec![0usize; sizes.len()];
    let mut current = first;
    (0..count).map(move |_| {
        let here = current.map(|offset| offset as usize);
        for number in (0..sizes.len()).rev() {
            at[number] += 1;
            if at[number] < sizes[number] {
                for (offset, strides) in current.iter_mut().zip(strides) {
                    *offset += strides[number];
                }
                break;
            }
            at[number] = 0;
            for (offset, strides) in current.iter_mut().zip(strides) {
                *offset -= strides[number] * (sizes[number] as isize - 1);
            }
        }
        here
    })
}

/// A tensor of `sizes` whose elements are those of `x` at the given offsets.
pub(super) fn moved(
    x: &Tensor,
    sizes: Vec<usize>,
    from: impl Iterator<Item = usize>,
) -> Result<Tensor, OpError> {
    let width = x.dtype().size();
    let source = x.bytes();
    let mut result = Tensor::zeros(x.dtype(), sizes)?;
    for (slot, offset) in result.bytes_mut().chunks_exact_mut(width).zip(from) {
        slot.copy_from_slice(&source[offset * width..][..width]);
    }
    Ok(result)
}

/// Elements of `data` read with `strides` over a box of `sizes`.
pub(super) fn gathered<T: Copy>(data: &[T], sizes: &[usize], strides: &[isize]) -> Vec<T> {
    offsets(sizes, [strides], [0]).map(|[offset]| data[offset]).collect()
}
