//! When an output is the expected one, as ONNX's own test runner sees it.
//!
//! Invariant: type and shape are always equal, and NaN and infinities only agree with themselves;
//! only how far numbers may be apart is a choice.

use kiln_ir::accuracy::Tolerance;
use kiln_tensor::{DType, Tensor};
use serde::Deserialize;

/// How far an output may be from the expected one: `|a - e| ≤ absolute + relative · |e|`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Closeness {
    /// Relative part.
    pub relative: f64,
    /// Absolute part.
    pub absolute: f64,
}

/// ONNX's own backend-test tolerances.
pub const ONNX_CLOSENESS: Closeness = Closeness { relative: 1e-3, absolute: 1e-7 };

/// Two units in the last place of bfloat16: ONNX's runner allows at least that for the type.
const BFLOAT16_RELATIVE: f64 = 0.015625;

/// What a case says of how its outputs are compared: ONNX's `data.json`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// Relative part of the tolerance.
    pub rtol: Option<f64>,
    /// Absolute part of the tolerance.
    pub atol: Option<f64>,
    /// The outputs are drawn at random: they have the type and the shape of the expected ones, and
    /// lie in their range.
    pub random: bool,
    /// What is known of the errors behind each output, if that decides and not a tolerance.
    pub accuracy: Vec<Accuracy>,
}

/// What is known of the errors in an expected output, which was computed in the types of the model.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
pub struct Accuracy {
    /// The coarsest unit roundoff of any value behind it; 0 if no value was rounded.
    pub unit: f64,
    /// The largest magnitude of it and of any value behind it.
    pub magnitude: f64,
    /// Nodes behind it in a row, each of which rounds its result.
    pub nodes: u64,
}

impl Accuracy {
    /// How far a backend's result may be from it, if so many steps of the computation round. On
    /// top of the bounds between two implementations, values between nodes that are coarser than
    /// the result add their roundings.
    pub fn tolerance(&self, dtype: DType, steps: u64) -> Tolerance {
        if !dtype.is_float() {
            return Tolerance::EXACT;
        }
        let base = Tolerance::for_type(dtype, steps.max(self.nodes)).between_two();
        let between = if self.unit > f64::from(f32::EPSILON) || self.unit > dtype.unit_roundoff() {
            2.0 * self.nodes as f64 * self.unit
        } else {
            0.0
        };
        let tolerance = Tolerance {
            relative: base.relative + between,
            absolute: base.absolute + between,
            ..base
        };
        tolerance.with_magnitude(self.magnitude)
    }
}

impl Settings {
    /// These, except for what `others` say.
    pub fn overridden_by(self, others: Settings) -> Settings {
        Settings {
            rtol: others.rtol.or(self.rtol),
            atol: others.atol.or(self.atol),
            random: self.random || others.random,
            accuracy: if others.accuracy.is_empty() { self.accuracy } else { others.accuracy },
        }
    }

    /// The tolerances, ONNX's where nothing is said.
    pub fn closeness(&self) -> Closeness {
        Closeness {
            relative: self.rtol.unwrap_or(ONNX_CLOSENESS.relative),
            absolute: self.atol.unwrap_or(ONNX_CLOSENESS.absolute),
        }
    }

    /// What differs between an output and the expected one, if anything.
    pub fn difference(&self, actual: &Tensor, expected: &Tensor) -> Option<String> {
        if actual.dtype() != expected.dtype() {
            return Some(format!("type is {}, expected {}", actual.dtype(), expected.dtype()));
        }
        if actual.sizes() != expected.sizes() {
            return Some(format!("shape is {:?}, expected {:?}", actual.sizes(), expected.sizes()));
        }
        match actual.dtype() {
            dtype if dtype.is_handle() => return objects(self, actual, expected),
            DType::C64 | DType::C128 => {
                return self.difference(&parts(actual)?, &parts(expected)?);
            }
            _ => {}
        }
        if self.random {
            return outside(&actual.to_f64(), &expected.to_f64());
        }
        values_differ(actual, expected, self.closeness())
    }
}

/// What of `actual` is not between the smallest and the largest of `expected`.
fn outside(actual: &[f64], expected: &[f64]) -> Option<String> {
    let (least, most) = expected
        .iter()
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(least, most), &e| (least.min(e), most.max(e)));
    let stray = actual.iter().find(|&a| !(least..=most).contains(a))?;
    Some(format!("{stray} is not between {least} and {most}"))
}

fn values_differ(actual: &Tensor, expected: &Tensor, closeness: Closeness) -> Option<String> {
    if actual.bytes() == expected.bytes() {
        return None;
    }
    let relative = match expected.dtype() {
        DType::BF16 => closeness.relative.max(BFLOAT16_RELATIVE),
        _ => closeness.relative,
    };
    let (a, e) = (actual.to_f64(), expected.to_f64());
    let mut wrong = 0usize;
    let mut worst: Option<(usize, f64)> = None;
    for (index, (&a, &e)) in a.iter().zip(&e).enumerate() {
        let equal = a == e || (a.is_nan() && e.is_nan());
        let excess = (a - e).abs() - (closeness.absolute + relative * e.abs());
        if equal || excess <= 0.0 {
            continue;
        }
        wrong += 1;
        // A NaN on one side only is worse than any number.
        let excess = if excess.is_nan() { f64::INFINITY } else { excess };
        if worst.is_none_or(|(_, most)| excess > most) {
            worst = Some((index, excess));
        }
    }
    worst.map(|(index, _)| {
        format!(
            "{wrong} of {} values differ; worst at {:?}: {} instead of {}",
            a.len(),
            coordinates(index, expected.sizes()),
            a[index],
            e[index]
        )
    })
}

