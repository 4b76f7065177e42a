//! Arithmetic of floats (PTX ISA, Floating Point and Half Precision Floating Point Instructions).
//!
//! Invariant: rounding, `.ftz` and `.sat` are constants of the function that is chosen.

use super::operands::Decoder;
use crate::error::ParseError;
use crate::instruction::Operation;
use crate::lanes::{Binary, Ternary, Unary, one, three, two};
use crate::number::{
    FLUSH, SATURATE, Small, cosine, exp2, f32_add, f32_divide, f32_fma, f32_maximum, f32_minimum,
    f32_mul, f32_reciprocal, f32_root, f32_unary, f64_add, f64_fma, f64_mul, hyperbolic_tangent,
    log2, reciprocal_root, sine, small_compare_value, small_fma, small_maximum, small_minimum,
    small_sum,
};
use crate::syntax::Type;

/// A function for each of the sixteen modes of `f32`.
macro_rules! modes {
    ($mode:expr, $f:ident, $lift:ident($($x:ident),*)) => {
        match $mode {
            0 => $lift!($($x),* => $f::<0>($($x),*)),
            1 => $lift!($($x),* => $f::<1>($($x),*)),
            2 => $lift!($($x),* => $f::<2>($($x),*)),
            3 => $lift!($($x),* => $f::<3>($($x),*)),
            4 => $lift!($($x),* => $f::<4>($($x),*)),
            5 => $lift!($($x),* => $f::<5>($($x),*)),
            6 => $lift!($($x),* => $f::<6>($($x),*)),
            7 => $lift!($($x),* => $f::<7>($($x),*)),
            8 => $lift!($($x),* => $f::<8>($($x),*)),
            9 => $lift!($($x),* => $f::<9>($($x),*)),
            10 => $lift!($($x),* => $f::<10>($($x),*)),
            11 => $lift!($($x),* => $f::<11>($($x),*)),
            12 => $lift!($($x),* => $f::<12>($($x),*)),
            13 => $lift!($($x),* => $f::<13>($($x),*)),
            14 => $lift!($($x),* => $f::<14>($($x),*)),
            _ => $lift!($($x),* => $f::<15>($($x),*)),
        }
    };
}

/// A function for each mode of a half (see [`Small::of`]).
macro_rules! small_modes {
    ($mode:expr, $lift:ident($($x:ident),*), |$m:ident| $body:expr) => {
        match $mode {
            0 => $lift!($($x),* => { const $m: Small = Small::of(0); $body }),
            1 => $lift!($($x),* => { const $m: Small = Small::of(1); $body }),
            2 => $lift!($($x),* => { const $m: Small = Small::of(2); $body }),
            3 => $lift!($($x),* => { const $m: Small = Small::of(3); $body }),
            4 => $lift!($($x),* => { const $m: Small = Small::of(4); $body }),
            5 => $lift!($($x),* => { const $m: Small = Small::of(5); $body }),
            6 => $lift!($($x),* => { const $m: Small = Small::of(6); $body }),
            8 => $lift!($($x),* => { const $m: Small = Small::of(8); $body }),
            9 => $lift!($($x),* => { const $m: Small = Small::of(9); $body }),
            _ => $lift!($($x),* => { const $m: Small = Small::of(10); $body }),
        }
    };
}

/// Both halves of 32 bits; bits above are 0 for single halves, which come out as 0 for what all operations do.
fn both2(packed: bool, a: u64, b: u64, f: impl Fn(u64, u64) -> u64) -> u64 {
    let low = f(a & 0xffff, b & 0xffff);
    if packed { low | f(a >> 16, b >> 16) << 16 } else { low }
}

fn both3(packed: bool, a: u64, b: u64, c: u64, f: impl Fn(u64, u64, u64) -> u64) -> u64 {
    let low = f(a & 0xffff, b & 0xffff, c & 0xffff);
    if packed { low | f(a >> 16, b >> 16, c >> 16) << 16 } else { low }
}

