//! What operators mean, in each version that changes it: small models with the results that ONNX
//! Runtime has for them (`cases/bless.py` writes those).
//!
//! Invariant: every case is imported with its sizes open as written, verified and evaluated.

use crate::written::{Case, cases, difference};
use kiln_frontend::{ImportOptions, Model, import};
use kiln_ir::{evaluate, verify};
use prost::Message;

/// What is wrong with a case, if something is.
fn fault(case: &Case) -> Option<String> {
    let model = Model::from_bytes(case.model.encode_to_vec()).unwrap();
    let graph = match import(&model, &ImportOptions::default()) {
        Ok(graph) => graph,
        Err(report) => return Some(report.to_string()),
    };
    if let Err(error) = verify(&graph) {
        return Some(error.to_string());
    }
    for (name, expected) in &case.types {
        let names = graph.output_names().iter();
        let place = names.into_iter().position(|output| **output == **name).unwrap();
        let actual = graph.ty(graph.outputs()[place]).to_string();
        if actual != *expected {
            return Some(format!("`{name}` is of type {actual} instead of {expected}"));
        }
    }
    let results = match evaluate(&graph, &case.operands) {
        Ok(results) => results,
        Err(error) => return Some(error.to_string()),
    };
    assert_eq!(results.len(), case.expected.len(), "{}", case.name);
    let mut pairs = results.iter().zip(&case.expected).zip(graph.output_names());
    pairs.find_map(|((actual, expected), name)| {
        Some(format!("`{name}` {}", difference(actual, expected)?))
    })
}

fn check(text: &str) {
    let cases = cases(text);
    assert!(!cases.is_empty());
    let faults = cases.iter().filter_map(|case| Some(format!("{}: {}", case.name, fault(case)?)));
    let faults: Vec<String> = faults.collect();
    assert!(faults.is_empty(), "{} of {} fail:\n{}", faults.len(), cases.len(), faults.join("\n"));
}

#[test]
fn what_operands_must_not_hold_is_refused_when_the_model_runs() {
    for case in cases(include_str!("cases/refused.txt")) {
        let model = Model::from_bytes(case.model.encode_to_vec()).unwrap();
        let graph = import(&model, &ImportOptions::default())
            .unwrap_or_else(|report| panic!("{}: {report}", case.name));
        verify(&graph).unwrap();
        let expected = case.fails.unwrap();
        match evaluate(&graph, &case.operands) {
            Ok(_) => panic!("{}: runs", case.name),
            Err(error) => {
                assert!(error.to_string().contains(&expected), "{}: {error}", case.name);
            }
        }
    }
}

macro_rules! families {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            check(include_str!(concat!("cases/", stringify!($name), ".txt")));
        })*

        /// The cases of every family.
        pub const FAMILIES: &[&str] =
            &[$(include_str!(concat!("cases/", stringify!($name), ".txt"))),*];
    };
}

families! {
    attention binary conversions gradients late learning losses microsoft movement normalisations old
    patches products recurrent reductions resizing sampling shapes signals symbols training unary
    windows
}
