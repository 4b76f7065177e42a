//! Recurrent layers: a cell applied along a sequence, in one or both directions.
//!
//! Invariant: layout, gate order and defaults of operands are ONNX's; every optional operand
//! that is present is announced by an attribute or the cell, so positions are never guessed.

use super::elements::pack_floats;
use super::typing::{equal_types, float};
use super::{OpError, Operation, Run};
use crate::graph::{Graph, TensorType};
use kiln_tensor::{DType, Dim, Tensor};
use serde::{Deserialize, Serialize};

/// What is computed in a step. σ, g and h stand for the activations, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Cell {
    /// Gates i, o, f, c: `i, o, f = σ(xWᵀ + hRᵀ + b + p∘c)` (o with the new c),
    /// `C = f∘c + i∘g(…)`, `H = o∘h(C)`. Three activations.
    Lstm,
    /// Gates z, r, h: `z, r = σ(xWᵀ + hRᵀ + b)`, `H = (1 − z)∘g(…) + z∘h`. Two activations.
    Gru {
        /// Whether r multiplies `hRᵀ + b` rather than h.
        linear_before_reset: bool,
    },
    /// `H = σ(xWᵀ + hRᵀ + b)`. One activation.
    Rnn,
}

impl Cell {
    /// Blocks of `hidden` rows in `w` and `r`.
    pub fn gates(self) -> usize {
        match self {
            Cell::Lstm => 4,
            Cell::Gru { .. } => 3,
            Cell::Rnn => 1,
        }
    }

    /// Activations for each direction.
    pub fn activations(self) -> usize {
        match self {
            Cell::Lstm => 3,
            Cell::Gru { .. } => 2,
            Cell::Rnn => 1,
        }
    }
}

/// Which way along the sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Direction {
    /// From the first step.
    Forward,
    /// From the last step.
    Reverse,
    /// Both, forward first.
    Bidirectional,
}

impl Direction {
    /// How many directions these are.
    pub fn count(self) -> usize {
        if self == Direction::Bidirectional { 2 } else { 1 }
    }
}

/// An activation function of a cell.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Activation {
    /// 1/(1 + e⁻ˣ).
    Sigmoid,
    /// Hyperbolic tangent.
    Tanh,
    /// max(x, 0).
    Relu,
    /// `alpha·x + beta`.
    Affine {
        /// Slope.
        alpha: f64,
        /// Offset.
        beta: f64,
    },
    /// x, or `alpha·x` below 0.
    LeakyRelu {
        /// Slope below 0.
        alpha: f64,
    },
    /// x above `alpha`, else 0.
    ThresholdedRelu {
        /// Threshold.
        alpha: f64,
    },
    /// `alpha·tanh(beta·x)`.
    ScaledTanh {
        /// Factor of the result.
        alpha: f64,
        /// Factor of the operand.
        beta: f64,
    },
    /// `alpha·x + beta` between 0 and 1.
    HardSigmoid {
        /// Slope.
        alpha: f64,
        /// Offset.
        beta: f64,
    },
    /// x, or `alpha·(eˣ − 1)` below 0.
    Elu {
        /// Factor below 0.
        alpha: f64,
    },
    /// `x/(1 + |x|)`.
    Softsign,
    /// `ln(1 + eˣ)`.
    Softplus,
}

/// `x [seq,batch,in], w [dirs,gates·hidden,in], r [dirs,gates·hidden,hidden],
/// b [dirs,2·gates·hidden], h0 [dirs,batch,hidden][, c0 [dirs,batch,hidden]][, lengths
/// i32[batch]][, p [dirs,3·hidden]] → y [seq,dirs,batch,hidden], h [dirs,batch,hidden][, c
/// [dirs,batch,hidden]]`. `c0` and `c` are there for `Lstm`. Beyond a sequence's length `y` is 0,
/// and `h` and `c` are those of its last step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Recurrent {
    /// What is computed in a step.
    pub cell: Cell,
    /// Which way along the sequence.
    pub direction: Direction,
    /// Activation functions, those of the first direction first.
    pub activations: Vec<Activation>,
    /// The bound to which the sums that gates are activated with are clipped, on both sides of 0.
    /// An LSTM's new c is not clipped before its activation.
    pub clip: Option<f64>,
    /// Whether `lengths` is given.
    pub lengths: bool,
    /// Whether the peephole weights `p` (for i, o, f) are given; `Lstm` only.
    pub peepholes: bool,
}

impl Operation for Recurrent {
    const NAME: &'static str = "Recurrent";

