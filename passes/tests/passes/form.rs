//! Kernels against graph operations: what a node's kernel computes is what the node computes.
//!
//! Invariant: every family of operations, alone and fused, over sizes of 0, 1 and odd ones.

use kiln_ir::kernel::{Kernel, Role, ScalarOp, evaluate};
use kiln_ir::op::*;
use kiln_ir::{Graph, NodeId, TensorType, ValueId};
use kiln_passes::form;
use kiln_tensor::{DType, Dim, SymbolValues, Tensor};

/// Pseudo-random numbers in −1 to 1.
struct Random(u64);

impl Random {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 40) as f64 / (1u64 << 23) as f64 - 1.0
    }

    fn tensor(&mut self, dtype: DType, sizes: &[usize]) -> Tensor {
        let count: usize = sizes.iter().product();
        let values: Vec<f64> = (0..count)
            .map(|_| if dtype.is_float() { self.next() } else { (self.next() * 7.0).round() })
            .collect();
        Tensor::from_f64(dtype, sizes.to_vec(), &values).unwrap()
    }
}

fn sizes_of(shape: &[Dim], values: &SymbolValues) -> Vec<usize> {
    shape.iter().map(|dim| dim.evaluate(values).unwrap() as usize).collect()
}

/// Runs the kernel of a node on these operands.
fn run(graph: &Graph, node: NodeId, values: &SymbolValues, inputs: &[Tensor]) -> Vec<Tensor> {
    let formed = form(graph, node).unwrap_or_else(|error| panic!("{}: {error}", graph.name));
    let kernel = &formed.kernel;
    let params: SymbolValues = kernel
        .symbols
        .keys()
        .cloned()
        .zip(formed.params.iter().map(|dim| dim.evaluate(values).unwrap()))
        .collect();
    let operands: Vec<Tensor> = kernel
        .operands
        .iter()
        .filter(|operand| operand.role == Role::Input)
        .zip(inputs)
        .map(|(operand, tensor)| tensor.reshaped(sizes_of(&operand.shape, &params)).unwrap())
        .collect();
    let results = evaluate(kernel, &params, &operands)
        .unwrap_or_else(|error| panic!("{}: {error}\n{kernel}", graph.name));
    let outputs = graph.node(node).outputs.iter();
    outputs
        .zip(results)
        .map(|(&id, result)| result.reshaped(sizes_of(&graph.ty(id).shape, values)).unwrap())
        .collect()
}

/// Checks the last node of a graph whose other nodes are inputs.
fn check_with(graph: &Graph, inputs: &[Tensor]) {
    let values = SymbolValues::new();
    let (node, _) = graph.nodes().next_back().unwrap();
    let actual = run(graph, node, &values, inputs);
    let expected =
        kiln_ir::evaluate(graph, inputs).unwrap_or_else(|error| panic!("{}: {error}", graph.name));
    for (actual, expected) in actual.iter().zip(&expected) {
        assert_eq!(actual.sizes(), expected.sizes(), "{}", graph.name);
        assert_eq!(actual.dtype(), expected.dtype(), "{}", graph.name);
        for (place, (a, e)) in actual.to_f64().iter().zip(expected.to_f64()).enumerate() {
            let close =
                (a - e).abs() <= 1e-4 * (1.0 + e.abs()) || *a == e || a.is_nan() && e.is_nan();
            let kernel = form(graph, node).unwrap().kernel;
            assert!(close, "{}: element {place} is {a}, should be {e}\n{kernel}", graph.name);
        }
    }
}

struct Builder {
    graph: Graph,
    random: Random,
    inputs: Vec<Tensor>,
}

impl Builder {
    fn new(name: &str) -> Self {
        Builder { graph: Graph::new(name), random: Random(7), inputs: Vec::new() }
    }

    fn input(&mut self, sizes: &[usize]) -> ValueId {
        self.typed(DType::F32, sizes)
    }

    fn typed(&mut self, dtype: DType, sizes: &[usize]) -> ValueId {
        let tensor = self.random.tensor(dtype, sizes);
        self.given(tensor)
    }

    fn given(&mut self, tensor: Tensor) -> ValueId {
        let name = format!("x{}", self.inputs.len());
        let value = self.graph.input(name, TensorType::of(&tensor));
        self.inputs.push(tensor);
        value
    }

    fn op(&mut self, op: impl Into<Op>, inputs: &[ValueId]) -> ValueId {
        self.graph.add1(op.into(), inputs).unwrap_or_else(|e| panic!("{}: {e}", self.graph.name))
    }

    fn number(&mut self, value: f64) -> ValueId {
        self.graph.constant(Tensor::from_f64(DType::F32, vec![], &[value]).unwrap()).unwrap()
    }

