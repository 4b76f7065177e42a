//! Functions of one and two numbers, at the precision that is documented and at the ends of their range.
//!
//! Invariant: each expected result is the standard library's, or a series of its own.

use crate::case::{Case, numbers, one};
use crate::kernels::{at, over_vectors, read, unary};
use kiln_ir::kernel::{Kernel, Scalar, ScalarOp, ScalarProgram, Stage};
use kiln_ir::op::{BinaryFn, UnaryFn};
use kiln_tensor::DType;

/// Arguments over a function's range, with its edges.
fn arguments(f: UnaryFn) -> Vec<f64> {
    use UnaryFn::*;
    let (low, high) = match f {
        Exp | Sigmoid | Silu => (-100.0, 88.0),
        Sinh | Cosh => (-88.0, 88.0),
        Log | Sqrt | Rsqrt => (0.0, 1e6),
        Asin | Acos | Atanh => (-0.999, 0.999),
        Acosh => (-1e4, 1e4),
        Sin | Cos => (-1000.0, 1000.0),
        Tan => (-1.5, 1.5),
        _ => (-12.0, 12.0),
    };
    let mut x: Vec<f64> =
        numbers(200, 10).iter().map(|x| low + (x + 1.0) / 2.0 * (high - low)).collect();
    x.extend(numbers(40, 11).iter().map(|x| (x * 1e-3).clamp(low, high)));
    x.extend([f64::NAN, low, high]);
    if !matches!(f, Sin | Cos | Tan | Asin | Acos | Acosh | Atanh) {
        x.extend([f64::INFINITY, 0.0]);
        if !matches!(f, Log | Sqrt | Rsqrt | Gelu | GeluTanh | Silu) {
            x.push(f64::NEG_INFINITY);
        }
    }
    x.iter().map(|x| f64::from(*x as f32)).collect()
}

/// 2/√π·e^(−x²)·Σ 2ⁿx²ⁿ⁺¹/(2n + 1)!!, whose terms all have one sign.
fn erf(x: f64) -> f64 {
    if x.abs() > 6.0 {
        return x.signum();
    }
    let (mut term, mut sum) = (x, x);
    for n in 1..200 {
        term *= 2.0 * x * x / f64::from(2 * n + 1);
        sum += term;
    }
    sum * (-x * x).exp() * 2.0 / std::f64::consts::PI.sqrt()
}

fn exact(f: UnaryFn, x: f64) -> Option<f64> {
    use UnaryFn::*;
    Some(match f {
        Neg => -x,
        Abs => x.abs(),
        Sign => {
            if x == 0.0 || x.is_nan() {
                x
            } else {
                x.signum()
            }
        }
        Exp => x.exp(),
        Log => x.ln(),
        Sqrt => x.sqrt(),
        Rsqrt => 1.0 / x.sqrt(),
        Reciprocal => 1.0 / x,
        Sin => x.sin(),
        Cos => x.cos(),
        Tan => x.tan(),
        Asin => x.asin(),
        Acos => x.acos(),
        Atan => x.atan(),
        Sinh => x.sinh(),
        Cosh => x.cosh(),
        Asinh => x.asinh(),
        Acosh => x.acosh(),
        Atanh => (x.ln_1p() - (-x).ln_1p()) / 2.0,
        Tanh => x.tanh(),
        Erf => erf(x),
        Sigmoid => 1.0 / (1.0 + (-x).exp()),
        Floor => x.floor(),
        Ceil => x.ceil(),
        Round => x.round_ties_even(),
        Relu => {
            if x < 0.0 {
                0.0
            } else {
                x
            }
        }
        Gelu => x * (1.0 + erf(x / std::f64::consts::SQRT_2)) / 2.0,
        GeluTanh => {
            let scale = (2.0 / std::f64::consts::PI).sqrt();
            x * (1.0 + (scale * (x + 0.044715 * x * x * x)).tanh()) / 2.0
        }
        Silu => x / (1.0 + (-x).exp()),
        IsNan => f64::from(u8::from(x.is_nan())),
        IsInf => f64::from(u8::from(x.is_infinite())),
        Not | BitNot => return None,
    })
}

#[test]
fn functions_are_as_precise_as_documented() {
    for (dtype, ulps) in [(DType::F32, 8.0), (DType::F64, 32.0)] {
        for f in UnaryFn::ALL {
            let x = arguments(f);
            let Some(expected) = x.iter().map(|x| exact(f, *x)).collect::<Option<Vec<f64>>>()
            else {
                continue;
            };
            let expected: Vec<f64> = match dtype {
                DType::F32 => expected.iter().map(|x| f64::from(*x as f32)).collect(),
                _ => expected,
            };
            let kernel = unary(f, dtype, "n");
            let sizes = [("n", x.len() as i64)];
            // The standard library's own atanh loses digits towards the ends.
            let ulps = if f == UnaryFn::Atanh { 64.0 } else { ulps };
            let tolerance = ulps * 2.0 * dtype.unit_roundoff();
            let case = Case::new(kernel, &sizes, vec![x], expected, tolerance);
            case.run(&one(&[64], &[(0, 32)], Some((0, 16))));
        }
    }
}

