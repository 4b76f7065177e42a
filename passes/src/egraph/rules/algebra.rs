//! Arithmetic with constants, moved into weights and so to compile time; simpler functions for
//! powers and quotients.
//!
//! Invariant: what a rule adds on constants alone is folded afterwards and costs nothing at run time.

use crate::egraph::build::{add, mul, reshape, shape, transpose, ty, unary};
use crate::egraph::language::{TensorGraph, add_op};
use crate::egraph::magnitude::{Magnitude, invertible};
use crate::egraph::pattern::Match;
use crate::egraph::rule::{Class, Replacement, Rule, Theme};
use egg::{Id, Language};
use kiln_ir::op::{BinaryFn, ConvLayout, Op, ReduceFn, UnaryFn};
use kiln_tensor::Dim;

fn exact(name: &'static str, left: &str, right: Replacement) -> Rule {
    Rule::new(name, Theme::Algebra, Class::Exact, left, right)
}

fn rounding(name: &'static str, left: &str, right: Replacement) -> Rule {
    Rule::new(name, Theme::Algebra, Class::Reassociating, left, right)
}

pub(super) fn rules() -> Vec<Rule> {
    vec![
        // max(x, 0) = relu(x)
        exact("max-zero-is-relu", "(max ?x 0)", |g, m| unary(g, UnaryFn::Relu, m.class("x")?)),
        // x − c = x + (−c)
        exact("subtract-constant", "(sub ?x ?c:const)", |g, m| {
            float(g, m.class("x")?)?;
            let negative = unary(g, UnaryFn::Neg, m.class("c")?)?;
            add(g, m.class("x")?, negative)
        }),
        // x/c = x·(1/c), where 1/c is moderate
        rounding("divide-by-constant", "(div ?x ?c:const)", |g, m| {
            let c = m.class("c")?;
            several(g, m.class("x")?)?;
            g[c].data.value.as_ref().filter(|value| invertible(value))?;
            let inverse = unary(g, UnaryFn::Reciprocal, c)?;
            mul(g, m.class("x")?, inverse)
        }),
        // 1/x = reciprocal(x)
        exact("one-over", "(div 1 ?x)", |g, m| unary(g, UnaryFn::Reciprocal, m.class("x")?)),
        // x² = x·x
        rounding("square", "(pow ?x 2)", |g, m| mul(g, m.class("x")?, m.class("x")?)),
        // x³ = x·(x·x)
        rounding("cube", "(pow ?x 3)", |g, m| {
            let square = mul(g, m.class("x")?, m.class("x")?)?;
            mul(g, m.class("x")?, square)
        }),
        // x^½ = √x, where x ≥ 0: of −∞ and −0 they differ
        rounding("power-of-half", "(pow ?x 0.5)", |g, m| {
            never_negative(g, m.class("x")?, MOST_STEPS)?;
            unary(g, UnaryFn::Sqrt, m.class("x")?)
        }),
        // 1/√x = rsqrt(x)
        rounding("reciprocal-of-root", "(reciprocal (sqrt ?x))", |g, m| {
            unary(g, UnaryFn::Rsqrt, m.class("x")?)
        }),
        // x^(−½) = rsqrt(x), where x ≥ 0
        rounding("power-of-minus-half", "(pow ?x -0.5)", |g, m| {
            float(g, m.class("x")?)?;
            never_negative(g, m.class("x")?, MOST_STEPS)?;
            unary(g, UnaryFn::Rsqrt, m.class("x")?)
        }),
        // a/√x = a·rsqrt(x)
        rounding("divide-by-root", "(div ?a (sqrt ?x))", |g, m| {
            let inverse = unary(g, UnaryFn::Rsqrt, m.class("x")?)?;
            mul(g, m.class("a")?, inverse)
        }),
        // 1/(1 + exp(−x)) = sigmoid(x)
        rounding(
            "logistic",
            "(or (reciprocal (add (exp (neg ?x)) 1)) (div 1 (add (exp (neg ?x)) 1)))",
            |g, m| unary(g, UnaryFn::Sigmoid, m.class("x")?),
        ),
        // (x·a)·b = x·(a·b), where a and b are moderate
        rounding("merge-factors", "(mul (mul ?x ?a:const) ?b:const)", |g, m| {
            float(g, m.class("x")?)?;
            several(g, m.class("x")?)?;
            at_least(g, m.class("a")?, Magnitude::Moderate)?;
            at_least(g, m.class("b")?, Magnitude::Moderate)?;
            let both = mul(g, m.class("a")?, m.class("b")?)?;
            mul(g, m.class("x")?, both)
        }),
        // (x + a) + b = x + (a + b), where a and b are bounded
        rounding("merge-terms", "(add (add ?x ?a:const) ?b:const)", |g, m| {
            float(g, m.class("x")?)?;
            several(g, m.class("x")?)?;
            at_least(g, m.class("a")?, Magnitude::Bounded)?;
            at_least(g, m.class("b")?, Magnitude::Bounded)?;
            let both = add(g, m.class("a")?, m.class("b")?)?;
            add(g, m.class("x")?, both)
        }),
        // (y + b)·s = y·s + b·s, where y has weights that take s, b is bounded and s moderate
        rounding("distribute-scale", "(mul (add ?y ?b:const) ?s:const)", |g, m| {
            weighted(g, m.class("y")?)?;
            at_least(g, m.class("b")?, Magnitude::Bounded)?;
            at_least(g, m.class("s")?, Magnitude::Moderate)?;
            let scaled = mul(g, m.class("y")?, m.class("s")?)?;
            let bias = mul(g, m.class("b")?, m.class("s")?)?;
            add(g, scaled, bias)
        }),
        // conv(x, w)·s = conv(x, w·s), s by channel and moderate, w normal
        rounding("scale-into-convolution", "(mul (Conv@c ?x ?w:const) ?s:const)", |g, m| {
            let Op::Conv(conv) = m.op(g, "c")?.clone() else { return None };
            let rank = ty(g, m.class("x")?).rank();
            let first = conv.layout == ConvLayout::ChannelsFirst;
            let (channels, filters) = if first { (1, 0) } else { (rank - 1, rank - 1) };
            let scaled = scaled_weight(g, m, rank, channels, filters)?;
            add_op(g, conv, &[m.class("x")?, scaled])
        }),
        // conv_transpose(x, w)·s = conv_transpose(x, w·s), likewise, one group
        rounding(
            "scale-into-transposed-convolution",
            "(mul (ConvTranspose@c ?x ?w:const) ?s:const)",
            |g, m| {
                let Op::ConvTranspose(conv) = m.op(g, "c")?.clone() else { return None };
                let rank = ty(g, m.class("x")?).rank();
                if conv.groups != 1 {
                    return None;
                }
                let scaled = scaled_weight(g, m, rank, 1, 1)?;
                add_op(g, conv, &[m.class("x")?, scaled])
            },
        ),
        // contract(x, w)·s = contract(x, w·s), s along labels of w and moderate, w normal
        rounding("scale-into-contraction", "(mul (Contract@c ?x ?w:const) ?s:const)", |g, m| {
            let Op::Contract(contract) = m.op(g, "c")?.clone() else { return None };
            let (out, labels) = (&contract.spec.out, &contract.spec.rhs);
            let scale = along(g, m.class("s")?, out, labels)?;
            let scaled = scaled(g, m.class("w")?, scale)?;
            add_op(g, contract, &[m.class("x")?, scaled])
        }),
        // contract(w, x)·s = contract(w·s, x), likewise
        rounding("scale-into-left-operand", "(mul (Contract@c ?w:const ?x) ?s:const)", |g, m| {
            let Op::Contract(contract) = m.op(g, "c")?.clone() else { return None };
            let (out, labels) = (&contract.spec.out, &contract.spec.lhs);
            let scale = along(g, m.class("s")?, out, labels)?;
            let scaled = scaled(g, m.class("w")?, scale)?;
            add_op(g, contract, &[scaled, m.class("x")?])
        }),
    ]
}

