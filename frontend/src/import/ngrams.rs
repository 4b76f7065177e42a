//! Counts of n-grams: how often each of a pool of short sequences occurs in a row.
//!
//! Invariant: an n-gram of one element is counted once however many may be skipped; which column a
//! count belongs to is data, so several n-grams may share one.

use super::build::V;
use super::fault::Fault;
use super::node::Use;
use super::operator::{Entry, onnx};
use kiln_ir::op::{BinaryFn, Contract, ContractSpec, ReduceFn};
use kiln_tensor::{DType, Dim, Tensor};

type Results = Result<Vec<V>, Fault>;

pub(super) const OPERATORS: &[Entry] = &[onnx("TfIdfVectorizer", 9, tf_idf_vectorizer)];

/// The most entries of a table from n-grams to columns.
const MOST_ENTRIES: i64 = 1 << 24;
/// The most elements that may be skipped.
const MOST_SKIPS: usize = 256;

/// The n-grams of one length.
struct Grams {
    length: usize,
    /// Elements, one n-gram after the other.
    elements: Vec<i64>,
    /// The column of each.
    columns: Vec<usize>,
}

/// An attribute that must be there.
fn list<'r>(x: &Use<'_, 'r, '_>, name: &str) -> Result<&'r [i64], Fault> {
    x.ints(name)?.ok_or_else(|| Fault::malformed(format!("attribute `{name}` is missing")))
}

/// A length or count that must be there and not be negative.
fn count(x: &Use<'_, '_, '_>, name: &str) -> Result<usize, Fault> {
    let value = x.int(name)?.and_then(|value| usize::try_from(value).ok());
    value.ok_or_else(|| Fault::malformed(format!("`{name}` must be a number of at least 0")))
}

fn pool(
    x: &Use<'_, '_, '_>,
    lengths: std::ops::RangeInclusive<usize>,
) -> Result<Vec<Grams>, Fault> {
    if x.attribute("pool_strings").is_some() {
        let message = "n-grams of strings are not supported";
        return Err(Fault::unsupported(message, "give numbers for the words"));
    }
    let (pool, starts) = (list(x, "pool_int64s")?, list(x, "ngram_counts")?);
    let columns = list(x, "ngram_indexes")?.iter().map(|&column| usize::try_from(column).ok());
    let columns: Option<Vec<usize>> = columns.collect();
    let columns = columns.ok_or_else(|| Fault::malformed("`ngram_indexes` must be at least 0"))?;
    let mut numbered = columns.into_iter();
    let mut all = Vec::with_capacity(starts.len());
    for (number, &start) in starts.iter().enumerate() {
        let end = starts.get(number + 1).copied().unwrap_or(pool.len() as i64);
        let places = usize::try_from(start).ok().zip(usize::try_from(end).ok());
        let elements = places.and_then(|(start, end)| pool.get(start..end));
        let elements = elements.ok_or_else(|| {
            Fault::malformed(format!("n-grams from {start} to {end} are not in the pool"))
        })?;
        let length = number + 1;
        let columns: Vec<usize> = numbered.by_ref().take(elements.len() / length).collect();
        if columns.len() < elements.len() / length {
            return Err(Fault::malformed("`ngram_indexes` has too few entries"));
        }
        if lengths.contains(&length) && !columns.is_empty() {
            let elements = elements[..columns.len() * length].to_vec();
            all.push(Grams { length, elements, columns });
        }
    }
    Ok(all)
}

