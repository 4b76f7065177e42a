//! A decoder with a cache, as PyTorch writes Qwen: normalised and rotated rows, and keys and values that
//! come into every layer and go out of it.
//!
//! Invariant: about a hundred nodes a layer, constants included.

use super::{Network, dims};
use kiln_ir::op::*;
use kiln_ir::{Graph, TensorType, ValueId};
use kiln_tensor::{DType, Dim};

/// What all layers share.
struct Shared {
    size: usize,
    heads: usize,
    /// Cosines and sines of what each element of a row is turned by.
    turns: [ValueId; 2],
    mask: ValueId,
}

impl Shared {
    fn each(&self) -> usize {
        self.size / self.heads
    }
}

/// A decoder of so many layers over `[b, s, size]` and caches of `p` rows.
pub fn decoder(layers: usize, size: usize, heads: usize) -> Graph {
    let mut net = Network { graph: Graph::new("decoder"), weights: 0 };
    let each = size / heads;
    let mut input =
        |name: String, shape: &str| net.graph.input(name, TensorType::new(DType::F32, dims(shape)));
    let mut x = input("x".to_owned(), &format!("b, s, {size}"));
    let positions = input("positions".to_owned(), "1, s, 1");
    let mask = input("mask".to_owned(), "b, 1, s, p + s");
    let past = format!("b, {heads}, p, {each}");
    let pasts: Vec<[ValueId; 2]> = (0..layers)
        .map(|layer| ["key", "value"].map(|what| input(format!("past.{layer}.{what}"), &past)))
        .collect();
    let rates = net.weight(&[each]);
    let angles = net.binary(BinaryFn::Mul, positions, rates);
    let turns = [UnaryFn::Cos, UnaryFn::Sin].map(|f| net.unary(f, angles));
    let shared = Shared { size, heads, turns, mask };
    let mut presents = Vec::new();
    for past in pasts {
        let (next, present) = net.decoder_layer(x, past, &shared);
        x = next;
        presents.push(present);
    }
    let y = net.rms_norm(x, size);
    net.graph.output(y, "y").expect("the value exists");
    for (layer, present) in presents.into_iter().enumerate() {
        for (value, what) in present.into_iter().zip(["key", "value"]) {
            net.graph.output(value, format!("present.{layer}.{what}")).expect("the value exists");
        }
    }
    net.graph
}

impl Network {
    fn decoder_layer(
        &mut self,
        x: ValueId,
        past: [ValueId; 2],
        shared: &Shared,
    ) -> (ValueId, [ValueId; 2]) {
        let Shared { size, heads, .. } = *shared;
        let each = shared.each();
        let normal = self.rms_norm(x, size);
        let split = ["b", "s", &heads.to_string(), &each.to_string()];
        let [q, k, v] = [0; 3].map(|_| {
            let y = self.linear(normal, size, size, "bsk,kn->bsn");
            self.reshape(y, &split)
        });
        let [q, k] = [q, k].map(|rows| self.rms_norm(rows, each));
        let [q, k, v] = [q, k, v].map(|x| self.op(Transpose { perm: vec![0, 2, 1, 3] }, &[x]));
        let [q, k] = [q, k].map(|rows| self.turned(rows, shared));
        let [past_k, past_v] = past;
        let k = self.op(Concat { axis: 2 }, &[past_k, k]);
        let v = self.op(Concat { axis: 2 }, &[past_v, v]);
        let keys = self.op(Transpose { perm: vec![0, 1, 3, 2] }, &[k]);
        let scores = self.contract("abmk,abkn->abmn", q, keys);
        let root = self.number((each as f32).sqrt());
        let scaled = self.binary(BinaryFn::Div, scores, root);
        let masked = self.binary(BinaryFn::Add, scaled, shared.mask);
        let weights = self.op(Softmax { axis: 3 }, &[masked]);
        let mixed = self.contract("abmk,abkn->abmn", weights, v);
        let back = self.op(Transpose { perm: vec![0, 2, 1, 3] }, &[mixed]);
        let joined = self.reshape(back, &["b", "s", &size.to_string()]);
        let y = self.product(joined, size, size);
        let x = self.binary(BinaryFn::Add, x, y);
        let normal = self.rms_norm(x, size);
        let gate = self.product(normal, size, 3 * size);
        let open = self.unary(UnaryFn::Sigmoid, gate);
        let gate = self.binary(BinaryFn::Mul, gate, open);
        let up = self.product(normal, size, 3 * size);
        let both = self.binary(BinaryFn::Mul, gate, up);
        let y = self.product(both, 3 * size, size);
        (self.binary(BinaryFn::Add, x, y), [k, v])
    }

    fn product(&mut self, x: ValueId, from: usize, to: usize) -> ValueId {
        let weight = self.weight(&[from, to]);
        self.contract("bsk,kn->bsn", x, weight)
    }

    fn rms_norm(&mut self, x: ValueId, size: usize) -> ValueId {
        let two = self.number(2.0);
        let square = self.binary(BinaryFn::Pow, x, two);
        let last = self.graph.ty(x).rank() - 1;
        let mean = self.mean(square, &[last], true);
        let epsilon = self.number(1e-6);
        let shifted = self.binary(BinaryFn::Add, mean, epsilon);
        let root = self.unary(UnaryFn::Sqrt, shifted);
        let one = self.number(1.0);
        let inverse = self.binary(BinaryFn::Div, one, root);
        let normal = self.binary(BinaryFn::Mul, x, inverse);
        let scale = self.weight(&[size]);
        self.binary(BinaryFn::Mul, normal, scale)
    }

    /// `x·cos + (−x₂, x₁)·sin` of rows `(x₁, x₂)`.
    fn turned(&mut self, x: ValueId, shared: &Shared) -> ValueId {
        let half = Dim::from(shared.each() / 2);
        let zero = Dim::from(0i64);
        let [first, second] = [zero.clone(), half.clone()].map(|start| {
            let mut sizes = self.graph.ty(x).shape.clone();
            sizes[3] = half.clone();
            let starts = vec![zero.clone(), zero.clone(), zero.clone(), start];
            self.op(Slice { starts, sizes, steps: vec![1; 4] }, &[x])
        });
        let negative = self.unary(UnaryFn::Neg, second);
        let across = self.op(Concat { axis: 3 }, &[negative, first]);
        let [cos, sin] = shared.turns;
        let straight = self.binary(BinaryFn::Mul, x, cos);
        let across = self.binary(BinaryFn::Mul, across, sin);
        self.binary(BinaryFn::Add, straight, across)
    }
}
