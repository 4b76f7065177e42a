//! Arithmetic on constants in single precision, as folding of normalisations into weights needs it,
//! and on small integers, as weights do that are quantised.
//!
//! Invariant: integers wrap as the reference's do. Of floats, only functions whose result in single
//! precision, correctly rounded, is what the reference evaluation gives by rounding a result in double
//! precision (for +, −, ·, /, √ it is: Figueroa, "When is double rounding innocuous?", 1995).

use kiln_ir::TensorType;
use kiln_ir::op::{BinaryFn, Op, UnaryFn};
use kiln_tensor::{DType, Element, Tensor};

/// The result of such an operation; `None` for any other. The first operand's memory may become the result's.
pub(super) fn evaluate(op: &Op, operands: &mut [Tensor], ty: &TensorType) -> Option<Tensor> {
    let sizes = ty.static_sizes()?;
    match (op, operands) {
        (Op::Cast(_), [x]) => cast(x, ty.dtype, sizes),
        (Op::Unary(unary), [x]) if ty.dtype == DType::F32 => match unary.f {
            UnaryFn::Neg => each(x, sizes, |x: f32| -x),
            UnaryFn::Abs => each(x, sizes, f32::abs),
            UnaryFn::Sqrt => each(x, sizes, f32::sqrt),
            UnaryFn::Reciprocal => each(x, sizes, |x: f32| 1.0 / x),
            _ => None,
        },
        (Op::Binary(binary), [a, b]) if ty.dtype == DType::F32 => match binary.f {
            BinaryFn::Add => stretched(a, b, sizes, |a: f32, b| a + b),
            BinaryFn::Sub => stretched(a, b, sizes, |a: f32, b| a - b),
            BinaryFn::Mul => stretched(a, b, sizes, |a: f32, b| a * b),
            BinaryFn::Div => stretched(a, b, sizes, |a: f32, b| a / b),
            _ => None,
        },
        (Op::Binary(binary), [a, b]) if ty.dtype == DType::I32 => match binary.f {
            BinaryFn::Add => stretched(a, b, sizes, i32::wrapping_add),
            BinaryFn::Sub => stretched(a, b, sizes, i32::wrapping_sub),
            BinaryFn::Mul => stretched(a, b, sizes, i32::wrapping_mul),
            _ => None,
        },
        _ => None,
    }
}

/// Integers as a wider type, or as the nearest number.
fn cast(x: &Tensor, to: DType, sizes: Vec<usize>) -> Option<Tensor> {
    match (x.dtype(), to) {
        (DType::U8, DType::I32) => each(x, sizes, |x: u8| i32::from(x)),
        (DType::I8, DType::I32) => each(x, sizes, |x: i8| i32::from(x)),
        (DType::U8, DType::F32) => each(x, sizes, |x: u8| f32::from(x)),
        (DType::I8, DType::F32) => each(x, sizes, |x: i8| f32::from(x)),
        (DType::I32, DType::F32) => each(x, sizes, |x: i32| x as f32),
        _ => None,
    }
}

fn each<T: Element, U: Element>(
    x: &Tensor,
    sizes: Vec<usize>,
    f: impl Fn(T) -> U,
) -> Option<Tensor> {
    let mut result = Tensor::zeros(U::DTYPE, sizes).ok()?;
    let slots = result.as_mut_slice::<U>().ok()?;
    slots.iter_mut().zip(x.as_slice::<T>().ok()?).for_each(|(slot, &x)| *slot = f(x));
    Some(result)
}