fn coordinates(mut index: usize, sizes: &[usize]) -> Vec<usize> {
    let mut position = vec![0; sizes.len()];
    for (slot, &size) in position.iter_mut().zip(sizes).rev() {
        *slot = index % size.max(1);
        index /= size.max(1);
    }
    position
}

/// Real and imaginary parts of complex numbers, in a last dimension.
fn parts(tensor: &Tensor) -> Option<Tensor> {
    let of = if tensor.dtype() == DType::C64 { DType::F32 } else { DType::F64 };
    let sizes = [tensor.sizes(), &[2]].concat();
    Tensor::from_storage(of, sizes, tensor.storage().clone()).ok()
}

/// What differs between strings, or between the elements of lists.
fn objects(by: &Settings, actual: &Tensor, expected: &Tensor) -> Option<String> {
    if let (Ok(a), Ok(e)) = (actual.strings(), expected.strings()) {
        let mut pairs = a.iter().zip(&e);
        return pairs.find(|(a, e)| a != e).map(|(a, e)| format!("{a:?} instead of {e:?}"));
    }
    let (Ok(a), Ok(e)) = (actual.lists(), expected.lists()) else {
        return Some("holds objects that cannot be read".to_owned());
    };
    for (a, e) in a.iter().zip(&e) {
        if a.len() != e.len() {
            return Some(format!("has {} elements, expected {}", a.len(), e.len()));
        }
        let mut pairs = a.iter().zip(e.iter()).enumerate();
        let found =
            pairs.find_map(|(n, (a, e))| Some(format!("element {n}: {}", by.difference(a, e)?)));
        if found.is_some() {
            return found;
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn floats(sizes: Vec<usize>, values: &[f32]) -> Tensor {
        Tensor::from_slice(sizes, values).unwrap()
    }

    #[test]
    fn differences_are_found_and_placed() {
        let usual = Settings::default();
        let expected = floats(vec![2, 2], &[1., 2., f32::NAN, f32::INFINITY]);
        let near = floats(vec![2, 2], &[1.0005, 2., f32::NAN, f32::INFINITY]);
        assert_eq!(usual.difference(&near, &expected), None);
        let far = floats(vec![2, 2], &[1., 2., f32::NAN, 5.]);
        let message = usual.difference(&far, &expected).unwrap();
        assert!(message.contains("1 of 4") && message.contains("[1, 1]"), "{message}");
        let nan = floats(vec![2, 2], &[f32::NAN, 2., 3., f32::INFINITY]);
        assert!(usual.difference(&nan, &expected).unwrap().contains("2 of 4"));
        let other = floats(vec![4], &[1., 2., 3., 4.]);
        assert!(usual.difference(&other, &expected).unwrap().contains("shape"));
    }

    #[test]
    fn a_case_may_have_tolerances_of_its_own() {
        let (one, off) = (floats(vec![1], &[1.]), floats(vec![1], &[1.1]));
        let wide = Settings { rtol: Some(0.2), ..Settings::default() };
        assert!(Settings::default().difference(&off, &one).is_some());
        assert_eq!(wide.difference(&off, &one), None);
        let strict = wide.overridden_by(Settings { rtol: Some(0.01), ..Settings::default() });
        assert!(strict.difference(&off, &one).is_some());
        let of = |value: f64| Tensor::from_f64(DType::BF16, vec![1], &[value]).unwrap();
        assert_eq!(Settings::default().difference(&of(1.0078125), &of(1.0)), None);
        assert!(Settings::default().difference(&of(1.03125), &of(1.0)).is_some());
    }

    #[test]
    fn coarse_values_in_between_widen_the_bound() {
        let fine = Accuracy { unit: f64::from(f32::EPSILON) / 2.0, magnitude: 1.0, nodes: 2 };
        let half = Accuracy { unit: 2f64.powi(-11), ..fine };
        let (one, near) = (floats(vec![1], &[1.]), floats(vec![1], &[1.001]));
        let agrees = |accuracy: Accuracy| {
            accuracy.tolerance(DType::F32, 4).compare(&near, &one).unwrap().agrees()
        };
        assert!(!agrees(fine) && agrees(half));
        assert_eq!(half.tolerance(DType::I64, 4), Tolerance::EXACT);
    }

    #[test]
    fn random_outputs_stay_in_the_range() {
        let random = Settings { random: true, ..Settings::default() };
        let expected = floats(vec![3], &[0., 1., 1.]);
        assert_eq!(random.difference(&floats(vec![3], &[1., 0., 0.]), &expected), None);
        assert!(random.difference(&floats(vec![3], &[1., 0., 2.]), &expected).is_some());
        assert!(random.difference(&floats(vec![3], &[1., 0., f32::NAN]), &expected).is_some());
        assert!(random.difference(&floats(vec![2], &[1., 0.]), &expected).is_some());
    }
}
