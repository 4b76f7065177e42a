//! Numbers that are known before the model runs, in terms of its symbols.
//!
//! Invariant: an exact number is a quotient in lowest terms as far as they can be seen; whatever
//! arithmetic here does not know exactly, it does not know at all.

use super::bounds::Facts;
use super::rounding;
use kiln_ir::op::{BinaryFn, UnaryFn};
use kiln_tensor::{DType, Dim};

/// A number of an element type.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Scalar {
    /// A quotient of expressions; `bool` is 0 or 1.
    Exact {
        /// Numerator.
        num: Dim,
        /// Denominator; positive whenever the model runs.
        den: Dim,
    },
    /// A float that is no quotient of small integers.
    Float(f64),
    /// Whether two sizes are equal, where that depends on the model's inputs; by itself in its
    /// value.
    Equal {
        /// One size.
        a: Dim,
        /// The other.
        b: Dim,
    },
}

impl Scalar {
    /// A whole number.
    pub(super) fn whole(value: impl Into<Dim>) -> Self {
        Scalar::Exact { num: value.into(), den: Dim::from(1i64) }
    }

    fn truth(value: bool) -> Self {
        Self::whole(i64::from(value))
    }

    /// A float, exactly.
    pub(super) fn float(value: f64) -> Self {
        // A power of two of this size keeps products of dimensions inside 64 bits.
        const DENOMINATOR: f64 = (1u64 << 24) as f64;
        let scaled = value * DENOMINATOR;
        let exact = scaled.trunc() == scaled && scaled.abs() < (1u64 << 53) as f64;
        if !exact || (value == 0.0 && value.is_sign_negative()) {
            return Scalar::Float(value);
        }
        Self::quotient(Dim::from(scaled as i64), Dim::from(DENOMINATOR as i64))
    }

    /// The quotient in lowest terms.
    pub(super) fn quotient(num: Dim, den: Dim) -> Self {
        if let Some(whole) = num.exact_div(&den) {
            return Self::whole(whole);
        }
        let common =
            num.terms().iter().chain(den.terms()).fold(0, |common, (_, c)| gcd(common, *c));
        let divisor = Dim::from(common.max(1));
        match (num.exact_div(&divisor), den.exact_div(&divisor)) {
            (Some(num), Some(den)) => Scalar::Exact { num, den },
            _ => Scalar::Exact { num, den },
        }
    }

    /// The expression, if the number is whole.
    pub(super) fn as_dim(&self) -> Option<&Dim> {
        match self {
            Scalar::Exact { num, den } if den.is(1) => Some(num),
            _ => None,
        }
    }

    /// The integer, if the number is whole and depends on no symbol.
    pub(super) fn as_integer(&self) -> Option<i64> {
        self.as_dim()?.as_const()
    }

    /// The number, if it depends on no symbol.
    pub(super) fn as_number(&self) -> Option<f64> {
        match self {
            Scalar::Float(value) => Some(*value),
            Scalar::Exact { num, den } => Some(num.as_const()? as f64 / den.as_const()? as f64),
            Scalar::Equal { .. } => None,
        }
    }

    /// Whether the number depends on no symbol.
    pub(super) fn is_constant(&self) -> bool {
        self.as_number().is_some()
    }

    fn parts(&self) -> Option<(&Dim, &Dim)> {
        match self {
            Scalar::Exact { num, den } => Some((num, den)),
            Scalar::Float(_) | Scalar::Equal { .. } => None,
        }
    }

    /// Numerators of both over a common denominator, and that.
    fn common(&self, other: &Scalar) -> Option<(Dim, Dim, Dim)> {
        let ((a, d), (b, e)) = (self.parts()?, other.parts()?);
        if d == e {
            return Some((a.clone(), b.clone(), d.clone()));
        }
        let products = [[a, e], [b, d], [d, e]];
        if !products.into_iter().all(Dim::is_small_product) {
            return None;
        }
        Some((a.clone() * e.clone(), b.clone() * d.clone(), d.clone() * e.clone()))
    }

