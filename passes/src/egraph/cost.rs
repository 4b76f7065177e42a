//! The price of an e-node: the predicted time of its kernel on the target.
//!
//! Invariant: prices are finite, never negative, and a pure function of operation, types and model.

use super::fused::{Kind, kind, parts};
use crate::tile::TileTarget;
use kiln_ir::kernel::BYTES_AT_ONCE;
use kiln_ir::op::{BinaryFn, ContractSpec, Conv, ConvLayout, Op, UnaryFn};
use kiln_ir::{Graph, TensorType};
use kiln_tensor::{DType, Dim, Symbol};
use serde::{Deserialize, Serialize};

/// What a target can do, in plain numbers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CostModel {
    /// Multiply-adds of contractions count as two; operations a second.
    pub flops: f64,
    /// Simple elementwise operations a second.
    pub elementwise: f64,
    /// Bytes a second between kernels.
    pub bandwidth: f64,
    /// Seconds to start a kernel.
    pub overhead: f64,
    /// Share of `flops` that a convolution reaches with its channels first.
    pub channels_first: f64,
    /// What an unknown size is taken for.
    pub unknown_size: i64,
    /// How many times as many multiply-adds of bytes there are, of products whose channels come last.
    #[serde(default = "one")]
    pub bytes: f64,
    /// Floats in a vector.
    #[serde(default = "one")]
    pub lanes: f64,
}

const fn one() -> f64 {
    1.0
}

impl Default for CostModel {
    fn default() -> Self {
        Self::generic_cpu()
    }
}

/// How many times as long it takes to gather lanes that lie apart.
const APART: f64 = 4.0;
/// Bytes that stay in a core's own cache, whatever else it reads.
const NEAR: f64 = 131_072.0;
/// Elementwise operations that transforming one place of a tile for one channel counts as.
const WINOGRAD: f64 = 1.5;

impl CostModel {
    /// A CPU as far as its registers, units and cores tell: 3.2 GHz, and 20 GB/s a core between kernels,
    /// mostly from caches that cores share, until 40 GB/s are reached.
    pub fn for_cpu(target: &TileTarget) -> Self {
        let cores = f64::from(target.cores.max(1));
        let lanes = f64::from(target.vector_bits) / 32.0;
        let fused = if target.fma { 2.0 } else { 1.0 };
        CostModel {
            flops: 3.2e9 * cores * lanes * fused * target.multiply_adds(),
            elementwise: 0.2 * 3.2e9 * cores * lanes,
            bandwidth: 2e10 * cores.min(2.0),
            bytes: if target.bytes { f64::from(BYTES_AT_ONCE) } else { 1.0 },
            lanes: lanes.max(1.0),
            ..Self::generic_cpu()
        }
    }

    /// Two cores with 512-bit vectors: 100 GFLOP/s a core, 40 GB/s together.
    pub fn generic_cpu() -> Self {
        CostModel {
            flops: 2e11,
            elementwise: 2e10,
            bandwidth: 4e10,
            overhead: 5e-7,
            channels_first: 0.5,
            unknown_size: 64,
            bytes: 1.0,
            lanes: 16.0,
        }
    }

    /// Whether prices by these numbers are finite, and more work never costs less.
    pub fn is_sound(&self) -> bool {
        let CostModel { flops, elementwise, bandwidth, overhead, .. } = *self;
        let CostModel { channels_first, unknown_size, bytes, lanes, .. } = *self;
        let rates = [flops, elementwise, bandwidth, channels_first, bytes, lanes];
        rates.iter().all(|rate| rate.is_finite() && *rate >= 1e-3)
            && (0.0..1.0).contains(&overhead)
            && channels_first <= 1.0
            && (1..=1 << 32).contains(&unknown_size)
    }

