//! Transposes and reshapes: moved, merged, absorbed into contractions, and chosen for convolutions.
//!
//! Invariant: no rule here changes a number; elements only change places. Transposes sink towards
//! the outputs, where they meet their inverses, and rise only to be absorbed by a contraction.

use super::relabel;
use crate::egraph::build::{reshape, shape, transpose, ty};
use crate::egraph::language::{TensorGraph, add_op};
use crate::egraph::pattern::Match;
use crate::egraph::rule::{Class, Replacement, Rule, Theme};
use crate::layout::{inverse, moves_channels, permuted, through};
use egg::Id;
use kiln_ir::op::{Assume, Concat, Contract, ContractSpec, Conv, ConvLayout, Op};
use kiln_tensor::Dim;

fn rule(name: &'static str, left: &str, right: Replacement) -> Rule {
    Rule::new(name, Theme::Layout, Class::Exact, left, right)
}

/// A rule whose sides sum in another order.
fn reordering(name: &'static str, left: &str, right: Replacement) -> Rule {
    Rule::new(name, Theme::Layout, Class::Reassociating, left, right)
}

pub(super) fn rules() -> Vec<Rule> {
    vec![
        // T(T'(x)) = T''(x)
        rule("merge-transposes", "(Transpose@a (Transpose@b ?x))", |g, m| {
            let (outer, inner) = (perm(g, m, "a")?, perm(g, m, "b")?);
            transpose(g, m.class("x")?, outer.iter().map(|&from| inner[from]).collect())
        }),
        // R(R'(x)) = R(x)
        rule("merge-reshapes", "(Reshape@a (Reshape@b ?x))", |g, m| {
            let Op::Reshape(outer) = m.op(g, "a")?.clone() else { return None };
            reshape(g, m.class("x")?, outer.shape)
        }),
        // f(T(x)) = T(f(x))
        rule("unary-above-transpose", "(Unary@f (Transpose@t ?x))", above),
        rule("cast-above-transpose", "(Cast@f (Transpose@t ?x))", above),
        // f(R(x)) = R(f(x))
        rule("unary-above-reshape", "(Unary@f (Reshape@r ?x))", |g, m| {
            let (f, to) = (m.op(g, "f")?.clone(), target(g, m)?);
            let done = add_op(g, f, &[m.class("x")?])?;
            reshape(g, done, to)
        }),
        // assume(T(x)) = T(assume'(x))
        rule("assume-above-transpose", "(Assume@f (Transpose@t ?x))", above),
        // T(assume(x)) = assume'(T(x))
        rule("assume-below-transpose", "(Transpose@t (Assume@f ?x))", |g, m| {
            let Op::Assume(assume) = m.op(g, "f")?.clone() else { return None };
            let perm = perm(g, m, "t")?;
            let moved = transpose(g, m.class("x")?, perm.clone())?;
            add_op(g, Assume { shape: permuted(&assume.shape, &perm) }, &[moved])
        }),
        // f(assume(x)) = assume(f(x))
        rule("unary-below-assume", "(Unary@f (Assume@a ?x))", |g, m| {
            let f = m.op(g, "f")?.clone();
            let done = add_op(g, f, &[m.class("x")?])?;
            let assume = m.op(g, "a")?.clone();
            add_op(g, assume, &[done])
        }),
        // f(assume(x), c) = assume(f(x, c)), c constant
        rule("binary-below-assume", "(Binary@f (Assume@a ?x) ?c:const)", |g, m| {
            let (f, x) = (m.op(g, "f")?.clone(), m.class("x")?);
            let done = add_op(g, f, &[x, m.class("c")?])?;
            if shape(g, done) != shape(g, x) {
                return None;
            }
            let assume = m.op(g, "a")?.clone();
            add_op(g, assume, &[done])
        }),
        // T(f(x)) = f(T(x))
        rule("unary-below-transpose", "(Transpose@t (Unary@f ?x))", |g, m| {
            let perm = perm(g, m, "t")?;
            let moved = transpose(g, m.class("x")?, perm)?;
            let f = m.op(g, "f")?.clone();
            add_op(g, f, &[moved])
        }),
        // f(T(a), b) = T(f(a, T⁻¹(b)))
        rule("binary-above-transpose", "(Binary@f (Transpose@t ?a) ?b)", |g, m| {
            sink_binary(g, m, false)
        }),
        // f(b, T(a)) = T(f(T⁻¹(b), a))
        rule("binary-above-right-transpose", "(Binary@f ?b (Transpose@t ?a))", |g, m| {
            sink_binary(g, m, true)
        }),
        // T(cast(x)) = cast(T(x)), where no more bytes are moved
        rule("cast-below-transpose", "(Transpose@t (Cast@f ?x))", |g, m| {
            let (perm, x) = (perm(g, m, "t")?, m.class("x")?);
            let Op::Cast(cast) = m.op(g, "f")?.clone() else { return None };
            let narrow = ty(g, x).dtype.size() <= cast.to.size();
            let moved = narrow.then(|| transpose(g, x, perm)).flatten()?;
            add_op(g, cast, &[moved])
        }),
        // T(f(a, c)) = f(T(a), T(c)), c constant
        rule("binary-below-transpose", "(Transpose@t (Binary@f ?a ?c:const))", |g, m| {
            let perm = perm(g, m, "t")?;
            let f = m.op(g, "f")?.clone();
            let a = aligned(g, m.class("a")?, perm.len())
                .and_then(|a| transpose(g, a, perm.clone()))?;
            let c = aligned(g, m.class("c")?, perm.len()).and_then(|c| transpose(g, c, perm))?;
            add_op(g, f, &[a, c])
        }),
        // pool(T(x)) = T(pool(x))
        reordering("window-above-transpose", "(WindowReduce@f (Transpose@t ?x))", above),
        // concat(a, T(b), …) = T(concat(T⁻¹(a), b, …))
        rule("concat-above-transpose", "(Concat@c ...)", |g, m| {
            let Op::Concat(concat) = m.op(g, "c")?.clone() else { return None };
            let parts = m.operands("c")?.to_vec();
            let perm = parts.iter().find_map(|&part| some_transpose(g, part))?;
            let back = inverse(&perm);
            let moved: Option<Vec<Id>> =
                parts.iter().map(|&part| transpose(g, part, back.clone())).collect();
            let joined = add_op(g, Concat { axis: perm[concat.axis] }, &moved?)?;
            transpose(g, joined, perm)
        }),
        // reduce(T(x)) = T'(reduce(x))
        reordering("reduce-above-transpose", "(Reduce@f (Transpose@t ?x))", above),
        // softmax(T(x)) = T(softmax(x))
        reordering("softmax-above-transpose", "(Softmax@f (Transpose@t ?x))", above),
        // resize(T(x)) = T(resize(x))
        reordering("resize-above-transpose", "(Resize@f (Transpose@t ?x))", above),
        // pad(T(x)) = T(pad(x))
        rule("pad-above-transpose", "(Pad@f (Transpose@t ?x) ?v)", |g, m| {
            let perm = perm(g, m, "t")?;
            let (pad, after) = through(m.op(g, "f")?, &perm)?;
            let padded = add_op(g, pad, &[m.class("x")?, m.class("v")?])?;
            transpose(g, padded, after)
        }),
        // slice(T(x)) = T(slice(x))
        rule("slice-above-transpose", "(Slice@f (Transpose@t ?x))", above),
        // contract(T(x), y) = contract'(x, y)
        reordering("transpose-into-left", "(Contract@c (Transpose@t ?x) ?y)", |g, m| {
            let (spec, perm) = (spec(g, m)?, perm(g, m, "t")?);
            not_of_image(&perm)?;
            let lhs = permuted(&spec.lhs, &inverse(&perm));
            add_op(
                g,
                Contract { spec: ContractSpec { lhs, ..spec } },
                &[m.class("x")?, m.class("y")?],
            )
        }),
        // contract(x, T(y)) = contract'(x, y)
        reordering("transpose-into-right", "(Contract@c ?x (Transpose@t ?y))", |g, m| {
            let (spec, perm) = (spec(g, m)?, perm(g, m, "t")?);
            varies(g, m.class("y")?)?;
            let rhs = permuted(&spec.rhs, &inverse(&perm));
            add_op(
                g,
                Contract { spec: ContractSpec { rhs, ..spec } },
                &[m.class("x")?, m.class("y")?],
            )
        }),
        // T(contract(x, y)) = contract'(x, y)
        rule("transpose-into-result", "(Transpose@t (Contract@c ?x ?y))", |g, m| {
            let (spec, perm) = (spec(g, m)?, perm(g, m, "t")?);
            not_of_image(&perm)?;
            let out = permuted(&spec.out, &perm);
            add_op(
                g,
                Contract { spec: ContractSpec { out, ..spec } },
                &[m.class("x")?, m.class("y")?],
            )
        }),
        // R(contract(x, y)) = contract'(R'(x), R''(y)), R splits dimensions
        rule("split-result", "(Reshape@r (Contract@c ?x ?y))", |g, m| {
            let (spec, to) = (spec(g, m)?, target(g, m)?);
            let dims = relabel::sizes(&spec, &shape(g, m.class("x")?), &shape(g, m.class("y")?))?;
            let splits = relabel::splits(&spec.out, &dims, &to, &spec)?;
            split(g, m, spec, &splits)
        }),
        // contract(R(x), y) = R'(contract'(x, R''(y))), R joins dimensions
        reordering("joined-left", "(Contract@c (Reshape@r ?x) ?y)", |g, m| {
            joined(g, m, m.class("x")?, true)
        }),
        // contract(x, R(y)) = R'(contract'(R''(x), y)), R joins dimensions
        reordering("joined-right", "(Contract@c ?x (Reshape@r ?y))", |g, m| {
            joined(g, m, m.class("y")?, false)
        }),
        // R(f(y, c)) = f(R(y), R'(c)), R splits dimensions, c constant
        rule("split-below-binary", "(Reshape@r (Binary@f ?y ?c:const))", |g, m| {
            let (y, to) = (m.class("y")?, target(g, m)?);
            let from = shape(g, y);
            let groups = relabel::groups(&to, &from)?;
            let c = aligned(g, m.class("c")?, from.len())?;
            let dims = shape(g, c);
            let mut split = Vec::new();
            for ((group, whole), dim) in groups.into_iter().zip(&from).zip(&dims) {
                if dim == whole {
                    split.extend(group);
                } else {
                    split.extend(vec![Dim::from(1i64); group.len()]);
                }
            }
            let f = m.op(g, "f")?.clone();
            let (y, c) = (reshape(g, y, to)?, reshape(g, c, split)?);
            add_op(g, f, &[y, c])
        }),
        // conv(x, w) = T⁻¹(conv'(T(x), T'(w))), from channels first to channels last
        reordering("channels-last", "(Conv@c ?x ?w:const)", |g, m| {
            let w = m.class("w")?;
            channels_last(g, m, w, |_, w| Some(w))
        }),
        // the same of weights that are small integers, which stay what is in memory
        reordering("channels-last-of-integers", "(Conv@c ?x (Cast@d ?w:const))", |g, m| {
            let (widening, w) = (m.op(g, "d")?.clone(), m.class("w")?);
            channels_last(g, m, w, |g, w| add_op(g, widening.clone(), &[w]))
        }),
        // conv(x, w) = contract(x, w), channels last, a filter of size 1 that visits every place
        reordering("pointwise-convolution", "(Conv@c ?x ?w)", |g, m| {
            let Op::Conv(conv) = m.op(g, "c")?.clone() else { return None };
            let spatial = conv.strides.len();
            let w = shape(g, m.class("w")?);
            let plain = conv.layout == ConvLayout::ChannelsLast
                && conv.groups == 1
                && conv.strides.iter().all(|&stride| stride == 1)
                && conv.before.iter().chain(&conv.after).all(|&amount| amount == 0)
                && w[..spatial].iter().all(|size| size.is(1));
            if !plain || spatial > 8 {
                return None;
            }
            let w = reshape(g, m.class("w")?, w[spatial..].to_vec())?;
            let places: Vec<u8> = b"abcdefghi"[..=spatial].to_vec();
            let with = |label: u8| [&places[..], &[label]].concat();
            let spec = ContractSpec { lhs: with(b'k'), rhs: b"kn".to_vec(), out: with(b'n') };
            add_op(g, Contract { spec }, &[m.class("x")?, w])
        }),
    ]
}