/// One function of two vectors.
fn binary(f: BinaryFn, dtype: DType, n: &str) -> Kernel {
    let mut finish = ScalarProgram::default();
    let (a, b) = (read(&mut finish, at(0, &[0]), dtype), read(&mut finish, at(1, &[0]), dtype));
    let y = finish.push(ScalarOp::Binary(f, a, b), dtype);
    finish.results.push(y);
    let (axes, body, combine, writes) = Default::default();
    let stage = Stage { axes, body, combine, finish, writes };
    over_vectors(&format!("{f:?}"), &["a", "b"], [dtype; 2], n, stage)
}

/// Zeros, numbers at the ends of f32, and some between.
const SPECIAL: [f64; 24] = [
    0.0,
    -0.0,
    1.0,
    -1.0,
    0.5,
    -0.5,
    2.0,
    3.0,
    -3.0,
    1.5,
    0.1,
    0.37,
    255.0,
    -1e4,
    1e7,
    123456792.0,
    1e10,
    1e-30,
    1e-40,
    1e30,
    3.4e38,
    f64::INFINITY,
    f64::NEG_INFINITY,
    f64::NAN,
];

#[test]
fn powers_and_remainders_of_special_numbers_are_those_of_c() {
    let exact = |f: BinaryFn, a: f64, b: f64| match f {
        BinaryFn::Pow => a.powf(b),
        _ => a % b,
    };
    for dtype in [DType::F32, DType::F64] {
        let kept = |x: &f64| if dtype == DType::F32 { f64::from(*x as f32) } else { *x };
        for f in [BinaryFn::Pow, BinaryFn::Rem] {
            let numbers: Vec<f64> = SPECIAL.iter().map(kept).collect();
            let pairs = numbers.iter().flat_map(|&a| numbers.iter().map(move |&b| (a, b)));
            let (a, b): (Vec<f64>, Vec<f64>) = pairs.unzip();
            let expected = a.iter().zip(&b).map(|(&a, &b)| kept(&exact(f, a, b))).collect();
            let sizes = [("n", a.len() as i64)];
            let bound = if f == BinaryFn::Rem { 0.0 } else { 1e3 * dtype.unit_roundoff() };
            let case = Case::new(binary(f, dtype, "n"), &sizes, vec![a, b], expected, bound);
            case.run(&one(&[64], &[(0, 32)], Some((0, 16))));
        }
    }
}

/// Powers of a vector to a literal exponent.
fn power(exponent: f64, dtype: DType, n: &str) -> Kernel {
    let mut finish = ScalarProgram::default();
    let a = read(&mut finish, at(0, &[0]), dtype);
    let b = finish.push(ScalarOp::Constant(Scalar::Float(exponent)), dtype);
    let y = finish.push(ScalarOp::Binary(BinaryFn::Pow, a, b), dtype);
    finish.results.push(y);
    let (axes, body, combine, writes) = Default::default();
    let stage = Stage { axes, body, combine, finish, writes };
    over_vectors("power", &["a"], [dtype; 2], n, stage)
}

#[test]
fn powers_to_literals_are_those_to_numbers() {
    for dtype in [DType::F32, DType::F64] {
        let kept = |x: f64| if dtype == DType::F32 { f64::from(x as f32) } else { x };
        let x = SPECIAL.map(kept).to_vec();
        for exponent in [0.25, 0.5, 0.75, 1.25, 1.5, 2.0, 2.75, 3.0, 7.0, 15.5, 16.0] {
            for exponent in [exponent, -exponent] {
                let exact = |x: &f64| kept(x.powf(kept(exponent)));
                let expected = x.iter().map(exact).collect();
                let sizes = [("n", x.len() as i64)];
                let bound = 64.0 * dtype.unit_roundoff();
                let kernel = power(exponent, dtype, "n");
                let case = Case::new(kernel, &sizes, vec![x.clone()], expected, bound);
                case.run(&one(&[64], &[(0, 32)], Some((0, 16))));
            }
        }
    }
}

#[test]
fn every_angle_of_f32_is_reduced() {
    let mut x: Vec<f64> = (0..120).map(|k| f64::from(1.37f32 * 2f32.powi(k))).collect();
    x.extend(x.clone().iter().map(|x| -x));
    x.extend([8191.9, 8192.0, 3.4028235e38, f64::INFINITY, f64::NEG_INFINITY, f64::NAN]);
    let x: Vec<f64> = x.iter().map(|x| f64::from(*x as f32)).collect();
    for f in [UnaryFn::Sin, UnaryFn::Cos, UnaryFn::Tan] {
        let expected = x.iter().filter_map(|x| exact(f, *x)).map(|y| f64::from(y as f32)).collect();
        let kernel = unary(f, DType::F32, "n");
        let sizes = [("n", x.len() as i64)];
        let tolerance = 16.0 * DType::F32.unit_roundoff();
        let case = Case::new(kernel, &sizes, vec![x.clone()], expected, tolerance);
        case.run(&one(&[64], &[(0, 32)], Some((0, 16))));
    }
}