    fn check(mut self, result: ValueId) {
        self.graph.output(result, "y").unwrap();
        check_with(&self.graph, &self.inputs);
    }

    /// The whole graph as one fused node, and the kernel that it is.
    fn check_fused(mut self, result: ValueId) -> Kernel {
        self.graph.output(result, "y").unwrap();
        let mut outer = Graph::new(self.graph.name.clone());
        let inputs: Vec<ValueId> =
            self.inputs.iter().map(|t| outer.input("x", TensorType::of(t))).collect();
        let label = self.graph.name.clone();
        let fused = Op::Fused(Fused { label });
        let result = outer.add_node(fused, &inputs, vec![self.graph], None).unwrap()[0];
        outer.output(result, "y").unwrap();
        check_with(&outer, &self.inputs);
        form(&outer, NodeId(0)).unwrap().kernel
    }
}

fn binary(f: BinaryFn) -> Op {
    Binary { f }.into()
}

fn unary(f: UnaryFn) -> Op {
    Unary { f }.into()
}

fn dims(sizes: &[usize]) -> Vec<Dim> {
    sizes.iter().map(|&size| Dim::from(size)).collect()
}

#[test]
fn elementwise_operations_stretch_their_operands() {
    for sizes in [[2, 3, 5], [1, 1, 1], [4, 0, 2], [3, 1, 7]] {
        let mut b = Builder::new("chain");
        let x = b.input(&sizes);
        let bias = b.input(&[sizes[2]]);
        let column = b.input(&[sizes[1], 1]);
        let y = b.op(binary(BinaryFn::Add), &[x, bias]);
        let y = b.op(binary(BinaryFn::Mul), &[y, column]);
        let half = b.number(0.5);
        let y = b.op(binary(BinaryFn::Max), &[y, half]);
        let y = b.op(unary(UnaryFn::Gelu), &[y]);
        let less = b.op(binary(BinaryFn::Less), &[y, bias]);
        let y = b.op(Select {}, &[less, x, y]);
        b.check_fused(y);
    }
}

#[test]
fn movement_pulls_indices_back() {
    let mut b = Builder::new("split heads");
    let x = b.input(&[2, 3, 12]);
    let y = b.op(Reshape { shape: dims(&[2, 3, 4, 3]) }, &[x]);
    let y = b.op(Transpose { perm: vec![0, 2, 1, 3] }, &[y]);
    b.check_fused(y);

    let mut b = Builder::new("join heads");
    let x = b.input(&[2, 4, 3, 5]);
    let y = b.op(Transpose { perm: vec![0, 2, 1, 3] }, &[x]);
    let y = b.op(Reshape { shape: dims(&[2, 3, 20]) }, &[y]);
    let bias = b.input(&[20]);
    let y = b.op(binary(BinaryFn::Add), &[y, bias]);
    b.check_fused(y);

    let mut b = Builder::new("odd reshape");
    let x = b.input(&[4, 6]);
    let y = b.op(Transpose { perm: vec![1, 0] }, &[x]);
    let y = b.op(Reshape { shape: dims(&[8, 3]) }, &[y]);
    b.check_fused(y);

    let mut b = Builder::new("slice");
    let x = b.input(&[7, 5]);
    let slice = Slice { starts: dims(&[6, 1]), sizes: dims(&[3, 2]), steps: vec![-2, 3] };
    let y = b.op(slice, &[x]);
    b.check(y);

    for axis in 0..3 {
        let mut b = Builder::new("concat");
        let parts: Vec<ValueId> = [2, 0, 3]
            .iter()
            .map(|&length| {
                let mut sizes = [2, 3, 4];
                sizes[axis] = length;
                b.input(&sizes)
            })
            .collect();
        let y = b.op(Concat { axis }, &parts);
        let y = b.op(unary(UnaryFn::Exp), &[y]);
        b.check_fused(y);
    }

    let mut b = Builder::new("concat inside");
    let (x, z) = (b.input(&[2, 3]), b.input(&[2, 4]));
    let y = b.op(Concat { axis: 1 }, &[x, z]);
    let y = b.op(Reshape { shape: dims(&[7, 2]) }, &[y]);
    b.check_fused(y);

    let mut b = Builder::new("pad");
    let x = b.input(&[2, 3]);
    let value = b.number(4.0);
    let pad = Pad {
        before: vec![1i64.into(), (-1i64).into()],
        after: dims(&[0, 2]),
        mode: PadMode::Constant,
    };
    let y = b.op(unary(UnaryFn::Exp), &[x]);
    let y = b.op(pad, &[y, value]);
    b.check_fused(y);
}

