//! Support vector machines: a kernel between each row and each support vector, then sums.
//!
//! Invariant: the sums of all pairs of classes are one contraction with a table that is laid out
//! here.

use super::super::build::V;
use super::super::fault::Fault;
use super::super::node::Use;
use super::super::operator::{Entry, ml};
use super::attributes::{alike, area, integers, numbers, rows, table};
use super::labels::Labels;
use super::linear::scored;
use super::scores::{Other, Transform, best, column, flat};
use kiln_ir::op::{self, BinaryFn, ReduceFn, UnaryFn};
use kiln_tensor::{DType, Dim};

type Results = Result<Vec<V>, Fault>;

pub(super) const OPERATORS: &[Entry] =
    &[ml("SVMClassifier", 1, classify), ml("SVMRegressor", 1, regress)];

/// The kernel of each row with each of `count` vectors.
fn kernel(x: &mut Use<'_, '_, '_>, v: V, vectors: &[f64], count: usize) -> Result<V, Fault> {
    let parameters = numbers(x, "kernel_params")?;
    let (gamma, offset, degree) = match parameters[..] {
        [] => (0.0, 0.0, 0.0),
        [gamma, offset, degree, ..] => (gamma, offset, degree),
        _ => return Err(Fault::malformed("kernel_params must be gamma, coef0 and degree")),
    };
    let affine = |x: &mut Use<'_, '_, '_>| {
        let products = scored(x, v, vectors, count)?;
        let scaled = x.with_number(BinaryFn::Mul, products, gamma)?;
        x.with_number(BinaryFn::Add, scaled, offset)
    };
    match x.string_or("kernel_type", "LINEAR")? {
        "LINEAR" => scored(x, v, vectors, count),
        "POLY" => {
            let base = affine(x)?;
            x.with_number(BinaryFn::Pow, base, degree)
        }
        "SIGMOID" => {
            let inside = affine(x)?;
            x.unary(UnaryFn::Tanh, inside)
        }
        "RBF" => {
            // The differences themselves: squares less products would cancel.
            let shape = x.shape(v);
            let row = vec![shape[0].clone(), Dim::from(1i64), shape[1].clone()];
            let row = x.reshape(v, row)?;
            if count == 0 || !vectors.len().is_multiple_of(count) {
                return Err(Fault::malformed(format!("{count} support vectors do not fit")));
            }
            let vectors = table(x, DType::F32, vec![count, vectors.len() / count], vectors)?;
            let difference = x.binary(BinaryFn::Sub, row, vectors)?;
            let square = x.binary(BinaryFn::Mul, difference, difference)?;
            let distance = x.reduce(ReduceFn::Sum, square, vec![2], false)?;
            let scaled = x.with_number(BinaryFn::Mul, distance, -gamma)?;
            x.unary(UnaryFn::Exp, scaled)
        }
        other => Err(Fault::malformed(format!("kernel `{other}` is not known"))),
    }
}

fn regress(x: &mut Use<'_, '_, '_>) -> Results {
    let v = rows(x, false)?;
    let count = usize::try_from(x.int_or("n_supports", 0)?).unwrap_or(0);
    let (coefficients, rho) = (numbers(x, "coefficients")?, numbers(x, "rho")?);
    let products = if count == 0 {
        scored(x, v, &coefficients, 1)?
    } else {
        alike(&[coefficients.len(), count], "support vectors")?;
        let vectors = numbers(x, "support_vectors")?;
        let kernels = kernel(x, v, &vectors, count)?;
        scored(x, kernels, &coefficients, 1)?
    };
    let offset = rho.first().copied().unwrap_or(0.0);
    let mut result = x.with_number(BinaryFn::Add, products, offset)?;
    if x.flag("one_class", false)? {
        let inside = x.with_number(BinaryFn::Greater, result, 0.0)?;
        let (yes, no) = (x.scalar(DType::F32, 1.0)?, x.scalar(DType::F32, -1.0)?);
        result = x.select(inside, yes, no)?;
    }
    Ok(vec![result])
}

