//! Scaled dot-product attention over heads.
//!
//! Invariant: the scores exist only inside the operation, so a kernel need never store them.

use super::elements::pack_floats;
use super::normalisation::softmax;
use super::places::{stretched, walk};
use super::typing::{between, broadcasts_to, element, equal_dims, float, rank, same_element};
use super::{OpError, Operation, Run};
use crate::graph::{Graph, TensorType};
use kiln_tensor::{DType, Tensor};
use serde::{Deserialize, Serialize};

/// `q [b,h,s,d], k [b,hk,t,d], v [b,hk,t,e][, mask] → softmax(scale·q·kᵀ + mask)·v [b,h,s,e]`.
///
/// `h` is a multiple of `hk`: query head `i` uses key head `i/(h/hk)`. The mask stretches to
/// `[b,h,s,t]`; one of `q`'s type is added, a `bool` one hides keys where it is false: their scores
/// are `hidden`. A query all of whose scores are −∞ gives NaN.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Attention {
    /// What products are multiplied with, usually 1/√d.
    pub scale: f64,
    /// Whether query `i` sees key `j` only if `j ≤ i + t − s`: the last query sees every key.
    pub causal: bool,
    /// The score of a key that a `bool` mask hides: −∞, or the finite number that a model writes instead, with
    /// which a query that sees no key sees all of them alike.
    #[serde(default = "never", skip_serializing_if = "is_never")]
    pub hidden: f64,
}

/// The score of a key that is not seen at all.
const fn never() -> f64 {
    f64::NEG_INFINITY
}

fn is_never(score: &f64) -> bool {
    *score == never()
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

    fn evaluate(&self, inputs: &[Tensor], _: &[Graph], _: &Run) -> Result<Vec<Tensor>, OpError> {
        let (dtype, sizes) = self.result(inputs)?;
        let [q, k, v] = [0, 1, 2].map(|operand| inputs[operand].to_f64());
        let &[batches, heads, queries, width] = sizes.as_slice() else {
            return Err(OpError::new("the result must have rank 4"));
        };
        let (depth, key_heads) = (inputs[0].sizes()[3], inputs[1].sizes()[1]);
        let keys = inputs[1].sizes()[2];
        let mask = inputs.get(3).map(Tensor::to_f64);
        let mask_strides = inputs.get(3).map(|mask| stretched(mask.sizes(), 4)).unwrap_or_default();
        let hides = inputs.get(3).is_some_and(|mask| mask.dtype() == DType::Bool);
        let mut results = Vec::with_capacity(sizes.iter().product());
        walk(&[batches, heads, queries], |at| {
            let &[batch, head, query] = at else { return Ok(()) };
            let key_head = batch * key_heads + head / (heads / key_heads);
            let q = &q[((batch * heads + head) * queries + query) * depth..][..depth];
            let mut scores: Vec<f64> = Vec::with_capacity(keys);
            for key in 0..keys {
                let k = &k[(key_head * keys + key) * depth..][..depth];
                let mut score = q.iter().zip(k).map(|(q, k)| q * k).sum::<f64>() * self.scale;
                if let Some(mask) = &mask {
                    let place = [batch, head, query, key].into_iter().zip(&mask_strides);
                    let place: usize = place.map(|(at, &stride)| at * stride as usize).sum();
                    match (hides, mask[place] != 0.0) {
                        (true, true) => {}
                        (true, false) => score = self.hidden,
                        (false, _) => score += mask[place],
                    }
                }
                if self.causal && key + queries > query + keys {
                    score = f64::NEG_INFINITY;
                }
                scores.push(score);
            }
            softmax(&mut scores, DType::F64);
            let v = &v[key_head * keys * width..][..keys * width];
            results.extend((0..width).map(|column| {
                let values = v.iter().skip(column).step_by(width);
                scores.iter().zip(values).map(|(score, v)| score * v).sum::<f64>()
            }));
            Ok::<(), OpError>(())
        })?;
        Ok(vec![pack_floats(dtype, sizes, &results)?])
    }
}