    fn infer(&self, inputs: &[&TensorType], _: &[Graph]) -> Result<Vec<TensorType>, OpError> {
        let lstm = self.cell == Cell::Lstm;
        if self.peepholes && !lstm {
            return Err(OpError::new("only an LSTM has peepholes"));
        }
        let dirs = self.direction.count();
        let wanted = dirs * self.cell.activations();
        if self.activations.len() != wanted {
            let given = self.activations.len();
            return Err(OpError::new(format!("needs {wanted} activations, got {given}")));
        }
        let optional = [lstm, self.lengths, self.peepholes];
        let count = 5 + optional.iter().filter(|&&present| present).count();
        if inputs.len() != count {
            return Err(OpError::new(format!("takes {count} operands, got {}", inputs.len())));
        }
        let (x, r) = (inputs[0], inputs[2]);
        float(x, "x")?;
        super::typing::rank(x, 3, "x")?;
        super::typing::rank(r, 3, "r")?;
        let (seq, batch, hidden) = (&x.shape[0], &x.shape[1], &r.shape[2]);
        let dim = |size: usize| Dim::from(size);
        let gates = hidden.clone() * dim(self.cell.gates());
        let state = vec![dim(dirs), batch.clone(), hidden.clone()];
        let mut expected = vec![
            ("w", x.dtype, vec![dim(dirs), gates.clone(), x.shape[2].clone()]),
            ("r", x.dtype, vec![dim(dirs), gates.clone(), hidden.clone()]),
            ("b", x.dtype, vec![dim(dirs), gates.clone() * dim(2)]),
            ("h0", x.dtype, state.clone()),
        ];
        if lstm {
            expected.push(("c0", x.dtype, state.clone()));
        }
        if self.lengths {
            expected.push(("lengths", DType::I32, vec![batch.clone()]));
        }
        if self.peepholes {
            expected.push(("p", x.dtype, vec![dim(dirs), hidden.clone() * dim(3)]));
        }
        for (operand, (name, dtype, shape)) in inputs[1..].iter().zip(expected) {
            let what = format!("{name} must fit x {x} and r {r}");
            equal_types(operand, &TensorType::new(dtype, shape), &what)?;
        }
        let every_step = vec![seq.clone(), dim(dirs), batch.clone(), hidden.clone()];
        let mut results = vec![TensorType::new(x.dtype, every_step)];
        results.extend(vec![TensorType::new(x.dtype, state); if lstm { 2 } else { 1 }]);
        Ok(results)
    }

    fn evaluate(&self, inputs: &[Tensor], _: &[Graph], _: &Run) -> Result<Vec<Tensor>, OpError> {
        let types = self.results(inputs)?;
        let steps = inputs[0].sizes()[0];
        let (batches, features) = (inputs[0].sizes()[1], inputs[0].sizes()[2]);
        let (dirs, hidden) = (self.direction.count(), inputs[2].sizes()[2]);
        let numbers: Vec<Vec<f64>> = inputs.iter().map(Tensor::to_f64).collect();
        let lstm = self.cell == Cell::Lstm;
        let lengths_at = if lstm { 6 } else { 5 };
        let lengths = match inputs.get(lengths_at).filter(|_| self.lengths) {
            Some(lengths) => lengths.to_i64(),
            None => vec![steps as i64; batches],
        };
        if let Some(length) = lengths.iter().find(|length| !(0..=steps as i64).contains(length)) {
            return Err(OpError::new(format!("a length of {length} is outside of {steps} steps")));
        }
        let peepholes = if self.peepholes { numbers.last() } else { None };
        let gates = self.cell.gates() * hidden;
        let mut y = vec![0.0; steps * dirs * batches * hidden];
        let mut h = numbers[4].clone();
        let mut c = if lstm { numbers[5].clone() } else { vec![0.0; h.len()] };
        for (dir, batch) in (0..dirs).flat_map(|d| (0..batches).map(move |b| (d, b))) {
            let weights = Weights {
                w: &numbers[1][dir * gates * features..][..gates * features],
                r: &numbers[2][dir * gates * hidden..][..gates * hidden],
                b: &numbers[3][dir * 2 * gates..][..2 * gates],
                p: peepholes.map(|p| &p[dir * 3 * hidden..][..3 * hidden]),
                activations: &self.activations[dir * self.cell.activations()..],
            };
            let state = (dir * batches + batch) * hidden;
            let (h, c) = (&mut h[state..][..hidden], &mut c[state..][..hidden]);
            let length = lengths[batch] as usize;
            for step in 0..length {
                let reverse = dir == 1 || self.direction == Direction::Reverse;
                let step = if reverse { length - 1 - step } else { step };
                let x = &numbers[0][(step * batches + batch) * features..][..features];
                self.step(&weights, x, h, c);
                y[((step * dirs + dir) * batches + batch) * hidden..][..hidden].copy_from_slice(h);
            }
        }
        types
            .into_iter()
            .zip([y, h, c])
            .map(|((dtype, sizes), values)| pack_floats(dtype, sizes, &values))
            .collect()
    }
}

