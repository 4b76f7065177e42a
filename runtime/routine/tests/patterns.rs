//! Regular expressions against ONNX Runtime (`scripts/patterns.py`).
//!
//! Invariant: what ONNX Runtime refuses is refused, and what it matches is matched.

use kiln_routine::Pattern;
use std::collections::BTreeMap;

#[derive(serde::Deserialize)]
struct Cases {
    texts: Vec<String>,
    patterns: BTreeMap<String, Option<Vec<String>>>,
}

#[test]
fn patterns_are_those_of_re2() {
    let cases: Cases = serde_json::from_str(include_str!("patterns.json")).unwrap();
    for (pattern, expected) in cases.patterns {
        let found = Pattern::new(&pattern).ok().map(|made| {
            let texts = cases.texts.iter().filter(|text| made.matches(text));
            texts.cloned().collect::<Vec<_>>()
        });
        assert_eq!(found, expected, "{pattern}");
    }
}

#[test]
fn what_cannot_be_expressed_or_takes_too_much_is_refused() {
    let nested = |depth: usize| format!("{}a{}", "(".repeat(depth), ")".repeat(depth));
    assert!(Pattern::new(&nested(200)).is_ok());
    let unclosed = "[[:".repeat(100_000);
    for pattern in
        [r"\C", r"\x{D800}", &nested(100_000), r"(((\pL{100}){100}){100}){100}", &unclosed]
    {
        let error = Pattern::new(pattern).unwrap_err();
        assert!(error.message.starts_with("the pattern cannot be used: "), "{error}");
    }
}
