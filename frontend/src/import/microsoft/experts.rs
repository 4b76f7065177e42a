//! Mixtures of experts: each token goes through the few experts that its router prefers.
//!
//! Invariant: every expert sees every token, and what is not preferred weighs nothing; so all is
//! one contraction over experts, of sizes that are known.

use super::super::fault::Fault;
use super::super::node::Use;
use super::super::operator::{Entry, microsoft};
use super::super::shape::counted;
use super::Results;
use super::blocks::{repeated, unpacked};
use crate::import::attention::part;
use crate::import::build::V;
use crate::import::contraction::contract;
use kiln_ir::op::{self, BinaryFn, ReduceFn, UnaryFn};
use kiln_tensor::{DType, Dim};

pub(super) const OPERATORS: &[Entry] = &[microsoft("MoE", plain), microsoft("QMoE", quantised)];

/// The layers of all experts: `[experts, out, in]`, and biases `[experts, out]`.
struct Layers {
    weights: [V; 2],
    biases: [Option<V>; 2],
    /// A gate of its own.
    third: Option<(V, Option<V>)>,
}

fn plain(x: &mut Use<'_, '_, '_>) -> Results {
    let third = x.optional(6).map(|weights| (weights, x.optional(7)));
    let weights = [x.input(2)?, x.input(4)?];
    let layers = Layers { weights, biases: [x.optional(3), x.optional(5)], third };
    let normal = x.flag("normalize_routing_weights", false)?;
    mixture(x, &layers, None, normal)
}

/// Weights in numbers of few bits, with a scale for each row or each block of it.
fn quantised(x: &mut Use<'_, '_, '_>) -> Results {
    let kind = x.string_or("quant_type", "int")?;
    if kind != "int" || x.int_or("weights_prepacked", -1)? == 1 {
        let help = "quantise the experts to integers, and leave weights_prepacked out";
        return Err(Fault::unsupported(format!("experts quantised as `{kind}`"), help));
    }
    let all = x.int_or("expert_weight_bits", 4)?;
    let mut weights = Vec::with_capacity(3);
    let layers = [("fc1_expert_weight_bits", 2, 11), ("fc2_expert_weight_bits", 5, 12)];
    for (name, number, zeros) in layers.into_iter().chain([("fc3_expert_weight_bits", 8, 13)]) {
        let bits = x.int_or(name, all)?;
        if number != 8 || x.optional(8).is_some() {
            weights.push(numbers(x, number, zeros, bits)?);
        }
    }
    let third = weights.get(2).map(|&weights| (weights, x.optional(10)));
    let weights = [weights[0], weights[1]];
    let layers = Layers { weights, biases: [x.optional(4), x.optional(7)], third };
    let shares = x.optional(14);
    // ONNX Runtime's CPU provider always shares among those chosen, unless it is given the shares.
    let normal = shares.is_none() || x.flag("normalize_routing_weights", false)?;
    mixture(x, &layers, shares, normal)
}

/// The weights that input `number` holds and the next scales, in f32.
fn numbers(x: &mut Use<'_, '_, '_>, number: usize, zeros: usize, bits: i64) -> Result<V, Fault> {
    let (packed, scales) = (x.input(number)?, x.input(number + 1)?);
    let block = x.int_or("block_size", 0)?;
    let width = x.shape(packed).last().cloned().unwrap_or_default();
    if x.rank(packed) != 3 || !matches!(bits, 2 | 4 | 8) {
        let ty = x.ty(packed);
        return Err(Fault::unsupported(format!("{bits} bits out of {ty}"), "use 2, 4 or 8 bits"));
    }
    let depth = width * Dim::from(8 / bits);
    let values = unpacked(x, packed, bits, &depth)?;
    let values = x.cast(values, DType::F32)?;
    let shape = x.shape(scales);
    let spread = |x: &mut Use<'_, '_, '_>, v: V| {
        let v = x.cast(v, DType::F32)?;
        match shape.len() {
            3 => repeated(x, v, 2, block.max(1), &depth),
            _ => {
                let shape = [x.shape(v), vec![Dim::from(1i64)]].concat();
                x.reshape(v, shape)
            }
        }
    };
    let zeros = match x.optional(zeros) {
        Some(zeros) => {
            let count = shape.last().cloned().unwrap_or_default();
            let zeros = unpacked(x, zeros, bits, &count)?;
            spread(x, zeros)?
        }
        None => x.scalar(DType::F32, f64::from(1 << (bits - 1)))?,
    };
    let centred = x.binary(BinaryFn::Sub, values, zeros)?;
    let scales = spread(x, scales)?;
    x.binary(BinaryFn::Mul, centred, scales)
}

