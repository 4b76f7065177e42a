//! Products of one operand with several weights as one product, whose columns they are.
//!
//! Invariant: every column is computed as before, from the same weights; what is joined is a constant, and
//! so is laid out when the model is compiled.
//!
//! The parts stay slices, which whatever reads them takes in: attention reads queries, keys and values
//! where one product has put them. Biases and reshapes move past the slices, so that they do not come
//! between.

use crate::egraph::build::{binary, reshape, shape, ty};
use crate::egraph::language::{TensorGraph, add_op};
use crate::egraph::pattern::Match;
use crate::egraph::rule::{Class, Replacement, Rule, Theme};
use crate::region::JOINT;
use egg::{Id, Language};
use kiln_ir::TensorType;
use kiln_ir::op::{BinaryFn, Broadcast, Concat, Constant, Op, Slice};
use kiln_tensor::{Dim, Tensor};
use std::collections::BTreeMap;
use std::sync::Arc;

/// More products than this are not joined: so many readers of one value are no layer's projections.
const MOST_PARTS: usize = 16;

fn exact(name: &'static str, left: &str, right: Replacement) -> Rule {
    Rule::new(name, Theme::Join, Class::Exact, left, right)
}

pub(super) fn rules() -> Vec<Rule> {
    vec![
        // contract(x, w₁) = the first columns of contract(x, [w₁ w₂ …]), and so for w₂ …
        exact("join-products", "(Contract@c ?x ?w:const)", join_products),
        // f(slice(x), c) = slice(f(x, [c₁ c₂ …])), where the slices of x beside it have it, too
        exact(
            "apply-to-joined",
            "(or (Binary@f (Slice@s ?x) ?c:const) (Binary@f ?c:const (Slice@s ?x)))",
            apply_to_joined,
        ),
        // slice(x) = slice(x + [… 0 …])
        exact("slice-past-neutral", "(Slice@s ?x)", slice_past_neutral),
        // reshape(slice(x)) = slice(reshape(x)), where whole parts of the dimension are sliced
        exact("reshape-before-slice", "(Reshape@r (Slice@s ?x))", reshape_before_slice),
    ]
}

fn join_products(egraph: &mut TensorGraph, m: &Match) -> Option<Id> {
    let Op::Contract(contract) = m.op(egraph, "c")?.clone() else { return None };
    let (x, own) = (m.class("x")?, egraph.find(m.class("w")?));
    let spec = &contract.spec;
    let column = spec.out.iter().find(|l| spec.rhs.contains(l) && !spec.lhs.contains(l))?;
    let within = spec.rhs.iter().position(|label| label == column)?;
    let across = spec.out.iter().position(|label| label == column)?;
    let fixed = |weight: Id| {
        let mut dims = shape(egraph, weight);
        let width = dims.remove(within);
        width.as_const().map(|width| (width, dims))
    };
    let (_, wanted) = fixed(own)?;
    let mut products: BTreeMap<Id, Id> = BTreeMap::new();
    for class in egraph[x].parents() {
        for node in &egraph[egraph.find(class)].nodes {
            let &[left, weight] = node.children() else { continue };
            let same = matches!(egraph.analysis.op(node.op), Some(Op::Contract(c)) if *c == contract)
                && egraph.find(left) == egraph.find(x);
            if same
                && egraph[weight].data.constant
                && !is_joined(egraph, weight)
                && fixed(weight).is_some_and(|(width, others)| width > 0 && others == wanted)
            {
                products.entry(egraph.find(weight)).or_insert(egraph.find(class));
            }
        }
    }
    if !products.contains_key(&own) || !(2..=MOST_PARTS).contains(&products.len()) {
        return None;
    }
    let weights: Vec<Id> = products.keys().copied().collect();
    let width = |weight: Id| shape(egraph, weight)[within].clone();
    let before = weights.iter().take_while(|&&weight| weight != own);
    let window = Window {
        dim: across,
        start: before.fold(Dim::default(), |end, &weight| end + width(weight)),
        width: width(own),
    };
    let joined = add_op(egraph, Concat { axis: within }, &weights)?;
    let origin = egraph.analysis.origin.take();
    egraph.analysis.origin = of_all(egraph, products.values());
    let product = add_op(egraph, contract, &[x, joined]);
    egraph.analysis.origin = origin;
    slice(egraph, product?, &window)
}

/// The model's nodes that several classes came from.
fn of_all<'a>(egraph: &TensorGraph, classes: impl Iterator<Item = &'a Id>) -> Option<Arc<str>> {
    let names: Vec<&str> =
        classes.filter_map(|class| Some(&**egraph.analysis.sources.get(class)?)).collect();
    (!names.is_empty()).then(|| names.join(JOINT).into())
}

