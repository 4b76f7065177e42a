//! The error function and the activations made from it.
//!
//! Invariant: odd, within −1 and 1, NaN for NaN.
//!
//! erf x = x·P(x²) up to 1; 1 − e^(−x²)·Q(t) with t = (x − 2)/(x + 2) beyond. P and Q are Chebyshev
//! fits to erf(√z)/√z on [0, 1] and to e^(x²)·erfc x up to where erf rounds to 1.

use crate::nest::build::Builder;
use crate::nest::{Element, Predicate, UnaryOp, ValueId};

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
const NEAR_F64: &[f64] = &[
    1.128379167095512574,
    -0.3761263890318374806,
    0.1128379167095487867,
    -0.02686617064507679325,
    0.005223977624818014467,
    -0.0008548326980833789905,
    0.0001205533111164271092,
    -0.00001492559526683118157,
    1.646100048412136803e-6,
    -1.635031270105469501e-7,
    1.465977527404743581e-8,
    -1.137284885679167367e-9,
    5.957176147748911404e-11,
];
const FAR_F64: &[f64] = &[
    0.2553956763105057439,
    -0.4271858474139583937,
    0.2416581942424663581,
    -0.07897858101573308224,
    0.003732892404344550342,
    0.006997461739290045272,
    -0.000847143251973790037,
    -0.0009819770300826333326,
    0.00004355563605326808401,
    0.0001743612317548182782,
    0.00002752486193247566908,
    -0.00002758044460729397443,
    -0.0000139614677824009259,
    1.393823511968841518e-6,
    3.749191854940355054e-6,
    1.191999694605145211e-6,
    -4.081081042184247913e-7,
    -5.006133819198662481e-7,
    -1.606072608560794951e-7,
    8.068756236925622035e-8,
    1.137943392626701064e-7,
    -3.480897089307982934e-8,
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
