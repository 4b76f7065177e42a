//! Ensembles of trees: which leaves rows reach, and what these add up to.
//!
//! Invariant: a target to which no leaf that is reached adds anything has a score of 0.

use super::super::build::V;
use super::super::fault::Fault;
use super::super::node::Use;
use super::super::operator::{Entry, ml};
use super::attributes::{area, numbers, rows, table};
use super::forest::Forest;
use super::labels::Labels;
use super::scores::{Other, Transform, best, column, flat};
use super::walk::leaves;
use kiln_ir::op::{self, BinaryFn, ReduceFn, UnaryFn};
use kiln_tensor::DType;
use std::collections::BTreeSet;

type Results = Result<Vec<V>, Fault>;

pub(super) const OPERATORS: &[Entry] = &[
    ml("TreeEnsemble", 5, ensemble),
    ml("TreeEnsembleClassifier", 1, classify),
    ml("TreeEnsembleRegressor", 1, regress),
];

/// How what the leaves add becomes one number.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Aggregate {
    Average,
    Sum,
    Min,
    Max,
}

/// What all leaves that are reached add up to for each target: `[rows, targets]`.
fn aggregated(
    x: &mut Use<'_, '_, '_>,
    forest: &Forest,
    reached: V,
    (targets, dtype): (usize, DType),
    aggregate: Aggregate,
) -> Result<V, Fault> {
    let (f, nothing) = match aggregate {
        Aggregate::Sum | Aggregate::Average => (ReduceFn::Sum, 0.0),
        Aggregate::Min => (ReduceFn::Min, f64::INFINITY),
        Aggregate::Max => (ReduceFn::Max, f64::NEG_INFINITY),
    };
    let mut weights = vec![nothing; area(forest.leaves.len(), targets)?];
    for (leaf, parts) in forest.leaves.iter().enumerate() {
        for &(target, weight) in parts {
            if target >= targets {
                let message = format!("there is no target {target}, but {targets} of them");
                return Err(Fault::malformed(message));
            }
            let slot = &mut weights[leaf * targets + target];
            *slot = match aggregate {
                Aggregate::Sum | Aggregate::Average => *slot + weight,
                Aggregate::Min => slot.min(weight),
                Aggregate::Max => slot.max(weight),
            };
        }
    }
    let weights = table(x, dtype, vec![forest.leaves.len(), targets], &weights)?;
    let parts = x.add(op::Gather { axis: 0 }, &[weights, reached])?;
    let mut result = x.reduce(f, parts, vec![1], false)?;
    match aggregate {
        Aggregate::Average => {
            result = x.with_number(BinaryFn::Div, result, forest.trees() as f64)?;
        }
        Aggregate::Min | Aggregate::Max => {
            let none = x.unary(UnaryFn::IsInf, result)?;
            let zero = x.scalar(dtype, 0.0)?;
            result = x.select(none, zero, result)?;
        }
        Aggregate::Sum => {}
    }
    Ok(result)
}

/// Which targets a leaf that is reached adds something to: one truth for each row and target.
fn touched(
    x: &mut Use<'_, '_, '_>,
    forest: &Forest,
    reached: V,
    targets: usize,
) -> Result<V, Fault> {
    let mut marks = vec![0.0; area(forest.leaves.len(), targets)?];
    for (leaf, parts) in forest.leaves.iter().enumerate() {
        for &(target, _) in parts {
            marks[leaf * targets + target] = 1.0;
        }
    }
    let marks = table(x, DType::Bool, vec![forest.leaves.len(), targets], &marks)?;
    let found = x.add(op::Gather { axis: 0 }, &[marks, reached])?;
    x.reduce(ReduceFn::Any, found, vec![1], false)
}

/// The scores with what each target starts at; one number alone is that of the first.
fn add_base(x: &mut Use<'_, '_, '_>, v: V, base: &[f64]) -> Result<V, Fault> {
    if base.is_empty() {
        return Ok(v);
    }
    let (dtype, shape) = (x.dtype(v), x.shape(v));
    let targets = shape[1].as_const().and_then(|count| usize::try_from(count).ok());
    let mut all = base.to_vec();
    all.resize(targets.unwrap_or(base.len()), 0.0);
    let base = table(x, dtype, vec![all.len()], &all)?;
    x.binary(BinaryFn::Add, v, base)
}

fn of_regression(
    x: &mut Use<'_, '_, '_>,
    forest: &Forest,
    targets: i64,
    aggregate: Aggregate,
    transform: Transform,
) -> Result<V, Fault> {
    let v = rows(x, true)?;
    let count = usize::try_from(targets).ok().filter(|&count| count > 0);
    let count = count.ok_or_else(|| Fault::malformed(format!("n_targets is {targets}")))?;
    let reached = leaves(x, v, forest)?;
    let dtype = x.dtype(v);
    let sums = aggregated(x, forest, reached, (count, dtype), aggregate)?;
    let base = numbers(x, "base_values")?;
    let sums = if base.len() == count { add_base(x, sums, &base)? } else { sums };
    if count == 1 { transform.apply_to_one(x, sums, None) } else { transform.apply(x, sums) }
}

