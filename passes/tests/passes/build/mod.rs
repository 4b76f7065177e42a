//! Short forms for writing graphs in tests.
//!
//! Invariant: panics on anything malformed, which in a test is the right thing.

use kiln_ir::op::*;
use kiln_ir::{Graph, TensorType, ValueId};
use kiln_tensor::{DType, Dim, Tensor};

/// A graph that is being written.
pub struct Build {
    /// The graph so far.
    pub graph: Graph,
    seed: u64,
}

/// `shape("b, 3*n, 4")`
pub fn shape(text: &str) -> Vec<Dim> {
    text.split(',').filter(|d| !d.trim().is_empty()).map(|d| d.parse().unwrap()).collect()
}

impl Build {
    pub fn new(name: &str) -> Self {
        Build { graph: Graph::new(name), seed: 1 }
    }

    pub fn input(&mut self, name: &str, dims: &str) -> ValueId {
        self.graph.input(name, TensorType::new(DType::F32, shape(dims)))
    }

    pub fn op(&mut self, op: impl Into<Op>, inputs: &[ValueId]) -> ValueId {
        self.graph.add1(op.into(), inputs).unwrap()
    }

    /// A constant of small pseudo-random numbers, different each time.
    pub fn weight(&mut self, sizes: &[usize]) -> ValueId {
        let count: usize = sizes.iter().product();
        let values: Vec<f64> = (0..count)
            .map(|_| {
                self.seed = self.seed.wrapping_mul(6364136223846793005).wrapping_add(1);
                ((self.seed >> 40) as f64 / (1u64 << 24) as f64 - 0.5) * 0.5
            })
            .collect();
        self.graph.constant(Tensor::from_f64(DType::F32, sizes.to_vec(), &values).unwrap()).unwrap()
    }

    /// Weights that are positive, as variances are.
    pub fn positive(&mut self, sizes: &[usize]) -> ValueId {
        let weight = self.weight(sizes);
        let values: Vec<f64> =
            self.graph.constant_of(weight).unwrap().to_f64().iter().map(|v| v + 1.0).collect();
        self.graph.constant(Tensor::from_f64(DType::F32, sizes.to_vec(), &values).unwrap()).unwrap()
    }

    pub fn number(&mut self, value: f64) -> ValueId {
        self.graph.constant(Tensor::from_f64(DType::F32, vec![], &[value]).unwrap()).unwrap()
    }

    pub fn unary(&mut self, f: UnaryFn, x: ValueId) -> ValueId {
        self.op(Unary { f }, &[x])
    }

    pub fn binary(&mut self, f: BinaryFn, a: ValueId, b: ValueId) -> ValueId {
        self.op(Binary { f }, &[a, b])
    }

    pub fn add(&mut self, a: ValueId, b: ValueId) -> ValueId {
        self.binary(BinaryFn::Add, a, b)
    }

    pub fn mul(&mut self, a: ValueId, b: ValueId) -> ValueId {
        self.binary(BinaryFn::Mul, a, b)
    }

    pub fn contract(&mut self, spec: &str, a: ValueId, b: ValueId) -> ValueId {
        self.op(Contract { spec: spec.parse().unwrap() }, &[a, b])
    }

    pub fn reshape(&mut self, x: ValueId, to: &str) -> ValueId {
        self.op(Reshape { shape: shape(to) }, &[x])
    }

    pub fn transpose(&mut self, x: ValueId, perm: &[usize]) -> ValueId {
        self.op(Transpose { perm: perm.to_vec() }, &[x])
    }

    pub fn mean(&mut self, x: ValueId, axis: usize) -> ValueId {
        self.op(Reduce { f: ReduceFn::Mean, axes: vec![axis], keep: true }, &[x])
    }

    pub fn conv(
        &mut self,
        x: ValueId,
        w: ValueId,
        stride: usize,
        pad: i64,
        groups: usize,
    ) -> ValueId {
        let conv = Conv {
            strides: vec![stride; 2],
            dilations: vec![1; 2],
            before: vec![pad; 2],
            after: vec![pad; 2],
            groups,
            layout: ConvLayout::ChannelsFirst,
        };
        self.op(conv, &[x, w])
    }