fn half_binary(name: &str, mode: u8, packed: bool, nan: bool) -> Option<Binary> {
    macro_rules! pick {
        (|$m:ident, $x:ident, $y:ident| $body:expr) => {
            if packed {
                small_modes!(mode, two(a, b), |$m| both2(true, a, b, |$x, $y| $body))
            } else {
                small_modes!(mode, two(a, b), |$m| both2(false, a, b, |$x, $y| $body))
            }
        };
    }
    Some(match (name, nan) {
        ("add", _) => pick!(|M, x, y| small_sum(M, x, y, false)),
        ("sub", _) => pick!(|M, x, y| small_sum(M, x, y, true)),
        ("mul", _) => pick!(|M, x, y| small_fma(M, x, y, 0x8000)),
        ("min", false) => pick!(|M, x, y| small_minimum(M, x, y, false)),
        ("min", true) => pick!(|M, x, y| small_minimum(M, x, y, true)),
        ("max", false) => pick!(|M, x, y| small_maximum(M, x, y, false)),
        ("max", true) => pick!(|M, x, y| small_maximum(M, x, y, true)),
        _ => return None,
    })
}

fn half_ternary(mode: u8, packed: bool) -> Ternary {
    if packed {
        small_modes!(mode, three(a, b, c), |M| both3(true, a, b, c, |x, y, z| small_fma(
            M, x, y, z
        )))
    } else {
        small_modes!(mode, three(a, b, c), |M| both3(false, a, b, c, |x, y, z| small_fma(
            M, x, y, z
        )))
    }
}

/// An approximation on halves: computed from the value, rounded once.
fn half_approximation(mode: Small, a: u64, f: fn(f32) -> f64) -> u64 {
    mode.format.encode(
        f(small_compare_value(mode, a) as f32),
        crate::number::Rounding::Nearest,
        false,
    )
}

fn half_unary(name: &str, mode: u8, packed: bool) -> Option<Unary> {
    macro_rules! pick {
        ($f:expr) => {
            if packed {
                small_modes!(mode, one(a), |M| both2(true, a, a, |x, _| half_approximation(
                    M, x, $f
                )))
            } else {
                small_modes!(mode, one(a), |M| half_approximation(M, a, $f))
            }
        };
    }
    Some(match (name, packed) {
        ("neg", true) => one!(a => a ^ 0x8000_8000),
        ("neg", false) => one!(a => a ^ 0x8000),
        ("abs", true) => one!(a => a & 0x7fff_7fff),
        ("abs", false) => one!(a => a & 0x7fff),
        ("ex2", _) => pick!(exp2),
        ("tanh", _) => pick!(hyperbolic_tangent),
        _ => return None,
    })
}

fn single_unary(name: &str, mode: u8) -> Option<Unary> {
    macro_rules! approximate {
        ($f:expr) => {
            if mode & FLUSH != 0 {
                one!(a => f32_unary::<FLUSH>(a, $f))
            } else {
                one!(a => f32_unary::<0>(a, $f))
            }
        };
    }
    Some(match name {
        "ex2" => approximate!(exp2),
        "lg2" => approximate!(log2),
        "sin" => approximate!(sine),
        "cos" => approximate!(cosine),
        "tanh" => approximate!(hyperbolic_tangent),
        "rsqrt" => approximate!(reciprocal_root),
        "rcp" => modes!(mode, f32_reciprocal, one(a)),
        "sqrt" => modes!(mode, f32_root, one(a)),
        "neg" if mode & FLUSH != 0 => one!(a => f32_unary::<FLUSH>(a, |x| f64::from(-x))),
        "neg" => one!(a => a ^ 0x8000_0000),
        "abs" if mode & FLUSH != 0 => one!(a => f32_unary::<FLUSH>(a, |x| f64::from(x.abs()))),
        "abs" => one!(a => a & 0x7fff_ffff),
        _ => return None,
    })
}

fn negated(b: u64) -> u64 {
    b ^ 0x8000_0000
}

fn f32_subtract<const M: u8>(a: u64, b: u64) -> u64 {
    f32_add::<M>(a, negated(b))
}

