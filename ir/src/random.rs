//! Random well-typed graphs and operands, for property tests.
//!
//! Invariant: a seed gives the same graph everywhere and always, and every graph that is given
//! evaluates (or says why not) in a moment.

use crate::graph::{Graph, TensorType, ValueId};
use crate::op::*;
use kiln_tensor::{Bounds, DType, Dim, Symbol, SymbolValues, Tensor};

/// Sizes of the symbols that random graphs use, for [`inputs`].
const SYMBOLS: [(&str, i64); 2] = [("batch", 2), ("seq", 5)];

/// A graph with up to three inputs and about this many nodes.
pub fn graph(seed: u64, nodes: usize) -> Graph {
    let mut source = Source { state: seed };
    let mut graph = Graph::new(format!("random {seed}"));
    for (name, _) in SYMBOLS {
        let max = source.coin().then(|| 8 + source.below(100) as i64);
        graph.symbols.insert(Symbol::new(name), Bounds { min: source.below(3) as i64, max });
    }
    for number in 0..1 + source.below(3) {
        let ty = source.ty();
        graph.input(format!("input \"{number}\""), ty);
    }
    source.nodes(&mut graph, nodes, 2);
    source.outputs(&mut graph);
    graph
}

/// Operands for a random graph: small numbers, of the sizes that its symbols are taken to have.
pub fn inputs(graph: &Graph, seed: u64) -> Vec<Tensor> {
    let values: SymbolValues =
        SYMBOLS.iter().map(|&(name, value)| (Symbol::new(name), value)).collect();
    let mut source = Source { state: seed };
    let operands = graph.inputs().iter().map(|&id| {
        let ty = graph.ty(id);
        let sizes = ty.shape.iter().map(|dim| dim.evaluate(&values).unwrap_or(0).max(0) as usize);
        source.tensor(ty.dtype, sizes.collect())
    });
    operands.collect()
}

/// A small generator of pseudo-random numbers (SplitMix64).
struct Source {
    state: u64,
}