/// A convolution with its channels last, of weights that are transposed and then widened.
fn channels_last(
    g: &mut TensorGraph,
    m: &Match,
    w: Id,
    widened: impl Fn(&mut TensorGraph, Id) -> Option<Id>,
) -> Option<Id> {
    let Op::Conv(conv) = m.op(g, "c")?.clone() else { return None };
    if conv.layout != ConvLayout::ChannelsFirst {
        return None;
    }
    let rank = ty(g, m.class("x")?).rank();
    let to_last: Vec<usize> = [0].into_iter().chain(2..rank).chain([1]).collect();
    let filters: Vec<usize> = (2..rank).chain([1, 0]).collect();
    let x = transpose(g, m.class("x")?, to_last.clone())?;
    let w = transpose(g, w, filters)?;
    let w = widened(g, w)?;
    let done = add_op(g, Conv { layout: ConvLayout::ChannelsLast, ..conv }, &[x, w])?;
    transpose(g, done, inverse(&to_last))
}

fn perm(egraph: &TensorGraph, m: &Match, name: &str) -> Option<Vec<usize>> {
    match m.op(egraph, name)? {
        Op::Transpose(transpose) => Some(transpose.perm.clone()),
        _ => None,
    }
}

fn spec(egraph: &TensorGraph, m: &Match) -> Option<ContractSpec> {
    match m.op(egraph, "c")? {
        Op::Contract(contract) => Some(contract.spec.clone()),
        _ => None,
    }
}

