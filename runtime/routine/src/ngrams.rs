//! Weighted counts of n-grams.
//!
//! Invariant: an n-gram takes elements that are equally far apart, 1 to `skips + 1` places.

use crate::RoutineError;
use kiln_tensor::{DType, Tensor};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::sync::Arc;

/// Which n-grams are counted, and where.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ngrams {
    /// What counts become.
    pub weighting: Weighting,
    /// Least length.
    pub least: usize,
    /// Greatest length.
    pub most: usize,
    /// Most elements between neighbours.
    pub skips: usize,
    /// For each length from 1 on, where its n-grams start in the pool.
    pub starts: Vec<usize>,
    /// For each n-gram of the pool, its place in the result.
    pub places: Vec<usize>,
    /// The elements of all n-grams, one after the other.
    pub pool: Pool,
    /// For each n-gram its weight; 1 if there are none.
    pub weights: Vec<f32>,
}

/// Elements of n-grams.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Pool {
    /// Integers.
    Integers(Vec<i64>),
    /// Strings.
    Strings(Vec<String>),
}

/// What counts become.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Weighting {
    /// They stay.
    Count,
    /// The weight of what occurs at all.
    Weight,
    /// Times the weight.
    Both,
}

/// Elements that compare, of either kind.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Item {
    Integer(i64),
    String(Arc<str>),
}

impl Ngrams {
    /// Elements of a result's row.
    pub fn width(&self) -> usize {
        self.places.iter().max().map_or(0, |&place| place.saturating_add(1))
    }

    fn entries(&self) -> Result<HashMap<Vec<Item>, usize>, RoutineError> {
        let pool: Vec<Item> = match &self.pool {
            Pool::Integers(values) => values.iter().map(|&value| Item::Integer(value)).collect(),
            Pool::Strings(texts) => texts.iter().map(|t| Item::String(t.as_str().into())).collect(),
        };
        let mut entries = HashMap::new();
        for (number, &start) in self.starts.iter().enumerate() {
            let end = self.starts.get(number + 1).copied().unwrap_or(pool.len());
            let part = pool.get(start..end);
            let part = part.ok_or_else(|| RoutineError::new("the pool's parts do not fit it"))?;
            for ngram in part.chunks_exact(number + 1) {
                let entry = entries.len();
                entries.entry(ngram.to_vec()).or_insert(entry);
            }
        }
        if entries.len() != self.places.len() {
            let (found, places) = (entries.len(), self.places.len());
            return Err(RoutineError::new(format!("{places} places for {found} n-grams")));
        }
        Ok(entries)
    }

    pub(crate) fn count(&self, [x]: &[Tensor; 1]) -> Result<Tensor, RoutineError> {
        let items: Vec<Item> = match x.dtype() {
            DType::String => x.strings()?.into_iter().map(Item::String).collect(),
            dtype if dtype.is_integer() => x.to_i64().into_iter().map(Item::Integer).collect(),
            dtype => return Err(RoutineError::new(format!("there are no n-grams of {dtype}"))),
        };
        let (rows, columns) = match *x.sizes() {
            [columns] => (1, columns),
            [rows, columns] => (rows, columns),
            _ => return Err(RoutineError::new("needs one or two dimensions")),
        };
        let (entries, width) = (self.entries()?, self.width());
        let longest = entries.keys().map(Vec::len).max().unwrap_or(0);
        let mut sizes = x.sizes().to_vec();
        sizes[x.sizes().len() - 1] = width;
        let mut result = Tensor::zeros(DType::F32, sizes)?;
        let counts = result.as_mut_slice::<f32>()?;
        let mut seen = vec![0u64; self.places.len()];
        for row in 0..rows {
            seen.fill(0);
            let items = &items[row * columns..(row + 1) * columns];
            for length in self.least..=self.most.min(longest) {
                // The distance of neighbours does not matter to one element alone.
                let skips = if length == 1 { 0 } else { self.skips };
                for distance in 1..=skips.saturating_add(1).min(columns.max(1)) {
                    let reach = (length - 1).saturating_mul(distance);
                    for start in 0..columns.saturating_sub(reach) {
                        let ngram: Vec<Item> =
                            (0..length).map(|n| items[start + n * distance].clone()).collect();
                        if let Some(&entry) = entries.get(&ngram) {
                            seen[entry] += 1;
                        }
                    }
                }
            }
            for (entry, &count) in seen.iter().enumerate().filter(|(_, count)| **count > 0) {
                let weight = self.weights.get(entry).copied().unwrap_or(1.0);
                counts[row * width + self.places[entry]] = match self.weighting {
                    Weighting::Count => count as f32,
                    Weighting::Weight => weight,
                    Weighting::Both => count as f32 * weight,
                };
            }
        }
        Ok(result)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_with_skips() {
        let ngrams = Ngrams {
            weighting: Weighting::Count,
            least: 1,
            most: 2,
            skips: 1,
            starts: vec![0, 1],
            places: vec![1, 0],
            pool: Pool::Integers(vec![5, 5, 6]),
            weights: Vec::new(),
        };
        let x = Tensor::from_slice(vec![2, 3], &[5i32, 6, 5, 5, 9, 6]).unwrap();
        let counts = ngrams.count(&[x]).unwrap();
        assert_eq!((counts.sizes(), counts.to_f64()), (&[2, 2][..], vec![1.0, 2.0, 1.0, 1.0]));
    }
}
