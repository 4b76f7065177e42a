//! Recurrent layers: LSTM, GRU and RNN.
//!
//! Invariant: optional operands that the core operation always takes are filled in with zeros.

use super::build::V;
use super::fault::Fault;
use super::node::Use;
use super::operator::{Entry, onnx};
use crate::resolve::Attribute;
use kiln_ir::op::{self, Activation, Cell, Direction, UnaryFn};
use kiln_tensor::Dim;

type Results = Result<Vec<V>, Fault>;

pub(super) const OPERATORS: &[Entry] = &[
    onnx("GRU", 1, |x| {
        let linear_before_reset = x.flag("linear_before_reset", false)?;
        recurrent(x, Cell::Gru { linear_before_reset }, &["Sigmoid", "Tanh"])
    }),
    onnx("LSTM", 1, |x| recurrent(x, Cell::Lstm, LSTM)),
    onnx("RNN", 1, |x| recurrent(x, Cell::Rnn, &["Tanh"])),
];

/// The activations of an LSTM.
const LSTM: &[&str] = &["Sigmoid", "Tanh", "Tanh"];

fn direction(x: &Use<'_, '_, '_>) -> Result<Direction, Fault> {
    match x.string_or("direction", "forward")? {
        "forward" => Ok(Direction::Forward),
        "reverse" => Ok(Direction::Reverse),
        "bidirectional" => Ok(Direction::Bidirectional),
        other => Err(Fault::malformed(format!("direction `{other}` is not known"))),
    }
}

/// Activation functions by name; each takes the next of the given parameters that it has.
fn activations(
    x: &Use<'_, '_, '_>,
    directions: usize,
    default: &[&str],
) -> Result<Vec<Activation>, Fault> {
    let names: Vec<String> = match x.attribute("activations") {
        None => {
            let each = (0..directions).flat_map(|_| default);
            each.map(|name| name.to_lowercase()).collect()
        }
        Some(Attribute::Strings(names)) => {
            names.iter().map(|name| String::from_utf8_lossy(name).to_lowercase()).collect()
        }
        Some(_) => return Err(Fault::malformed("`activations` must be strings")),
    };
    let mut alphas = x.floats("activation_alpha")?.unwrap_or_default().iter().copied();
    let mut betas = x.floats("activation_beta")?.unwrap_or_default().iter().copied();
    let mut alpha = |default: f32| f64::from(alphas.next().unwrap_or(default));
    let mut beta = |default: f32| f64::from(betas.next().unwrap_or(default));
    let each = names.iter().map(|name| {
        Ok(match name.as_str() {
            "sigmoid" => Activation::Sigmoid,
            "tanh" => Activation::Tanh,
            "relu" => Activation::Relu,
            "affine" => Activation::Affine { alpha: alpha(1.0), beta: beta(0.0) },
            "leakyrelu" => Activation::LeakyRelu { alpha: alpha(0.01) },
            "thresholdedrelu" => Activation::ThresholdedRelu { alpha: alpha(1.0) },
            "scaledtanh" => Activation::ScaledTanh { alpha: alpha(1.0), beta: beta(1.0) },
            "hardsigmoid" => Activation::HardSigmoid { alpha: alpha(0.2), beta: beta(0.5) },
            "elu" => Activation::Elu { alpha: alpha(1.0) },
            "softsign" => Activation::Softsign,
            "softplus" => Activation::Softplus,
            other => return Err(Fault::malformed(format!("activation `{other}` is not known"))),
        })
    });
    each.collect()
}

/// Weights of an LSTM whose forget gate is one minus the input gate: `1 − σ(z) = σ(−z)`, so its rows
/// are those of the input gate negated. Each `gates` blocks of rows are input, output, forget, ….
fn coupling(x: &mut Use<'_, '_, '_>, v: V, hidden: &Dim, gates: i64) -> Result<V, Fault> {
    let shape = x.shape(v);
    let blocks = shape[1].exact_div(hidden).and_then(|blocks| blocks.as_const()).unwrap_or(gates);
    let mut parts = Vec::new();
    for block in 0..blocks {
        let forgets = block % gates == 2;
        let from = if forgets { block - 2 } else { block };
        let (mut starts, mut sizes) = (vec![Dim::default(); shape.len()], shape.clone());
        starts[1] = hidden.clone() * Dim::from(from);
        sizes[1] = hidden.clone();
        let rows = x.add(op::Slice { starts, sizes, steps: vec![1; shape.len()] }, &[v])?;
        parts.push(if forgets { x.unary(UnaryFn::Neg, rows)? } else { rows });
    }
    x.add(op::Concat { axis: 1 }, &parts)
}