fn single_binary(name: &str, mode: u8, nan: bool) -> Option<Binary> {
    Some(match (name, nan, mode & FLUSH != 0) {
        ("add", ..) => modes!(mode, f32_add, two(a, b)),
        ("sub", ..) => modes!(mode, f32_subtract, two(a, b)),
        ("mul", ..) => modes!(mode, f32_mul, two(a, b)),
        ("div", ..) => modes!(mode, f32_divide, two(a, b)),
        ("min", false, false) => two!(a, b => f32_minimum::<0, false>(a, b)),
        ("min", true, false) => two!(a, b => f32_minimum::<0, true>(a, b)),
        ("min", false, true) => two!(a, b => f32_minimum::<FLUSH, false>(a, b)),
        ("min", true, true) => two!(a, b => f32_minimum::<FLUSH, true>(a, b)),
        ("max", false, false) => two!(a, b => f32_maximum::<0, false>(a, b)),
        ("max", true, false) => two!(a, b => f32_maximum::<0, true>(a, b)),
        ("max", false, true) => two!(a, b => f32_maximum::<FLUSH, false>(a, b)),
        ("max", true, true) => two!(a, b => f32_maximum::<FLUSH, true>(a, b)),
        ("copysign", ..) => two!(a, b => b & 0x7fff_ffff | a & 0x8000_0000),
        _ => return None,
    })
}

/// Both `f32` of 64 bits (`.f32x2`).
fn pair(a: u64, b: u64, c: u64, f: impl Fn(u64, u64, u64) -> u64) -> u64 {
    let low = |x: u64| x & 0xffff_ffff;
    f(low(a), low(b), low(c)) | f(a >> 32, b >> 32, c >> 32) << 32
}

fn pairs(name: &str, flush: bool) -> Option<Binary> {
    Some(match (name, flush) {
        ("add", false) => two!(a, b => pair(a, b, 0, |x, y, _| f32_add::<0>(x, y))),
        ("add", true) => two!(a, b => pair(a, b, 0, |x, y, _| f32_add::<FLUSH>(x, y))),
        ("sub", false) => two!(a, b => pair(a, b, 0, |x, y, _| f32_subtract::<0>(x, y))),
        ("sub", true) => two!(a, b => pair(a, b, 0, |x, y, _| f32_subtract::<FLUSH>(x, y))),
        ("mul", false) => two!(a, b => pair(a, b, 0, |x, y, _| f32_mul::<0>(x, y))),
        ("mul", true) => two!(a, b => pair(a, b, 0, |x, y, _| f32_mul::<FLUSH>(x, y))),
        _ => return None,
    })
}

/// The extreme of three.
fn extremes(name: &str, flush: bool, nan: bool) -> Option<Ternary> {
    macro_rules! both {
        ($f:ident) => {
            match (flush, nan) {
                (false, false) => three!(a, b, c => $f::<0, false>($f::<0, false>(a, b), c)),
                (false, true) => three!(a, b, c => $f::<0, true>($f::<0, true>(a, b), c)),
                (true, false) => three!(a, b, c => $f::<FLUSH, false>($f::<FLUSH, false>(a, b), c)),
                (true, true) => three!(a, b, c => $f::<FLUSH, true>($f::<FLUSH, true>(a, b), c)),
            }
        };
    }
    Some(match name {
        "min" => both!(f32_minimum),
        "max" => both!(f32_maximum),
        _ => return None,
    })
}

fn f64_pick(a: u64, b: u64, less: bool) -> u64 {
    let (x, y) = (f64::from_bits(a), f64::from_bits(b));
    if x.is_nan() {
        b
    } else if y.is_nan() {
        a
    } else if x == y {
        if x.is_sign_negative() == less { a } else { b }
    } else if (x < y) == less {
        a
    } else {
        b
    }
}

