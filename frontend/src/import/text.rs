//! Operators on strings: routines, but for what only moves strings.
//!
//! Invariant: strings are elements like any other to operators that do not look into them.

use super::build::V;
use super::fault::Fault;
use super::node::Use;
use super::operator::{Entry, onnx};
use crate::resolve::Attribute;
use kiln_ir::TensorType;
use kiln_routine::{CaseChange, Ngrams, Normalise, Pattern, Pool, Routine, Weighting};
use kiln_tensor::{DType, Dim};

type Results = Result<Vec<V>, Fault>;

pub(super) const OPERATORS: &[Entry] = &[
    onnx("RegexFullMatch", 20, regex_full_match),
    onnx("StringConcat", 20, string_concat),
    onnx("StringNormalizer", 10, string_normalizer),
    onnx("StringSplit", 20, string_split),
    onnx("TfIdfVectorizer", 9, tf_idf_vectorizer),
];

impl<'r> Use<'_, 'r, '_> {
    /// A list of strings; empty if it is not given.
    pub(super) fn strings(&self, name: &str) -> Result<Vec<String>, Fault> {
        let texts = match self.attribute(name) {
            None => return Ok(Vec::new()),
            Some(Attribute::Strings(texts)) => texts,
            Some(_) => return Err(Fault::malformed(format!("attribute `{name}` must be strings"))),
        };
        let texts = texts.iter().map(|text| std::str::from_utf8(text).map(str::to_owned));
        let texts = texts.collect::<Result<_, _>>();
        texts.map_err(|_| Fault::malformed(format!("attribute `{name}` is not UTF-8")))
    }

    /// An operand that must be of strings.
    fn string_input(&self, number: usize) -> Result<V, Fault> {
        let v = self.input(number)?;
        match self.dtype(v) {
            DType::String => Ok(v),
            _ => {
                let ty = self.ty(v);
                Err(Fault::malformed(format!("input {number} must be of strings, but is {ty}")))
            }
        }
    }
}

fn string_concat(x: &mut Use<'_, '_, '_>) -> Results {
    let operands = [x.string_input(0)?, x.string_input(1)?];
    let operands = x.aligned(&operands)?;
    let mut shape = x.shape(operands[0]);
    let other = x.shape(operands[1]);
    if other.len() > shape.len() {
        shape.splice(0..0, other[..other.len() - shape.len()].iter().cloned());
    }
    for (dim, with) in shape.iter_mut().rev().zip(other.iter().rev()) {
        if dim.is(1) {
            *dim = with.clone();
        }
    }
    let a = x.broadcast(operands[0], shape.clone())?;
    let b = x.broadcast(operands[1], shape.clone())?;
    let result = TensorType::new(DType::String, shape);
    Ok(vec![x.call1(Routine::ConcatStrings, &[a, b], result)?])
}

fn string_split(x: &mut Use<'_, '_, '_>) -> Results {
    let operand = x.string_input(0)?;
    let delimiter = x.string_or("delimiter", "")?.to_owned();
    let most = match x.int("maxsplit")? {
        None => None,
        Some(most) => Some(u64::try_from(most).map_err(|_| {
            Fault::malformed(format!("maxsplit is {most}, which is no number of cuts"))
        })?),
    };
    let shape = x.shape(operand);
    let parts = [&shape[..], &[x.found("parts")]].concat();
    let results = vec![TensorType::new(DType::String, parts), TensorType::new(DType::I64, shape)];
    x.call(Routine::SplitStrings { delimiter, most }, &[operand], results)
}