    pub fn finish(mut self, outputs: &[ValueId]) -> Graph {
        for (number, &output) in outputs.iter().enumerate() {
            self.graph.output(output, format!("y{number}")).unwrap();
        }
        self.graph
    }
}

/// Layer normalisation as PyTorch's exporter wrote it before opset 17.
pub fn layer_norm(b: &mut Build, x: ValueId, size: usize) -> ValueId {
    let mean = b.mean(x, 2);
    let centred = b.binary(BinaryFn::Sub, x, mean);
    let two = b.number(2.0);
    let square = b.binary(BinaryFn::Pow, centred, two);
    let variance = b.mean(square, 2);
    let epsilon = b.number(1e-12);
    let shifted = b.add(variance, epsilon);
    let root = b.unary(UnaryFn::Sqrt, shifted);
    let normal = b.binary(BinaryFn::Div, centred, root);
    let scale = b.weight(&[size]);
    let scaled = b.mul(normal, scale);
    let bias = b.weight(&[size]);
    b.add(scaled, bias)
}

/// Layer normalisation as TensorFlow writes it: x·s + (b − mean·s), s = rsqrt(var + ε)·γ.
pub fn tf_layer_norm(b: &mut Build, x: ValueId, size: usize) -> ValueId {
    let mean = b.mean(x, 2);
    let centred = b.binary(BinaryFn::Sub, x, mean);
    let square = b.mul(centred, centred);
    let variance = b.mean(square, 2);
    let epsilon = b.number(1e-3);
    let shifted = b.add(variance, epsilon);
    let root = b.unary(UnaryFn::Sqrt, shifted);
    let inverse = b.unary(UnaryFn::Reciprocal, root);
    let scale = b.weight(&[size]);
    let factor = b.mul(inverse, scale);
    let scaled = b.mul(x, factor);
    let moved = b.mul(mean, factor);
    let bias = b.weight(&[size]);
    let rest = b.binary(BinaryFn::Sub, bias, moved);
    b.add(scaled, rest)
}

/// GELU as PyTorch's exporter wrote it before opset 20.
pub fn gelu(b: &mut Build, x: ValueId) -> ValueId {
    let root = b.number(std::f64::consts::SQRT_2);
    let scaled = b.binary(BinaryFn::Div, x, root);
    let erf = b.unary(UnaryFn::Erf, scaled);
    let one = b.number(1.0);
    let shifted = b.add(erf, one);
    let product = b.mul(x, shifted);
    let half = b.number(0.5);
    b.mul(product, half)
}

/// One layer of BERT, `heads` heads of `head` on `[b, s, heads·head]` with an additive mask.
pub fn bert_layer(b: &mut Build, x: ValueId, mask: ValueId, heads: usize, head: usize) -> ValueId {
    bert_layer_sized(b, x, mask, heads, head, "b, s")
}

/// The same with these sizes for `b, s`.
pub fn bert_layer_sized(
    b: &mut Build,
    x: ValueId,
    mask: ValueId,
    heads: usize,
    head: usize,
    bs: &str,
) -> ValueId {
    let size = heads * head;
    let project = |b: &mut Build| {
        let weight = b.weight(&[size, size]);
        let product = b.contract("bsk,kn->bsn", x, weight);
        let bias = b.weight(&[size]);
        let biased = b.add(bias, product);
        let split = b.reshape(biased, &format!("{bs}, {heads}, {head}"));
        (split, b.graph.ty(split).clone())
    };
    let (q, _) = project(b);
    let (k, _) = project(b);
    let (v, _) = project(b);
    let q = b.transpose(q, &[0, 2, 1, 3]);
    let v = b.transpose(v, &[0, 2, 1, 3]);
    let k = b.transpose(k, &[0, 2, 3, 1]);
    let scores = b.contract("bhsd,bhdt->bhst", q, k);
    let root = b.number((head as f64).sqrt());
    let scaled = b.binary(BinaryFn::Div, scores, root);
    let masked = b.add(scaled, mask);
    let weights = b.op(Softmax { axis: 3 }, &[masked]);
    let mixed = b.contract("bhst,bhtd->bhsd", weights, v);
    let back = b.transpose(mixed, &[0, 2, 1, 3]);
    let joined = b.reshape(back, &format!("{bs}, {size}"));
    let weight = b.weight(&[size, size]);
    let product = b.contract("bsk,kn->bsn", joined, weight);
    let bias = b.weight(&[size]);
    let biased = b.add(bias, product);
    let residual = b.add(biased, x);
    let normal = layer_norm(b, residual, size);
    let weight = b.weight(&[size, 4 * size]);
    let up = b.contract("bsk,kn->bsn", normal, weight);
    let bias = b.weight(&[4 * size]);
    let biased = b.add(bias, up);
    let active = gelu(b, biased);
    let weight = b.weight(&[4 * size, size]);
    let down = b.contract("bsk,kn->bsn", active, weight);
    let bias = b.weight(&[size]);
    let biased = b.add(bias, down);
    let residual = b.add(biased, normal);
    layer_norm(b, residual, size)
}