fn double_binary(name: &str, mode: u8) -> Option<Binary> {
    Some(match (name, mode & 3) {
        ("add", 0) => two!(a, b => f64_add::<0>(a, b)),
        ("add", 1) => two!(a, b => f64_add::<1>(a, b)),
        ("add", 2) => two!(a, b => f64_add::<2>(a, b)),
        ("add", _) => two!(a, b => f64_add::<3>(a, b)),
        ("sub", 0) => two!(a, b => f64_add::<0>(a, b ^ 1 << 63)),
        ("sub", 1) => two!(a, b => f64_add::<1>(a, b ^ 1 << 63)),
        ("sub", 2) => two!(a, b => f64_add::<2>(a, b ^ 1 << 63)),
        ("sub", _) => two!(a, b => f64_add::<3>(a, b ^ 1 << 63)),
        ("mul", 0) => two!(a, b => f64_mul::<0>(a, b)),
        ("mul", 1) => two!(a, b => f64_mul::<1>(a, b)),
        ("mul", 2) => two!(a, b => f64_mul::<2>(a, b)),
        ("mul", _) => two!(a, b => f64_mul::<3>(a, b)),
        ("div", 0) => two!(a, b => (f64::from_bits(a) / f64::from_bits(b)).to_bits()),
        ("min", _) => two!(a, b => f64_pick(a, b, true)),
        ("max", _) => two!(a, b => f64_pick(a, b, false)),
        ("copysign", _) => two!(a, b => b & !(1 << 63) | a & 1 << 63),
        _ => return None,
    })
}

fn double_unary(name: &str, mode: u8) -> Option<Unary> {
    Some(match (name, mode & 3) {
        ("neg", _) => one!(a => a ^ 1 << 63),
        ("abs", _) => one!(a => a & !(1 << 63)),
        ("sqrt", 0) => one!(a => f64::from_bits(a).sqrt().to_bits()),
        ("rcp", 0) => one!(a => (1.0 / f64::from_bits(a)).to_bits()),
        ("rsqrt", 0) => one!(a => (1.0 / f64::from_bits(a).sqrt()).to_bits()),
        _ => return None,
    })
}

/// The function of an atomic on floats.
pub(crate) fn reduction(name: &str, kind: Type) -> Option<Binary> {
    match kind {
        Type::F32 => single_binary(name, 0, false),
        Type::F64 => double_binary(name, 0),
        Type::F16 => half_binary(name, 0, false, false),
        Type::F16x2 => half_binary(name, 0, true, false),
        Type::BF16 => half_binary(name, 1, false, false),
        Type::BF16x2 => half_binary(name, 1, true, false),
        _ => None,
    }
}

