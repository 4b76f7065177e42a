//! Elements of a constant in another order, at the speed of memory.
//!
//! Invariant: the same bytes as the reference evaluation of the operation.

use kiln_ir::TensorType;
use kiln_ir::op::Op;
use kiln_tensor::{DType, Tensor};
use std::cmp::Reverse;

/// Elements along each side of a block that is moved at once, so that its lines stay in a cache.
const BLOCK: usize = 16;

/// The result of an operation that only moves elements by strides or in runs; `None` for any other.
pub(super) fn evaluate(op: &Op, operands: &[Tensor], ty: &TensorType) -> Option<Tensor> {
    let sizes = ty.static_sizes()?;
    // A handle means nothing without its table, which the reference evaluation keeps.
    if ty.dtype.is_handle() {
        return None;
    }
    if let Op::Concat(concat) = op {
        return joined(operands, concat.axis, ty.dtype, sizes);
    }
    let [x] = operands else { return None };
    if matches!(op, Op::Reshape(_) | Op::Assume(_)) {
        return x.reshaped(sizes).ok();
    }
    let own = strides(x.sizes());
    let (first, from) = match op {
        Op::Transpose(transpose) => {
            (0, transpose.perm.iter().map(|&from| own.get(from).copied()).collect::<Option<_>>()?)
        }
        Op::Broadcast(_) => {
            let missing = sizes.len().checked_sub(own.len())?;
            let stretched = x.sizes().iter().zip(&own).map(|(&n, &s)| if n == 1 { 0 } else { s });
            (0, std::iter::repeat_n(0, missing).chain(stretched).collect::<Vec<isize>>())
        }
        Op::Slice(slice) => {
            let starts: Option<Vec<isize>> =
                slice.starts.iter().map(|dim| isize::try_from(dim.as_const()?).ok()).collect();
            let first = starts?.iter().zip(&own).map(|(start, stride)| start * stride).sum();
            let steps = slice.steps.iter().zip(&own).map(|(&step, stride)| step as isize * stride);
            (first, steps.collect())
        }
        _ => return None,
    };
    moved(x, first, &from, sizes)
}

/// Tensors one behind the other along a dimension.
fn joined(parts: &[Tensor], axis: usize, dtype: DType, sizes: Vec<usize>) -> Option<Tensor> {
    let rows: usize = sizes[..axis].iter().product();
    let mut result = Tensor::zeros(dtype, sizes).ok()?;
    let run = |part: &Tensor| part.bytes().len() / rows.max(1);
    let whole: usize = parts.iter().map(run).sum();
    if whole * rows != result.bytes().len() {
        return None;
    }
    let mut start = 0;
    for part in parts {
        let run = run(part);
        for row in 0..rows {
            let to = row * whole + start;
            result.bytes_mut()[to..to + run].copy_from_slice(&part.bytes()[row * run..][..run]);
        }
        start += run;
    }
    Some(result)
}

fn strides(sizes: &[usize]) -> Vec<isize> {
    let mut strides = vec![1; sizes.len()];
    for dim in (1..sizes.len()).rev() {
        strides[dim - 1] = strides[dim] * sizes[dim] as isize;
    }
    strides
}

/// A tensor whose element at an index is that of `x` at `first + Σ index·from`.
fn moved(x: &Tensor, first: isize, from: &[isize], sizes: Vec<usize>) -> Option<Tensor> {
    let mut result = Tensor::zeros(x.dtype(), sizes.clone()).ok()?;
    if result.is_empty() {
        return Some(result);
    }
    // Every place lies between these two.
    let ends = from.iter().zip(&sizes).map(|(&stride, &size)| stride * (size as isize - 1));
    let (low, high) = ends.fold((first, first), |(l, h), end| (l + end.min(0), h + end.max(0)));
    if low < 0 || high >= x.len() as isize {
        return None;
    }
    let walk = Walk { first, from, to: &strides(&sizes), sizes: &sizes };
    match x.dtype().size() {
        1 => walk.copy::<1>(x.bytes(), result.bytes_mut()),
        2 => walk.copy::<2>(x.bytes(), result.bytes_mut()),
        4 => walk.copy::<4>(x.bytes(), result.bytes_mut()),
        8 => walk.copy::<8>(x.bytes(), result.bytes_mut()),
        _ => return None,
    }
    Some(result)
}

struct Walk<'a> {
    first: isize,
    from: &'a [isize],
    to: &'a [isize],
    sizes: &'a [usize],
}