    fn size(&self, dim: &Dim) -> f64 {
        if let Some(size) = dim.as_const() {
            return size.max(0) as f64;
        }
        let known = dim.substitute(&|_: &Symbol| Some(Dim::from(self.unknown_size)));
        known.as_const().unwrap_or(self.unknown_size).max(1) as f64
    }

    fn elements(&self, ty: &TensorType) -> f64 {
        ty.shape.iter().map(|dim| self.size(dim)).product()
    }

    fn bytes(&self, ty: &TensorType) -> f64 {
        self.elements(ty) * ty.dtype.size() as f64
    }

    /// Seconds for an operation as a kernel of its own.
    pub fn kernel(
        &self,
        op: &Op,
        bodies: &[Graph],
        inputs: &[&TensorType],
        out: &TensorType,
    ) -> f64 {
        match (op, bodies) {
            (Op::Constant(_) | Op::SizeOf(_), _) => 0.0,
            (Op::Reshape(_) | Op::Assume(_), _) => self.view(),
            (Op::Fused(_), [body]) => {
                let parts = parts(body).unwrap_or_default();
                let passes = parts.core.map_or(1.0, |core| passes(&body.node(core).op));
                let work: f64 = body
                    .nodes()
                    .map(|(id, node)| {
                        let times = if parts.prologue.contains(&id) { passes } else { 1.0 };
                        let types: Vec<&TensorType> =
                            node.inputs.iter().map(|&input| body.ty(input)).collect();
                        node.outputs
                            .first()
                            .map_or(0.0, |&out| times * self.inside(&node.op, &types, body.ty(out)))
                    })
                    .sum();
                self.time(work, self.traffic_of_body(body, inputs, out))
            }
            _ => self.time(self.work(op, inputs, out), self.traffic(op, inputs, out)),
        }
    }

    /// Seconds for what is only read in another way: nothing runs. The trifle makes fewer of them better.
    pub fn view(&self) -> f64 {
        self.overhead * 1e-3
    }

    /// Seconds for an operation inside of a body. An assumption about sizes is a view outside, and
    /// only in the way inside.
    fn inside(&self, op: &Op, inputs: &[&TensorType], out: &TensorType) -> f64 {
        match op {
            Op::Assume(_) => self.overhead * 2e-3,
            op => self.work(op, inputs, out),
        }
    }

    /// Seconds for an operation where fusion is still to come: elementwise operations mostly join
    /// the kernel before or after them.
    pub fn unfused(
        &self,
        op: &Op,
        bodies: &[Graph],
        inputs: &[&TensorType],
        out: &TensorType,
    ) -> f64 {
        let alone = self.kernel(op, bodies, inputs, out);
        match kind(op) {
            // Of two places for it, the one before dimensions are split is nearer to what made them; but
            // that is no reason to reshape it there and back.
            Kind::Pointwise => {
                let nearer = self.overhead * 1e-4 * out.rank() as f64;
                0.3 * alone + self.work(op, inputs, out) + nearer
            }
            Kind::Movement if !matches!(op, Op::Reshape(_) | Op::Assume(_)) => 0.7 * alone,
            _ => alone,
        }
    }

    fn traffic(&self, op: &Op, inputs: &[&TensorType], out: &TensorType) -> f64 {
        let read = inputs.iter().enumerate().map(|(number, ty)| match picks(op, number) {
            // Each element of the result is read once, and no more than there are.
            true => self.bytes(ty).min(self.elements(out) * ty.dtype.size() as f64),
            false => self.bytes(ty),
        });
        read.sum::<f64>() + self.bytes(out)
    }