fn classify(x: &mut Use<'_, '_, '_>) -> Results {
    let v = rows(x, false)?;
    let labels = Labels::of(x, "classlabels_ints")?;
    let (coefficients, rho) = (numbers(x, "coefficients")?, numbers(x, "rho")?);
    let vectors_per_class: Vec<usize> = integers(x, "vectors_per_class")?
        .into_iter()
        .map(|count| usize::try_from(count).unwrap_or(0))
        .collect();
    let count = vectors_per_class.iter().fold(0usize, |sum, &count| sum.saturating_add(count));
    let classes = labels.count;
    if classes == 0 || rho.is_empty() {
        return Err(Fault::malformed("there are no class labels, or no rho"));
    }
    let transform = Transform::of(x)?;
    if count == 0 {
        // A linear model; all scores have one offset.
        let products = scored(x, v, &coefficients, classes)?;
        let scores = x.with_number(BinaryFn::Add, products, rho[0])?;
        return linear(x, &labels, scores, &coefficients, transform);
    }
    alike(&[vectors_per_class.len(), classes], "classes")?;
    if (classes - 1).checked_mul(count) != Some(coefficients.len())
        || classes.checked_mul(classes - 1) != Some(2 * rho.len())
    {
        let (given, offsets) = (coefficients.len(), rho.len());
        return Err(Fault::malformed(format!(
            "{given} coefficients and {offsets} rho do not fit {count} vectors of {classes} classes"
        )));
    }
    let pairs = pairs(classes);
    area(pairs.len(), count)?;
    let vectors = numbers(x, "support_vectors")?;
    let kernels = kernel(x, v, &vectors, count)?;
    let weights = weights(&coefficients, &vectors_per_class, &pairs);
    let products = scored(x, kernels, &weights, pairs.len())?;
    let offsets = table(x, DType::F32, vec![pairs.len()], &rho)?;
    let scores = x.binary(BinaryFn::Add, products, offsets)?;
    let (a, b) = (numbers(x, "prob_a")?, numbers(x, "prob_b")?);
    alike(&[a.len(), b.len()], "probabilities")?;
    let class = voted(x, scores, &pairs, classes)?;
    let label = labels.chosen(x, class)?;
    if !a.is_empty() {
        alike(&[a.len(), pairs.len()], "probabilities")?;
        let probabilities = probabilities(x, scores, [&a, &b], &pairs, classes)?;
        return Ok(vec![label, transform.apply(x, probabilities)?]);
    }
    if classes > 2 {
        return Ok(vec![label, transform.apply(x, scores)?]);
    }
    let other = if transform == Transform::None { Other::Opposite } else { Other::Complement };
    Ok(vec![label, transform.apply_to_one(x, scores, Some(other))?])
}

/// Pairs of classes, in the order of their scores.
fn pairs(classes: usize) -> Vec<(usize, usize)> {
    (0..classes).flat_map(|i| (i + 1..classes).map(move |j| (i, j))).collect()
}

/// What each support vector weighs in the score of each pair: a vector of class `i` has a
/// coefficient for each other class `j`, in row `j`, or `j − 1` after its own.
fn weights(coefficients: &[f64], per_class: &[usize], pairs: &[(usize, usize)]) -> Vec<f64> {
    let total: usize = per_class.iter().sum();
    let starts = per_class.iter().scan(0, |start, &count| {
        let own = *start;
        *start += count;
        Some(own..own + count)
    });
    let ranges: Vec<_> = starts.collect();
    let mut weights = vec![0.0; pairs.len() * total];
    for (number, &(i, j)) in pairs.iter().enumerate() {
        for (class, row) in [(i, j - 1), (j, i)] {
            for vector in ranges[class].clone() {
                weights[number * total + vector] = coefficients[row * total + vector];
            }
        }
    }
    weights
}

