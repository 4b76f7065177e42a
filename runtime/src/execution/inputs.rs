//! Inputs as kernels expect them.
//!
//! Invariant: what kernels get starts at a multiple of 64, its booleans are 0 or 1, and what has fewer
//! bits than a byte is extended to it. Tensors that are so already, which is nearly all, are not
//! copied.

use super::RunError;
use kiln_tensor::{ALIGNMENT, DType, Tensor};

/// A copy of the tensor that is fit for kernels; none where it is so itself.
pub(super) fn fit(tensor: &Tensor) -> Result<Option<Tensor>, RunError> {
    let aligned = (tensor.bytes().as_ptr() as usize).is_multiple_of(ALIGNMENT);
    let dtype = tensor.dtype();
    let any = dtype != DType::Bool && dtype.bits() >= 8;
    let clean = any || tensor.bytes().iter().all(|&byte| dtype.extended(byte) == byte);
    if aligned && clean {
        return Ok(None);
    }
    let mut copy = Tensor::from_bytes(dtype, tensor.sizes().to_vec(), tensor.bytes())?;
    if !clean {
        copy.bytes_mut().iter_mut().for_each(|byte| *byte = dtype.extended(*byte));
    }
    Ok(Some(copy))
}

#[cfg(test)]
mod tests {
    use super::*;
    use kiln_tensor::Storage;
    use std::sync::Arc;

    #[test]
    fn only_what_is_unfit_is_copied() {
        assert!(fit(&Tensor::from_slice(vec![3], &[1u8, 2, 3]).unwrap()).unwrap().is_none());

        let owner = Arc::new(Storage::copy_of(&[0, 2, 0, 1]).unwrap().to_vec());
        let odd = Storage::shared(owner, 1, 3).unwrap();
        let odd = Tensor::from_storage(DType::Bool, vec![3], odd).unwrap();
        let copy = fit(&odd).unwrap().unwrap();
        assert_eq!(copy.bytes(), [1, 0, 1]);
        assert!((copy.bytes().as_ptr() as usize).is_multiple_of(ALIGNMENT));
        assert_eq!(odd.bytes(), [2, 0, 1], "the caller's tensor is as it was");
        let wide = Tensor::from_bytes(DType::I4, vec![2], &[0x0f, 0x17]).unwrap();
        assert_eq!(fit(&wide).unwrap().unwrap().bytes(), [0xff, 0x07]);
    }
}
