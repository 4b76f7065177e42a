//! Graphs of whole networks as exporters write them, for measuring compile time and counting kernels.
//!
//! Invariant: real sizes and operation counts; no two weights are equal, so that nothing is merged that
//! is not in a trained network.

mod decoder;

pub use decoder::decoder;
use kiln_ir::op::*;
use kiln_ir::{Graph, TensorType, ValueId};
use kiln_tensor::{DType, Dim, Tensor};

struct Network {
    graph: Graph,
    weights: usize,
}

/// `x → y` of a network with one input.
fn network(name: &str, shape: &str, body: impl FnOnce(&mut Network, ValueId) -> ValueId) -> Graph {
    let mut net = Network { graph: Graph::new(name), weights: 0 };
    let x = net.graph.input("x", TensorType::new(DType::F32, dims(shape)));
    let y = body(&mut net, x);
    net.graph.output(y, "y").expect("the value exists");
    net.graph
}

fn dims(shape: &str) -> Vec<Dim> {
    shape.split(',').map(|dim| dim.trim().parse().expect("a dimension")).collect()
}

impl Network {
    fn op(&mut self, op: impl Into<Op>, inputs: &[ValueId]) -> ValueId {
        self.graph.add1(op.into(), inputs).expect("a well-typed operation")
    }

    fn weight(&mut self, sizes: &[usize]) -> ValueId {
        let mut tensor = Tensor::zeros(DType::F32, sizes.to_vec()).expect("a small tensor");
        self.weights += 1;
        if let Some(first) = tensor.as_mut_slice().expect("single precision").first_mut() {
            *first = self.weights as f32;
        }
        self.graph.constant(tensor).expect("a constant")
    }

    fn number(&mut self, value: f32) -> ValueId {
        self.graph.constant(Tensor::scalar(value).expect("a number")).expect("a constant")
    }

    fn binary(&mut self, f: BinaryFn, a: ValueId, b: ValueId) -> ValueId {
        self.op(Binary { f }, &[a, b])
    }

    fn unary(&mut self, f: UnaryFn, x: ValueId) -> ValueId {
        self.op(Unary { f }, &[x])
    }

    fn reshape(&mut self, x: ValueId, shape: &[&str]) -> ValueId {
        let shape: Vec<Dim> = shape.iter().map(|dim| dim.parse().expect("a dimension")).collect();
        self.op(Reshape { shape }, &[x])
    }

    fn contract(&mut self, spec: &str, a: ValueId, b: ValueId) -> ValueId {
        self.op(Contract { spec: spec.parse().expect("labels") }, &[a, b])
    }

    fn mean(&mut self, x: ValueId, axes: &[usize], keep: bool) -> ValueId {
        self.op(Reduce { f: ReduceFn::Mean, axes: axes.to_vec(), keep }, &[x])
    }

    fn linear(&mut self, x: ValueId, from: usize, to: usize, spec: &str) -> ValueId {
        let weight = self.weight(&[from, to]);
        let product = self.contract(spec, x, weight);
        let bias = self.weight(&[to]);
        self.binary(BinaryFn::Add, bias, product)
    }

    fn layer_norm(&mut self, x: ValueId, size: usize) -> ValueId {
        let mean = self.mean(x, &[2], true);
        let centred = self.binary(BinaryFn::Sub, x, mean);
        let two = self.number(2.0);
        let square = self.binary(BinaryFn::Pow, centred, two);
        let variance = self.mean(square, &[2], true);
        let epsilon = self.number(1e-12);
        let shifted = self.binary(BinaryFn::Add, variance, epsilon);
        let root = self.unary(UnaryFn::Sqrt, shifted);
        let normal = self.binary(BinaryFn::Div, centred, root);
        let scale = self.weight(&[size]);
        let scaled = self.binary(BinaryFn::Mul, normal, scale);
        let bias = self.weight(&[size]);
        self.binary(BinaryFn::Add, scaled, bias)
    }

    fn gelu(&mut self, x: ValueId) -> ValueId {
        let root = self.number(std::f32::consts::SQRT_2);
        let scaled = self.binary(BinaryFn::Div, x, root);
        let erf = self.unary(UnaryFn::Erf, scaled);
        let one = self.number(1.0);
        let sum = self.binary(BinaryFn::Add, erf, one);
        let product = self.binary(BinaryFn::Mul, x, sum);
        let half = self.number(0.5);
        self.binary(BinaryFn::Mul, product, half)
    }

    fn encoder_layer(&mut self, x: ValueId, size: usize, heads: usize) -> ValueId {
        let (count, each) = (heads.to_string(), (size / heads).to_string());
        let split = ["b", "s", &count, &each];
        let linear = "bsk,kn->bsn";
        let project = |net: &mut Self, perm: [usize; 4]| {
            let y = net.linear(x, size, size, linear);
            let y = net.reshape(y, &split);
            net.op(Transpose { perm: perm.to_vec() }, &[y])
        };
        let (q, k) = (project(self, [0, 2, 1, 3]), project(self, [0, 2, 3, 1]));
        let v = project(self, [0, 2, 1, 3]);
        let scores = self.contract("abmk,abkn->abmn", q, k);
        let root = self.number(((size / heads) as f32).sqrt());
        let scaled = self.binary(BinaryFn::Div, scores, root);
        let weights = self.op(Softmax { axis: 3 }, &[scaled]);
        let mixed = self.contract("abmk,abkn->abmn", weights, v);
        let back = self.op(Transpose { perm: vec![0, 2, 1, 3] }, &[mixed]);
        let joined = self.reshape(back, &["b", "s", &size.to_string()]);
        let y = self.linear(joined, size, size, linear);
        let y = self.binary(BinaryFn::Add, y, x);
        let normal = self.layer_norm(y, size);
        let y = self.linear(normal, size, 4 * size, linear);
        let y = self.gelu(y);
        let y = self.linear(y, 4 * size, size, linear);
        let y = self.binary(BinaryFn::Add, y, normal);
        self.layer_norm(y, size)
    }

