//! Made-up inputs, for trying and timing a model without data.
//!
//! Invariant: the same declaration and seed give the same tensors on every machine.

use kiln_tensor::{DType, Tensor, TensorError};

/// A tensor of pseudo-random elements: floats uniform in [-1, 1), integers 0 or 1 (so that they
/// are valid as indices, masks and token numbers of any model), booleans either.
pub fn random_tensor(dtype: DType, sizes: Vec<usize>, seed: u64) -> Result<Tensor, TensorError> {
    // Piece by piece into the tensor: what there is no memory for is an error, not an abort.
    let mut tensor = Tensor::zeros(dtype, sizes)?;
    let mut state = seed;
    for piece in tensor.bytes_mut().chunks_mut(PIECE * dtype.size()) {
        let values: Vec<f64> = (0..piece.len() / dtype.size())
            .map(|_| {
                let bits = splitmix64(&mut state);
                if dtype.is_float() || dtype.is_code() {
                    (bits >> 11) as f64 / (1u64 << 52) as f64 - 1.0
                } else {
                    (bits >> 63) as f64
                }
            })
            .collect();
        piece.copy_from_slice(Tensor::from_f64(dtype, vec![values.len()], &values)?.bytes());
    }
    Ok(tensor)
}

/// Elements that are made at once.
const PIECE: usize = 4096;

/// SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014).
fn splitmix64(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_lie_where_they_should_and_repeat() {
        let floats = random_tensor(DType::F32, vec![1000], 1).unwrap();
        let values = floats.to_f64();
        assert!(values.iter().all(|v| (-1.0..1.0).contains(v)));
        assert!(values.iter().any(|&v| v < -0.5) && values.iter().any(|&v| v > 0.5));
        assert_eq!(floats, random_tensor(DType::F32, vec![1000], 1).unwrap());
        assert_ne!(floats, random_tensor(DType::F32, vec![1000], 2).unwrap());
        let tokens = random_tensor(DType::I64, vec![1000], 1).unwrap().to_i64();
        assert!(tokens.contains(&0) && tokens.contains(&1) && tokens.iter().all(|&t| t < 2));
        assert!(random_tensor(DType::F32, vec![usize::MAX, 4], 1).is_err());
    }
}