impl Walk<'_> {
    fn copy<const WIDTH: usize>(&self, source: &[u8], target: &mut [u8]) {
        let (source, _) = source.as_chunks::<WIDTH>();
        let (target, _) = target.as_chunks_mut::<WIDTH>();
        let Some(last) = self.sizes.len().checked_sub(1) else {
            target[0] = source[self.first as usize];
            return;
        };
        let mut outer: Vec<usize> = (0..last).filter(|&dim| self.sizes[dim] > 1).collect();
        let across = self.from[last] != 1 && outer.iter().any(|&dim| self.from[dim] == 1);
        if across {
            // As the source has them, so that what lies in one of its lines is read together.
            outer.sort_by_key(|&dim| Reverse(self.from[dim].unsigned_abs()));
        }
        let mut at = vec![0usize; outer.len()];
        let (mut read, mut write) = (self.first, 0isize);
        let mut rows = Vec::with_capacity(BLOCK);
        loop {
            if across {
                rows.push((read, write));
                if rows.len() == BLOCK {
                    self.block(source, target, &rows, last);
                    rows.clear();
                }
            } else {
                self.row(source, target, read, write, last);
            }
            let mut position = outer.len();
            loop {
                if position == 0 {
                    self.block(source, target, &rows, last);
                    return;
                }
                position -= 1;
                let dim = outer[position];
                at[position] += 1;
                read += self.from[dim];
                write += self.to[dim];
                if at[position] < self.sizes[dim] {
                    break;
                }
                at[position] = 0;
                read -= self.from[dim] * self.sizes[dim] as isize;
                write -= self.to[dim] * self.sizes[dim] as isize;
            }
        }
    }

    fn row<T: Copy>(&self, source: &[T], target: &mut [T], read: isize, write: isize, last: usize) {
        let (count, stride) = (self.sizes[last], self.from[last]);
        let slots = &mut target[write as usize..][..count];
        match stride {
            1 => slots.copy_from_slice(&source[read as usize..][..count]),
            0 => slots.fill(source[read as usize]),
            _ => {
                let mut read = read;
                for slot in slots {
                    *slot = source[read as usize];
                    read += stride;
                }
            }
        }
    }

    /// Rows of the result, each from and to a place, some elements of all of them at a time.
    fn block<T: Copy>(&self, source: &[T], target: &mut [T], rows: &[(isize, isize)], last: usize) {
        let (columns, stride) = (self.sizes[last], self.from[last]);
        for column in (0..columns).step_by(BLOCK) {
            let width = BLOCK.min(columns - column);
            for &(read, write) in rows {
                let slots = &mut target[write as usize + column..][..width];
                let mut read = read + column as isize * stride;
                for slot in slots {
                    *slot = source[read as usize];
                    read += stride;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kiln_ir::op::{Broadcast, Concat, Slice, Transpose};
    use kiln_tensor::{DType, Dim, SymbolValues};

    fn check(op: Op, dtype: DType, sizes: &[usize]) {
        let count: usize = sizes.iter().product();
        let values: Vec<f64> = (0..count).map(|value| (value % 97) as f64).collect();
        let x = Tensor::from_f64(dtype, sizes.to_vec(), &values).unwrap();
        let ty = op.infer(&[&TensorType::of(&x)], &[]).unwrap().remove(0);
        let given = std::slice::from_ref(&x);
        let expected = op.evaluate(given, &[], &SymbolValues::new()).unwrap();
        assert_eq!(evaluate(&op, given, &ty), expected.into_iter().next(), "{op:?} {sizes:?}");
    }

    fn dims(sizes: &[i64]) -> Vec<Dim> {
        sizes.iter().map(|&size| Dim::from(size)).collect()
    }

    #[test]
    fn strings_are_left_to_the_evaluation_that_keeps_their_table() {
        let words = |words: &[&str]| Tensor::from_strings(vec![words.len()], words).unwrap();
        let parts = [words(&["a"]), words(&["b", "c"])];
        let joined = TensorType::of(&words(&["a", "b", "c"]));
        assert_eq!(evaluate(&Concat { axis: 0 }.into(), &parts, &joined), None);
        let turned = Transpose { perm: vec![0] };
        assert_eq!(evaluate(&turned.into(), &parts[1..], &TensorType::of(&parts[1])), None);
    }

    #[test]
    fn parts_lie_behind_each_other() {
        let part = |sizes: [usize; 3], from: usize| {
            let count: usize = sizes.iter().product();
            let values: Vec<i64> = (from..from + count).map(|value| value as i64).collect();
            Tensor::from_slice(sizes.to_vec(), &values).unwrap()
        };
        for (axis, second) in [(0, [4, 3, 5]), (1, [2, 1, 5]), (2, [2, 3, 0]), (2, [2, 3, 7])] {
            let parts = [part([2, 3, 5], 0), part(second, 100)];
            let op = Op::from(Concat { axis });
            let types = parts.each_ref().map(TensorType::of);
            let ty = op.infer(&types.each_ref(), &[]).unwrap().remove(0);
            let expected = op.evaluate(&parts, &[], &SymbolValues::new()).unwrap();
            assert_eq!(
                evaluate(&op, &parts, &ty),
                expected.into_iter().next(),
                "{axis} {second:?}"
            );
        }
    }

    #[test]
    fn elements_go_where_the_reference_puts_them() {
        for dtype in [DType::F32, DType::U8, DType::F16, DType::I64] {
            for perm in [[0, 1, 2, 3], [2, 3, 1, 0], [3, 0, 1, 2], [1, 0, 2, 3], [0, 3, 2, 1]] {
                for sizes in [[17, 3, 2, 35], [1, 4, 1, 2], [3, 0, 2, 1], [40, 20, 3, 3]] {
                    check(Transpose { perm: perm.to_vec() }.into(), dtype, &sizes);
                }
            }
        }
        check(Transpose { perm: vec![] }.into(), DType::F32, &[]);
        check(Broadcast { shape: dims(&[2, 3, 4]) }.into(), DType::F32, &[3, 1]);
        check(Broadcast { shape: dims(&[5, 0]) }.into(), DType::F64, &[]);
        let slice = Slice { starts: dims(&[4, 1]), sizes: dims(&[2, 3]), steps: vec![-2, 1] };
        check(slice.into(), DType::I16, &[6, 5]);
    }
}