/// The share of each expert in each token `[tokens, experts]`: that of the `k` greatest, which sum
/// to 1 if `normal`, else 0.
fn routed(x: &mut Use<'_, '_, '_>, router: V, shares: Option<V>, normal: bool) -> Result<V, Fault> {
    let shape = x.shape(router);
    let [_, experts] = &shape[..] else {
        return Err(Fault::malformed("the router's numbers must be a matrix"));
    };
    if x.flag("use_sparse_mixer", false)? {
        return Err(Fault::unsupported("the sparse mixer", "export with use_sparse_mixer 0"));
    }
    let number = counted(x, experts.clone(), 1, 2)?;
    let hidden = x.scalar(x.dtype(router), f64::NEG_INFINITY)?;
    let (mut rest, mut chosen) = (router, None);
    let k = x.int_or("k", 1)?;
    if !(1..=64).contains(&k) {
        return Err(Fault::unsupported(format!("{k} experts for each token"), "use 1 to 64"));
    }
    if experts.as_const().is_some_and(|experts| k > experts) {
        return Err(Fault::malformed(format!("`k` asks for {k} of {experts} experts")));
    }
    for _ in 0..k {
        let greatest = op::ArgReduce { f: ReduceFn::Max, axis: 1, keep: true, last: false };
        let place = x.add(greatest, &[rest])?;
        let here = x.binary(BinaryFn::Equal, number, place)?;
        rest = x.select(here, hidden, rest)?;
        chosen = Some(match chosen {
            None => here,
            Some(chosen) => x.binary(BinaryFn::Or, chosen, here)?,
        });
    }
    let Some(chosen) = chosen else { return Err(Fault::Silent) };
    let shares = match shares {
        Some(shares) => shares,
        None => x.add(op::Softmax { axis: 1 }, &[router])?,
    };
    let none = x.scalar(x.dtype(shares), 0.0)?;
    let kept = x.select(chosen, shares, none)?;
    if !normal {
        return Ok(kept);
    }
    let sum = x.reduce(ReduceFn::Sum, kept, vec![1], true)?;
    x.binary(BinaryFn::Div, kept, sum)
}

/// The value without what lies beyond a limit on either side.
fn limited(x: &mut Use<'_, '_, '_>, v: V, limit: Option<f64>, below: bool) -> Result<V, Fault> {
    let Some(limit) = limit else { return Ok(v) };
    let v = x.with_number(BinaryFn::Min, v, limit)?;
    if below { x.with_number(BinaryFn::Max, v, -limit) } else { Ok(v) }
}