/// `f` of every pair of elements, one operand of which may be stretched.
fn stretched<T: Element>(
    a: &mut Tensor,
    b: &Tensor,
    sizes: Vec<usize>,
    f: impl Fn(T, T) -> T,
) -> Option<Tensor> {
    let strides = [strides(a.sizes(), sizes.len())?, strides(b.sizes(), sizes.len())?];
    let walk = joined(&sizes, &strides);
    let (last, outer) = match walk.split_last() {
        Some((&last, outer)) => (last, outer),
        None => ((1, [0, 0]), &walk[..]),
    };
    let (columns, steps) = last;
    let b = b.as_slice::<T>().ok()?;
    if a.sizes() == sizes && a.dtype() == T::DTYPE && a.is_exclusive() {
        let slots = a.as_mut_slice::<T>().ok()?;
        rows(slots, columns, outer, |row, [_, j]| match steps {
            [_, 1] => row.iter_mut().zip(&b[j..]).for_each(|(slot, &b)| *slot = f(*slot, b)),
            _ => row.iter_mut().for_each(|slot| *slot = f(*slot, b[j])),
        });
        return Some(a.clone());
    }
    let a = a.as_slice::<T>().ok()?;
    let mut result = Tensor::zeros(T::DTYPE, sizes).ok()?;
    // Each of these is a loop over contiguous numbers.
    rows(result.as_mut_slice::<T>().ok()?, columns, outer, |row, [i, j]| match steps {
        [1, 1] => {
            let pairs = a[i..].iter().zip(&b[j..]);
            row.iter_mut().zip(pairs).for_each(|(slot, (&a, &b))| *slot = f(a, b));
        }
        [1, _] => row.iter_mut().zip(&a[i..]).for_each(|(slot, &a)| *slot = f(a, b[j])),
        [_, 1] => row.iter_mut().zip(&b[j..]).for_each(|(slot, &b)| *slot = f(a[i], b)),
        _ => row.fill(f(a[i], b[j])),
    });
    Some(result)
}

/// Calls `each` with every row of a result and where the rows of both operands begin.
fn rows<T>(
    slots: &mut [T],
    columns: usize,
    outer: &[(usize, [usize; 2])],
    mut each: impl FnMut(&mut [T], [usize; 2]),
) {
    let mut at = vec![0usize; outer.len()];
    let [mut i, mut j] = [0usize; 2];
    // A result without elements has no rows, however long they would be.
    for row in slots.chunks_exact_mut(columns.max(1)) {
        each(row, [i, j]);
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
    use kiln_ir::op::{Binary, Cast, Unary};
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
        let same = |(a, b): (&f64, &f64)| a == b || a.is_nan() && b.is_nan();
        // With memory that others have, too, and in place.
        let own =
            |x: &Tensor| Tensor::from_bytes(x.dtype(), x.sizes().to_vec(), x.bytes()).unwrap();
        for mut given in [operands.to_vec(), operands.iter().map(own).collect()] {
            let actual = evaluate(&op, &mut given, &ty).unwrap();
            assert!(
                TensorType::of(&actual) == TensorType::of(&expected)
                    && actual.to_f64().iter().zip(&expected.to_f64()).all(same),
                "{op:?}"
            );
        }
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

    #[test]
    fn integers_wrap_and_widen_as_the_reference_has_it() {
        let bits = |x: &Tensor| -> Vec<i32> {
            x.as_slice::<f32>().unwrap().iter().map(|x| x.to_bits() as i32).collect()
        };
        let integers = |sizes: &[usize], seed| {
            Tensor::from_slice(sizes.to_vec(), &bits(&odd(sizes, seed))).unwrap()
        };
        for f in [BinaryFn::Add, BinaryFn::Sub, BinaryFn::Mul] {
            check(Binary { f }.into(), &[integers(&[2, 3, 5], 1), integers(&[2, 1, 5], 2)]);
        }
        check(Cast { to: DType::F32 }.into(), &[integers(&[1000], 3)]);
        let (unsigned, signed): (Vec<u8>, Vec<i8>) =
            (u8::MIN..=u8::MAX).map(|x| (x, x as i8)).unzip();
        for to in [DType::I32, DType::F32] {
            check(Cast { to }.into(), &[Tensor::from_slice(vec![256], &unsigned).unwrap()]);
            check(Cast { to }.into(), &[Tensor::from_slice(vec![256], &signed).unwrap()]);
        }
    }
}