/// A layer with its operands, the sequence first: `[time, batch, features]`.
pub(super) struct Layer {
    pub(super) op: op::Recurrent,
    pub(super) operands: Vec<V>,
    batch_first: bool,
}

fn recurrent(x: &mut Use<'_, '_, '_>, cell: Cell, default: &[&str]) -> Results {
    let layer = layer(x, cell, default)?;
    let results = x.importer.build.add_node(layer.op.clone(), &layer.operands, Vec::new())?;
    layer.ordered(x, results)
}

pub(super) fn lstm_layer(x: &mut Use<'_, '_, '_>) -> Result<Layer, Fault> {
    layer(x, Cell::Lstm, LSTM)
}

impl Layer {
    /// Results with batches first where the node has them so.
    pub(super) fn ordered(&self, x: &mut Use<'_, '_, '_>, mut results: Vec<V>) -> Results {
        if self.batch_first {
            for (number, result) in results.iter_mut().enumerate() {
                let perm = if number == 0 { vec![2, 0, 1, 3] } else { vec![1, 0, 2] };
                *result = x.transpose(*result, perm)?;
            }
        }
        Ok(results)
    }
}

fn layer(x: &mut Use<'_, '_, '_>, cell: Cell, default: &[&str]) -> Result<Layer, Fault> {
    let (operand, w, r) = (x.input(0)?, x.input(1)?, x.input(2)?);
    let batch_first = x.flag("layout", false)?;
    let swapped = vec![1, 0, 2];
    for (v, what) in [(operand, "X"), (w, "W"), (r, "R")] {
        if x.rank(v) != 3 {
            let ty = x.ty(v);
            return Err(Fault::malformed(format!("{what} must have rank 3, but is {ty}")));
        }
    }
    let operand = if batch_first { x.transpose(operand, swapped.clone())? } else { operand };
    let direction = direction(x)?;
    let dtype = x.dtype(operand);
    let hidden = match x.int("hidden_size")? {
        Some(hidden) => Dim::from(hidden),
        None => x.shape(r)[2].clone(),
    };
    let (batch, features) = (x.shape(operand)[1].clone(), x.shape(operand)[2].clone());
    let (own, given) = (features.as_const(), x.shape(w)[2].clone());
    let features = if own.is_some() { features } else { given };
    let operand = x.with_dim(operand, 2, &features)?;
    let directions = Dim::from(direction.count());
    let gates = hidden.clone() * Dim::from(cell.gates());
    let rows = gates.clone() * Dim::from(2i64);
    let w = x.with_dims(w, &[directions.clone(), gates.clone(), features])?;
    let r = x.with_dims(r, &[directions.clone(), gates, hidden.clone()])?;
    let b = match x.optional(3) {
        Some(b) => x.with_dims(b, &[directions.clone(), rows])?,
        None => x.filled(dtype, 0.0, vec![directions.clone(), rows])?,
    };
    let activations = activations(x, direction.count(), default)?;
    let coupled = cell == Cell::Lstm && x.flag("input_forget", false)?;
    if coupled && activations.iter().step_by(3).any(|&gate| gate != Activation::Sigmoid) {
        let help = "export the LSTM with separate input and forget gates";
        let what = "coupled gates are supported for sigmoids only";
        return Err(Fault::unsupported(what, help));
    }
    let (mut w, mut r, mut b) = (w, r, b);
    if coupled {
        w = coupling(x, w, &hidden, 4)?;
        r = coupling(x, r, &hidden, 4)?;
        b = coupling(x, b, &hidden, 4)?;
    }
    let mut operands = vec![operand, w, r, b];
    let states = if cell == Cell::Lstm { 2 } else { 1 };
    let shape = vec![directions.clone(), batch.clone(), hidden.clone()];
    for number in 5..5 + states {
        operands.push(match x.optional(number) {
            Some(state) => {
                let state = if batch_first { x.transpose(state, swapped.clone())? } else { state };
                x.with_dims(state, &shape)?
            }
            None => x.filled(dtype, 0.0, shape.clone())?,
        });
    }
    let lengths = x.optional(4);
    if let Some(lengths) = lengths {
        operands.push(x.with_dim(lengths, 0, &batch)?);
    }
    let peepholes = x.optional(7).filter(|_| cell == Cell::Lstm);
    if let Some(peepholes) = peepholes {
        let rows = hidden.clone() * Dim::from(3i64);
        let peepholes = x.with_dims(peepholes, &[directions, rows])?;
        operands.push(if coupled { coupling(x, peepholes, &hidden, 3)? } else { peepholes });
    }
    let op = op::Recurrent {
        cell,
        direction,
        activations,
        clip: x.float("clip")?,
        lengths: lengths.is_some(),
        peepholes: peepholes.is_some(),
        projected: false,
    };
    Ok(Layer { op, operands, batch_first })
}