/// Whether a constant was put together by a rule; what is found in a model is folded.
fn is_joined(egraph: &TensorGraph, constant: Id) -> bool {
    let concat = |op: &Op| matches!(op, Op::Concat(_));
    egraph[constant].nodes.iter().any(|node| egraph.analysis.op(node.op).is_some_and(concat))
}

/// A run of neighbours along one dimension, all others whole.
#[derive(Clone, Debug, PartialEq)]
struct Window {
    dim: usize,
    start: Dim,
    width: Dim,
}

impl Window {
    /// What a slice of a value is a window of.
    fn of(slice: &Slice, whole: &[Dim]) -> Option<Window> {
        let mut cut = (0..whole.len()).filter(|&dim| slice.sizes[dim] != whole[dim]);
        let dim = cut.next()?;
        let plain = slice.steps.iter().all(|&step| step == 1)
            && (0..whole.len()).all(|other| other == dim || slice.starts[other].is(0));
        (cut.next().is_none() && plain).then(|| Window {
            dim,
            start: slice.starts[dim].clone(),
            width: slice.sizes[dim].clone(),
        })
    }

    fn end(&self) -> Dim {
        self.start.clone() + self.width.clone()
    }
}

fn slice(egraph: &mut TensorGraph, x: Id, window: &Window) -> Option<Id> {
    let mut sizes = shape(egraph, x);
    let mut starts = vec![Dim::default(); sizes.len()];
    starts[window.dim] = window.start.clone();
    sizes[window.dim] = window.width.clone();
    let steps = vec![1; sizes.len()];
    add_op(egraph, Slice { starts, sizes, steps }, &[x])
}

/// The slices that a value consists of, first to last, along the dimension of one of them; `None` if some
/// of it is in none of them, or in several.
fn parts(egraph: &TensorGraph, x: Id, dim: usize) -> Option<Vec<(Window, Id)>> {
    let whole = &ty(egraph, x).shape;
    let mut found: Vec<(i64, Window, Id)> = Vec::new();
    for class in egraph[x].parents() {
        let class = egraph.find(class);
        for node in &egraph[class].nodes {
            let Some(Op::Slice(slice)) = egraph.analysis.op(node.op) else { continue };
            let from = node.children().iter().all(|&child| egraph.find(child) == egraph.find(x));
            let window = Window::of(slice, whole).filter(|window| window.dim == dim && from);
            if let Some(window) = window
                && let Some(start) = window.start.as_const()
                && !found.iter().any(|(_, other, _)| *other == window)
            {
                found.push((start, window, class));
            }
        }
    }
    found.sort_by_key(|(start, ..)| *start);
    let mut end = Dim::default();
    for (_, window, _) in &found {
        if window.start != end {
            return None;
        }
        end = window.end();
    }
    (end == whole[dim])
        .then(|| found.into_iter().map(|(_, window, class)| (window, class)).collect())
}

/// Functions whose constants are joined: an operand that is not changed has a constant, too.
const JOINED: [(BinaryFn, f64); 2] = [(BinaryFn::Add, 0.0), (BinaryFn::Mul, 1.0)];

fn apply_to_joined(egraph: &mut TensorGraph, m: &Match) -> Option<Id> {
    let (Op::Binary(binary), Op::Slice(found)) = (m.op(egraph, "f")?, m.op(egraph, "s")?) else {
        return None;
    };
    let (f, x) = (binary.f, m.class("x")?);
    let own = Window::of(found, &ty(egraph, x).shape)?;
    let part = slice(egraph, x, &own)?;
    let constant = egraph.find(m.class("c")?);
    (constant_beside(egraph, part, f)? == constant).then_some(())?;
    let applied = applied(egraph, x, own.dim, f)?;
    slice(egraph, applied, &own)
}

fn slice_past_neutral(egraph: &mut TensorGraph, m: &Match) -> Option<Id> {
    let Op::Slice(found) = m.op(egraph, "s")? else { return None };
    let x = m.class("x")?;
    let own = Window::of(found, &ty(egraph, x).shape)?;
    let part = slice(egraph, x, &own)?;
    let beside = parts(egraph, x, own.dim)?;
    let (f, _) = JOINED.into_iter().find(|&(f, _)| {
        let has = |part: Id| constant_beside(egraph, part, f).is_some();
        !has(part) && beside.iter().any(|(_, other)| has(*other))
    })?;
    let applied = applied(egraph, x, own.dim, f)?;
    slice(egraph, applied, &own)
}