/// Not of one element: that gains nothing, and is often a scale by which much is rounded, or a size.
fn several(egraph: &TensorGraph, id: Id) -> Option<()> {
    (!ty(egraph, id).elements().is(1)).then_some(())
}

fn float(egraph: &TensorGraph, id: Id) -> Option<()> {
    ty(egraph, id).dtype.is_float().then_some(())
}

/// Of a constant.
pub(super) fn at_least(egraph: &TensorGraph, id: Id, magnitude: Magnitude) -> Option<()> {
    (egraph[id].data.magnitude >= magnitude).then_some(())
}

/// Weights that are normal, times a scale that is moderate.
fn scaled(egraph: &mut TensorGraph, weight: Id, scale: Id) -> Option<Id> {
    at_least(egraph, weight, Magnitude::Normal)?;
    at_least(egraph, scale, Magnitude::Moderate)?;
    mul(egraph, weight, scale)
}

/// How far back a number's sign is looked for.
const MOST_STEPS: usize = 6;

/// Whether numbers are above zero or +0 for sure, as means of squares are.
fn never_negative(egraph: &TensorGraph, id: Id, steps: usize) -> Option<()> {
    let steps = steps.checked_sub(1)?;
    let is = |id: &Id| never_negative(egraph, *id, steps).is_some();
    let found = egraph[id].nodes.iter().any(|node| {
        let children = node.children();
        match egraph.analysis.op(node.op) {
            Some(Op::Constant(constant)) => {
                constant.tensor.to_f64().iter().all(|value| value.is_sign_positive())
            }
            Some(Op::Unary(unary)) => matches!(unary.f, UnaryFn::Abs | UnaryFn::Exp),
            Some(Op::Binary(binary)) => match binary.f {
                BinaryFn::Mul => children[0] == children[1],
                BinaryFn::Add => children.iter().all(is),
                _ => false,
            },
            Some(Op::Reduce(reduce)) => {
                matches!(reduce.f, ReduceFn::Sum | ReduceFn::Mean) && children.iter().all(is)
            }
            Some(Op::Reshape(_) | Op::Transpose(_) | Op::Broadcast(_)) => children.iter().all(is),
            _ => false,
        }
    });
    found.then_some(())
}

