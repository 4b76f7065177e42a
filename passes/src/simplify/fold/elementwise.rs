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
        (Op::Unary(unary), [x]) => {
            let f: fn(f32) -> f32 = match unary.f {
                UnaryFn::Neg => |x| -x,
                UnaryFn::Abs => f32::abs,
                UnaryFn::Sqrt => f32::sqrt,
                UnaryFn::Reciprocal => |x| 1.0 / x,
                _ => return None,
            };
            let values: Vec<f32> = x.as_slice::<f32>().ok()?.iter().map(|&x| f(x)).collect();
            Tensor::from_slice(sizes, &values).ok()
        }
        (Op::Binary(binary), [a, b]) => {
            let f: fn(f32, f32) -> f32 = match binary.f {
                BinaryFn::Add => |a, b| a + b,
                BinaryFn::Sub => |a, b| a - b,
                BinaryFn::Mul => |a, b| a * b,
                BinaryFn::Div => |a, b| a / b,
                _ => return None,
            };
            stretched(a, b, sizes, f)
        }
        _ => None,
    }
}

/// `f` of every pair of elements, one operand of which may be stretched.
fn stretched(a: &Tensor, b: &Tensor, sizes: Vec<usize>, f: fn(f32, f32) -> f32) -> Option<Tensor> {
    let (first, second) = (rows(a, &sizes)?, rows(b, &sizes)?);
    let (a, b) = (a.as_slice::<f32>().ok()?, b.as_slice::<f32>().ok()?);
    let columns = sizes.last().copied().unwrap_or(1);
    let mut values = Vec::with_capacity(sizes.iter().product());
    for (i, j) in first.starts.iter().zip(&second.starts) {
        for column in 0..columns {
            values.push(f(a[i + column * first.step], b[j + column * second.step]));
        }
    }
    Tensor::from_slice(sizes, &values).ok()
}

/// Where the rows of a stretched operand start, and how far its columns are apart.
struct Rows {
    starts: Vec<usize>,
    step: usize,
}

fn rows(x: &Tensor, sizes: &[usize]) -> Option<Rows> {
    let missing = sizes.len().checked_sub(x.sizes().len())?;
    let mut strides = vec![0; sizes.len()];
    let mut stride = 1;
    for (dim, &size) in x.sizes().iter().enumerate().rev() {
        strides[missing + dim] = if size == 1 { 0 } else { stride };
        stride *= size;
    }
    let (step, outer) = match strides.split_last() {
        Some((&step, outer)) => (step, outer),
        None => return Some(Rows { starts: vec![0], step: 0 }),
    };
    let mut starts = vec![0];
    for (&size, &stride) in sizes.iter().zip(outer) {
        starts =
            starts.iter().flat_map(|start| (0..size).map(move |at| start + at * stride)).collect();
    }
    Some(Rows { starts, step })
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