    /// `f` of the number.
    pub(super) fn unary(&self, f: UnaryFn, facts: &Facts) -> Option<Scalar> {
        match (self, f) {
            (Scalar::Float(value), UnaryFn::Floor) => return Some(Self::float(value.floor())),
            (Scalar::Float(value), UnaryFn::Ceil) => return Some(Self::float(value.ceil())),
            _ => {}
        }
        let (num, den) = self.parts()?;
        let sign = facts.at_least(num, &Dim::from(0i64));
        Some(match f {
            UnaryFn::Neg => Self::quotient(-num.clone(), den.clone()),
            UnaryFn::Abs if sign? => self.clone(),
            UnaryFn::Abs => Self::quotient(-num.clone(), den.clone()),
            UnaryFn::Relu if sign? => self.clone(),
            UnaryFn::Relu => Self::whole(0i64),
            UnaryFn::Sign => match facts.at_least(num, &Dim::from(1i64)) {
                Some(true) => Self::whole(1i64),
                _ if num.is(0) => Self::whole(0i64),
                _ if sign == Some(false) => Self::whole(-1i64),
                _ => return None,
            },
            UnaryFn::Floor => Self::whole(num.floor_div(den)),
            UnaryFn::Ceil => Self::whole(num.ceil_div(den)),
            UnaryFn::Round if den.is(1) => self.clone(),
            UnaryFn::Not => Self::truth(num.is(0)),
            UnaryFn::Reciprocal if facts.at_least(num, &Dim::from(1i64))? => {
                Self::quotient(den.clone(), num.clone())
            }
            _ => return None,
        })
    }

    /// `f` of both, which are of type `dtype`.
    pub(super) fn binary(
        f: BinaryFn,
        a: &Scalar,
        b: &Scalar,
        dtype: DType,
        facts: &Facts,
    ) -> Option<Scalar> {
        let made = if dtype.is_float() {
            match (a.as_number(), b.as_number()) {
                (Some(x), Some(y)) => match Self::rounded(f, x, y, dtype) {
                    Some(made) => made,
                    None => Self::combined(f, a, b, dtype, facts)?,
                },
                (x, y) => {
                    let is_product = matches!(f, BinaryFn::Mul | BinaryFn::Div);
                    if is_product && (a.rounds_again(y) || b.rounds_again(x)) {
                        return None;
                    }
                    let (a, b) = (a.beside_a_size(x, dtype)?, b.beside_a_size(y, dtype)?);
                    Self::combined(f, &a, &b, dtype, facts)?
                }
            }
        } else {
            Self::combined(f, a, b, dtype, facts)?
        };
        let small = made.parts().is_none_or(|(num, den)| num.is_small() && den.is_small());
        small.then_some(made)
    }

    /// Whether a product or quotient has rounded the number, and another one with this constant, if
    /// it is one, would: after two roundings `⌊n·0.7·10⌋` is 62 for 9, not 63.
    fn rounds_again(&self, constant: Option<f64>) -> bool {
        self.is_rounded() && constant.is_some_and(|constant| !is_power_of_two(constant))
    }

    /// Whether the number depends on symbols and a float may only be near to it.
    pub(super) fn is_rounded(&self) -> bool {
        self.parts().is_some_and(|(num, den)| match den.as_const() {
            Some(den) => num.as_const().is_none() && !is_power_of_two(den as f64),
            None => true,
        })
    }

    /// The number, of which `constant` is the value if it has one, as it meets one that depends on
    /// symbols.
    fn beside_a_size(&self, constant: Option<f64>, dtype: DType) -> Option<Scalar> {
        let Some(constant) = constant else { return Some(self.clone()) };
        let (num, den) = rounding::fraction(constant, dtype)?;
        Some(Self::quotient(Dim::from(num), Dim::from(den)))
    }

    /// Arithmetic on two constants, rounded as the operation rounds.
    fn rounded(f: BinaryFn, x: f64, y: f64, dtype: DType) -> Option<Scalar> {
        let exact = match f {
            BinaryFn::Add => x + y,
            BinaryFn::Sub => x - y,
            BinaryFn::Mul => x * y,
            BinaryFn::Div => x / y,
            _ => return None,
        };
        // Rounding twice is rounding once: f64 has more than twice the digits of f32.
        let narrow = dtype == DType::F32;
        Some(Self::float(if narrow { f64::from(exact as f32) } else { exact }))
    }