fn target(egraph: &TensorGraph, m: &Match) -> Option<Vec<Dim>> {
    match m.op(egraph, "r")? {
        Op::Reshape(reshape) => Some(reshape.shape.clone()),
        _ => None,
    }
}

/// Nothing is gained by an operation that takes in what is done to a constant when the model is
/// compiled.
fn varies(egraph: &TensorGraph, id: Id) -> Option<()> {
    (!egraph[id].data.constant).then_some(())
}

/// A product of an image that has its channels first runs well enough, but what stands around it has
/// them last: such a transpose is left for its neighbours to cancel.
fn not_of_image(perm: &[usize]) -> Option<()> {
    (perm.len() < 4 || moves_channels(perm).is_none()).then_some(())
}

/// The permutation of some transpose in a class.
fn some_transpose(egraph: &TensorGraph, class: Id) -> Option<Vec<usize>> {
    egraph[class].nodes.iter().find_map(|node| match egraph.analysis.op(node.op)? {
        Op::Transpose(transpose) => Some(transpose.perm.clone()),
        _ => None,
    })
}

/// `f(T(x)) = T'(f'(x))`
fn above(egraph: &mut TensorGraph, m: &Match) -> Option<Id> {
    let perm = perm(egraph, m, "t")?;
    let (f, after) = through(m.op(egraph, "f")?, &perm)?;
    let done = add_op(egraph, f, &[m.class("x")?])?;
    transpose(egraph, done, after)
}