/// The class that wins most pairs, the first of equal ones.
fn voted(
    x: &mut Use<'_, '_, '_>,
    scores: V,
    pairs: &[(usize, usize)],
    classes: usize,
) -> Result<V, Fault> {
    let won = x.with_number(BinaryFn::Greater, scores, 0.0)?;
    let won = x.cast(won, DType::F32)?;
    // A vote for `i` is one that `j` does not get.
    let mut gain = vec![0.0; area(classes, pairs.len())?];
    let mut least = vec![0.0; classes];
    for (number, &(i, j)) in pairs.iter().enumerate() {
        gain[i * pairs.len() + number] = 1.0;
        gain[j * pairs.len() + number] = -1.0;
        least[j] += 1.0;
    }
    let gains = scored(x, won, &gain, classes)?;
    let least = table(x, DType::F32, vec![classes], &least)?;
    let votes = x.binary(BinaryFn::Add, gains, least)?;
    best(x, votes)
}

fn linear(
    x: &mut Use<'_, '_, '_>,
    labels: &Labels,
    scores: V,
    coefficients: &[f64],
    transform: Transform,
) -> Results {
    let class = best(x, scores)?;
    let mut label = labels.chosen(x, class)?;
    if labels.count == 2 {
        let most = x.reduce(ReduceFn::Max, scores, vec![1], false)?;
        let limit = if coefficients.iter().all(|&value| value >= 0.0) {
            x.with_number(BinaryFn::GreaterEqual, most, 0.5)?
        } else {
            x.with_number(BinaryFn::Greater, most, 0.0)?
        };
        let second = x.scalar(DType::I64, 1.0)?;
        let positive = labels.chosen(x, second)?;
        label = x.select(limit, positive, label)?;
    }
    let scores = if labels.count == 1 {
        transform.apply_to_one(x, scores, None)?
    } else {
        transform.apply(x, scores)?
    };
    if labels.count == 1 {
        let score = flat(x, scores)?;
        let positive = x.with_number(BinaryFn::Greater, score, 0.0)?;
        label = labels.either(x, positive)?;
    }
    Ok(vec![label, scores])
}

/// Class probabilities from those of pairs: Wu, Lin and Weng, *Probability Estimates for
/// Multi-class Classification by Pairwise Coupling* (2004), algorithm 2, in f32 and with the limits
/// of LIBSVM; rows that are close enough stay as they are.
fn probabilities(
    x: &mut Use<'_, '_, '_>,
    scores: V,
    [a, b]: [&[f64]; 2],
    pairs: &[(usize, usize)],
    classes: usize,
) -> Result<V, Fault> {
    const LEAST: f64 = 1e-7;
    /// How often LIBSVM goes over all classes at most.
    const ROUNDS: usize = 100;
    let count = pairs.len();
    let (a, b) = (table(x, DType::F32, vec![count], a)?, table(x, DType::F32, vec![count], b)?);
    let scaled = x.binary(BinaryFn::Mul, scores, a)?;
    let inside = x.binary(BinaryFn::Add, scaled, b)?;
    let opposite = x.unary(UnaryFn::Neg, inside)?;
    let raw = x.unary(UnaryFn::Sigmoid, opposite)?;
    let above = x.with_number(BinaryFn::Max, raw, LEAST)?;
    let won = x.with_number(BinaryFn::Min, above, 1.0 - LEAST)?;
    let one = x.scalar(DType::F32, 1.0)?;
    let lost = x.binary(BinaryFn::Sub, one, won)?;
    // `r[j·n + i]`: that `j` wins against `i`.
    let mut of_pair: Vec<Vec<Option<V>>> = vec![vec![None; classes]; classes];
    for (number, &(i, j)) in pairs.iter().enumerate() {
        of_pair[i][j] = Some(column(x, won, number)?);
        of_pair[j][i] = Some(column(x, lost, number)?);
    }
    let r = |j: usize, i: usize| of_pair[j][i].ok_or(Fault::Silent);
    let zero = {
        let shape = vec![x.shape(scores)[0].clone(), Dim::from(1i64)];
        x.filled(DType::F32, 0.0, shape)?
    };
    let mut rows = Vec::with_capacity(classes);
    for i in 0..classes {
        let mut row = vec![zero; classes];
        for j in (0..classes).filter(|&j| j != i) {
            let square = x.binary(BinaryFn::Mul, r(j, i)?, r(j, i)?)?;
            row[i] = x.binary(BinaryFn::Add, row[i], square)?;
            let product = x.binary(BinaryFn::Mul, r(j, i)?, r(i, j)?)?;
            row[j] = x.unary(UnaryFn::Neg, product)?;
        }
        rows.push(x.add(op::Concat { axis: 1 }, &row)?);
    }
    let batch = x.shape(scores)[0].clone();
    let width = Dim::from(classes);
    let joined = x.add(op::Concat { axis: 1 }, &rows)?;
    let q = x.reshape(joined, vec![batch.clone(), width.clone(), width.clone()])?;
    let start = x.filled(DType::F32, 1.0 / classes as f64, vec![batch, width])?;
    super::super::loops::repeated(x, ROUNDS, start, &[q], |x, p| coupled(x, q, p, classes))
}

