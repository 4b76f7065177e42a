//! Why cases failed, counted: reasons that differ in names and numbers only are one.
//!
//! Invariant: every failure is counted under exactly one reason.

use serde::Serialize;
use std::collections::BTreeMap;

/// A kind of failure, and how often it occurred.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Reason {
    /// What they have in common.
    pub reason: String,
    /// How many cases failed so.
    pub count: usize,
    /// One of them.
    pub example: String,
}

/// The reasons of failures, given by case name and message, the most frequent first.
pub fn frequent<'a>(failures: impl IntoIterator<Item = (&'a str, &'a str)>) -> Vec<Reason> {
    let mut counts: BTreeMap<String, (usize, &str)> = BTreeMap::new();
    for (name, message) in failures {
        counts.entry(kind(message)).or_insert((0, name)).0 += 1;
    }
    let mut reasons: Vec<Reason> = counts
        .into_iter()
        .map(|(reason, (count, example))| Reason { reason, count, example: example.to_owned() })
        .collect();
    reasons.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.reason.cmp(&b.reason)));
    reasons
}

/// A message without what is particular to one case: the first problem of several, names and lists
/// as `…`, numbers as `N`, no help.
fn kind(message: &str) -> String {
    let message = message.split("   help:").next().unwrap_or(message);
    let mut kind = String::with_capacity(message.len());
    let mut rest = message.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '`' => {
                rest.by_ref().find(|&c| c == '`');
                kind.push_str("`…`");
            }
            '[' if rest.peek().is_some_and(|c| c.is_ascii_digit() || *c == ']') => {
                rest.by_ref().find(|&c| c == ']');
                kind.push_str("[…]");
            }
            '0'..='9' if !kind.ends_with(|c: char| c.is_alphabetic() || c == '_') => {
                let mut last = c;
                // The exponent may have a sign.
                let goes_on = |c: &char, last| {
                    c.is_ascii_digit() || matches!(c, '.' | 'e') || (*c == '-' && last == 'e')
                };
                while let Some(c) = rest.next_if(|c| goes_on(c, last)) {
                    last = c;
                }
                kind.push('N');
            }
            c => kind.push(c),
        }
    }
    // A sign says nothing, nor what comes after the first of several problems.
    kind.replace("-N", "N").replace("problems", "problem")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_reasons_are_counted_together() {
        let reasons = frequent([
            ("a", "output `y`: 3 of 4 values differ; worst at [0, 1]: -1.5 instead of 2e-7"),
            ("b", "node `n` (ai.onnx Det opset 22): not supported [import/operator]"),
            ("c", "output `z`: 1 of 9 values differ; worst at []: 4 instead of 0.25"),
            ("d", "element type float8e4m3fn is not supported"),
        ]);
        let shown: Vec<(usize, &str, &str)> =
            reasons.iter().map(|r| (r.count, r.reason.as_str(), r.example.as_str())).collect();
        assert_eq!(
            shown,
            [
                (2, "output `…`: N of N values differ; worst at […]: N instead of N", "a"),
                (1, "element type float8e4m3fn is not supported", "d"),
                (1, "node `…` (ai.onnx Det opset N): not supported [import/operator]", "b"),
            ]
        );
    }
}
