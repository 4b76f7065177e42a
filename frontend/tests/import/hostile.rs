//! Numbers that no model should have, in every attribute and every constant of every case.
//!
//! Invariant: importing ends, in a graph that keeps the rules or in a report.

use crate::written::{Case, case, cases};
use kiln_frontend::proto::ModelProto;
use kiln_frontend::{ImportOptions, Model, import};
use kiln_ir::verify;
use prost::Message;
use std::time::{Duration, Instant};

const INTEGERS: [i64; 7] = [i64::MIN, -2, -1, 0, 3, 1 << 40, i64::MAX];
const FLOATS: [f32; 5] = [0.0, -1.0, f32::NAN, f32::INFINITY, 1e-30];

/// The model with one number changed, for every number and every value.
fn changed(model: &ModelProto) -> Vec<ModelProto> {
    let mut all = Vec::new();
    let graph = model.graph.as_ref().unwrap();
    for (node, proto) in graph.node.iter().enumerate() {
        for (place, attribute) in proto.attribute.iter().enumerate() {
            let mut with = |change: &dyn Fn(&mut kiln_frontend::proto::AttributeProto)| {
                let mut model = model.clone();
                change(&mut model.graph.as_mut().unwrap().node[node].attribute[place]);
                all.push(model);
            };
            for value in INTEGERS {
                if attribute.i.is_some() {
                    with(&|attribute| attribute.i = Some(value));
                }
                for number in 0..attribute.ints.len() {
                    with(&|attribute| attribute.ints[number] = value);
                }
            }
            for value in FLOATS {
                if attribute.f.is_some() {
                    with(&|attribute| attribute.f = Some(value));
                }
                for number in 0..attribute.floats.len() {
                    with(&|attribute| attribute.floats[number] = value);
                }
            }
            with(&|attribute| attribute.ints.clear());
        }
    }
    for (place, tensor) in graph.initializer.iter().enumerate() {
        let width = match tensor.data_type() {
            1 => 4,
            7 => 8,
            _ => continue,
        };
        let bytes = tensor.raw_data.as_ref().unwrap();
        // The first few stand for all: weights are not looked at.
        for number in 0..(bytes.len() / width).min(8) {
            let mut with = |value: &[u8]| {
                let mut changed = bytes.to_vec();
                changed[number * width..][..width].copy_from_slice(value);
                let mut model = model.clone();
                let graph = model.graph.as_mut().unwrap();
                graph.initializer[place].raw_data = Some(changed.into());
                all.push(model);
            };
            match width {
                8 => INTEGERS.iter().for_each(|value| with(&value.to_le_bytes())),
                _ => FLOATS.iter().for_each(|value| with(&value.to_le_bytes())),
            }
        }
    }
    all
}

/// How many models were tried.
fn check(text: &str) -> usize {
    let mut tried = 0;
    for Case { name, model, .. } in cases(text) {
        for (number, changed) in changed(&model).into_iter().enumerate() {
            let model = Model::from_bytes(changed.encode_to_vec()).unwrap();
            tried += 1;
            if let Ok(graph) = import(&model, &ImportOptions::default()) {
                verify(&graph).unwrap_or_else(|error| panic!("{name}, change {number}: {error}"));
            }
        }
    }
    tried
}

#[test]
fn any_number_ends_in_a_graph_or_a_report() {
    let tried: usize = crate::operators::FAMILIES.iter().map(|text| check(text)).sum();
    assert!(tried > 4000, "{tried}");
}

#[test]
fn expressions_do_not_grow_without_bound() {
    let start = "case growth opset 17
                 input x f32[n=2,m=3] wave
                 const two i64[] 2
                 node Size x > s0";
    for (step, end) in [
        ("node Mul s#,s# > s+", "node Cast s# > y to=1"),
        ("node Add s#,two > a#\nnode Mul a#,s# > s+", "node Cast s# > y to=1"),
        (
            "node Mul s#,two > a#\nnode Max a#,s# > b#\nnode Div b#,two > c#\nnode Max c#,s# > s+",
            "node Cast s# > y to=1",
        ),
        ("node Add s#,two > a#\nnode Min a#,s# > b#\nnode Div a#,b# > s+", "node Cast s# > y to=1"),
        ("node Shape t# > q#\nnode Add q#,two > r#\nnode Tile t#,r# > t+", "node Abs t# > y"),
    ] {
        let numbered = |text: &str, at: usize| {
            text.replace('#', &at.to_string()).replace('+', &(at + 1).to_string())
        };
        let steps: Vec<String> = (0..60).map(|at| numbered(step, at)).collect();
        let text = format!(
            "{start}\nnode Identity x > t0\n{}\n{}\noutput y",
            steps.join("\n"),
            numbered(end, 60)
        );
        let model = Model::from_bytes(case(&text).model.encode_to_vec()).unwrap();
        let begun = Instant::now();
        if let Ok(graph) = import(&model, &ImportOptions::default()) {
            verify(&graph).unwrap();
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "{step}");
    }
}