fn tf_idf_vectorizer(x: &mut Use<'_, '_, '_>) -> Results {
    let operand = x.input(0)?;
    let shape = x.shape(operand);
    if !matches!(x.dtype(operand), DType::I32 | DType::I64) || !(1..=2).contains(&shape.len()) {
        let ty = x.ty(operand);
        return Err(Fault::malformed(format!("{ty} is not a row or rows of i32 or i64")));
    }
    let lengths = count(x, "min_gram_length")?..=count(x, "max_gram_length")?;
    let skips = count(x, "max_skip_count")?;
    let grams = pool(x, lengths)?;
    let width = list(x, "ngram_indexes")?.iter().max().map_or(0, |&last| last.saturating_add(1));
    let entries = grams.iter().map(|grams| grams.columns.len() as i64).sum::<i64>();
    if entries.saturating_mul(width) > MOST_ENTRIES || skips > MOST_SKIPS {
        let message =
            format!("{entries} n-grams in {width} columns with {skips} skips are too many");
        return Err(Fault::unsupported(message, "use fewer"));
    }
    let length = shape[shape.len() - 1].clone();
    let batch: Dim = shape[..shape.len() - 1].iter().cloned().product();
    let rows = x.cast(operand, DType::I64)?;
    let rows = x.reshape(rows, vec![batch.clone(), length, Dim::from(1i64)])?;
    let out = [shape[..shape.len() - 1].to_vec(), vec![Dim::from(width)]].concat();
    let mut counts = x.filled(DType::F32, 0.0, vec![batch, Dim::from(width)])?;
    for grams in &grams {
        let skips = if grams.length == 1 { 0 } else { skips };
        for skip in 0..=skips {
            let found = occurrences(x, rows, grams, skip + 1, width)?;
            counts = x.binary(BinaryFn::Add, counts, found)?;
        }
    }
    let mode = x.string_or("mode", "TF")?;
    let result = match mode {
        "TF" => counts,
        "IDF" | "TFIDF" => {
            let counts = if mode == "IDF" {
                let occurs = x.with_number(BinaryFn::Greater, counts, 0.0)?;
                x.cast(occurs, DType::F32)?
            } else {
                counts
            };
            match x.floats("weights")? {
                Some(weights) if !weights.is_empty() => {
                    let weights = Tensor::from_slice(vec![weights.len()], weights);
                    let weights = weights.map_err(|error| Fault::malformed(error.to_string()))?;
                    let weights = x.constant(weights);
                    let weights = x.part(weights, 0, 0i64, width)?;
                    x.binary(BinaryFn::Mul, counts, weights)?
                }
                _ => counts,
            }
        }
        other => return Err(Fault::malformed(format!("mode `{other}` is not known"))),
    };
    Ok(vec![x.reshape(result, out)?])
}

/// How often n-grams occur in `[batch, length, 1]` with their elements `step` apart, by column.
fn occurrences(
    x: &mut Use<'_, '_, '_>,
    rows: V,
    grams: &Grams,
    step: usize,
    width: i64,
) -> Result<V, Fault> {
    let malformed = |error: kiln_tensor::TensorError| Fault::malformed(error.to_string());
    let count = grams.columns.len();
    let reach = Dim::from((grams.length - 1).saturating_mul(step));
    let places = x.shape(rows)[1].clone() - reach;
    let places = x.facts().maximum(&places, &Dim::from(0i64));
    if places.is(0) {
        let batch = x.shape(rows)[0].clone();
        return x.filled(DType::F32, 0.0, vec![batch, Dim::from(width)]);
    }
    let mut all: Option<V> = None;
    for number in 0..grams.length {
        let elements: Vec<i64> =
            grams.elements.iter().skip(number).step_by(grams.length).copied().collect();
        let wanted = x.constant(Tensor::from_slice(vec![count], &elements).map_err(malformed)?);
        let here = x.part(rows, 1, number * step, places.clone())?;
        let same = x.binary(BinaryFn::Equal, here, wanted)?;
        all = Some(match all {
            Some(others) => x.binary(BinaryFn::And, others, same)?,
            None => same,
        });
    }
    let found = x.cast(all.ok_or(Fault::Silent)?, DType::F32)?;
    let found = x.reduce(ReduceFn::Sum, found, vec![1], false)?;
    // Each n-gram's count goes to its column.
    let mut belongs = vec![0f32; count * width.max(0) as usize];
    for (number, &column) in grams.columns.iter().enumerate() {
        belongs[number * width.max(0) as usize + column] = 1.0;
    }
    let belongs = Tensor::from_slice(vec![count, width.max(0) as usize], &belongs);
    let belongs = x.constant(belongs.map_err(malformed)?);
    x.add(Contract { spec: ContractSpec::matmul(0) }, &[found, belongs])
}
