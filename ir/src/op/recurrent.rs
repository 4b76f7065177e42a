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
///
/// Where `x` is `projected` it is `[seq,dirs,batch,gates·hidden]`, holds `xWᵀ`, and there is no `w`. It
/// and `y` are in the order in which steps run: of a reversed direction the last is first.
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
    /// Whether `x` was multiplied by `w` before.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub projected: bool,
}

/// The operands of a [`Recurrent`] by their names.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RecurrentOperands<T> {
    /// The sequence.
    pub x: T,
    /// Weights of the sequence, unless it is projected.
    pub w: Option<T>,
    /// Weights of the state.
    pub r: T,
    /// Biases of both.
    pub b: T,
    /// The state before the first step.
    pub h0: T,
    /// The memory before the first step.
    pub c0: Option<T>,
    /// Lengths of the sequences.
    pub lengths: Option<T>,
    /// Peephole weights.
    pub p: Option<T>,
}

impl Recurrent {
    /// Which operand is which; `None` if there are more or fewer.
    pub fn operands<T: Copy>(&self, all: &[T]) -> Option<RecurrentOperands<T>> {
        let mut rest = all.iter().copied();
        let operands = RecurrentOperands {
            x: rest.next()?,
            w: if self.projected { None } else { Some(rest.next()?) },
            r: rest.next()?,
            b: rest.next()?,
            h0: rest.next()?,
            c0: if self.cell == Cell::Lstm { Some(rest.next()?) } else { None },
            lengths: if self.lengths { Some(rest.next()?) } else { None },
            p: if self.peepholes { Some(rest.next()?) } else { None },
        };
        rest.next().is_none().then_some(operands)
    }

    /// How many operands there are.
    fn operand_count(&self) -> usize {
        let optional = [!self.projected, self.cell == Cell::Lstm, self.lengths, self.peepholes];
        4 + optional.iter().filter(|&&present| present).count()
    }

    /// Whether a direction runs from the end of the sequence.
    fn is_reversed(&self, direction: usize) -> bool {
        direction == 1 || self.direction == Direction::Reverse
    }
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
        let Some(operands) = self.operands(inputs) else {
            let count = self.operand_count();
            return Err(OpError::new(format!("takes {count} operands, got {}", inputs.len())));
        };
        let RecurrentOperands { x, w, r, b, h0, c0, lengths, p } = operands;
        float(x, "x")?;
        super::typing::rank(x, if self.projected { 4 } else { 3 }, "x")?;
        super::typing::rank(r, 3, "r")?;
        let (seq, hidden) = (&x.shape[0], &r.shape[2]);
        let batch = &x.shape[if self.projected { 2 } else { 1 }];
        let dim = |size: usize| Dim::from(size);
        let gates = hidden.clone() * dim(self.cell.gates());
        let state = vec![dim(dirs), batch.clone(), hidden.clone()];
        let projected = vec![seq.clone(), dim(dirs), batch.clone(), gates.clone()];
        let features = || x.shape[2].clone();
        let expected = [
            ("x", Some(x).filter(|_| self.projected), x.dtype, projected),
            ("w", w, x.dtype, vec![dim(dirs), gates.clone(), features()]),
            ("r", Some(r), x.dtype, vec![dim(dirs), gates.clone(), hidden.clone()]),
            ("b", Some(b), x.dtype, vec![dim(dirs), gates * dim(2)]),
            ("h0", Some(h0), x.dtype, state.clone()),
            ("c0", c0, x.dtype, state.clone()),
            ("lengths", lengths, DType::I32, vec![batch.clone()]),
            ("p", p, x.dtype, vec![dim(dirs), hidden.clone() * dim(3)]),
        ];
        for (name, operand, dtype, shape) in expected {
            let what = format!("{name} must fit x {x} and r {r}");
            let wanted = TensorType::new(dtype, shape);
            operand.map_or(Ok(()), |operand| equal_types(operand, &wanted, &what))?;
        }
        let every_step = vec![seq.clone(), dim(dirs), batch.clone(), hidden.clone()];
        let mut results = vec![TensorType::new(x.dtype, every_step)];
        results.extend(vec![TensorType::new(x.dtype, state); if lstm { 2 } else { 1 }]);
        Ok(results)
    }

    fn evaluate(&self, inputs: &[Tensor], _: &[Graph], _: &Run) -> Result<Vec<Tensor>, OpError> {
        let types = self.results(inputs)?;
        let all: Vec<&Tensor> = inputs.iter().collect();
        let operands = self.operands(&all).ok_or_else(|| OpError::new("operands are missing"))?;
        let steps = operands.x.sizes()[0];
        let batches = operands.x.sizes()[if self.projected { 2 } else { 1 }];
        let (dirs, hidden) = (self.direction.count(), operands.r.sizes()[2]);
        let gates = self.cell.gates() * hidden;
        let features = if self.projected { gates } else { operands.x.sizes()[2] };
        let lengths = match operands.lengths {
            Some(lengths) => lengths.to_i64(),
            None => vec![steps as i64; batches],
        };
        if let Some(length) = lengths.iter().find(|length| !(0..=steps as i64).contains(length)) {
            return Err(OpError::new(format!("a length of {length} is outside of {steps} steps")));
        }
        let [x, r, b, mut h] =
            [operands.x, operands.r, operands.b, operands.h0].map(Tensor::to_f64);
        let [w, c0, p] = [operands.w, operands.c0, operands.p].map(|t| t.map(Tensor::to_f64));
        let mut y = vec![0.0; steps * dirs * batches * hidden];
        let mut c = c0.unwrap_or_else(|| vec![0.0; h.len()]);
        for (dir, batch) in (0..dirs).flat_map(|d| (0..batches).map(move |b| (d, b))) {
            let weights = Weights {
                w: w.as_ref().map(|w| &w[dir * gates * features..][..gates * features]),
                r: &r[dir * gates * hidden..][..gates * hidden],
                b: &b[dir * 2 * gates..][..2 * gates],
                p: p.as_ref().map(|p| &p[dir * 3 * hidden..][..3 * hidden]),
                activations: &self.activations[dir * self.cell.activations()..],
            };
            let state = (dir * batches + batch) * hidden;
            let (h, c) = (&mut h[state..][..hidden], &mut c[state..][..hidden]);
            let length = lengths[batch] as usize;
            for step in 0..length {
                let place = match (self.is_reversed(dir), self.projected) {
                    (false, _) => step,
                    (true, false) => length - 1 - step,
                    // Steps before the sequence begins are those behind its end.
                    (true, true) => steps - length + step,
                };
                let row = (place * dirs + dir) * batches + batch;
                let of_x = if self.projected { row } else { place * batches + batch };
                self.step(&weights, &x[of_x * features..][..features], h, c);
                y[row * hidden..][..hidden].copy_from_slice(h);
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
    w: Option<&'a [f64]>,
    r: &'a [f64],
    b: &'a [f64],
    p: Option<&'a [f64]>,
    activations: &'a [Activation],
}

impl Weights<'_> {
    /// `x·Wᵀ + bias` of one row, in the order of the gates.
    fn of_input(&self, row: usize, x: &[f64]) -> f64 {
        self.w.map_or_else(|| x[row], |w| dot(&w[row * x.len()..][..x.len()], x)) + self.b[row]
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