/// An operand that broadcasts, with all its dimensions written out.
fn aligned(egraph: &mut TensorGraph, x: Id, rank: usize) -> Option<Id> {
    let mut dims = shape(egraph, x);
    let missing = rank.checked_sub(dims.len())?;
    dims.splice(0..0, vec![Dim::from(1i64); missing]);
    reshape(egraph, x, dims)
}

fn sink_binary(egraph: &mut TensorGraph, m: &Match, right: bool) -> Option<Id> {
    let f = m.op(egraph, "f")?.clone();
    let perm = perm(egraph, m, "t")?;
    let a = m.class("a")?;
    let b = aligned(egraph, m.class("b")?, perm.len())?;
    let b = transpose(egraph, b, inverse(&perm))?;
    let operands = if right { [b, a] } else { [a, b] };
    let done = add_op(egraph, f, &operands)?;
    transpose(egraph, done, perm)
}

/// The contraction with split labels. An operand that has more dimensions than labels is split
/// already.
fn split(
    egraph: &mut TensorGraph,
    m: &Match,
    spec: ContractSpec,
    splits: &relabel::Splits,
) -> Option<Id> {
    let mut operand = |x: Id, labels: &[u8]| {
        let dims = shape(egraph, x);
        if dims.len() > labels.len() {
            return Some(x);
        }
        reshape(egraph, x, splits.shape(labels, &dims))
    };
    let (x, y) = (operand(m.class("x")?, &spec.lhs)?, operand(m.class("y")?, &spec.rhs)?);
    let spec = ContractSpec {
        lhs: splits.labels(&spec.lhs),
        rhs: splits.labels(&spec.rhs),
        out: splits.labels(&spec.out),
    };
    add_op(egraph, Contract { spec }, &[x, y])
}

/// The contraction on the operand `source` as it was before a reshape joined its dimensions.
fn joined(egraph: &mut TensorGraph, m: &Match, source: Id, left: bool) -> Option<Id> {
    varies(egraph, source)?;
    let spec = spec(egraph, m)?;
    let labels = if left { &spec.lhs } else { &spec.rhs };
    let (wholes, fine) = (target(egraph, m)?, shape(egraph, source));
    if fine.len() <= wholes.len() {
        return None;
    }
    let splits = relabel::splits(labels, &wholes, &fine, &spec)?;
    let other = shape(egraph, m.class(if left { "y" } else { "x" })?);
    let (x, y) = if left { (wholes, other) } else { (other, wholes) };
    let result = relabel::sizes(&spec, &x, &y)?;
    let done = split(egraph, m, spec, &splits)?;
    reshape(egraph, done, result)
}
