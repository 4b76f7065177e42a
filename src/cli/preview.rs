//! The first elements of a result, as text and as JSON: numbers, strings, and what lists hold.
//!
//! Invariant: the work is bounded by what is shown, but for the least, the mean and the most.

use super::output;
use kiln::{DType, Tensor};
use serde_json::Value;

/// Elements that are shown.
const SHOWN: usize = 8;
/// How deep lists in lists are shown.
const DEPTH: usize = 3;

/// The first elements for a report; elements of lists are reports of their own.
pub fn first(tensor: &Tensor) -> Vec<Value> {
    elements(tensor, DEPTH)
}

fn elements(tensor: &Tensor, depth: usize) -> Vec<Value> {
    if let Ok(strings) = tensor.strings() {
        return strings.iter().take(SHOWN).map(|text| Value::from(text.as_ref())).collect();
    }
    if let Ok(list) = tensor.list() {
        let part = |part: &Tensor| {
            let first = if depth > 0 { elements(part, depth - 1) } else { Vec::new() };
            serde_json::json!({ "dtype": part.dtype().to_string(), "shape": part.sizes(), "first": first })
        };
        return list.iter().take(SHOWN).map(part).collect();
    }
    let numbers = tensor.to_f64();
    numbers.into_iter().take(SHOWN).map(Value::from).collect()
}

/// Prints a result's type and first elements.
pub fn show(name: &str, tensor: &Tensor) {
    shown(name, tensor, 0);
}

fn shown(name: &str, tensor: &Tensor, depth: usize) {
    let (pad, dtype) = ("  ".repeat(depth), tensor.dtype());
    if let (true, Ok(list)) = (dtype.is_list(), tensor.list()) {
        output::line(format!("{pad}{name}: {dtype} of {}", list.len()));
        if depth < DEPTH {
            for (number, part) in list.iter().take(SHOWN).enumerate() {
                shown(&format!("[{number}]"), part, depth + 1);
            }
        }
        if list.len() > SHOWN || depth == DEPTH && !list.is_empty() {
            output::line(format!("{pad}  …"));
        }
        return;
    }
    let sizes: Vec<String> = tensor.sizes().iter().map(usize::to_string).collect();
    output::line(format!("{pad}{name}: {dtype}[{}]", sizes.join(", ")));
    let (first, count) = match tensor.strings() {
        Ok(strings) => {
            let quoted = strings.iter().take(SHOWN).map(|text| format!("{text:?}"));
            (quoted.collect::<Vec<String>>(), strings.len())
        }
        Err(_) => {
            let values = tensor.to_f64();
            (values.iter().take(SHOWN).map(|value| number(*value)).collect(), values.len())
        }
    };
    let more = if count > SHOWN { " …" } else { "" };
    if !first.is_empty() {
        output::line(format!("{pad}  {}{more}", first.join(" ")));
    }
    if count > SHOWN && dtype != DType::String {
        spread(&pad, &tensor.to_f64());
    }
}

/// The least, the mean and the most of the numbers that are finite.
fn spread(pad: &str, values: &[f64]) {
    let finite: Vec<f64> = values.iter().copied().filter(|value| value.is_finite()).collect();
    let (least, most) =
        finite.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), &v| (a.min(v), b.max(v)));
    if !finite.is_empty() {
        let mean = finite.iter().sum::<f64>() / finite.len() as f64;
        let [least, mean, most] = [least, mean, most].map(number);
        output::line(format!("{pad}  min {least}  mean {mean}  max {most}"));
    }
    let other = values.len() - finite.len();
    if other > 0 {
        output::line(format!("{pad}  {other} elements are infinite or NaN"));
    }
}

/// Few digits, and the exponent only where it helps.
fn number(value: f64) -> String {
    if value == value.trunc() && value.abs() < 1e15 {
        return format!("{value}");
    }
    if (1e-3..1e6).contains(&value.abs()) { format!("{value:.5}") } else { format!("{value:.4e}") }
}
