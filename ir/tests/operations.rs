//! Every operation's reference evaluation against numbers that ONNX Runtime, or ONNX's own
//! reference implementation, gave for the same operands (`operations/*.txt`).
//!
//! Invariant: no expected number was computed by this project.
//!
//! A case is a line with its name after `#`, a line with the operation, a line for each operand,
//! a line after `=>` for each result, and an empty line.

use kiln_ir::{Op, text};
use kiln_tensor::{SymbolValues, Tensor};
use std::collections::BTreeSet;
use std::path::Path;

/// `f32[2, 3]: 1 2 3 4 5 6`
fn tensor(line: &str) -> Tensor {
    let (ty, values) = line.split_once(':').unwrap();
    let (dtype, sizes) = ty.trim_end_matches(']').split_once('[').unwrap();
    let sizes = sizes.split(", ").filter(|size| !size.is_empty());
    let sizes = sizes.map(|size| size.parse().unwrap()).collect();
    let values: Vec<f64> = values.split_whitespace().map(|value| value.parse().unwrap()).collect();
    Tensor::from_f64(dtype.parse().unwrap(), sizes, &values).unwrap()
}

fn check(name: &str, op: &Op, inputs: &[Tensor], expected: &[Tensor]) {
    let results = op.evaluate(inputs, &[], &SymbolValues::new());
    let results = results.unwrap_or_else(|error| panic!("{name}: {error}"));
    assert_eq!(results.len(), expected.len(), "{name}");
    for (result, expected) in results.iter().zip(expected) {
        assert_eq!(result.dtype(), expected.dtype(), "{name}");
        assert_eq!(result.sizes(), expected.sizes(), "{name}");
        let pairs = result.to_f64().into_iter().zip(expected.to_f64());
        for (place, (a, b)) in pairs.enumerate() {
            let same =
                a == b || a.is_nan() && b.is_nan() || (a - b).abs() <= 2e-6 * (1.0 + b.abs());
            assert!(same, "{name}: element {place} is {a}, not {b}\n{:?}", result.to_f64());
        }
    }
}

#[test]
fn operations_give_what_onnx_gives() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/operations");
    let mut seen = BTreeSet::new();
    for file in std::fs::read_dir(folder).unwrap() {
        let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
        for case in text.split("\n\n") {
            let mut lines = case.trim().lines();
            let name = lines.next().and_then(|line| line.strip_prefix("# ")).unwrap();
            let op = text::parse_operation(lines.next().unwrap()).unwrap();
            let (results, operands): (Vec<&str>, Vec<&str>) =
                lines.partition(|line| line.starts_with("=> "));
            let operands: Vec<Tensor> = operands.into_iter().map(tensor).collect();
            let expected: Vec<Tensor> = results.iter().map(|line| tensor(&line[3..])).collect();
            check(name, &op, &operands, &expected);
            seen.insert(op.name());
        }
    }
    // Those without a counterpart in ONNX, and those with bodies, are tested elsewhere.
    let others = [
        "Constant", "SizeOf", "Iota", "Bind", "Check", "Reshape", "Assume", "If", "Loop", "Fused",
        "Call",
    ];
    for name in Op::NAMES.iter().filter(|name| !others.contains(name)) {
        assert!(seen.contains(name), "{name} has no case");
    }
}
