//! Calls of a compiled kernel.
//!
//! Invariant: a call gets scratch memory of the size that is asked for, full of garbage.

use kiln_runtime::loader::LoadedCode;
use kiln_tensor::{DType, Tensor};

/// Runs tasks of the kernel of this name, from and to a number in each call, on its bound operands.
///
/// The operands and `scratch`, in bytes, must be as large as the kernel asks for.
pub fn launch(
    code: &LoadedCode,
    symbol: &str,
    operands: &mut [Tensor],
    params: &[i64],
    scratch: usize,
    calls: &[(i64, i64)],
) {
    let function = code.entry(symbol).unwrap();
    let pointers: Vec<*mut u8> =
        operands.iter_mut().map(|tensor| tensor.bytes_mut().as_mut_ptr()).collect();
    let mut scratch = Tensor::zeros(DType::U8, vec![scratch]).unwrap();
    scratch.bytes_mut().fill(0xa5);
    let scratch = scratch.bytes_mut().as_mut_ptr();
    for &(begin, end) in calls {
        // SAFETY: operands and scratch have the sizes that the kernel asks for; the code is alive.
        unsafe { function(pointers.as_ptr(), params.as_ptr(), scratch, begin, end) };
    }
}