impl Decoder<'_, '_> {
    /// Instructions on floats.
    pub fn float(&mut self) -> Result<Operation, ParseError> {
        let name = self.statement.name.as_str();
        let rounding = self.words.pick(|w| match w {
            "rn" => Some(0u8),
            "rz" => Some(1),
            "rm" => Some(2),
            "rp" => Some(3),
            _ => None,
        });
        // Approximations are computed as if they were exact.
        let approximate = self.words.take("approx");
        let full = self.words.take("full");
        if (approximate || full)
            && !matches!(
                name,
                "ex2" | "lg2" | "sin" | "cos" | "tanh" | "rsqrt" | "rcp" | "sqrt" | "div"
            )
        {
            return Err(self.words.unsupported("`.approx`"));
        }
        let flush = self.words.take("ftz");
        let saturate = self.words.take("sat");
        let relu = self.words.take("relu");
        let nan = self.words.take("NaN");
        if self.words.take("xorsign") {
            return Err(self.words.unsupported("`.xorsign`"));
        }
        let kind = self.words.kind()?;
        let operands = self.count();
        if name == "testp" {
            return Err(self.words.unsupported("an unknown instruction"));
        }
        let mode = rounding.unwrap_or(0)
            | if flush { FLUSH } else { 0 }
            | if saturate { SATURATE } else { 0 };
        let small = match kind {
            Type::F16 | Type::F16x2 => Some(false),
            Type::BF16 | Type::BF16x2 => Some(true),
            _ => None,
        };
        let packed = matches!(kind, Type::F16x2 | Type::BF16x2);
        let missing = self.words.unsupported("its type or modifiers");
        if let Some(brain) = small {
            let small_mode = u8::from(brain)
                | if flush { 2 } else { 0 }
                | if saturate { 4 } else { 0 }
                | if relu { 8 } else { 0 };
            if rounding.unwrap_or(0) != 0 || brain && flush && name != "ex2" || saturate && relu {
                return Err(missing);
            }
            let small_mode = if small_mode == 11 { return Err(missing) } else { small_mode };
            return match operands {
                2 => {
                    let f = half_unary(name, small_mode, packed).ok_or(missing)?;
                    Ok(Operation::Unary { f, d: self.target(0, kind)?, a: self.source(1, kind)? })
                }
                3 => {
                    let f = half_binary(name, small_mode, packed, nan).ok_or(missing)?;
                    let (a, b) = (self.source(1, kind)?, self.source(2, kind)?);
                    Ok(Operation::Binary { f, d: self.target(0, kind)?, a, b })
                }
                4 if name == "fma" => {
                    let f = half_ternary(small_mode, packed);
                    let (a, b, c) =
                        (self.source(1, kind)?, self.source(2, kind)?, self.source(3, kind)?);
                    Ok(Operation::Ternary { f, d: self.target(0, kind)?, a, b, c })
                }
                _ => Err(missing),
            };
        }
        if kind == Type::F32x2 {
            if mode & !FLUSH != 0 || relu || nan {
                return Err(missing);
            }
            if operands == 4 && name == "fma" {
                let f = if flush {
                    three!(a, b, c => pair(a, b, c, f32_fma::<FLUSH>))
                } else {
                    three!(a, b, c => pair(a, b, c, f32_fma::<0>))
                };
                let (a, b) = (self.source(1, kind)?, self.source(2, kind)?);
                let (d, c) = (self.target(0, kind)?, self.source(3, kind)?);
                return Ok(Operation::Ternary { f, d, a, b, c });
            }
            let f = pairs(name, flush).filter(|_| operands == 3).ok_or(missing)?;
            let (a, b) = (self.source(1, kind)?, self.source(2, kind)?);
            return Ok(Operation::Binary { f, d: self.target(0, kind)?, a, b });
        }
        if relu {
            return Err(missing);
        }
        match operands {
            2 => {
                let f = match kind {
                    Type::F32 => single_unary(name, mode),
                    Type::F64 => double_unary(name, mode),
                    _ => None,
                };
                let f = f.ok_or(missing)?;
                Ok(Operation::Unary { f, d: self.target(0, kind)?, a: self.source(1, kind)? })
            }
            3 => {
                let f = match kind {
                    Type::F32 => single_binary(name, mode, nan),
                    Type::F64 => double_binary(name, mode),
                    _ => None,
                };
                let f = f.ok_or(missing)?;
                let (a, b) = (self.source(1, kind)?, self.source(2, kind)?);
                Ok(Operation::Binary { f, d: self.target(0, kind)?, a, b })
            }
            4 if matches!(name, "fma" | "mad") => {
                let f = match kind {
                    Type::F32 => modes!(mode, f32_fma, three(a, b, c)),
                    Type::F64 if mode == 0 => three!(a, b, c => f64_fma(a, b, c)),
                    _ => return Err(missing),
                };
                let (a, b, c) =
                    (self.source(1, kind)?, self.source(2, kind)?, self.source(3, kind)?);
                Ok(Operation::Ternary { f, d: self.target(0, kind)?, a, b, c })
            }
            4 if kind == Type::F32 => {
                let f = extremes(name, flush, nan).ok_or(missing)?;
                let (a, b) = (self.source(1, kind)?, self.source(2, kind)?);
                let (d, c) = (self.target(0, kind)?, self.source(3, kind)?);
                Ok(Operation::Ternary { f, d, a, b, c })
            }
            _ => Err(missing),
        }
    }
}