fn string_normalizer(x: &mut Use<'_, '_, '_>) -> Results {
    let operand = x.string_input(0)?;
    let case = match x.string_or("case_change_action", "NONE")? {
        "NONE" => CaseChange::None,
        "LOWER" => CaseChange::Lower,
        "UPPER" => CaseChange::Upper,
        other => return Err(Fault::malformed(format!("case change `{other}` is not known"))),
    };
    let case_sensitive = x.flag("is_case_sensitive", false)?;
    let stop_words = x.strings("stopwords")?;
    let operand = match x.rank(operand) {
        2 => x.of_dim(operand, 0, &Dim::from(1i64), "the operand")?,
        _ => operand,
    };
    let mut shape = x.shape(operand);
    if !(1..=2).contains(&shape.len()) {
        let ty = x.ty(operand);
        return Err(Fault::malformed(format!("the operand must be [c] or [1, c], but is {ty}")));
    }
    if let Some(last) = shape.last_mut() {
        *last = x.found("kept");
    }
    let routine = Routine::NormaliseStrings(Normalise { case, case_sensitive, stop_words });
    Ok(vec![x.call1(routine, &[operand], TensorType::new(DType::String, shape))?])
}

fn regex_full_match(x: &mut Use<'_, '_, '_>) -> Results {
    let operand = x.string_input(0)?;
    let pattern = x.string_or("pattern", "")?.to_owned();
    Pattern::new(&pattern).map_err(|error| Fault::malformed(error.message))?;
    let result = TensorType::new(DType::Bool, x.shape(operand));
    Ok(vec![x.call1(Routine::FullMatch { pattern }, &[operand], result)?])
}

fn tf_idf_vectorizer(x: &mut Use<'_, '_, '_>) -> Results {
    let operand = x.input(0)?;
    let count = |x: &Use<'_, '_, '_>, name: &str| {
        let value = x.int(name)?.and_then(|value| usize::try_from(value).ok());
        value.ok_or_else(|| Fault::malformed(format!("`{name}` must be given, and not negative")))
    };
    let counts = |x: &Use<'_, '_, '_>, name: &str| {
        let values = x.ints(name)?.unwrap_or_default();
        let values: Option<Vec<usize>> = values.iter().map(|&v| usize::try_from(v).ok()).collect();
        values.ok_or_else(|| Fault::malformed(format!("`{name}` must not be negative")))
    };
    let strings = x.strings("pool_strings")?;
    let pool = if strings.is_empty() {
        Pool::Integers(x.ints("pool_int64s")?.unwrap_or_default().to_vec())
    } else {
        Pool::Strings(strings)
    };
    let ngrams = Ngrams {
        weighting: match x.string_or("mode", "")? {
            "TF" => Weighting::Count,
            "IDF" => Weighting::Weight,
            "TFIDF" => Weighting::Both,
            other => return Err(Fault::malformed(format!("mode `{other}` is not known"))),
        },
        least: count(x, "min_gram_length")?.max(1),
        most: count(x, "max_gram_length")?,
        skips: count(x, "max_skip_count")?,
        starts: counts(x, "ngram_counts")?,
        places: counts(x, "ngram_indexes")?,
        pool,
        weights: x.floats("weights")?.unwrap_or_default().to_vec(),
    };
    if ngrams.most > ngrams.starts.len() {
        let (most, known) = (ngrams.most, ngrams.starts.len());
        let message = format!("`max_gram_length` is {most}, but `ngram_counts` ends at {known}");
        return Err(Fault::malformed(message));
    }
    let mut shape = x.shape(operand);
    match shape.last_mut() {
        Some(last) if x.rank(operand) <= 2 => *last = Dim::from(ngrams.width()),
        _ => return Err(Fault::malformed("the operand must have one or two dimensions")),
    }
    let result = TensorType::new(DType::F32, shape);
    Ok(vec![x.call1(Routine::CountNgrams(ngrams), &[operand], result)?])
}

/// Numbers as text, or text as numbers; the value itself if it is neither.
pub(super) fn converted(x: &mut Use<'_, '_, '_>, v: V, to: DType) -> Result<Option<V>, Fault> {
    let result = TensorType::new(to, x.shape(v));
    match (x.dtype(v), to) {
        (from, to) if from == to => Ok(Some(v)),
        (DType::String, _) => x.call1(Routine::Parse { to }, &[v], result).map(Some),
        (_, DType::String) => x.call1(Routine::Format, &[v], result).map(Some),
        _ => Ok(None),
    }
}
