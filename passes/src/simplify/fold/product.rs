//! Products of constant matrices in single precision, as filters are transformed by.
//!
//! Invariant: the same bytes as the reference evaluation: each sum in double precision, its terms in order.

use kiln_ir::TensorType;
use kiln_ir::op::Op;
use kiln_tensor::{DType, Tensor};

/// Columns whose sums are kept at once, in a first-level cache with a row that is added to them.
const COLUMNS: usize = 1024;

/// The product `[m, k]·[k, n]`, each of them one or several dimensions; `None` for any other.
pub(super) fn evaluate(op: &Op, operands: &[Tensor], ty: &TensorType) -> Option<Tensor> {
    let (Op::Contract(contract), [a, b], DType::F32) = (op, operands, ty.dtype) else {
        return None;
    };
    let spec = &contract.spec;
    let (rows, columns) = (spec.lhs.len().checked_sub(1), spec.rhs.len().checked_sub(1));
    // The label in the middle, and no other, is summed over.
    let plain = (1..=rows?.min(columns?) + 1).find(|&summed| {
        let (Some(rows), Some(columns)) =
            (spec.lhs.len().checked_sub(summed), spec.rhs.get(summed..))
        else {
            return false;
        };
        spec.lhs[rows..] == spec.rhs[..summed]
            && spec.out.iter().eq(spec.lhs[..rows].iter().chain(columns))
            && !spec.lhs[..rows].iter().any(|label| spec.rhs.contains(label))
    })?;
    let (outer, inner) = a.sizes().split_at(a.sizes().len() - plain);
    let m: usize = outer.iter().product();
    let k: usize = inner.iter().product();
    let n: usize = b.sizes()[plain..].iter().product();
    let (a, b) = (a.as_slice::<f32>().ok()?, b.as_slice::<f32>().ok()?);
    let mut result = Tensor::zeros(DType::F32, ty.static_sizes()?).ok()?;
    let slots = result.as_mut_slice::<f32>().ok()?;
    let mut sums = [0.0f64; COLUMNS];
    for column in (0..n).step_by(COLUMNS) {
        let width = COLUMNS.min(n - column);
        for row in 0..m {
            let sums = &mut sums[..width];
            sums.fill(0.0);
            for inner in 0..k {
                let factor = f64::from(a[row * k + inner]);
                let other = &b[inner * n + column..][..width];
                sums.iter_mut().zip(other).for_each(|(sum, &b)| *sum += factor * f64::from(b));
            }
            let slots = &mut slots[row * n + column..][..width];
            slots.iter_mut().zip(sums).for_each(|(slot, sum)| *slot = *sum as f32);
        }
    }
    Some(result)
}

#[cfg(test)]
mod tests {
    use super::*;
    use kiln_ir::op::Contract;
    use kiln_tensor::SymbolValues;

    fn numbers(sizes: &[usize], seed: u32) -> Tensor {
        let mut state = seed;
        let count: usize = sizes.iter().product();
        let values: Vec<f32> = (0..count)
            .map(|_| {
                state = state.wrapping_mul(1664525).wrapping_add(1013904223);
                (state >> 8) as f32 / 1e6 - 8.0
            })
            .collect();
        Tensor::from_slice(sizes.to_vec(), &values).unwrap()
    }

    #[test]
    fn products_are_those_of_the_reference() {
        for (spec, a, b, quick) in [
            ("ab,bc->ac", &[16, 9][..], &[9, 1500][..], true),
            ("ab,bcd->acd", &[4, 3], &[3, 5, 7], true),
            ("abc,bcd->ad", &[2, 3, 4], &[3, 4, 5], true),
            ("ab,bc->ac", &[0, 2], &[2, 3], true),
            ("ab,bc->ac", &[3, 0], &[0, 4], true),
            ("a,a->", &[7], &[7], true),
            ("ab,bc->ca", &[3, 4], &[4, 5], false),
            ("ab,cb->ac", &[3, 4], &[5, 4], false),
            ("abc,acd->abd", &[2, 3, 4], &[2, 4, 5], false),
        ] {
            let op = Op::from(Contract { spec: spec.parse().unwrap() });
            let operands = [numbers(a, 1), numbers(b, 2)];
            let types = operands.each_ref().map(TensorType::of);
            let ty = op.infer(&types.each_ref(), &[]).unwrap().remove(0);
            let expected = op.evaluate(&operands, &[], &SymbolValues::new()).unwrap().remove(0);
            match evaluate(&op, &operands, &ty) {
                Some(actual) => assert!(quick && actual == expected, "{spec}"),
                None => assert!(!quick, "{spec}"),
            }
        }
    }
}