#[test]
fn reductions_keep_what_stands_around_them() {
    for (axes, keep) in
        [(vec![1], true), (vec![0, 2], false), (vec![0, 1, 2], true), (vec![], true)]
    {
        for f in [ReduceFn::Sum, ReduceFn::Mean, ReduceFn::Max, ReduceFn::Min] {
            for sizes in [[2, 3, 5], [1, 4, 1], [2, 0, 3]] {
                let mut b = Builder::new("reduce");
                let (x, z) = (b.input(&sizes), b.input(&sizes));
                let y = b.op(binary(BinaryFn::Mul), &[x, z]);
                let y = b.op(Reduce { f, axes: axes.clone(), keep }, &[y]);
                let two = b.number(2.0);
                let y = b.op(binary(BinaryFn::Add), &[y, two]);
                b.check_fused(y);
            }
        }
    }
}

#[test]
fn softmax_and_normalisation() {
    for sizes in [[2, 3, 5], [4, 1, 1], [0, 3, 2]] {
        for axis in 0..3 {
            let mut b = Builder::new("softmax");
            let (x, mask) = (b.input(&sizes), b.input(&[sizes[2]]));
            let y = b.op(binary(BinaryFn::Add), &[x, mask]);
            let y = b.op(Softmax { axis }, &[y]);
            b.check_fused(y);

            let mut b = Builder::new("normalise");
            let x = b.input(&sizes);
            let (scale, bias) = (b.input(&sizes[axis..]), b.input(&sizes[axis..]));
            let operands = [x, scale, bias];
            for (count, center) in [(1, true), (2, false), (3, true)] {
                let mut b =
                    Builder { graph: b.graph.clone(), random: Random(1), inputs: b.inputs.clone() };
                let normalize = Normalize { axis, epsilon: 1e-5, center };
                let y = b.op(normalize, &operands[..count]);
                if count == 3 {
                    let y = b.op(unary(UnaryFn::Relu), &[y]);
                    b.check_fused(y);
                }
            }
        }
    }
}

#[test]
fn contractions() {
    for spec in [
        "mk,kn->mn",
        "bmk,bkn->bmn",
        "mk,nk->nm",
        "k,k->",
        "bhsd,bhdt->bhst",
        "ij,k->ikj",
        "mkl,lkn->mn",
    ] {
        for scale in [1, 2, 3, 0] {
            let parsed: ContractSpec = spec.parse().unwrap();
            let size = |label: &u8| match scale {
                0 => {
                    if *label == b'k' {
                        0
                    } else {
                        2
                    }
                }
                _ => (*label as usize % 3 + 1) * scale - (scale - 1),
            };
            let mut b = Builder::new(spec);
            let x = b.input(&parsed.lhs.iter().map(size).collect::<Vec<_>>());
            let w = b.input(&parsed.rhs.iter().map(size).collect::<Vec<_>>());
            let y = b.op(Contract { spec: parsed.clone() }, &[x, w]);
            let last: Vec<usize> = parsed.out.iter().rev().take(1).map(size).collect();
            let bias = b.input(&last);
            let y = b.op(binary(BinaryFn::Add), &[y, bias]);
            let y = b.op(unary(UnaryFn::Relu), &[y]);
            b.check_fused(y);
        }
    }
    // Written where a transpose and a reshape put it.
    let mut b = Builder::new("tail");
    let (x, w) = (b.input(&[2, 3, 4]), b.input(&[4, 5]));
    let y = b.op(Contract { spec: "bmk,kn->bmn".parse().unwrap() }, &[x, w]);
    let y = b.op(unary(UnaryFn::Tanh), &[y]);
    let y = b.op(Transpose { perm: vec![1, 0, 2] }, &[y]);
    let y = b.op(Reshape { shape: dims(&[3, 10]) }, &[y]);
    b.check_fused(y);
}

#[test]
fn convolutions_of_both_layouts() {
    let cases = [
        (1, vec![1, 1], 1, vec![1, 1]),
        (1, vec![3, 3], 1, vec![1, 1]),
        (2, vec![3, 2], 2, vec![2, 1]),
        (4, vec![3, 3], 1, vec![1, 2]),
    ];
    for (groups, window, dilation, strides) in cases {
        for layout in [ConvLayout::ChannelsFirst, ConvLayout::ChannelsLast] {
            for pad in [0i64, 1] {
                let (c, m) = (4, 8);
                let mut b = Builder::new("conv");
                let first = layout == ConvLayout::ChannelsFirst;
                let x = b.input(if first { &[2, 4, 7, 6] } else { &[2, 7, 6, 4] });
                let (h, w) = (window[0], window[1]);
                let depth = c / groups;
                let sizes = if first { [m, depth, h, w] } else { [h, w, depth, m] };
                let filter = b.input(&sizes);
                let conv = Conv {
                    strides: strides.clone(),
                    dilations: vec![dilation, 1],
                    before: vec![pad, 0],
                    after: vec![pad, pad],
                    groups,
                    layout,
                };
                let y = b.op(conv, &[x, filter]);
                let y = b.op(unary(UnaryFn::Relu), &[y]);
                b.check_fused(y);
            }
        }
    }
}