    /// Of an input that a body only picks elements from, those are read.
    fn traffic_of_body(&self, body: &Graph, inputs: &[&TensorType], out: &TensorType) -> f64 {
        let uses = body.uses();
        let read = body.inputs().iter().zip(inputs).map(|(&input, ty)| {
            let whole = self.bytes(ty);
            let picked: Option<Vec<f64>> = uses[input.0 as usize]
                .iter()
                .map(|&user| {
                    let node = body.node(user);
                    let mut own =
                        node.inputs.iter().enumerate().filter(|(_, value)| **value == input);
                    let picks = own.all(|(number, _)| picks(&node.op, number));
                    let &result = node.outputs.first().filter(|_| picks)?;
                    Some(self.elements(body.ty(result)) * ty.dtype.size() as f64)
                })
                .collect();
            picked.map_or(whole, |picked| picked.iter().sum::<f64>().min(whole))
        });
        read.sum::<f64>() + self.bytes(out)
    }

    /// The longer of computing and moving, and a little of the shorter: they never overlap fully.
    fn time(&self, work: f64, bytes: f64) -> f64 {
        let moving = bytes / self.bandwidth;
        self.overhead + work.max(moving) + 0.1 * work.min(moving)
    }

    /// Multiply-adds that run at once for one of floats: products that are summed in 32-bit integers are
    /// mostly of bytes.
    fn together(&self, sum: &TensorType) -> f64 {
        if sum.dtype == DType::I32 { self.bytes } else { 1.0 }
    }

    /// Share of the lanes that so many neighbours fill.
    fn filled(&self, count: f64) -> f64 {
        let vectors = (count / self.lanes).ceil().max(1.0);
        (count / (vectors * self.lanes)).clamp(0.05, 1.0)
    }

    /// Share of `flops` of a convolution whose lanes are places of its image: that of a product, if each place
    /// needs one alone, of channels that stay in a core's own cache.
    fn places_in_lanes(&self, conv: &Conv, filter: Option<&&TensorType>, out: &TensorType) -> f64 {
        let window = filter.and_then(|filter| filter.shape.get(2..)).unwrap_or_default();
        let alone = window.iter().all(|size| size.is(1))
            && conv.strides.iter().all(|&stride| stride == 1)
            && conv.before.iter().chain(&conv.after).all(|&amount| amount == 0);
        let places: f64 = out.shape.iter().skip(2).map(|dim| self.size(dim)).product();
        let channels = filter.and_then(|f| f.shape.get(1)).map_or(1.0, |dim| self.size(dim));
        // Rows of an image are not laid out anew: each filter reads all of them.
        if alone && places * channels * out.dtype.size() as f64 <= NEAR {
            return self.filled(places);
        }
        let apart = conv.strides.last().is_some_and(|&stride| stride > 1);
        self.channels_first / if apart { APART.sqrt() } else { 1.0 }
    }