/// A joined product with the constants of its parts, all at once.
fn applied(egraph: &mut TensorGraph, x: Id, dim: usize, f: BinaryFn) -> Option<Id> {
    let (_, neutral) = JOINED.into_iter().find(|(known, _)| *known == f)?;
    is_joined_product(egraph, x, MOST_STEPS).then_some(())?;
    let TensorType { dtype, shape: whole } = ty(egraph, x).clone();
    let mut constants = Vec::new();
    for (window, part) in parts(egraph, x, dim)? {
        let constant = match constant_beside(egraph, part, f) {
            Some(constant) => constant,
            None => {
                let tensor = Tensor::from_f64(dtype, vec![], &[neutral]).ok()?;
                add_op(egraph, Constant { tensor }, &[])?
            }
        };
        constants.push(stretched(egraph, constant, whole.len(), &window)?);
    }
    let constant = add_op(egraph, Concat { axis: 0 }, &constants)?;
    let applied = binary(egraph, f, x, constant)?;
    (ty(egraph, applied).shape == whole).then_some(applied)
}

/// How far back a joined product is looked for.
const MOST_STEPS: usize = 4;

/// Whether a value is a joined product, with what was done to it since.
fn is_joined_product(egraph: &TensorGraph, id: Id, steps: usize) -> bool {
    let Some(steps) = steps.checked_sub(1) else { return false };
    egraph[id].nodes.iter().any(|node| match (egraph.analysis.op(node.op), node.children()) {
        (Some(Op::Contract(_)), &[_, weight]) => is_joined(egraph, weight),
        (Some(Op::Binary(_)), &[a, b]) if egraph[b].data.constant => {
            is_joined_product(egraph, a, steps)
        }
        (Some(Op::Reshape(_)), &[x]) => is_joined_product(egraph, x, steps),
        _ => false,
    })
}

/// The constant that is added to a value, or that it is multiplied with; the first of several.
fn constant_beside(egraph: &TensorGraph, value: Id, f: BinaryFn) -> Option<Id> {
    let value = egraph.find(value);
    let users = egraph[value].parents().map(|class| egraph.find(class));
    let mut found: Vec<Id> = users
        .flat_map(|class| &egraph[class].nodes)
        .filter_map(|node| {
            let binary = matches!(egraph.analysis.op(node.op), Some(Op::Binary(b)) if b.f == f);
            let &[a, b] = node.children() else { return None };
            let (a, b) = (egraph.find(a), egraph.find(b));
            let other = if a == value { b } else { a };
            (binary && (a == value || b == value) && egraph[other].data.constant).then_some(other)
        })
        .collect();
    found.sort_unstable();
    found.first().copied()
}

/// A constant that stretches to a window, as one that runs along its dimension and the ones behind it.
fn stretched(egraph: &mut TensorGraph, constant: Id, rank: usize, window: &Window) -> Option<Id> {
    let own = shape(egraph, constant);
    let missing = rank.checked_sub(own.len())?;
    let along = |at: usize| at + missing == window.dim;
    if own.iter().enumerate().any(|(at, dim)| !along(at) && !dim.is(1)) {
        return None;
    }
    let mut to = vec![Dim::from(1i64); rank - window.dim];
    let width = own.iter().enumerate().find(|(at, _)| along(*at)).map(|(_, dim)| dim.clone());
    to[0] = width.unwrap_or(Dim::from(1i64));
    let plain = reshape(egraph, constant, to.clone())?;
    if to[0] == window.width {
        return Some(plain);
    }
    to[0] = window.width.clone();
    add_op(egraph, Broadcast { shape: to }, &[plain])
}

fn reshape_before_slice(egraph: &mut TensorGraph, m: &Match) -> Option<Id> {
    let (Op::Reshape(to), Op::Slice(found)) = (m.op(egraph, "r")?, m.op(egraph, "s")?) else {
        return None;
    };
    let x = m.class("x")?;
    let whole = shape(egraph, x);
    let window = Window::of(found, &whole)?;
    let (from, to) = (found.sizes.clone(), to.shape.clone());
    let product = |dims: &[Dim]| dims.iter().cloned().product::<Dim>();
    // The dimension that is sliced becomes several, of which the first is sliced then.
    let before = product(&from[..window.dim]);
    let dim = (0..to.len()).find(|&dim| product(&to[..dim]) == before && !to[dim].is(1))?;
    let after = product(&from[window.dim + 1..]);
    let end = (dim + 1..=to.len()).find(|&end| product(&to[end..]) == after)?;
    if product(&to[dim..end]) != window.width {
        return None;
    }
    let inner = product(&to[dim + 1..end]);
    let start = window.start.exact_div(&inner)?;
    let mut reshaped = to.clone();
    reshaped[dim] = whole[window.dim].exact_div(&inner)?;
    let width = to[dim].clone();
    let reshaped = reshape(egraph, x, reshaped)?;
    slice(egraph, reshaped, &Window { dim, start, width })
}
