//! What makes two kernels the same, and what makes them the same but for their sizes.
//!
//! Invariant: names of kernels play no part; equal identities mean kernels that compute the same.

use kiln_ir::kernel::Kernel;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use xxhash_rust::xxh3::xxh3_128;

/// A kernel by its content.
///
/// A kernel of the same family has the same text but for its whole numbers: extents, shapes and what is computed from
/// them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Identity {
    /// A hash of the text without its whole numbers.
    pub family: String,
    /// The numbers, in the order of the text.
    pub numbers: Vec<u64>,
    /// Which of them are extents of axes; records of older versions do not say.
    #[serde(default)]
    pub extents: Vec<usize>,
}

/// What stands before the extent of an axis in the text of a kernel.
const EXTENT: &str = " < ";

impl Identity {
    /// The identity of a kernel, whose operands in `constants` may be laid out as it likes.
    pub fn of(kernel: &Kernel, constants: &BTreeSet<usize>) -> Self {
        Self::of_text(&text(kernel, constants))
    }

    fn of_text(text: &str) -> Self {
        let (mut numbers, mut extents) = (Vec::new(), Vec::new());
        let mut family = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            let length = match () {
                () if c.is_ascii_digit() => number(rest),
                () => rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len()),
            };
            let (token, after) = rest.split_at(length.max(c.len_utf8()));
            // Fractions, and what is longer than any size, are part of the family.
            match token.parse() {
                Ok(number) => {
                    if family.ends_with(EXTENT) {
                        extents.push(numbers.len());
                    }
                    numbers.push(number);
                    family.push('#');
                }
                Err(_) => family.push_str(token),
            }
            rest = after;
        }
        Identity { family: format!("{:032x}", xxh3_128(family.as_bytes())), numbers, extents }
    }

    /// How far the sizes of two kernels of one family are apart: how many times extents of one would have to be
    /// doubled, equal ones once; `None` if they are of different families.
    pub fn distance(&self, other: &Identity) -> Option<f64> {
        let same = self.family == other.family && self.numbers.len() == other.numbers.len();
        let pairs = self.numbers.iter().copied().zip(other.numbers.iter().copied());
        let pairs: Vec<(u64, u64)> = pairs.collect();
        // Nothing becomes of zero by doubling, whatever it stands for.
        let far = pairs.iter().any(|&(a, b)| (a == 0) != (b == 0));
        let extents: BTreeSet<(u64, u64)> =
            self.extents.iter().filter_map(|&at| pairs.get(at).copied()).collect();
        let doublings = |&(a, b): &(u64, u64)| match a == b {
            true => 0.0,
            false => (a as f64 / b as f64).log2().abs(),
        };
        let all = extents.iter().map(doublings).sum();
        same.then_some(if far { f64::INFINITY } else { all })
    }
}

/// Bytes of the number that a text begins with, whole or not.
fn number(text: &str) -> usize {
    let digits = |from: usize| {
        let rest = text.get(from..).unwrap_or_default();
        rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len())
    };
    let mut length = digits(0);
    let fraction = text[length..].starts_with('.') && digits(length + 1) > 0;
    if fraction {
        length += 1 + digits(length + 1);
    }
    for exponent in ["e-", "e"] {
        if text[length..].starts_with(exponent) && digits(length + exponent.len()) > 0 {
            return length + exponent.len() + digits(length + exponent.len());
        }
    }
    length
}

/// All that a kernel says but its name. Its text says everything but the bits of NaN constants.
pub(crate) fn text(kernel: &Kernel, constants: &BTreeSet<usize>) -> String {
    let text = kernel.to_string();
    let body = text.split_once('(').map_or(text.as_str(), |(_, rest)| rest);
    // As words: which operands they are is no size.
    let constants: Vec<String> = constants.iter().map(|number| format!("c{number}")).collect();
    format!("{} {body}", constants.join(" "))
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
        assert_ne!(a.family, c.family);
        assert_eq!(a.distance(&d), None);
    }

    #[test]
    fn an_extent_that_doubles_is_one_doubling_however_often_it_stands() {
        let of = |n: u64, k: u64| {
            Identity::of_text(&format!(
                "x0: f32[{n}, {k}] x1: f32[{}] a0 = parallel m < {n} a1 = reduction k < {k} a2 = parallel m < {n}",
                n * k
            ))
        };
        assert_eq!(of(64, 48).distance(&of(64, 48)), Some(0.0));
        assert_eq!(of(64, 48).distance(&of(128, 48)), Some(1.0));
        assert_eq!(of(64, 48).distance(&of(128, 96)), Some(2.0));
        assert_eq!(of(64, 48).distance(&of(16, 48)), Some(2.0));
    }

    #[test]
    fn fractions_are_no_sizes() {
        for [a, b] in [["0.05", "0.5"], ["1e-5", "1e-6"], ["2.0", "3.0"], ["1e5", "1e6"]] {
            let [a, b] = [a, b].map(|text| Identity::of_text(&format!("s0: f32 = {text}")));
            assert!(a.numbers.is_empty() && a.family != b.family, "{a:?} {b:?}");
        }
        assert_eq!(Identity::of_text("n: 1..=8, m: 2..").numbers, [1, 8, 2]);
    }

    #[test]
    fn nothing_is_near_to_zero_and_long_numbers_are_kept() {
        let zero = Identity::of_text("[0]");
        assert_eq!(zero.distance(&Identity::of_text("[1]")), Some(f64::INFINITY));
        let long = ["99999999999999999999999", "99999999999999999999998"].map(Identity::of_text);
        assert_ne!(long[0].family, long[1].family);
    }
}