/// What one direction computes with.
struct Weights<'a> {
    w: &'a [f64],
    r: &'a [f64],
    b: &'a [f64],
    p: Option<&'a [f64]>,
    activations: &'a [Activation],
}

impl Weights<'_> {
    /// `x·Wᵀ + bias` of one row, in the order of the gates.
    fn of_input(&self, row: usize, x: &[f64]) -> f64 {
        dot(&self.w[row * x.len()..][..x.len()], x) + self.b[row]
    }

    /// `h·Rᵀ + bias` of one row.
    fn of_state(&self, row: usize, h: &[f64]) -> f64 {
        dot(&self.r[row * h.len()..][..h.len()], h) + self.b[self.b.len() / 2 + row]
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

impl Recurrent {
    /// One step of one sequence: replaces the state.
    fn step(&self, weights: &Weights, x: &[f64], h: &mut [f64], c: &mut [f64]) {
        let hidden = h.len();
        let activate = |number: usize, value: f64| {
            let clip = self.clip.unwrap_or(f64::INFINITY);
            // Unlike `clamp`, this takes any bound and keeps NaN.
            let value = if value > clip { clip } else { value };
            let value = if value < -clip { -clip } else { value };
            weights.activations[number].apply(value)
        };
        // Row `unit` of gate `gate`, from the operand and the state.
        let sum = |gate: usize, unit: usize, h: &[f64]| {
            let row = gate * hidden + unit;
            weights.of_input(row, x) + weights.of_state(row, h)
        };
        let before = h.to_vec();
        match self.cell {
            Cell::Rnn => {
                for (unit, h) in h.iter_mut().enumerate() {
                    *h = activate(0, sum(0, unit, &before));
                }
            }
            Cell::Lstm => {
                for unit in 0..hidden {
                    let peep = |gate: usize, c: f64| {
                        weights.p.map_or(0.0, |p| p[gate * hidden + unit] * c)
                    };
                    let input = activate(0, sum(0, unit, &before) + peep(0, c[unit]));
                    let forget = activate(0, sum(2, unit, &before) + peep(2, c[unit]));
                    let candidate = activate(1, sum(3, unit, &before));
                    c[unit] = forget * c[unit] + input * candidate;
                    let output = activate(0, sum(1, unit, &before) + peep(1, c[unit]));
                    h[unit] = output * weights.activations[2].apply(c[unit]);
                }
            }
            Cell::Gru { linear_before_reset } => {
                let gate = |gate: usize, unit: usize| activate(0, sum(gate, unit, &before));
                let reset: Vec<f64> = (0..hidden).map(|unit| gate(1, unit)).collect();
                let masked: Vec<f64> = before.iter().zip(&reset).map(|(h, r)| h * r).collect();
                for unit in 0..hidden {
                    let row = 2 * hidden + unit;
                    let of_state = if linear_before_reset {
                        reset[unit] * weights.of_state(row, &before)
                    } else {
                        weights.of_state(row, &masked)
                    };
                    let candidate = activate(1, weights.of_input(row, x) + of_state);
                    let update = gate(0, unit);
                    h[unit] = (1.0 - update) * candidate + update * before[unit];
                }
            }
        }
    }
}

impl Activation {
    fn apply(self, x: f64) -> f64 {
        match self {
            Activation::Sigmoid => 1.0 / (1.0 + (-x).exp()),
            Activation::Tanh => x.tanh(),
            Activation::Relu if x < 0.0 => 0.0,
            Activation::Relu => x,
            Activation::Affine { alpha, beta } => alpha * x + beta,
            Activation::LeakyRelu { alpha } if x < 0.0 => alpha * x,
            Activation::LeakyRelu { .. } => x,
            Activation::ThresholdedRelu { alpha } if x > alpha => x,
            Activation::ThresholdedRelu { .. } => 0.0,
            Activation::ScaledTanh { alpha, beta } => alpha * (beta * x).tanh(),
            Activation::HardSigmoid { alpha, beta } => (alpha * x + beta).clamp(0.0, 1.0),
            Activation::Elu { alpha } if x < 0.0 => alpha * x.exp_m1(),
            Activation::Elu { .. } => x,
            Activation::Softsign => x / (1.0 + x.abs()),
            // eˣ overflows where ln(1 + eˣ) is x long since.
            Activation::Softplus if x > 40.0 => x,
            Activation::Softplus => x.exp().ln_1p(),
        }
    }
}
