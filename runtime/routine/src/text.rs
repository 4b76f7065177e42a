//! Strings: joined, cut, matched, found.
//!
//! Invariant: text is UTF-8, and a delimiter cuts between characters.

use crate::{Pattern, RoutineError};
use kiln_tensor::{DType, Objects, Tensor};
use std::collections::HashMap;
use std::sync::Arc;

/// A tensor of strings of a table.
pub(crate) fn strings(
    sizes: Vec<usize>,
    strings: impl IntoIterator<Item = impl AsRef<str>>,
    objects: &Arc<Objects>,
) -> Result<Tensor, RoutineError> {
    let handles: Vec<u64> = strings.into_iter().map(|text| objects.string(text.as_ref())).collect();
    Ok(objects.holding(DType::String, sizes, &handles)?)
}

pub(crate) fn concat([a, b]: &[Tensor; 2], objects: &Arc<Objects>) -> Result<Tensor, RoutineError> {
    if a.sizes() != b.sizes() {
        return Err(RoutineError::new("strings are joined in tensors of one shape"));
    }
    let (a_strings, b_strings) = (a.strings()?, b.strings()?);
    let joined = a_strings.iter().zip(&b_strings).map(|(a, b)| format!("{a}{b}"));
    strings(a.sizes().to_vec(), joined, objects)
}

pub(crate) fn split(
    [x]: &[Tensor; 1],
    delimiter: &str,
    most: Option<u64>,
    objects: &Arc<Objects>,
) -> Result<Vec<Tensor>, RoutineError> {
    let texts = x.strings()?;
    let parts: Vec<Vec<&str>> = texts.iter().map(|text| cut(text, delimiter, most)).collect();
    let width = parts.iter().map(Vec::len).max().unwrap_or(0);
    let counts: Vec<i64> = parts.iter().map(|parts| parts.len() as i64).collect();
    let padded = parts
        .iter()
        .flat_map(|parts| parts.iter().copied().chain(std::iter::repeat("")).take(width));
    let mut sizes = x.sizes().to_vec();
    sizes.push(width);
    let counts = Tensor::from_slice(x.sizes().to_vec(), &counts)?;
    Ok(vec![strings(sizes, padded, objects)?, counts])
}

/// The parts of a text; white space counts as one delimiter, and not at all at either end.
fn cut<'t>(text: &'t str, delimiter: &str, most: Option<u64>) -> Vec<&'t str> {
    let cuts = most.map_or(usize::MAX, |most| usize::try_from(most).unwrap_or(usize::MAX));
    if !delimiter.is_empty() {
        return match text {
            "" => Vec::new(),
            text => text.splitn(cuts.saturating_add(1), delimiter).collect(),
        };
    }
    let mut parts = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        let end = if parts.len() < cuts { rest.find(char::is_whitespace) } else { None };
        let (part, behind) = rest.split_at(end.unwrap_or(rest.len()));
        parts.push(part);
        rest = behind.trim_start();
    }
    parts
}

pub(crate) fn full_match([x]: &[Tensor; 1], pattern: &str) -> Result<Tensor, RoutineError> {
    let pattern = Pattern::new(pattern)?;
    let matches: Vec<u8> =
        x.strings()?.iter().map(|text| u8::from(pattern.matches(text))).collect();
    Ok(Tensor::from_bytes(DType::Bool, x.sizes().to_vec(), &matches)?)
}

pub(crate) fn find([x]: &[Tensor; 1], keys: &[String]) -> Result<Tensor, RoutineError> {
    let mut places: HashMap<&str, i64> = HashMap::with_capacity(keys.len());
    for (place, key) in (0..).zip(keys) {
        places.entry(key).or_insert(place);
    }
    let strings = x.strings()?;
    let found: Vec<i64> =
        strings.iter().map(|text| places.get(text.as_ref()).copied().unwrap_or(-1)).collect();
    Ok(Tensor::from_slice(x.sizes().to_vec(), &found)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_cut() {
        let cases: [(&str, &str, Option<u64>, &[&str]); 8] = [
            ("a.b.c", ".", None, &["a", "b", "c"]),
            ("a..b", ".", None, &["a", "", "b"]),
            ("a.b.c", ".", Some(1), &["a", "b.c"]),
            ("", ".", None, &[]),
            ("  hello   world ", "", None, &["hello", "world"]),
            (" a b  c ", "", Some(1), &["a", "b  c"]),
            ("a", "", Some(0), &["a"]),
            (" ", "", None, &[]),
        ];
        for (text, delimiter, most, expected) in cases {
            assert_eq!(cut(text, delimiter, most), expected, "{text:?}");
        }
    }

    #[test]
    fn all_of_a_text_must_match() {
        let x = Tensor::from_strings(vec![3], &["abc", "abcd", "ab\nc"]).unwrap();
        assert_eq!(
            full_match(std::slice::from_ref(&x).try_into().unwrap(), "a|abc").unwrap().bytes(),
            [1, 0, 0]
        );
        assert!(full_match(&[x], "(").is_err());
    }
}