/// Batch normalisation written out: (x − mean)·γ/√(var + ε) + β.
pub fn batch_norm(b: &mut Build, x: ValueId, channels: usize) -> ValueId {
    let mean = b.weight(&[channels, 1, 1]);
    let centred = b.binary(BinaryFn::Sub, x, mean);
    let variance = b.positive(&[channels, 1, 1]);
    let epsilon = b.number(1e-5);
    let shifted = b.add(variance, epsilon);
    let root = b.unary(UnaryFn::Sqrt, shifted);
    let normal = b.binary(BinaryFn::Div, centred, root);
    let scale = b.weight(&[channels, 1, 1]);
    let scaled = b.mul(normal, scale);
    let bias = b.weight(&[channels, 1, 1]);
    b.add(scaled, bias)
}

/// A bottleneck of a residual network with `4·c` channels at its ends.
pub fn resnet_block(b: &mut Build, x: ValueId, c: usize) -> ValueId {
    let w = b.weight(&[c, 4 * c, 1, 1]);
    let y = b.conv(x, w, 1, 0, 1);
    let y = batch_norm(b, y, c);
    let y = b.unary(UnaryFn::Relu, y);
    let w = b.weight(&[c, c, 3, 3]);
    let y = b.conv(y, w, 1, 1, 1);
    let y = batch_norm(b, y, c);
    let y = b.unary(UnaryFn::Relu, y);
    let w = b.weight(&[4 * c, c, 1, 1]);
    let y = b.conv(y, w, 1, 0, 1);
    let y = batch_norm(b, y, 4 * c);
    let y = b.add(y, x);
    b.unary(UnaryFn::Relu, y)
}

/// Depthwise convolution and hard-swish as Paddle writes it: x·clip(x + 3, 0, 6)/6.
pub fn paddle_hard_swish(b: &mut Build, x: ValueId, c: usize) -> ValueId {
    let w = b.weight(&[c, 1, 3, 3]);
    let y = b.conv(x, w, 1, 1, c);
    let y = batch_norm(b, y, c);
    let (three, zero, six) = (b.number(3.0), b.number(0.0), b.number(6.0));
    let shifted = b.add(y, three);
    let low = b.binary(BinaryFn::Max, shifted, zero);
    let clipped = b.binary(BinaryFn::Min, low, six);
    let product = b.mul(y, clipped);
    b.binary(BinaryFn::Div, product, six)
}

/// Names of the operations that are left, fused ones by their label.
pub fn names(graph: &Graph) -> Vec<String> {
    graph
        .nodes()
        .filter_map(|(_, node)| match &node.op {
            Op::Constant(_) => None,
            Op::Fused(fused) => {
                let mut body = names(&node.regions[0]);
                body.retain(|name| name.starts_with("contract "));
                Some(format!("[{}] {}", fused.label, body.join(" ")).trim_end().to_owned())
            }
            Op::Contract(contract) => Some(format!("contract {}", contract.spec)),
            op => Some(op.name().to_owned()),
        })
        .collect()
}