fn regress(x: &mut Use<'_, '_, '_>) -> Results {
    let forest = Forest::by_names(x, "target")?;
    let aggregate = match x.string_or("aggregate_function", "SUM")? {
        "AVERAGE" => Aggregate::Average,
        "SUM" => Aggregate::Sum,
        "MIN" => Aggregate::Min,
        "MAX" => Aggregate::Max,
        other => {
            return Err(Fault::malformed(format!("aggregate_function `{other}` is not known")));
        }
    };
    let (targets, transform) = (x.int_or("n_targets", 1)?, Transform::of(x)?);
    let result = of_regression(x, &forest, targets, aggregate, transform)?;
    Ok(vec![x.cast(result, DType::F32)?])
}

fn ensemble(x: &mut Use<'_, '_, '_>) -> Results {
    let forest = Forest::by_numbers(x)?;
    x.of_rank(x.input(0)?, 2, "the operand")?;
    let aggregate = match x.int_or("aggregate_function", 1)? {
        0 => Aggregate::Average,
        1 => Aggregate::Sum,
        2 => Aggregate::Min,
        3 => Aggregate::Max,
        other => {
            return Err(Fault::malformed(format!("aggregate_function {other} is not known")));
        }
    };
    let transform = Transform::numbered(x.int_or("post_transform", 0)?)?;
    let targets = x.int_or("n_targets", 1)?;
    let result = of_regression(x, &forest, targets, aggregate, transform)?;
    Ok(vec![x.cast(result, x.dtype(x.input(0)?))?])
}

fn classify(x: &mut Use<'_, '_, '_>) -> Results {
    let forest = Forest::by_names(x, "class")?;
    let labels = Labels::of(x, "classlabels_int64s")?;
    let (classes, transform) = (labels.count, Transform::of(x)?);
    if classes == 0 {
        return Err(Fault::malformed("there are no class labels"));
    }
    let v = rows(x, true)?;
    let reached = leaves(x, v, &forest)?;
    let dtype = x.dtype(v);
    let sums = aggregated(x, &forest, reached, (classes, dtype), Aggregate::Sum)?;
    let base = numbers(x, "base_values")?;
    if !matches!(base.len(), 0 | 1) && base.len() != classes {
        let given = base.len();
        return Err(Fault::malformed(format!(
            "{given} base values are given for {classes} classes"
        )));
    }
    let targets: BTreeSet<usize> = forest.leaves.iter().flatten().map(|part| part.0).collect();
    let only = if let [only] = Vec::from_iter(targets)[..] { Some(only) } else { None };
    let results = match (classes, only) {
        (1, _) => {
            let score = if base.len() == 1 { add_base(x, sums, &base)? } else { sums };
            let positive = flat(x, score)?;
            let positive = x.with_number(BinaryFn::Greater, positive, 0.0)?;
            [labels.either(x, positive)?, transform.apply_to_one(x, score, None)?]
        }
        (2, Some(only)) => {
            let (positive, scores) = of_one(x, &forest, sums, &base, only, transform)?;
            [labels.either(x, positive)?, scores]
        }
        _ => {
            let scores = add_base(x, sums, &base)?;
            let mut candidates = scores;
            if base.is_empty() {
                // A class that nothing was added to is not chosen for its 0.
                let found = touched(x, &forest, reached, classes)?;
                let least = x.scalar(dtype, f64::NEG_INFINITY)?;
                candidates = x.select(found, scores, least)?;
            }
            let class = best(x, candidates)?;
            [labels.chosen(x, class)?, transform.apply(x, scores)?]
        }
    };
    let [label, scores] = results;
    Ok(vec![label, x.cast(scores, DType::F32)?])
}

/// Whether the second of two classes is chosen, and the scores of both, where leaves add to one of
/// them only. If that is the first, what they add is the score of the second all the same, and the
/// first has what is left.
fn of_one(
    x: &mut Use<'_, '_, '_>,
    forest: &Forest,
    sums: V,
    base: &[f64],
    only: usize,
    transform: Transform,
) -> Result<(V, V), Fault> {
    let sums = match base {
        // One number alone is that of the one class.
        [base] => {
            let mut both = [0.0; 2];
            both[only] = *base;
            add_base(x, sums, &both)?
        }
        _ => add_base(x, sums, base)?,
    };
    let score = column(x, sums, only)?;
    let probability = forest.leaves.iter().flatten().all(|&(_, weight)| weight >= 0.0);
    let decisive = flat(x, score)?;
    let limit = if probability { 0.5 } else { 0.0 };
    let positive = x.with_number(BinaryFn::Greater, decisive, limit)?;
    let other = if probability { Other::Complement } else { Other::Opposite };
    let scores = if only == 0 {
        transform.apply_to_one(x, score, Some(other))?
    } else {
        transform.apply(x, sums)?
    };
    Ok((positive, scores))
}