    /// Seconds of arithmetic.
    fn work(&self, op: &Op, inputs: &[&TensorType], out: &TensorType) -> f64 {
        let results = self.elements(out);
        let first = inputs.first().map_or(0.0, |ty| self.elements(ty));
        let second = inputs.get(1);
        match op {
            Op::Contract(contract) => {
                let spec = &contract.spec;
                let mut total = 2.0 * results;
                for label in spec.summed() {
                    let left = spec.lhs.iter().position(|l| *l == label);
                    let right = spec.rhs.iter().position(|l| *l == label);
                    let dim = left
                        .and_then(|at| inputs.first()?.shape.get(at))
                        .or_else(|| right.and_then(|at| second?.shape.get(at)));
                    total *= dim.map_or(1.0, |dim| self.size(dim));
                }
                // A microkernel has one loop for each of m, n and k; further ones go around it. Of
                // two forms with equal loops the one with fewer labels is plainer.
                let labels = spec.out.len() + spec.summed().len();
                let effort = 1.0
                    + 0.05 * outer_loops(spec) as f64
                    + 0.001 * labels as f64
                    + if channels_first(spec) { 0.3 } else { 0.0 };
                total * effort / (self.flops * self.together(out))
            }
            Op::Conv(conv) => {
                let (filters, share) = match conv.layout {
                    ConvLayout::ChannelsFirst => (0, self.places_in_lanes(conv, second, out)),
                    ConvLayout::ChannelsLast => {
                        let filters = out.shape.last().map_or(1.0, |dim| self.size(dim));
                        let groups = conv.groups.max(1) as f64;
                        // One filter a group: then the lanes are groups.
                        let along = if filters > groups { filters / groups } else { filters };
                        let share = self.filled(along).max(0.5) * self.together(out);
                        (out.rank().saturating_sub(1), share)
                    }
                };
                let weight = second.map_or(0.0, |w| self.elements(w));
                let count = second.and_then(|w| w.shape.get(filters)).map_or(1.0, |d| self.size(d));
                2.0 * results * weight / count.max(1.0) / (self.flops * share)
            }
            Op::ConvTranspose(conv) => {
                let weight = second.map_or(0.0, |w| self.elements(w));
                let channels = second.and_then(|w| w.shape.first()).map_or(1.0, |d| self.size(d));
                // Neighbouring filters lie a whole filter apart, and stay there: which of its elements are
                // read depends on the place, so none are laid out together.
                let filters = second.and_then(|w| w.shape.get(1)).map_or(1.0, |d| self.size(d));
                let apart = weight / (channels * filters).max(1.0);
                let strided = conv.strides.iter().any(|&stride| stride > 1);
                let near = if strided { (4.0 / apart.max(1.0)).min(1.0) } else { 1.0 };
                let share = self.channels_first * near;
                2.0 * first * weight / channels.max(1.0) / (self.flops * share)
            }
            // Products of 16 places for each tile of four, and the transforms, which read and write as many.
            Op::Winograd(_) => {
                let filters = out.shape.last().map_or(1.0, |dim| self.size(dim)).max(1.0);
                let channels = second.and_then(|w| w.shape.get(1)).map_or(1.0, |d| self.size(d));
                let tiles: f64 = out.shape[..out.rank().saturating_sub(1)]
                    .iter()
                    .enumerate()
                    .map(|(dim, size)| self.size(size) / if dim == 0 { 1.0 } else { 2.0 })
                    .map(f64::ceil)
                    .product();
                let places = 16.0 * tiles;
                2.0 * places * channels * filters / self.flops
                    + WINOGRAD * places * (channels + filters) / self.elementwise
            }
            Op::Attention(_) => {
                let keys = second.and_then(|k| k.shape.get(2)).map_or(1.0, |dim| self.size(dim));
                let rows = first
                    / inputs
                        .first()
                        .and_then(|q| q.shape.last())
                        .map_or(1.0, |d| self.size(d))
                        .max(1.0);
                4.0 * first * keys / self.flops + 10.0 * rows * keys / self.elementwise
            }
            Op::Recurrent(layer) => {
                let operands = layer.operands(inputs);
                let weights = operands
                    .map_or(0.0, |of| of.w.map_or(0.0, |w| self.elements(w)) + self.elements(of.r));
                let steps =
                    inputs.first().and_then(|x| x.shape.first()).map_or(1.0, |d| self.size(d));
                2.0 * weights * steps / (self.flops * 0.2)
            }
            Op::WindowReduce(window) => {
                let taps: f64 = window.window.iter().map(|&size| size as f64).product();
                let apart = window.strides.last().is_some_and(|&stride| stride > 1);
                let apart = if apart { APART } else { 1.0 };
                apart * results * taps / self.elementwise
            }
            Op::Softmax(_) => 12.0 * first / self.elementwise,
            // Sums, then each element's part; the mean is one sum and one difference more.
            Op::Normalize(norm) => (if norm.center { 6.0 } else { 4.0 }) * first / self.elementwise,
            Op::Reduce(_) | Op::ArgReduce(_) | Op::Accumulate(_) => first / self.elementwise,
            Op::Unary(unary) => results * weight(unary.f) / self.elementwise,
            Op::Binary(binary) => {
                let weight = match binary.f {
                    BinaryFn::Pow => 16.0,
                    BinaryFn::Div | BinaryFn::Rem | BinaryFn::Mod => 4.0,
                    _ => 1.0,
                };
                results * weight / self.elementwise
            }
            Op::Select(_) | Op::Cast(_) | Op::BitCast(_) => results / self.elementwise,
            // Index arithmetic, and vectors that are gathered from strides.
            Op::Transpose(_) | Op::Gather(_) | Op::Concat(_) => results / self.elementwise,
            Op::Reshape(_) | Op::Slice(_) | Op::Broadcast(_) | Op::Pad(_) => {
                0.25 * results / self.elementwise
            }
            Op::Constant(_) | Op::SizeOf(_) | Op::Assume(_) => 0.0,
            _ => 4.0 * results.max(first) / self.elementwise,
        }
    }
}

