//! Linear models: a matrix product, and a class where that is asked for.
//!
//! Invariant: coefficients are one row for each score.

use super::super::build::V;
use super::super::contraction::contract;
use super::super::fault::Fault;
use super::super::node::Use;
use super::super::operator::{Entry, ml};
use super::attributes::{numbers, rows, table};
use super::labels::Labels;
use super::scores::{Other, Transform, best, flat};
use kiln_ir::op::{BinaryFn, ContractSpec};
use kiln_tensor::DType;

type Results = Result<Vec<V>, Fault>;

pub(super) const OPERATORS: &[Entry] =
    &[ml("LinearClassifier", 1, classify), ml("LinearRegressor", 1, regress)];

/// `rows·tableᵀ`, with a table of `count` rows.
pub(super) fn scored(
    x: &mut Use<'_, '_, '_>,
    v: V,
    values: &[f64],
    count: usize,
) -> Result<V, Fault> {
    let length = values.len();
    if count == 0 || length == 0 || !length.is_multiple_of(count) {
        return Err(Fault::malformed(format!("{length} coefficients do not make {count} rows")));
    }
    let table = table(x, DType::F32, vec![count, length / count], values)?;
    let spec = "nk,mk->nm".parse::<ContractSpec>().map_err(Fault::malformed)?;
    contract(x, v, table, spec)
}

/// The scores of all rows: as many as `count`.
fn scores(x: &mut Use<'_, '_, '_>, count: usize) -> Result<V, Fault> {
    let v = rows(x, false)?;
    let (coefficients, intercepts) = (numbers(x, "coefficients")?, numbers(x, "intercepts")?);
    let products = scored(x, v, &coefficients, count)?;
    if intercepts.is_empty() {
        return Ok(products);
    }
    if intercepts.len() != count {
        let given = intercepts.len();
        return Err(Fault::malformed(format!("{given} intercepts are given for {count} scores")));
    }
    let intercepts = table(x, DType::F32, vec![count], &intercepts)?;
    x.binary(BinaryFn::Add, products, intercepts)
}

fn regress(x: &mut Use<'_, '_, '_>) -> Results {
    let targets = x.int_or("targets", 1)?;
    let count = usize::try_from(targets).ok().filter(|&count| count > 0);
    let count = count.ok_or_else(|| Fault::malformed(format!("targets is {targets}")))?;
    let scores = scores(x, count)?;
    let transform = Transform::of(x)?;
    Ok(vec![if count == 1 {
        transform.apply_to_one(x, scores, None)?
    } else {
        transform.apply(x, scores)?
    }])
}

fn classify(x: &mut Use<'_, '_, '_>) -> Results {
    let labels = Labels::of(x, "classlabels_ints")?;
    // As many scores as intercepts; without any, as many as labels.
    let count = match numbers(x, "intercepts")?.len() {
        0 => labels.count,
        count => count,
    };
    let scores = scores(x, count)?;
    let transform = Transform::of(x)?;
    if count == 1 {
        let score = flat(x, scores)?;
        let positive = x.with_number(BinaryFn::Greater, score, 0.0)?;
        let label = labels.either(x, positive)?;
        let other = (labels.count == 2).then_some(Other::Complement);
        return Ok(vec![label, transform.apply_to_one(x, scores, other)?]);
    }
    if labels.count < count {
        let given = labels.count;
        return Err(Fault::malformed(format!("{given} labels are given for {count} classes")));
    }
    let class = best(x, scores)?;
    Ok(vec![labels.chosen(x, class)?, transform.apply(x, scores)?])
}
