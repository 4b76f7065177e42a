//! Chains of operations with constants of all sizes, of which some are merged when a model is compiled.
//!
//! Invariant: each result is that of the operations one by one, to the bit, or as near to the right one
//! as their roundings are.

use crate::instance::Instance;
use kiln_ir::op::*;
use kiln_passes::{CostModel, EGraphOptions, optimise};
use kiln_tensor::{DType, Tensor};

const CHAINS: u64 = 3000;
const COLUMNS: usize = 4;

/// A number as it should be, and the sum of the magnitudes that it was made of.
#[derive(Clone, Copy, Debug)]
struct Exact {
    value: f64,
    terms: f64,
}

impl Exact {
    fn then(self, f: BinaryFn, by: f64, first: bool) -> Exact {
        let Exact { value, terms } = self;
        match f {
            BinaryFn::Add => Exact { value: value + by, terms: terms + by.abs() },
            BinaryFn::Sub if first => Exact { value: by - value, terms: terms + by.abs() },
            BinaryFn::Sub => Exact { value: value - by, terms: terms + by.abs() },
            BinaryFn::Mul => Exact { value: value * by, terms: terms * by.abs() },
            _ => Exact { value: value / by, terms: terms / by.abs() },
        }
    }
}

/// Rows of inputs, as they are or times weights.
fn start(i: &mut Instance) -> (kiln_ir::ValueId, Vec<Exact>) {
    let x = i.of_any_size(&[2, COLUMNS]);
    let numbers = x.to_f64();
    let value = i.input_of(x);
    if i.below(2) == 0 {
        let exact = numbers.into_iter().map(|value| Exact { value, terms: value.abs() });
        return (value, exact.collect());
    }
    let w = i.of_any_size(&[COLUMNS, COLUMNS]);
    let weights = w.to_f64();
    let w = i.constant_of(w);
    let spec = "ik,kj->ij".parse::<ContractSpec>().unwrap();
    let value = i.op(Contract { spec }, &[value, w]);
    let exact = (0..2 * COLUMNS).map(|at| {
        let (row, column) = (at / COLUMNS, at % COLUMNS);
        let product = |k: usize| numbers[row * COLUMNS + k] * weights[k * COLUMNS + column];
        let sum = |f: &dyn Fn(f64) -> f64| (0..COLUMNS).map(|k| f(product(k))).sum();
        Exact { value: sum(&|p| p), terms: sum(&f64::abs) }
    });
    (value, exact.collect())
}

#[test]
fn constants_of_any_size_are_merged_without_loss() {
    let mut shorter = 0;
    for seed in 0..CHAINS {
        let mut i = Instance::new(seed, false);
        // Products of so many f32 are numbers of f64.
        i.dtype = i.pick(&[DType::F16, DType::BF16, DType::F32, DType::F32]);
        let (mut value, mut exact) = start(&mut i);
        let links = i.below(4) + 1;
        for _ in 0..links {
            let f = i.pick(&[
                BinaryFn::Add,
                BinaryFn::Sub,
                BinaryFn::Mul,
                BinaryFn::Mul,
                BinaryFn::Div,
            ]);
            let sizes = i.pick(&[vec![], vec![COLUMNS]]);
            let constant = i.of_any_size(&sizes);
            let numbers = constant.to_f64();
            let by = i.constant_of(constant);
            let first = f != BinaryFn::Div && i.below(2) == 0;
            value = i.op(Binary { f }, &if first { [by, value] } else { [value, by] });
            for (at, exact) in exact.iter_mut().enumerate() {
                *exact = exact.then(f, numbers[at % numbers.len()], first);
            }
        }
        i.graph.output(value, "y").unwrap();
        let (options, cost) = (EGraphOptions::default(), CostModel::generic_cpu());
        let (optimised, _) = optimise(&i.graph, &options, &cost).unwrap();
        let one_by_one = kiln_ir::evaluate(&i.graph, i.arguments()).unwrap();
        let merged = kiln_ir::evaluate(&optimised, i.arguments()).unwrap();
        agree(seed, &one_by_one[0], &merged[0], &exact);
        shorter += usize::from(one_by_one[0].bytes() != merged[0].bytes());
    }
    assert!(shorter > CHAINS as usize / 20, "{shorter} chains were merged");
}

fn agree(seed: u64, one_by_one: &Tensor, merged: &Tensor, exact: &[Exact]) {
    let dtype = merged.dtype();
    let (most, least) = match dtype {
        DType::F16 => (65504.0, 2f64.powi(-14)),
        _ => (f64::from(f32::MAX), f64::from(f32::MIN_POSITIVE)),
    };
    let results = one_by_one.to_f64().into_iter().zip(merged.to_f64()).zip(exact);
    for ((one, merged), exact) in results {
        let tolerance = 16.0 * dtype.unit_roundoff() * exact.terms + least;
        let is_right = if merged.is_infinite() {
            exact.value.abs() + tolerance >= most && exact.value.signum() == merged.signum()
        } else {
            (merged - exact.value).abs() <= tolerance
        };
        let is_same = one == merged || one.is_nan() && merged.is_nan();
        assert!(is_same || is_right, "chain {seed} of {dtype}: {merged}, {one} before, {exact:?}");
    }
}