/// Whether an operation reads only some of an operand, for each element of its result one.
fn picks(op: &Op, operand: usize) -> bool {
    match op {
        Op::Slice(_) => true,
        Op::Gather(_) | Op::GatherElements(_) | Op::GatherNd(_) => operand == 0,
        _ => false,
    }
}

/// How often a core reads its operand, and computes anew what comes before it.
fn passes(op: &Op) -> f64 {
    match op {
        Op::Softmax(_) | Op::Normalize(_) => 3.0,
        _ => 1.0,
    }
}

/// Whether the left operand or the result has its rows after its channels, as an image with its
/// channels first has: good for one product, but what comes after convolves with channels last.
pub(super) fn channels_first(spec: &ContractSpec) -> bool {
    let rows = |label: &u8| spec.lhs.contains(label) && spec.out.contains(label);
    let after = |side: &[u8], inner: &dyn Fn(&u8) -> bool| {
        let first = side.iter().position(|label| inner(label) && !rows(label));
        first.is_some_and(|first| side[first..].iter().filter(|label| rows(label)).count() >= 2)
    };
    let summed = |label: &u8| !spec.out.contains(label);
    let columns = |label: &u8| spec.rhs.contains(label);
    after(&spec.lhs, &summed) || after(&spec.out, &columns)
}

/// How many loops over rows, columns or sums a contraction has beyond one each, after neighbours
/// that stay neighbours are joined.
fn outer_loops(spec: &ContractSpec) -> usize {
    let runs = |labels: &[u8], within: &[u8], other: &[u8]| {
        let joined = labels.windows(2).filter(|pair| {
            let next_to = |side: &[u8]| side.windows(2).any(|window| window == *pair);
            next_to(within) && next_to(other)
        });
        labels.len().saturating_sub(joined.count()).saturating_sub(1)
    };
    let only = |own: &[u8], other: &[u8]| -> Vec<u8> {
        own.iter().copied().filter(|l| spec.out.contains(l) && !other.contains(l)).collect()
    };
    let rows = only(&spec.lhs, &spec.rhs);
    let columns = only(&spec.rhs, &spec.lhs);
    runs(&rows, &spec.lhs, &spec.out)
        + runs(&columns, &spec.rhs, &spec.out)
        + runs(&spec.summed(), &spec.lhs, &spec.rhs)
}

fn weight(f: UnaryFn) -> f64 {
    match f {
        UnaryFn::Neg | UnaryFn::Abs | UnaryFn::Relu | UnaryFn::Not | UnaryFn::BitNot => 1.0,
        UnaryFn::Floor | UnaryFn::Ceil | UnaryFn::Round | UnaryFn::Sign => 1.0,
        UnaryFn::IsNan | UnaryFn::IsInf => 1.0,
        UnaryFn::Sqrt | UnaryFn::Rsqrt | UnaryFn::Reciprocal => 4.0,
        UnaryFn::Exp | UnaryFn::Log | UnaryFn::Sigmoid | UnaryFn::Silu | UnaryFn::Tanh => 10.0,
        UnaryFn::Gelu => 16.0,
        UnaryFn::GeluTanh => 12.0,
        _ => 20.0,
    }
}