    fn conv(&mut self, x: ValueId, [from, to]: [usize; 2], size: usize, stride: usize) -> ValueId {
        let weight = self.weight(&[to, from, size, size]);
        let pad = vec![size as i64 / 2; 2];
        let conv = Conv {
            strides: vec![stride; 2],
            dilations: vec![1; 2],
            before: pad.clone(),
            after: pad,
            groups: 1,
            layout: ConvLayout::ChannelsFirst,
        };
        self.op(conv, &[x, weight])
    }

    fn batch_norm(&mut self, x: ValueId, channels: usize) -> ValueId {
        let [mean, variance, scale, bias] = [0; 4].map(|_| self.weight(&[channels, 1, 1]));
        let centred = self.binary(BinaryFn::Sub, x, mean);
        let epsilon = self.number(1e-5);
        let shifted = self.binary(BinaryFn::Add, variance, epsilon);
        let root = self.unary(UnaryFn::Sqrt, shifted);
        let normal = self.binary(BinaryFn::Div, centred, root);
        let scaled = self.binary(BinaryFn::Mul, normal, scale);
        self.binary(BinaryFn::Add, scaled, bias)
    }

    fn pool(&mut self, f: WindowFn, x: ValueId, size: usize, pad: i64) -> ValueId {
        let window = WindowReduce {
            f,
            window: vec![1, 1, size, size],
            strides: vec![1, 1, 2, 2],
            dilations: vec![1; 4],
            before: vec![0, 0, pad, pad],
            after: vec![0, 0, pad, pad],
        };
        self.op(window, &[x])
    }

    fn stem(&mut self, x: ValueId) -> ValueId {
        let y = self.conv(x, [3, 64], 7, 2);
        let y = self.batch_norm(y, 64);
        let y = self.unary(UnaryFn::Relu, y);
        self.pool(WindowFn::Max, y, 3, 1)
    }

    fn head(&mut self, x: ValueId, channels: usize) -> ValueId {
        let y = self.mean(x, &[2, 3], false);
        let y = self.linear(y, channels, 1000, "mk,kn->mn");
        self.op(Softmax { axis: 1 }, &[y])
    }

    fn bottleneck(&mut self, x: ValueId, from: usize, width: usize, stride: usize) -> ValueId {
        let y = self.conv(x, [from, width], 1, 1);
        let y = self.batch_norm(y, width);
        let y = self.unary(UnaryFn::Relu, y);
        let y = self.conv(y, [width, width], 3, stride);
        let y = self.batch_norm(y, width);
        let y = self.unary(UnaryFn::Relu, y);
        let y = self.conv(y, [width, 4 * width], 1, 1);
        let y = self.batch_norm(y, 4 * width);
        let mut short = x;
        if from != 4 * width || stride > 1 {
            short = self.conv(x, [from, 4 * width], 1, stride);
            short = self.batch_norm(short, 4 * width);
        }
        let y = self.binary(BinaryFn::Add, y, short);
        self.unary(UnaryFn::Relu, y)
    }

    fn dense_layer(&mut self, x: ValueId, channels: usize) -> ValueId {
        let y = self.batch_norm(x, channels);
        let y = self.unary(UnaryFn::Relu, y);
        let y = self.conv(y, [channels, 128], 1, 1);
        let y = self.batch_norm(y, 128);
        let y = self.unary(UnaryFn::Relu, y);
        let y = self.conv(y, [128, 32], 3, 1);
        self.op(Concat { axis: 1 }, &[x, y])
    }
}

/// An encoder of so many layers over `[b, s, size]`, as PyTorch writes BERT.
pub fn encoder(layers: usize, size: usize, heads: usize) -> Graph {
    network("encoder", &format!("b, s, {size}"), |net, x| {
        (0..layers).fold(x, |x, _| net.encoder_layer(x, size, heads))
    })
}

/// ResNet-50.
pub fn resnet50() -> Graph {
    network("resnet50", "1, 3, 224, 224", |net, x| {
        let mut x = net.stem(x);
        let mut from = 64;
        for (stage, count) in [3, 4, 6, 3].into_iter().enumerate() {
            let width = 64 << stage;
            for block in 0..count {
                let stride = if stage > 0 && block == 0 { 2 } else { 1 };
                x = net.bottleneck(x, from, width, stride);
                from = 4 * width;
            }
        }
        net.head(x, from)
    })
}

/// DenseNet-121.
pub fn densenet121() -> Graph {
    network("densenet121", "1, 3, 224, 224", |net, x| {
        let mut x = net.stem(x);
        let mut channels = 64;
        for (stage, count) in [6, 12, 24, 16].into_iter().enumerate() {
            for _ in 0..count {
                x = net.dense_layer(x, channels);
                channels += 32;
            }
            x = net.batch_norm(x, channels);
            x = net.unary(UnaryFn::Relu, x);
            if stage < 3 {
                x = net.conv(x, [channels, channels / 2], 1, 1);
                x = net.pool(WindowFn::Mean { count_padding: true }, x, 2, 0);
                channels /= 2;
            }
        }
        net.head(x, channels)
    })
}
