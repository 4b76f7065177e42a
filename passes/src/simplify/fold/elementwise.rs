//! Arithmetic on single-precision constants, as folding of normalisations into weights needs it.
//!
//! Invariant: only functions whose result in single precision, correctly rounded, is what the
//! reference evaluation gives by rounding a result in double precision (for +, −, ·, /, √ it is:
//! Figueroa, "When is double rounding innocuous?", 1995).

use kiln_ir::TensorType;
use kiln_ir::op::{BinaryFn, Op, UnaryFn};
use kiln_tensor::{DType, Tensor};

/// The result of such an operation; `None` for any other.
pub(super) fn evaluate(op: &Op, operands: &[Tensor], ty: &TensorType) -> Option<Tensor> {
    if ty.dtype != DType::F32 || operands.iter().any(|x| x.dtype() != DType::F32) {
        return None;
    }
    let sizes = ty.static_sizes()?;
    match (op, operands) {
        (Op::Unary(unary), [x]) => match unary.f {
            UnaryFn::Neg => each(x, sizes, |x| -x),
            UnaryFn::Abs => each(x, sizes, f32::abs),
            UnaryFn::Sqrt => each(x, sizes, f32::sqrt),
            UnaryFn::Reciprocal => each(x, sizes, |x| 1.0 / x),
            _ => None,
        },
        (Op::Binary(binary), [a, b]) => match binary.f {
            BinaryFn::Add => stretched(a, b, sizes, |a, b| a + b),
            BinaryFn::Sub => stretched(a, b, sizes, |a, b| a - b),
            BinaryFn::Mul => stretched(a, b, sizes, |a, b| a * b),
            BinaryFn::Div => stretched(a, b, sizes, |a, b| a / b),
            _ => None,
        },
        _ => None,
    }
}

fn each(x: &Tensor, sizes: Vec<usize>, f: impl Fn(f32) -> f32) -> Option<Tensor> {
    let mut result = Tensor::zeros(DType::F32, sizes).ok()?;
    let slots = result.as_mut_slice::<f32>().ok()?;
    slots.iter_mut().zip(x.as_slice::<f32>().ok()?).for_each(|(slot, &x)| *slot = f(x));
    Some(result)
}

/// `f` of every pair of elements, one operand of which may be stretched.
fn stretched(
    a: &Tensor,
    b: &Tensor,
    sizes: Vec<usize>,
    f: impl Fn(f32, f32) -> f32,
) -> Option<Tensor> {
    let strides = [strides(a.sizes(), sizes.len())?, strides(b.sizes(), sizes.len())?];
    let walk = joined(&sizes, &strides);
    let (a, b) = (a.as_slice::<f32>().ok()?, b.as_slice::<f32>().ok()?);
    let mut result = Tensor::zeros(DType::F32, sizes).ok()?;
    let slots = result.as_mut_slice::<f32>().ok()?;
    let Some((&(columns, steps), outer)) = walk.split_last() else {
        slots.iter_mut().for_each(|slot| *slot = f(a[0], b[0]));
        return Some(result);
    };
    if slots.is_empty() {
        return Some(result);
    }
    let mut at = vec![0usize; outer.len()];
    let [mut i, mut j] = [0usize; 2];
    for row in slots.chunks_exact_mut(columns) {
        // Each of these is a loop over contiguous numbers.
        match steps {
            [1, 1] => {
                let pairs = a[i..].iter().zip(&b[j..]);
                row.iter_mut().zip(pairs).for_each(|(slot, (&a, &b))| *slot = f(a, b));
            }
            [1, _] => row.iter_mut().zip(&a[i..]).for_each(|(slot, &a)| *slot = f(a, b[j])),
            [_, 1] => row.iter_mut().zip(&b[j..]).for_each(|(slot, &b)| *slot = f(a[i], b)),
            _ => row.fill(f(a[i], b[j])),
        }
        for (place, &(size, [first, second])) in at.iter_mut().zip(outer).rev() {
            *place += 1;
            (i, j) = (i + first, j + second);
            if *place < size {
                break;
            }
            *place = 0;
            (i, j) = (i - first * size, j - second * size);
        }
    }
    Some(result)
}

/// Distances in elements with which a tensor is read as one of this rank that it stretches to.
fn strides(sizes: &[usize], rank: usize) -> Option<Vec<usize>> {
    let missing = rank.checked_sub(sizes.len())?;
    let mut strides = vec![0; rank];
    let mut stride = 1;
    for (dim, &size) in sizes.iter().enumerate().rev() {
        strides[missing + dim] = if size == 1 { 0 } else { stride };
        stride *= size;
    }
    Some(strides)
}

/// Dimensions with the strides of both operands, as few as possible: the innermost is then long, and
/// its strides are 0 or 1.
fn joined(sizes: &[usize], strides: &[Vec<usize>; 2]) -> Vec<(usize, [usize; 2])> {
    let mut joined: Vec<(usize, [usize; 2])> = Vec::new();
    for (dim, &size) in sizes.iter().enumerate().filter(|(_, size)| **size != 1) {
        let own = [strides[0][dim], strides[1][dim]];
        match joined.last_mut() {
            Some((before, outer)) if (0..2).all(|side| outer[side] == own[side] * size) => {
                *before *= size;
                *outer = own;
            }
            _ => joined.push((size, own)),
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;
    use kiln_ir::op::{Binary, Unary};
    use kiln_tensor::SymbolValues;

    fn odd(sizes: &[usize], seed: u32) -> Tensor {
        let count: usize = sizes.iter().product();
        let mut state = seed;
        let values: Vec<f32> = (0..count)
            .map(|_| {
                state = state.wrapping_mul(1664525).wrapping_add(1013904223);
                f32::from_bits(state & 0x3fff_ffff | state << 31)
            })
            .collect();
        Tensor::from_slice(sizes.to_vec(), &values).unwrap()
    }

    fn check(op: Op, operands: &[Tensor]) {
        let types: Vec<TensorType> = operands.iter().map(TensorType::of).collect();
        let ty = op.infer(&types.iter().collect::<Vec<_>>(), &[]).unwrap().remove(0);
        let expected = op.evaluate(operands, &[], &SymbolValues::new()).unwrap().remove(0);
        let actual = evaluate(&op, operands, &ty).unwrap();
        let same = |(a, b): (&f32, &f32)| a == b || a.is_nan() && b.is_nan();
        let (a, b) = (actual.as_slice::<f32>().unwrap(), expected.as_slice::<f32>().unwrap());
        assert!(actual.sizes() == expected.sizes() && a.iter().zip(b).all(same), "{op:?}");
    }

    #[test]
    fn results_are_those_of_the_reference() {
        for f in [BinaryFn::Add, BinaryFn::Sub, BinaryFn::Mul, BinaryFn::Div] {
            for (a, b) in [
                (&[7, 5, 3][..], &[3][..]),
                (&[7, 5, 3], &[7, 1, 1]),
                (&[5, 1], &[1, 6]),
                (&[], &[2, 2]),
                (&[0, 2], &[1]),
                (&[], &[]),
                (&[100, 100], &[100, 100]),
            ] {
                check(Binary { f }.into(), &[odd(a, 1), odd(b, 2)]);
            }
        }
        for f in [UnaryFn::Neg, UnaryFn::Abs, UnaryFn::Sqrt, UnaryFn::Reciprocal] {
            check(Unary { f }.into(), &[odd(&[1000], 3)]);
        }
    }
}
