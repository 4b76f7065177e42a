//! Random instances of the left side of every rule.
//!
//! Invariant: an instance depends on its seed alone; sizes of zero and one are as likely as others.

mod algebra;
mod fuse;
mod join;
mod layout;
mod recognise;

use kiln_ir::op::*;
use kiln_ir::{Graph, TensorType, ValueId};
use kiln_tensor::{DType, Dim, Tensor};

/// Builds one instance; the value that the rule should match at.
pub type Generator = fn(&mut Instance) -> ValueId;

/// Every generator with the name of its rule.
pub fn all() -> Vec<(&'static str, Generator)> {
    let rewriting = [algebra::GENERATORS, recognise::GENERATORS, layout::GENERATORS].concat();
    [&rewriting, join::GENERATORS, fuse::GENERATORS].concat()
}

/// A graph that is being made up.
pub struct Instance {
    pub graph: Graph,
    pub dtype: DType,
    /// Whether operands may hold NaN and infinities.
    pub wild: bool,
    values: Vec<Tensor>,
    state: u64,
}

impl Instance {
    pub fn new(seed: u64, wild: bool) -> Self {
        let mut instance = Instance {
            graph: Graph::new("instance"),
            dtype: DType::F32,
            wild,
            values: Vec::new(),
            state: seed.wrapping_mul(0x9e3779b97f4a7c15).wrapping_add(1),
        };
        instance.dtype = instance.pick(&[DType::F32, DType::F32, DType::F64]);
        instance
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e3779b97f4a7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58476d1ce4e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d049bb133111eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    pub fn pick<T: Clone>(&mut self, items: &[T]) -> T {
        items[self.below(items.len())].clone()
    }

    /// 0 to 4.
    pub fn size(&mut self) -> usize {
        self.below(5)
    }

    /// 1 to 4.
    pub fn some(&mut self) -> usize {
        self.below(4) + 1
    }

    pub fn sizes(&mut self, rank: usize) -> Vec<usize> {
        (0..rank).map(|_| self.size()).collect()
    }

    /// Sizes that stretch to `sizes`: some dimensions 1, some leading ones missing.
    pub fn stretching(&mut self, sizes: &[usize]) -> Vec<usize> {
        let missing = self.below(sizes.len() + 1);
        sizes[missing..].iter().map(|&size| if self.below(3) == 0 { 1 } else { size }).collect()
    }

    pub fn perm(&mut self, rank: usize) -> Vec<usize> {
        let mut perm: Vec<usize> = (0..rank).collect();
        for last in (1..rank).rev() {
            let other = self.below(last + 1);
            perm.swap(last, other);
        }
        perm
    }

    /// A tensor of numbers between −2 and 2, now and then not finite if the instance is wild.
    fn tensor(&mut self, sizes: &[usize]) -> Tensor {
        let count: usize = sizes.iter().product();
        let values: Vec<f64> = (0..count)
            .map(|_| match self.below(if self.wild { 12 } else { 1 << 30 }) {
                0 => self.pick(&[f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.0, 0.0]),
                _ => (self.next() >> 11) as f64 / (1u64 << 53) as f64 * 4.0 - 2.0,
            })
            .collect();
        Tensor::from_f64(self.dtype, sizes.to_vec(), &values).unwrap()
    }

    /// A tensor of numbers of all exponents, half of the time of moderate ones, and now and then 0.
    pub fn of_any_size(&mut self, sizes: &[usize]) -> Tensor {
        let most = if self.dtype == DType::F16 { 14 } else { 126 };
        let reach = if self.below(2) == 0 { most } else { most / 6 };
        let values: Vec<f64> = (0..sizes.iter().product())
            .map(|_| {
                let digits = (self.next() >> 11) as f64 / (1u64 << 53) as f64 + 1.0;
                let size = digits * 2f64.powi(self.below(2 * reach + 1) as i32 - reach as i32);
                self.pick(&[size, size, size, -size, -size, -size, 0.0])
            })
            .collect();
        Tensor::from_f64(self.dtype, sizes.to_vec(), &values).unwrap()
    }

    /// The tensors of the inputs, in order.
    pub fn arguments(&self) -> &[Tensor] {
        &self.values
    }

    pub fn input(&mut self, sizes: &[usize]) -> ValueId {
        let tensor = self.tensor(sizes);
        self.input_of(tensor)
    }

    pub fn input_of(&mut self, tensor: Tensor) -> ValueId {
        let name = format!("x{}", self.values.len());
        let value = self.graph.input(name, TensorType::of(&tensor));
        self.values.push(tensor);
        value
    }

    pub fn constant(&mut self, sizes: &[usize]) -> ValueId {
        let tensor = self.tensor(sizes);
        self.constant_of(tensor)
    }

    pub fn constant_of(&mut self, tensor: Tensor) -> ValueId {
        self.graph.constant(tensor).unwrap()
    }

    /// A constant without numbers near zero.
    pub fn nonzero(&mut self, sizes: &[usize]) -> ValueId {
        let values: Vec<f64> = self.tensor(sizes).to_f64().iter().map(|v| v.signum() + v).collect();
        let tensor = Tensor::from_f64(self.dtype, sizes.to_vec(), &values).unwrap();
        self.constant_of(tensor)
    }

    /// An input without negative numbers or numbers near zero.
    pub fn positive(&mut self, sizes: &[usize]) -> ValueId {
        let values: Vec<f64> = self.tensor(sizes).to_f64().iter().map(|v| v.abs() + 0.5).collect();
        let tensor = Tensor::from_f64(self.dtype, sizes.to_vec(), &values).unwrap();
        self.input_of(tensor)
    }

    pub fn number(&mut self, value: f64) -> ValueId {
        let sizes = if self.below(2) == 0 { vec![] } else { vec![1] };
        self.graph.constant(Tensor::from_f64(self.dtype, sizes, &[value]).unwrap()).unwrap()
    }

    /// A constant of rank 0.
    pub fn scalar(&mut self, value: f64) -> ValueId {
        self.graph.constant(Tensor::from_f64(self.dtype, vec![], &[value]).unwrap()).unwrap()
    }

    pub fn op(&mut self, op: impl Into<Op>, inputs: &[ValueId]) -> ValueId {
        self.graph.add1(op.into(), inputs).unwrap()
    }

    pub fn unary(&mut self, f: UnaryFn, x: ValueId) -> ValueId {
        self.op(Unary { f }, &[x])
    }

    /// Operands of functions that commute come in either order.
    pub fn binary(&mut self, f: BinaryFn, a: ValueId, b: ValueId) -> ValueId {
        let commutes = matches!(f, BinaryFn::Add | BinaryFn::Mul | BinaryFn::Max | BinaryFn::Min);
        if commutes && self.below(2) == 0 {
            return self.op(Binary { f }, &[b, a]);
        }
        self.op(Binary { f }, &[a, b])
    }

    pub fn add(&mut self, a: ValueId, b: ValueId) -> ValueId {
        self.binary(BinaryFn::Add, a, b)
    }

    pub fn mul(&mut self, a: ValueId, b: ValueId) -> ValueId {
        self.binary(BinaryFn::Mul, a, b)
    }

    pub fn transpose(&mut self, x: ValueId) -> ValueId {
        let perm = self.perm(self.graph.ty(x).rank());
        self.op(Transpose { perm }, &[x])
    }

    pub fn reshape(&mut self, x: ValueId, sizes: &[usize]) -> ValueId {
        let shape = sizes.iter().map(|&size| Dim::from(size)).collect();
        self.op(Reshape { shape }, &[x])
    }

    pub fn contract(&mut self, spec: &str, a: ValueId, b: ValueId) -> ValueId {
        self.op(Contract { spec: spec.parse().unwrap() }, &[a, b])
    }

    pub fn reduce(&mut self, f: ReduceFn, axes: Vec<usize>, keep: bool, x: ValueId) -> ValueId {
        self.op(Reduce { f, axes, keep }, &[x])
    }

    pub fn sizes_of(&self, x: ValueId) -> Vec<usize> {
        self.graph.ty(x).static_sizes().unwrap()
    }

    /// A convolution with random attributes and a constant weight.
    pub fn conv(&mut self, layout: ConvLayout) -> ValueId {
        let (conv, x, w) = self.convolution(layout);
        let (x, w) = (self.input(&x), self.constant(&w));
        self.op(conv, &[x, w])
    }

    /// A convolution with random attributes, and the sizes of its operand and weight.
    pub fn convolution(&mut self, layout: ConvLayout) -> (Conv, Vec<usize>, Vec<usize>) {
        let spatial = self.below(2) + 1;
        let groups = self.below(2) + 1;
        let (depth, filters) = (self.some(), self.some() * groups);
        let window: Vec<usize> = (0..spatial).map(|_| self.below(3) + 1).collect();
        let places: Vec<usize> = (0..spatial).map(|_| self.below(4) + 3).collect();
        let batch = [self.size()];
        let channels = [depth * groups];
        let (x, w) = match layout {
            ConvLayout::ChannelsFirst => (
                [&batch[..], &channels, &places].concat(),
                [&[filters, depth][..], &window].concat(),
            ),
            ConvLayout::ChannelsLast => (
                [&batch[..], &places, &channels].concat(),
                [&window[..], &[depth, filters]].concat(),
            ),
        };
        let conv = Conv {
            strides: (0..spatial).map(|_| self.below(2) + 1).collect(),
            dilations: vec![1; spatial],
            before: (0..spatial).map(|_| self.below(2) as i64).collect(),
            after: (0..spatial).map(|_| self.below(3) as i64).collect(),
            groups,
            layout,
        };
        (conv, x, w)
    }
}
