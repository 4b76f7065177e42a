//! Numbers of dimensions that the standard asks of inputs where an importer could do with others.
//!
//! Invariant: what stands here is refused by the shape inference of ONNX or, for its own operators, of
//! ONNX Runtime, too; it is a rule of the operator and no limit of the importer.

use super::build::{Builder, V};
use super::fault::Fault;
use crate::report::Site;

/// Domain and operator, the first version that the rule is of, input, least and most dimensions.
const RANKS: &[(&str, &str, i64, usize, usize, usize)] = &[
    // Before, statistics could be of every place.
    ("ai.onnx", "BatchNormalization", 9, 1, 1, 1),
    ("ai.onnx", "BatchNormalization", 9, 2, 1, 1),
    ("ai.onnx", "BatchNormalization", 9, 3, 1, 1),
    ("ai.onnx", "BatchNormalization", 9, 4, 1, 1),
    ("ai.onnx", "CausalConvWithState", 1, 2, 1, 1),
    ("ai.onnx", "Compress", 1, 0, 1, usize::MAX),
    ("ai.onnx", "ConstantOfShape", 1, 0, 1, 1),
    ("ai.onnx", "Expand", 1, 1, 1, 1),
    ("ai.onnx", "EyeLike", 1, 0, 2, 2),
    ("ai.onnx", "OneHot", 1, 0, 1, usize::MAX),
    ("ai.onnx", "Reshape", 5, 1, 1, 1),
    ("ai.onnx", "ReverseSequence", 1, 1, 1, 1),
    ("ai.onnx", "TensorScatter", 1, 2, 1, 1),
    ("ai.onnx.ml", "TreeEnsemble", 1, 0, 2, 2),
    ("com.microsoft", "BiasSplitGelu", 1, 0, 3, 3),
    ("com.microsoft", "BiasSplitGelu", 1, 1, 1, 1),
    ("com.microsoft", "EmbedLayerNormalization", 1, 1, 2, 2),
    ("com.microsoft", "GroupQueryAttention", 1, 3, 4, 4),
    ("com.microsoft", "GroupQueryAttention", 1, 4, 4, 4),
    ("com.microsoft", "MultiHeadAttention", 1, 3, 1, 1),
    ("com.microsoft", "SkipLayerNormalization", 1, 0, 1, usize::MAX),
    ("com.microsoft", "SkipSimplifiedLayerNormalization", 1, 0, 1, usize::MAX),
];

/// An error unless each input has as many dimensions as it must.
pub(super) fn check(site: &Site, inputs: &[Option<V>], build: &Builder) -> Result<(), Fault> {
    let rules = RANKS.iter().filter(|(domain, name, since, ..)| {
        *domain == site.domain && *name == site.op && *since <= site.opset
    });
    for &(_, _, _, input, least, most) in rules {
        let Some(v) = inputs.get(input).copied().flatten() else { continue };
        let ty = build.ty(v);
        if !(least..=most).contains(&ty.rank()) {
            let must = if least == most { "" } else { "at least " };
            let message = format!("input {input} must have {must}{least} dimensions, but is {ty}");
            return Err(Fault::malformed(message));
        }
    }
    Ok(())
}
