//! Recurrent layers: a cell applied along a sequence, in one or both directions.
//!
//! Invariant: layout, gate order and defaults of operands are ONNX's; every optional operand
//! that is present is announced by an attribute or the cell, so positions are never guessed.

use super::typing::{equal_types, float};
use super::{OpError, Operation};
use crate::graph::{Graph, TensorType};
use kiln_tensor::{DType, Dim};
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
    /// The bound to which operands of activations are clipped, on both sides of 0.
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
}
