//! Core operations that exporters write out as many small ones.
//!
//! Invariant: a rule checks every attribute that the written-out form could have differently (axes,
//! kept dimensions, constants), so that what it finds is that operation and nothing near it.

use super::attention;
use crate::egraph::build::{add, binary, mul, reshape, shape, ty, unary};
use crate::egraph::language::{TensorGraph, add_op};
use crate::egraph::rule::{Class, Replacement, Rule, Theme};
use egg::Id;
use kiln_ir::op::{BinaryFn, Normalize, Op, Reduce, ReduceFn, Softmax, UnaryFn};
use kiln_tensor::Dim;

fn rule(name: &'static str, left: &str, right: Replacement) -> Rule {
    Rule::new(name, Theme::Recognise, Class::Reassociating, left, right)
}

/// x/√2 as PyTorch, TensorFlow and Paddle write it.
const ERF: &str = "(erf (or (div ?x 1.4142135623730951) (mul ?x 0.7071067811865476)))";
/// √(2/π)·(x + 0.044715·x³)
const TANH: &str = "(tanh (or
    (mul 0.7978845608028654 (add ?x (mul 0.044715 (or (pow ?x 3) (mul ?x (mul ?x ?x))))))
    (mul 0.7978845608028654 (add ?x (mul (mul 0.044715 ?x) (mul ?x ?x))))
    (mul (mul 0.7978845608028654 ?x) (add 1 (mul 0.044715 (or (pow ?x 2) (mul ?x ?x)))))
    (mul (mul 0.7978845608028654 ?x) (add 1 (mul (mul 0.044715 ?x) ?x)))
    (mul ?x (mul 0.7978845608028654 (add 1 (mul 0.044715 (or (pow ?x 2) (mul ?x ?x))))))))";

/// x·(1 + f)/2 with the half in any place.
fn half(f: &str) -> String {
    format!(
        "(or (mul (mul ?x (add {f} 1)) 0.5)
             (mul (mul ?x 0.5) (add {f} 1))
             (mul ?x (mul (add {f} 1) 0.5))
             (mul ?x (add (mul {f} 0.5) 0.5)))"
    )
}

