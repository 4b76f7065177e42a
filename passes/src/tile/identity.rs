//! What makes two kernels the same, and what makes them the same but for their sizes.
//!
//! Invariant: names of kernels play no part; equal identities mean kernels that compute the same.

use kiln_ir::kernel::Kernel;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt::Write;
use xxhash_rust::xxh3::xxh3_128;

/// A kernel by its content.
///
/// A kernel of the same family has the same text but for its numbers: extents, shapes and what is
/// computed from them, and constants of its scalar programs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Identity {
    /// A hash of the text without its numbers.
    pub family: String,
    /// The numbers, in the order of the text.
    pub numbers: Vec<u64>,
}

impl Identity {
    /// The identity of a kernel, whose operands in `constants` may be laid out as it likes.
    pub fn of(kernel: &Kernel, constants: &BTreeSet<usize>) -> Self {
        Self::of_text(&text(kernel, constants))
    }

    fn of_text(text: &str) -> Self {
        let mut numbers = Vec::new();
        let mut rest = String::with_capacity(text.len());
        let mut digits = String::new();
        let mut in_word = false;
        for c in text.chars().chain(['\n']) {
            if c.is_ascii_digit() && !in_word {
                digits.push(c);
                continue;
            }
            if !digits.is_empty() {
                // What is longer than that is part of the family.
                match digits.parse() {
                    Ok(number) => {
                        numbers.push(number);
                        rest.push('#');
                    }
                    Err(_) => rest.push_str(&digits),
                }
                digits.clear();
            }
            in_word = c.is_alphanumeric() || c == '_';
            rest.push(c);
        }
        let mut family = String::new();
        // Writing to a string does not fail.
        let _ = write!(family, "{:032x}", xxh3_128(rest.as_bytes()));
        Identity { family, numbers }
    }

    /// How far the sizes of two kernels of one family are apart: how many times one would have to be
    /// doubled, all numbers together; `None` if they are of different families.
    pub fn distance(&self, other: &Identity) -> Option<f64> {
        let same = self.family == other.family && self.numbers.len() == other.numbers.len();
        let doublings = |(&a, &b): (&u64, &u64)| match (a, b) {
            _ if a == b => 0.0,
            (0, _) | (_, 0) => f64::INFINITY,
            _ => (a as f64 / b as f64).log2().abs(),
        };
        same.then(|| self.numbers.iter().zip(&other.numbers).map(doublings).sum())
    }
}

/// All that a kernel says but its name. Its text says everything but the bits of NaN constants.
pub(crate) fn text(kernel: &Kernel, constants: &BTreeSet<usize>) -> String {
    let text = kernel.to_string();
    let body = text.split_once('(').map_or(text.as_str(), |(_, rest)| rest);
    format!("{constants:?} {body}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_numbers_and_types_and_names_are_not() {
        let [a, b, c, d] =
            ["x0: f32[64, n]", "x0: f32[128, n]", "x0: f16[64, n]", "x0: f32[64, 4]"]
                .map(Identity::of_text);
        assert_eq!(a.numbers, [64]);
        assert_eq!(a.family, b.family);
        assert_eq!(a.distance(&b), Some(1.0));
        assert_eq!(a.distance(&a), Some(0.0));
        assert_ne!(a.family, c.family);
        assert_eq!(a.distance(&d), None);
    }

    #[test]
    fn nothing_is_near_to_zero_and_long_numbers_are_kept() {
        let zero = Identity::of_text("[0]");
        assert_eq!(zero.distance(&Identity::of_text("[1]")), Some(f64::INFINITY));
        let long = ["99999999999999999999999", "99999999999999999999998"].map(Identity::of_text);
        assert_ne!(long[0].family, long[1].family);
    }
}