/// Whether a class has weights of its own, that a factor can go into.
fn weighted(egraph: &TensorGraph, id: Id) -> Option<()> {
    let found = egraph[id].nodes.iter().any(|node| {
        matches!(
            egraph.analysis.op(node.op),
            Some(Op::Conv(_) | Op::ConvTranspose(_) | Op::Contract(_))
        ) && node.children().iter().any(|&child| egraph[child].data.constant)
    });
    found.then_some(())
}

/// The weight of a convolution times a factor for each filter. `channels` is the dimension of the
/// result that the factor runs along, `filters` that of the weight.
fn scaled_weight(
    egraph: &mut TensorGraph,
    m: &Match,
    rank: usize,
    channels: usize,
    filters: usize,
) -> Option<Id> {
    let (weight, scale) = (m.class("w")?, m.class("s")?);
    let mut dims = shape(egraph, scale);
    let missing = rank.checked_sub(dims.len())?;
    dims.splice(0..0, vec![Dim::from(1i64); missing]);
    if dims.iter().enumerate().any(|(number, dim)| number != channels && !dim.is(1)) {
        return None;
    }
    let mut to = vec![Dim::from(1i64); rank];
    to[filters] = dims[channels].clone();
    let scale = reshape(egraph, scale, to)?;
    scaled(egraph, weight, scale)
}

/// A factor of a result with labels `out`, laid out to multiply an operand with `labels`.
fn along(egraph: &mut TensorGraph, scale: Id, out: &[u8], labels: &[u8]) -> Option<Id> {
    let dims = shape(egraph, scale);
    let offset = out.len().checked_sub(dims.len())?;
    // Labels that the factor runs along, in its own order and in that of the operand.
    let own: Vec<u8> =
        (0..dims.len()).filter(|&n| !dims[n].is(1)).map(|n| out[n + offset]).collect();
    let wanted: Vec<u8> = labels.iter().copied().filter(|label| own.contains(label)).collect();
    if wanted.len() != own.len() {
        return None;
    }
    let dense = dims.iter().filter(|dim| !dim.is(1)).cloned().collect();
    let scale = reshape(egraph, scale, dense)?;
    let perm = wanted.iter().filter_map(|label| own.iter().position(|o| o == label)).collect();
    let scale = transpose(egraph, scale, perm)?;
    let mut sizes = shape(egraph, scale).into_iter();
    let to = labels
        .iter()
        .map(|label| if own.contains(label) { sizes.next() } else { Some(Dim::from(1i64)) })
        .collect::<Option<Vec<_>>>()?;
    reshape(egraph, scale, to)
}