impl Source {
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }

    fn coin(&mut self) -> bool {
        self.next().is_multiple_of(2)
    }

    fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    fn dtype(&mut self) -> DType {
        if self.coin() { DType::F32 } else { self.of(&DType::ALL) }
    }

    fn dim(&mut self) -> Dim {
        match self.below(5) {
            0 => Dim::named("batch"),
            1 => Dim::named("seq"),
            2 => Dim::named("seq") * Dim::from(2i64) + Dim::from(1i64),
            _ => Dim::from(1 + self.below(4)),
        }
    }

    fn ty(&mut self) -> TensorType {
        let rank = self.below(4);
        TensorType::new(self.dtype(), (0..rank).map(|_| self.dim()).collect())
    }

    fn tensor(&mut self, dtype: DType, sizes: Vec<usize>) -> Tensor {
        let count: usize = sizes.iter().product();
        let whole = !dtype.is_float();
        let values: Vec<f64> = (0..count)
            .map(|_| {
                let value = self.below(800) as f64 / 100.0 - 4.0;
                if whole { value.round() } else { value }
            })
            .collect();
        Tensor::from_f64(dtype, sizes.clone(), &values)
            .or_else(|_| Tensor::zeros(dtype, vec![0]))
            .unwrap_or_else(|error| unreachable!("an empty tensor always fits: {error}"))
    }

    fn value(&mut self, graph: &Graph) -> ValueId {
        ValueId(self.below(graph.value_count()) as u32)
    }

    /// Adds nodes; an operation that does not accept what it is tried on is left out.
    fn nodes(&mut self, graph: &mut Graph, count: usize, depth: usize) {
        for _ in 0..count {
            if graph.value_count() == 0 || self.below(8) == 0 {
                let sizes = (0..self.below(3)).map(|_| 1 + self.below(5)).collect();
                let dtype = self.dtype();
                let tensor = self.tensor(dtype, sizes);
                let _ = graph.constant(tensor);
                continue;
            }
            if depth > 0 && self.below(10) == 0 {
                self.body(graph, depth);
                continue;
            }
            let x = self.value(graph);
            let (op, inputs) = self.operation(graph, x);
            let source = (self.below(4) == 0).then(|| format!("node/{}\n", self.below(9)).into());
            if let Ok(results) = graph.add_node(op, &inputs, Vec::new(), source)
                && let (0, Some(&result)) = (self.below(6), results.first())
            {
                graph.set_name(result, format!("name {}", self.below(100)));
            }
        }
    }

    fn operation(&mut self, graph: &Graph, x: ValueId) -> (Op, Vec<ValueId>) {
        let ty = graph.ty(x).clone();
        let (rank, other) = (ty.rank(), self.value(graph));
        let axis = self.below(rank);
        let ones = vec![1; rank];
        match self.below(20) {
            0 => (Binary { f: self.of(&BinaryFn::ALL) }.into(), vec![x, other]),
            1 => (Binary { f: self.of(&BinaryFn::ALL) }.into(), vec![x, x]),
            2 | 3 => (Unary { f: self.of(&UnaryFn::ALL) }.into(), vec![x]),
            4 => (Cast { to: self.of(&DType::ALL) }.into(), vec![x]),
            5 => {
                let mut perm: Vec<usize> = (0..rank).collect();
                perm.rotate_left(axis);
                (Transpose { perm }.into(), vec![x])
            }
            6 => (Reshape { shape: vec![ty.elements()] }.into(), vec![x]),
            7 => {
                let shape = [vec![self.dim()], ty.shape].concat();
                (Broadcast { shape }.into(), vec![x])
            }
            8 => {
                let last = |dim: &Dim| dim.clone() - Dim::from(1i64);
                let reverse = self.coin();
                let zero = Dim::from(0i64);
                let starts = ty.shape.iter().map(|d| if reverse { last(d) } else { zero.clone() });
                let steps = vec![if reverse { -1 } else { 1 }; rank];
                (Slice { starts: starts.collect(), sizes: ty.shape.clone(), steps }.into(), vec![x])
            }
            9 => (Concat { axis }.into(), vec![x, x]),
            10 => {
                let mode = self.of(&[PadMode::Reflect, PadMode::Edge, PadMode::Wrap]);
                let amounts = |source: &mut Source| {
                    (0..rank).map(|_| Dim::from(source.below(3))).collect::<Vec<_>>()
                };
                let (before, after) = (amounts(self), amounts(self));
                (Pad { before, after, mode }.into(), vec![x])
            }
            11 => (Gather { axis }.into(), vec![x, other]),
            12 => {
                use ReduceFn::*;
                let f = self.of(&[Sum, Mean, Max, Min, Prod, Any, All]);
                let axes = (0..rank).filter(|_| self.coin()).collect();
                (Reduce { f, axes, keep: self.coin() }.into(), vec![x])
            }
            13 => {
                let f = self.of(&[ReduceFn::Max, ReduceFn::Min]);
                let (keep, last) = (self.coin(), self.coin());
                (ArgReduce { f, axis, keep, last }.into(), vec![x])
            }
            14 => {
                let (exclusive, reverse) = (self.coin(), self.coin());
                let f = self.of(&[ReduceFn::Sum, ReduceFn::Prod]);
                (Accumulate { f, axis, exclusive, reverse }.into(), vec![x])
            }
            15 => {
                let padding = vec![1i64; rank];
                let f = self.of(&[
                    WindowFn::Max,
                    WindowFn::Sum,
                    WindowFn::Mean { count_padding: true },
                ]);
                let (window, strides) = (vec![2; rank], vec![1 + self.below(2); rank]);
                let op = WindowReduce {
                    f,
                    window,
                    strides,
                    dilations: ones,
                    before: padding.clone(),
                    after: padding,
                };
                (op.into(), vec![x])
            }
            16 => {
                let labels: Vec<u8> = (b'a'..).take(rank).collect();
                let out = labels.iter().copied().filter(|_| self.coin()).collect();
                let spec = ContractSpec { lhs: labels.clone(), rhs: labels, out };
                (Contract { spec }.into(), vec![x, x])
            }
            17 => (Softmax { axis }.into(), vec![x]),
            18 => (Normalize { axis, epsilon: 1e-5, center: self.coin() }.into(), vec![x]),
            _ => (SizeOf { dims: ty.shape, scalar: false }.into(), Vec::new()),
        }
    }

    fn outputs(&mut self, graph: &mut Graph) {
        for number in 0..1 + self.below(3) {
            if graph.value_count() > 0 {
                let value = self.value(graph);
                let _ = graph.output(value, format!("output {number}"));
            }
        }
    }

    /// Adds a node with a body that computes with one captured value.
    fn body(&mut self, graph: &mut Graph, depth: usize) {
        let captured = self.value(graph);
        let ty = graph.ty(captured).clone();
        let mut body = Graph::new("body");
        if self.coin() {
            body.input("captured", ty);
            self.nodes(&mut body, 4, depth - 1);
            self.outputs(&mut body);
            let label = format!("label {}", self.below(9));
            let _ = graph.add_node(Fused { label }.into(), &[captured], vec![body], None);
            return;
        }
        let trip = Tensor::scalar(self.below(4) as i64);
        let condition = Tensor::from_bytes(DType::Bool, Vec::new(), &[u8::from(self.coin())]);
        let (Ok(trip), Ok(condition)) = (trip, condition) else { return };
        let (Ok(trip), Ok(condition)) = (graph.constant(trip), graph.constant(condition)) else {
            return;
        };
        body.input("iteration", TensorType::new(DType::I64, Vec::new()));
        let go_on = body.input("condition", TensorType::new(DType::Bool, Vec::new()));
        let carried = body.input("carried", ty.clone());
        let next = body.add1(Binary { f: BinaryFn::Add }.into(), &[carried, carried]);
        let next = next.unwrap_or(carried);
        let results = [(go_on, "condition"), (next, "carried"), (carried, "scan")];
        for (value, name) in results {
            let _ = body.output(value, name);
        }
        let scan_length = Dim::named(&format!("steps{}", graph.value_count()));
        let op = Loop { carried: 1, scan: 1, scan_length };
        let _ = graph.add_node(op.into(), &[trip, condition, captured], vec![body], None);
    }
}
