//! The operators of the domain `com.microsoft`, as exporters and ONNX Runtime's own tools write
//! them.
//!
//! Invariant: each is composed as ONNX Runtime's CPU provider computes it; where that refuses what
//! its documentation allows, the documentation counts.

mod attention;
mod blocks;
mod contraction;
mod convolution;
mod crops;
mod embedding;
mod experts;
mod group_query;
mod inverse;
mod masks;
mod movement;
mod normalisation;
mod quantisation;
mod quantised_cache;
mod recurrent;
mod reduction;

use super::build::V;
use super::fault::Fault;
use super::node::Use;
use super::operator::Entry;
use kiln_ir::op::{BinaryFn, UnaryFn};

type Results = Result<Vec<V>, Fault>;

/// The operators of each family.
pub(super) fn families() -> Vec<&'static [Entry]> {
    vec![
        attention::OPERATORS,
        blocks::OPERATORS,
        contraction::OPERATORS,
        convolution::OPERATORS,
        crops::OPERATORS,
        embedding::OPERATORS,
        experts::OPERATORS,
        group_query::OPERATORS,
        inverse::OPERATORS,
        movement::OPERATORS,
        normalisation::OPERATORS,
        quantisation::OPERATORS,
        recurrent::OPERATORS,
        reduction::OPERATORS,
    ]
}

/// The activation that a fused operator ends with: `name` and what it is parametrised with.
fn activated(x: &mut Use<'_, '_, '_>, v: V, name: &str, parameters: &[f64]) -> Result<V, Fault> {
    let parameter = |number: usize| {
        let missing = || Fault::malformed(format!("{name} lacks parameter {number}"));
        parameters.get(number).copied().ok_or_else(missing)
    };
    match name {
        "" => Ok(v),
        "Relu" => x.unary(UnaryFn::Relu, v),
        "Sigmoid" => x.unary(UnaryFn::Sigmoid, v),
        "Tanh" => x.unary(UnaryFn::Tanh, v),
        "LeakyRelu" => {
            let below = x.with_number(BinaryFn::Mul, v, parameter(0)?)?;
            let negative = x.with_number(BinaryFn::Less, v, 0.0)?;
            x.select(negative, below, v)
        }
        "Clip" => {
            let above = x.with_number(BinaryFn::Max, v, parameter(0)?)?;
            x.with_number(BinaryFn::Min, above, parameter(1)?)
        }
        "HardSigmoid" => {
            let scaled = x.with_number(BinaryFn::Mul, v, parameter(0)?)?;
            let shifted = x.with_number(BinaryFn::Add, scaled, parameter(1)?)?;
            let above = x.with_number(BinaryFn::Max, shifted, 0.0)?;
            x.with_number(BinaryFn::Min, above, 1.0)
        }
        other => Err(Fault::malformed(format!("activation `{other}` is not known"))),
    }
}
