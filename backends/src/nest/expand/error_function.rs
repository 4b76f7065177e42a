//! The error function and the activations made from it.
//!
//! Invariant: odd, within −1 and 1, NaN for NaN.
//!
//! erf x = x·P(x²) up to 1; 1 − e^(−x²)·Q(t) with t = (x − 2)/(x + 2) beyond. P and Q are Chebyshev
//! fits to erf(√z)/√z on [0, 1] and to e^(x²)·erfc x up to where erf rounds to 1.

use crate::nest::build::Builder;
use crate::nest::{Element, Predicate, UnaryOp, ValueId};

// The first coefficients are near 2/√π, and are not it.
#[allow(clippy::approx_constant)]
const NEAR_F32: &[f64] = &[
    1.12837916585,
    -0.376126266667,
    0.112835947152,
    -0.0268542120106,
    0.00518908742343,
    -0.000801686428717,
    7.87587506269e-5,
];
const FAR_F32: &[f64] = &[
    0.255395678135,
    -0.427186014595,
    0.241657834386,
    -0.0789671935727,
    0.00374268030818,
    0.00680177064589,
    -0.000907659491078,
];
#[allow(clippy::approx_constant)]
const NEAR_F64: &[f64] = &[
    1.1283791670955126,
    -0.3761263890318375,
    0.11283791670954879,
    -0.026866170645076792,
    0.0052239776248180145,
    -0.000854832698083379,
    0.0001205533111164271,
    -1.4925595266831182e-05,
    1.6461000484121368e-06,
    -1.6350312701054695e-07,
    1.4659775274047436e-08,
    -1.1372848856791674e-09,
    5.957176147748911e-11,
];
const FAR_F64: &[f64] = &[
    0.25539567631050575,
    -0.4271858474139584,
    0.24165819424246635,
    -0.07897858101573309,
    0.0037328924043445503,
    0.006997461739290045,
    -0.00084714325197379,
    -0.0009819770300826334,
    4.3555636053268085e-05,
    0.0001743612317548183,
    2.752486193247567e-05,
    -2.7580444607293975e-05,
    -1.3961467782400926e-05,
    1.3938235119688415e-06,
    3.749191854940355e-06,
    1.1919996946051453e-06,
    -4.081081042184248e-07,
    -5.006133819198662e-07,
    -1.606072608560795e-07,
    8.068756236925622e-08,
    1.1379433926267011e-07,
    -3.480897089307983e-08,
];

impl Builder<'_> {
    /// The error function.
    pub(in crate::nest) fn erf(&mut self, x: ValueId) -> ValueId {
        let (near, far, limit) = match self.ty(x).element {
            Element::F64 => (NEAR_F64, FAR_F64, 6.0),
            _ => (NEAR_F32, FAR_F32, 4.0),
        };
        let [one, two, limit] = [1.0, 2.0, limit].map(|value| self.like(x, value));
        let size = self.unary(UnaryOp::Abs, x);
        let beyond = self.compare(Predicate::Greater, size, limit);
        let size = self.select(beyond, limit, size);
        let z = self.fmul(size, size);
        let small = self.polynomial(z, near);
        let small = self.fmul(small, size);
        let (below, above) = (self.fsub(size, two), self.fadd(size, two));
        let t = self.fdiv(below, above);
        let scaled = self.polynomial(t, far);
        let minus = self.unary(UnaryOp::Neg, z);
        let decay = self.exp(minus);
        let complement = self.fmul(scaled, decay);
        let large = self.fsub(one, complement);
        let outside = self.compare(Predicate::Greater, size, one);
        let magnitude = self.select(outside, large, small);
        self.with_sign_of(magnitude, x)
    }

    /// x·(1 + erf(x/√2))/2.
    pub(in crate::nest) fn gelu(&mut self, x: ValueId) -> ValueId {
        let [root, one, half] =
            [std::f64::consts::FRAC_1_SQRT_2, 1.0, 0.5].map(|value| self.like(x, value));
        let scaled = self.fmul(x, root);
        let erf = self.erf(scaled);
        let sum = self.fadd(erf, one);
        let halved = self.fmul(x, half);
        self.fmul(halved, sum)
    }

    /// x·(1 + tanh(√(2/π)·(x + 0.044715·x³)))/2.
    pub(in crate::nest) fn gelu_tanh(&mut self, x: ValueId) -> ValueId {
        let scale = (2.0 / std::f64::consts::PI).sqrt();
        let [scale, cubic, one, half] =
            [scale, scale * 0.044715, 1.0, 0.5].map(|value| self.like(x, value));
        let square = self.fmul(x, x);
        let slope = self.fma(square, cubic, scale);
        let argument = self.fmul(slope, x);
        let tanh = self.tanh(argument);
        let sum = self.fadd(tanh, one);
        let halved = self.fmul(x, half);
        self.fmul(halved, sum)
    }
}