/// What stands between the layers; `SwiGLU` takes a gate and what it lets through.
fn between(x: &mut Use<'_, '_, '_>, v: V, third: Option<V>) -> Result<V, Fault> {
    match x.string_or("activation_type", "relu")? {
        "relu" => x.unary(UnaryFn::Relu, v),
        "gelu" => x.unary(UnaryFn::GeluTanh, v),
        "silu" => {
            let gate = x.unary(UnaryFn::Silu, v)?;
            third.map_or(Ok(gate), |third| x.binary(BinaryFn::Mul, gate, third))
        }
        "identity" => Ok(v),
        "swiglu" => {
            let half = x.shape(v)[2].floor_div(&Dim::from(2i64));
            let zero = Dim::from(0i64);
            let (gate, linear) = match (x.int_or("swiglu_fusion", 0)?, third) {
                (0, Some(third)) => (v, third),
                (1, None) => {
                    (part(x, v, zero, half.clone(), 2)?, part(x, v, Dim::from(1i64), half, 2)?)
                }
                (2, None) => {
                    (part(x, v, zero, half.clone(), 1)?, part(x, v, half.clone(), half, 1)?)
                }
                (other, _) => {
                    let message = format!("swiglu_fusion {other} with these inputs");
                    return Err(Fault::unsupported(message, "use 1 or 2 without fc3"));
                }
            };
            let limit = x.float("swiglu_limit")?;
            let (alpha, beta) =
                (x.float_or("activation_alpha", 1.0)?, x.float_or("activation_beta", 0.0)?);
            let after = x.flag("swiglu_limit_after_activation", false)?;
            let gate = if after { gate } else { limited(x, gate, limit, false)? };
            let linear = limited(x, linear, limit, true)?;
            let scaled = x.with_number(BinaryFn::Mul, gate, alpha)?;
            let open = x.unary(UnaryFn::Sigmoid, scaled)?;
            let mut gate = x.binary(BinaryFn::Mul, gate, open)?;
            if after {
                gate = limited(x, gate, limit, false)?;
            }
            let linear = x.with_number(BinaryFn::Add, linear, beta)?;
            x.binary(BinaryFn::Mul, gate, linear)
        }
        other => Err(Fault::unsupported(format!("activation `{other}`"), "use relu or swiglu")),
    }
}

/// `[tokens, in]` through a layer of each expert: `[tokens, experts, out]`.
fn layer(
    x: &mut Use<'_, '_, '_>,
    v: V,
    weights: V,
    bias: Option<V>,
    spec: &str,
) -> Result<V, Fault> {
    let dtype = x.dtype(v);
    let weights = x.cast(weights, dtype)?;
    let spec = spec.parse().map_err(|error: String| Fault::malformed(error))?;
    let result = contract(x, v, weights, spec)?;
    let Some(bias) = bias else { return Ok(result) };
    let bias = x.cast(bias, dtype)?;
    x.binary(BinaryFn::Add, result, bias)
}

fn mixture(x: &mut Use<'_, '_, '_>, layers: &Layers, shares: Option<V>, normal: bool) -> Results {
    let (operand, router) = (x.input(0)?, x.input(1)?);
    let (shape, dtype) = (x.shape(operand), x.dtype(operand));
    let Some((width, outer)) = shape.split_last() else {
        return Err(Fault::malformed("the operand must be tokens and their width"));
    };
    let tokens: Dim = outer.iter().cloned().product();
    let flat = x.reshape(operand, vec![tokens.clone(), width.clone()])?;
    let wide = x.cast(flat, DType::F32)?;
    let router = x.with_dim(router, 0, &tokens)?;
    let router = x.cast(router, DType::F32)?;
    let shares = shares.map(|shares| x.cast(shares, DType::F32)).transpose()?;
    let shares = routed(x, router, shares, normal)?;
    let [first, second] = layers.weights;
    let hidden = layer(x, wide, first, layers.biases[0], "tk,enk->ten")?;
    let third = match layers.third {
        Some((weights, bias)) => Some(layer(x, wide, weights, bias, "tk,enk->ten")?),
        None => None,
    };
    let hidden = between(x, hidden, third)?;
    let each = layer(x, hidden, second, layers.biases[1], "tek,enk->ten")?;
    let spec = "te,ten->tn".parse().map_err(|error: String| Fault::malformed(error))?;
    let result = contract(x, shares, each, spec)?;
    let result = x.cast(result, dtype)?;
    Ok(vec![x.reshape(result, shape)?])
}
