//! Scaled dot-product attention over heads.
//!
//! Invariant: the scores exist only inside the operation, so a kernel need never store them.

use super::typing::{between, broadcasts_to, element, equal_dims, float, rank, same_element};
use super::{OpError, Operation};
use crate::graph::{Graph, TensorType};
use kiln_tensor::DType;
use serde::{Deserialize, Serialize};

/// `q [b,h,s,d], k [b,hk,t,d], v [b,hk,t,e][, mask] → softmax(scale·q·kᵀ + mask)·v [b,h,s,e]`.
///
/// `h` is a multiple of `hk`: query head `i` uses key head `i/(h/hk)`. The mask stretches to
/// `[b,h,s,t]`; one of `q`'s type is added, a `bool` one hides keys where it is false. A query
/// that sees no key gives NaN.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Attention {
    /// What products are multiplied with, usually 1/√d.
    pub scale: f64,
    /// Whether query `i` sees key `j` only if `j ≤ i + t − s`: the last query sees every key.
    pub causal: bool,
}

impl Operation for Attention {
    const NAME: &'static str = "Attention";

    fn infer(&self, inputs: &[&TensorType], _: &[Graph]) -> Result<Vec<TensorType>, OpError> {
        between(inputs, 3, 4)?;
        let (q, k, v) = (inputs[0], inputs[1], inputs[2]);
        for (operand, what) in [(q, "q"), (k, "k"), (v, "v")] {
            rank(operand, 4, what)?;
            float(operand, what)?;
            same_element(q, operand)?;
        }
        let what = |dims: &str| format!("{dims} of q {q}, k {k} and v {v}");
        equal_dims(&q.shape[0], &k.shape[0], &what("the batch"))?;
        equal_dims(&q.shape[0], &v.shape[0], &what("the batch"))?;
        equal_dims(&k.shape[1], &v.shape[1], &what("the heads"))?;
        equal_dims(&k.shape[2], &v.shape[2], &what("the key length"))?;
        equal_dims(&q.shape[3], &k.shape[3], &what("the head size"))?;
        let (heads, key_heads) = (&q.shape[1], &k.shape[1]);
        if key_heads.is(0) || heads.exact_div(key_heads).is_none() {
            return Err(OpError::new(format!(
                "{heads} query heads are not a multiple of {key_heads} key heads"
            )));
        }
        if let Some(mask) = inputs.get(3) {
            element(mask, "the mask", &format!("bool or {}", q.dtype), |dtype| {
                dtype == DType::Bool || dtype == q.dtype
            })?;
            let scores = [&q.shape[..3], &k.shape[2..3]].concat();
            broadcasts_to(&mask.shape, &scores, "the mask")?;
        }
        let shape = [&q.shape[..3], &v.shape[3..]].concat();
        Ok(vec![TensorType::new(q.dtype, shape)])
    }
}