    fn combined(
        f: BinaryFn,
        a: &Scalar,
        b: &Scalar,
        dtype: DType,
        facts: &Facts,
    ) -> Option<Scalar> {
        let zero = Dim::from(0i64);
        let (x, y, den) = a.common(b)?;
        let positive = |dim: &Dim| facts.at_least(dim, &zero) == Some(true);
        Some(match f {
            BinaryFn::Add => Self::quotient(x + y, den),
            BinaryFn::Sub => Self::quotient(x - y, den),
            BinaryFn::Mul => {
                let ((a, d), (b, e)) = (a.parts()?, b.parts()?);
                if ![[a, b], [d, e]].into_iter().all(Dim::is_small_product) {
                    return None;
                }
                // Cancelled crosswise first, so that `n·(m/n)` is `m`.
                match (a.exact_div(e), b.exact_div(d)) {
                    (Some(a), Some(b)) => Self::whole(a * b),
                    (Some(a), None) => Self::quotient(a * b.clone(), d.clone()),
                    (None, Some(b)) => Self::quotient(a.clone() * b, e.clone()),
                    (None, None) => Self::quotient(a.clone() * b.clone(), d.clone() * e.clone()),
                }
            }
            BinaryFn::Div if dtype.is_float() && positive(&y) && !y.is(0) => Self::quotient(x, y),
            BinaryFn::Div if dtype.is_integer() => match y.as_const() {
                Some(0) => return None,
                _ if x.exact_div(&y).is_some() => Self::quotient(x, y),
                _ if positive(&x) && positive(&y) => Self::whole(x.floor_div(&y)),
                _ => return None,
            },
            BinaryFn::Mod if positive(&y) && !y.is(0) => Self::quotient(x.modulo(&y), den),
            BinaryFn::Rem if positive(&x) && positive(&y) && !y.is(0) => {
                Self::quotient(x.modulo(&y), den)
            }
            BinaryFn::Pow => {
                let exponent = b.as_integer().filter(|exponent| (0..=8).contains(exponent))?;
                let power = |dim: &Dim| (0..exponent).map(|_| dim.clone()).product::<Dim>();
                let (num, den) = a.parts()?;
                if ![num, den]
                    .into_iter()
                    .all(|dim| Dim::is_small_product((0..exponent).map(|_| dim)))
                {
                    return None;
                }
                Self::quotient(power(num), power(den))
            }
            BinaryFn::Min => Self::quotient(facts.minimum(&x, &y), den),
            BinaryFn::Max => Self::quotient(facts.maximum(&x, &y), den),
            BinaryFn::And => Self::truth(!x.is(0) && !y.is(0)),
            BinaryFn::Or => Self::truth(!x.is(0) || !y.is(0)),
            BinaryFn::Xor => Self::truth(x.is(0) != y.is(0)),
            BinaryFn::Equal => Self::truth(facts.equal(&x, &y)?),
            BinaryFn::GreaterEqual => Self::truth(facts.at_least(&x, &y)?),
            BinaryFn::Less => Self::truth(!facts.at_least(&x, &y)?),
            BinaryFn::LessEqual => Self::truth(facts.at_least(&y, &x)?),
            BinaryFn::Greater => Self::truth(!facts.at_least(&y, &x)?),
            _ => return None,
        })
    }

    /// The number of type `from` as one of type `to`.
    pub(super) fn cast(&self, from: DType, to: DType, facts: &Facts) -> Option<Scalar> {
        let (num, den) = self.parts()?;
        match to {
            DType::Bool => facts.equal(num, &Dim::from(0i64)).map(|zero| Self::truth(!zero)),
            // Sizes are far below what these types hold.
            DType::I32 | DType::I64 | DType::F32 | DType::F64 => {
                if to.is_float() || !from.is_float() || den.is(1) {
                    return Some(self.clone());
                }
                let whole = facts.at_least(num, &Dim::from(0i64))?;
                Some(Self::whole(if whole { num.floor_div(den) } else { num.ceil_div(den) }))
            }
            _ => None,
        }
    }
}

fn is_power_of_two(value: f64) -> bool {
    value.abs().log2().fract() == 0.0
}

fn gcd(a: i64, b: i64) -> i64 {
    let (mut a, mut b) = (a.saturating_abs(), b.saturating_abs());
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}