#[test]
fn what_lies_outside_of_a_slice_is_told_by_the_operand_where_the_slice_is_whole() {
    // Starts, sizes and steps of rows, columns and channels of 7 × 6 × 4, and whether the edges of the
    // slice that are padded are those of the operand.
    let cases = [
        ([0, 0, 2], [7, 6, 2], [1, 1, 1], true),
        ([0, 0, 3], [7, 6, 2], [1, 1, -2], true),
        ([1, 0, 2], [6, 6, 2], [1, 1, 1], false),
        ([0, 1, 0], [7, 4, 2], [1, 1, 1], false),
        ([6, 0, 0], [7, 6, 2], [-1, 1, 1], false),
        ([0, 0, 0], [4, 6, 2], [2, 1, 1], false),
    ];
    for (starts, sizes, steps, whole) in cases {
        for turned in [false, true] {
            let mut b = Builder::new("slice");
            let x = b.input(&if turned { [1, 4, 7, 6] } else { [1, 7, 6, 4] });
            let x = if turned { b.op(Transpose { perm: vec![0, 2, 3, 1] }, &[x]) } else { x };
            let starts = dims(&[&[0], &starts[..]].concat());
            let sizes = dims(&[&[1], &sizes[..]].concat());
            let slice = Slice { starts, sizes, steps: [&[1], &steps[..]].concat() };
            let part = b.op(slice, &[x]);
            let filter = b.input(&[3, 3, 2, 5]);
            let conv = Conv {
                strides: vec![1, 1],
                dilations: vec![1, 1],
                before: vec![1, 1],
                after: vec![1, 1],
                groups: 1,
                layout: ConvLayout::ChannelsLast,
            };
            let y = b.op(conv, &[part, filter]);
            let kernel = b.check_fused(y);
            let mut code = kernel.stages.iter().flat_map(|stage| &stage.body.code);
            let selects = code.any(|(op, _)| matches!(op, ScalarOp::Select(..)));
            assert_eq!(selects, !whole, "{kernel}");
        }
    }
}

#[test]
fn transposed_convolutions() {
    for (stride, window, before, extra) in
        [(1, 3, 1, 0), (2, 2, 0, 0), (2, 4, 1, 0), (2, 3, 1, 1), (3, 3, 1, 2)]
    {
        let mut b = Builder::new("transposed");
        let x = b.input(&[2, 3, 4, 5]);
        let w = b.input(&[3, 2, window, window]);
        let conv = ConvTranspose {
            strides: vec![stride; 2],
            dilations: vec![1; 2],
            before: vec![before; 2],
            after: vec![before; 2],
            output_padding: vec![extra; 2],
            groups: 1,
        };
        let y = b.op(conv, &[x, w]);
        b.check(y);
    }
}

#[test]
fn pooling() {
    for f in [WindowFn::Max, WindowFn::Sum, WindowFn::Mean { count_padding: true }] {
        for (window, stride, dilation, pad) in [(2, 2, 1, 0), (3, 1, 1, 1), (3, 2, 2, 1)] {
            let mut b = Builder::new("pool");
            let x = b.input(&[1, 2, 7, 6]);
            let pool = WindowReduce {
                f,
                window: vec![1, 1, window, window],
                strides: vec![1, 1, stride, stride],
                dilations: vec![1, 1, dilation, dilation],
                before: vec![0, 0, pad, 0],
                after: vec![0, 0, pad, pad],
            };
            let y = b.op(pool, &[x]);
            b.check(y);
        }
    }
}

#[test]
fn attention() {
    for (heads, key_heads, queries, keys) in
        [(2, 2, 3, 3), (4, 2, 1, 5), (4, 1, 2, 7), (2, 2, 3, 0)]
    {
        for mask in [vec![], vec![queries, keys], vec![1, 1, 1, keys]] {
            let mut b = Builder::new("attention");
            let q = b.input(&[2, heads, queries, 4]);
            let k = b.input(&[2, key_heads, keys, 4]);
            let v = b.input(&[2, key_heads, keys, 3]);
            let mut operands = vec![q, k, v];
            if !mask.is_empty() {
                operands.push(b.input(&mask));
            }
            let y =
                b.op(Attention { scale: 0.5, causal: false, hidden: f64::NEG_INFINITY }, &operands);
            b.check(y);
        }
    }
}