/// One round over all classes.
fn coupled(x: &mut Use<'_, '_, '_>, q: V, p: V, classes: usize) -> Result<V, Fault> {
    let spec = "nij,nj->ni".parse::<op::ContractSpec>().map_err(Fault::malformed)?;
    let mut qp = x.add(op::Contract { spec }, &[q, p])?;
    let weighted = x.binary(BinaryFn::Mul, p, qp)?;
    let mut pqp = x.reduce(ReduceFn::Sum, weighted, vec![1], true)?;
    let error = x.binary(BinaryFn::Sub, qp, pqp)?;
    let error = x.unary(UnaryFn::Abs, error)?;
    let error = x.reduce(ReduceFn::Max, error, vec![1], true)?;
    let done = x.with_number(BinaryFn::Less, error, 0.005 / classes as f64)?;
    let mut next = p;
    for i in 0..classes {
        let shape = x.shape(q);
        let (starts, sizes) = (
            vec![Dim::from(0i64), Dim::from(i), Dim::from(0i64)],
            vec![shape[0].clone(), Dim::from(1i64), shape[2].clone()],
        );
        let row = x.add(op::Slice { starts, sizes, steps: vec![1; 3] }, &[q])?;
        let row = x.reshape(row, vec![shape[0].clone(), shape[2].clone()])?;
        let (own, of_class) = (column(x, row, i)?, column(x, qp, i)?);
        let gap = x.binary(BinaryFn::Sub, pqp, of_class)?;
        let step = x.binary(BinaryFn::Div, gap, own)?;
        let whole = x.with_number(BinaryFn::Add, step, 1.0)?;
        // pQp = (pQp + d·(d·Q + 2·Qp))/(1 + d)²
        let bent = x.binary(BinaryFn::Mul, step, own)?;
        let twice = x.with_number(BinaryFn::Mul, of_class, 2.0)?;
        let sum = x.binary(BinaryFn::Add, bent, twice)?;
        let change = x.binary(BinaryFn::Mul, step, sum)?;
        let changed = x.binary(BinaryFn::Add, pqp, change)?;
        let once = x.binary(BinaryFn::Div, changed, whole)?;
        pqp = x.binary(BinaryFn::Div, once, whole)?;
        let moved = x.binary(BinaryFn::Mul, step, row)?;
        let moved = x.binary(BinaryFn::Add, qp, moved)?;
        qp = x.binary(BinaryFn::Div, moved, whole)?;
        let mut unit = vec![0.0; classes];
        unit[i] = 1.0;
        let unit = table(x, DType::F32, vec![classes], &unit)?;
        let added = x.binary(BinaryFn::Mul, step, unit)?;
        let sum = x.binary(BinaryFn::Add, next, added)?;
        next = x.binary(BinaryFn::Div, sum, whole)?;
    }
    x.select(done, p, next)
}