pub(super) fn rules() -> Vec<Rule> {
    vec![
        // x·(1 + erf(x/√2))/2 = gelu(x)
        rule("gelu", &half(ERF), |g, m| unary(g, UnaryFn::Gelu, m.class("x")?)),
        // x·(1 + tanh(√(2/π)(x + 0.044715x³)))/2 = gelu_tanh(x)
        rule("gelu-tanh", &half(TANH), |g, m| unary(g, UnaryFn::GeluTanh, m.class("x")?)),
        // x·sigmoid(x) = silu(x)
        rule("silu", "(mul ?x (sigmoid ?x))", |g, m| unary(g, UnaryFn::Silu, m.class("x")?)),
        // exp(y)/Σexp(y) = softmax(y)
        rule(
            "softmax",
            "(or (div (exp ?y) (Reduce@r (exp ?y)))
                 (mul (exp ?y) (reciprocal (Reduce@r (exp ?y)))))",
            |g, m| {
                let axis = kept_axis(m.op(g, "r")?, ReduceFn::Sum)?;
                add_op(g, Softmax { axis }, &[m.class("y")?])
            },
        ),
        // softmax(y − max y) = softmax(y)
        rule("softmax-shift", "(Softmax@s (sub ?y (Reduce@r ?y)))", |g, m| {
            let Op::Softmax(softmax) = m.op(g, "s")?.clone() else { return None };
            let same = kept_axis(m.op(g, "r")?, ReduceFn::Max)? == softmax.axis;
            same.then(|| add_op(g, softmax, &[m.class("y")?])).flatten()
        }),
        // x·rsqrt(mean(x²) + ε) = rms_normalise(x)
        rule("rms-norm", "(mul ?x (rsqrt (add (Reduce@r (mul ?x ?x)) #e)))", |g, m| {
            let x = m.class("x")?;
            let axis = trailing_mean(m.op(g, "r")?, ty(g, x).rank())?;
            let epsilon = m.scalar("e")?;
            add_op(g, Normalize { axis, epsilon, center: false }, &[x])
        }),
        // rms_normalise(x − mean(x)) = normalise(x)
        rule("layer-norm", "(Normalize@n (sub ?x (Reduce@r ?x)))", |g, m| {
            let x = m.class("x")?;
            let Op::Normalize(plain) = m.op(g, "n")?.clone() else { return None };
            let axis = trailing_mean(m.op(g, "r")?, ty(g, x).rank())?;
            let same = axis == plain.axis && !plain.center;
            same.then(|| add_op(g, Normalize { center: true, ..plain }, &[x])).flatten()
        }),
        // normalise(x)·s = normalise(x, s), s of the normalised dimensions
        rule("norm-scale", "(mul (Normalize@n ?x) ?s)", |g, m| {
            let x = m.class("x")?;
            let Op::Normalize(norm) = m.op(g, "n")?.clone() else { return None };
            let scale = of_normalised(g, x, norm.axis, m.class("s")?)?;
            add_op(g, norm, &[x, scale])
        }),
        // normalise(x, s) + b = normalise(x, s, b), b of the normalised dimensions
        rule("norm-bias", "(add (Normalize@n ?x ?s) ?b)", |g, m| {
            let x = m.class("x")?;
            let Op::Normalize(norm) = m.op(g, "n")?.clone() else { return None };
            let bias = of_normalised(g, x, norm.axis, m.class("b")?)?;
            add_op(g, norm, &[x, m.class("s")?, bias])
        }),
        // d·(rsqrt(v)·s) = (d·rsqrt(v))·s
        rule("split-norm-factor", "(mul ?d (mul (rsqrt ?v) ?s:const))", |g, m| {
            let root = unary(g, UnaryFn::Rsqrt, m.class("v")?)?;
            let normal = mul(g, m.class("d")?, root)?;
            mul(g, normal, m.class("s")?)
        }),
        // x·s + (b − mean(x)·s) = (x − mean(x))·s + b, as TensorFlow writes a normalisation
        rule("collect-centre", "(add (mul ?x ?s) (sub ?b (mul (Reduce@r ?x) ?s)))", |g, m| {
            let x = m.class("x")?;
            let Op::Reduce(reduce) = m.op(g, "r")?.clone() else { return None };
            trailing_mean(&reduce.clone().into(), ty(g, x).rank())?;
            let mean = add_op(g, reduce, &[x])?;
            let centred = binary(g, BinaryFn::Sub, x, mean)?;
            let scaled = mul(g, centred, m.class("s")?)?;
            add(g, scaled, m.class("b")?)
        }),
        // softmax(q·kᵀ·scale + mask)·v = attention(q, k, v, mask)
        rule("attention", &attention::pattern(), attention::recognise),
        // attention(q, repeat(k), repeat(v)) = attention(q, k, v), heads in groups
        rule("shared-heads", "(Attention@a ...)", attention::share),
    ]
}

/// The axis of a reduction along one dimension that stays.
fn kept_axis(op: &Op, f: ReduceFn) -> Option<usize> {
    match op {
        Op::Reduce(Reduce { f: found, axes, keep: true }) if *found == f => match axes.as_slice() {
            &[axis] => Some(axis),
            _ => None,
        },
        _ => None,
    }
}

/// The first axis of a mean over the last dimensions, which stay.
fn trailing_mean(op: &Op, rank: usize) -> Option<usize> {
    match op {
        Op::Reduce(Reduce { f: ReduceFn::Mean, axes, keep: true }) => {
            let first = *axes.first()?;
            axes.iter().copied().eq(first..rank).then_some(first)
        }
        _ => None,
    }
}

/// A scale or bias with exactly the normalised dimensions, if it has them but for leading ones.
fn of_normalised(egraph: &mut TensorGraph, x: Id, axis: usize, operand: Id) -> Option<Id> {
    let wanted: Vec<Dim> = shape(egraph, x).split_off(axis);
    let dims = shape(egraph, operand);
    let leading = dims.len().checked_sub(wanted.len())?;
    let fits = dims[..leading].iter().all(|dim| dim.is(1)) && dims[leading..] == wanted;
    fits.then(|| reshape(egraph, operand, wanted)).flatten()
}
