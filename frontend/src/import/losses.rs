//! Losses over classes: negative log-likelihood, and cross entropy after a softmax.
//!
//! Invariant: a place with the ignored label counts for nothing, whatever number the label is.

use super::build::V;
use super::fault::Fault;
use super::node::Use;
use super::normalisation::logarithm_of_softmax;
use super::operator::{Entry, onnx};
use kiln_ir::op::{self, BinaryFn, ReduceFn, UnaryFn};
use kiln_tensor::{DType, Dim, Tensor};

pub(super) const OPERATORS: &[Entry] = &[
    onnx("NegativeLogLikelihoodLoss", 12, |x| {
        let scores = x.input(0)?;
        Ok(vec![negative_log_likelihood(x, scores)?])
    }),
    onnx("SoftmaxCrossEntropyLoss", 12, |x| {
        let scores = x.input(0)?;
        if x.rank(scores) < 2 {
            return Err(no_classes(x, scores));
        }
        let logarithms = logarithm_of_softmax(x, scores, 1)?;
        Ok(vec![negative_log_likelihood(x, logarithms)?, logarithms])
    }),
];

fn no_classes(x: &Use<'_, '_, '_>, scores: V) -> Fault {
    let ty = x.ty(scores);
    Fault::malformed(format!("the scores must have batch and class dimensions, but are {ty}"))
}

/// What each class weighs where it is the label; 0 where the label is ignored.
fn weights(
    x: &mut Use<'_, '_, '_>,
    labels: V,
    count: &Dim,
    ignored: Option<V>,
    dtype: DType,
) -> Result<Option<V>, Fault> {
    let weights = match x.optional(2) {
        Some(classes) => {
            let classes = x.of_dims(classes, std::slice::from_ref(count), "the weights")?;
            let classes = x.cast(classes, dtype)?;
            Some(x.add(op::Gather { axis: 0 }, &[classes, labels])?)
        }
        None => None,
    };
    let Some(ignored) = ignored else { return Ok(weights) };
    let (zero, one) = (x.scalar(dtype, 0.0)?, x.scalar(dtype, 1.0)?);
    Ok(Some(x.select(ignored, zero, weights.unwrap_or(one))?))
}

/// `−weight·score` of the label at each place, reduced.
fn negative_log_likelihood(x: &mut Use<'_, '_, '_>, scores: V) -> Result<V, Fault> {
    let (shape, dtype) = (x.shape(scores), x.dtype(scores));
    let [batch, _, plane @ ..] = &shape[..] else { return Err(no_classes(x, scores)) };
    let places = [std::slice::from_ref(batch), plane].concat();
    let labels = x.input(1)?;
    let mut labels = x.with_dims(labels, &places)?;
    if x.shape(labels) != places {
        let (scores, labels) = (x.ty(scores), x.ty(labels));
        let message = format!("labels {labels} are not one for each place of scores {scores}");
        return Err(Fault::malformed(message));
    }
    let ignored = match x.int("ignore_index")? {
        Some(index) => {
            let index = Tensor::scalar(index);
            let index = x.constant(index.map_err(|error| Fault::malformed(error.to_string()))?);
            let wide = x.cast(labels, DType::I64)?;
            let ignored = x.binary(BinaryFn::Equal, wide, index)?;
            let zero = x.scalar(x.dtype(labels), 0.0)?;
            // Any class will do where it does not count.
            labels = x.select(ignored, zero, labels)?;
            Some(ignored)
        }
        None => None,
    };
    x.inside(labels, std::slice::from_ref(&shape[1]))?;
    let weights = weights(x, labels, &shape[1], ignored, dtype)?;
    let index = x.reshape(labels, [&[batch.clone(), Dim::from(1i64)], plane].concat())?;
    let chosen = x.add(op::GatherElements { axis: 1 }, &[scores, index])?;
    let chosen = x.reshape(chosen, places)?;
    let mut loss = x.unary(UnaryFn::Neg, chosen)?;
    if let Some(weights) = weights {
        let weighted = x.binary(BinaryFn::Mul, weights, loss)?;
        loss = match ignored {
            // An infinite score does not count either.
            Some(ignored) => {
                let zero = x.scalar(dtype, 0.0)?;
                x.select(ignored, zero, weighted)?
            }
            None => weighted,
        };
    }
    let axes: Vec<usize> = (0..x.rank(loss)).collect();
    let sum = |x: &mut Use<'_, '_, '_>, v| x.reduce(ReduceFn::Sum, v, axes.clone(), false);
    match (x.string_or("reduction", "mean")?, weights) {
        ("none", _) => Ok(loss),
        ("sum", _) => sum(x, loss),
        ("mean", None) => x.reduce(ReduceFn::Mean, loss, axes, false),
        ("mean", Some(weights)) => {
            let (total, weight) = (sum(x, loss)?, sum(x, weights)?);
            x.binary(BinaryFn::Div, total, weight)
        }
        (other, _) => Err(Fault::malformed(format!("reduction `{other}` is not known"))),
    }
}
