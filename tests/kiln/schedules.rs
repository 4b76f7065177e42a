//! Schedules drawn from the whole space, for kernels of every kind: each computes what the kernel's own
//! definition says.
//!
//! Invariant: the draws repeat; the nests are interpreted, so that the host need not have the target's
//! vectors.

use kiln::{Dim, Symbol, SymbolValues, Target, Tensor, random_tensor};
use kiln_backends::nest::{Capabilities, interpret, lower};
use kiln_ir::accuracy::Tolerance;
use kiln_ir::kernel::{AxisKind, Kernel, Role, evaluate};
use kiln_ir::schedule::Schedule;
use kiln_ir::single;
use kiln_passes::tile::{POINTS, Space, legal, pack, tile};
use kiln_passes::{TileTarget, form};
use std::collections::{BTreeSet, HashSet};

/// Types of the operands, which of them are constants, and the operation.
const OPERATIONS: &[(&[&str], &[usize], &str)] = &[
    (&["f32[m, 19]", "f32[19, 37]"], &[1], "Contract(spec: \"mk,kn->mn\")"),
    (&["f32[3, m, 9]", "f32[3, 5, 9]"], &[], "Contract(spec: \"bmk,bnk->bmn\")"),
    (
        &["f32[n, 7, m, 4]", "f32[3, 3, 4, 18]"],
        &[1],
        "Conv(strides: [2, 1], dilations: [1, 1], before: [1, 1], after: [1, 1], groups: 1, layout: ChannelsLast)",
    ),
    (
        &["f32[n, 6, m, 5]", "f32[6, 1, 3, 3]"],
        &[1],
        "Conv(strides: [1, 1], dilations: [1, 1], before: [1, 1], after: [1, 1], groups: 6, layout: ChannelsFirst)",
    ),
    (&["f32[n, \"2*m\", 6, 5]", "f32[16, 5, 18]"], &[1], "Winograd(before: (1, 1), after: (1, 1))"),
    (&["f32[n, m, 7, 5]", "f32[16, 5, 18]"], &[1], "Winograd(before: (1, 1), after: (1, 1))"),
    (&["f32[n, m, 21]"], &[], "Softmax(axis: 2)"),
    (&["f32[n, m, 9]"], &[], "Softmax(axis: 1)"),
    (&["f32[n, m, 21]"], &[], "Reduce(f: Sum, axes: [0, 2], keep: false)"),
    (&["i32[n, m, 21]"], &[], "Reduce(f: Max, axes: [1], keep: true)"),
    (&["f32[n, m]"], &[], "ArgReduce(f: Max, axis: 1, keep: true, last: false)"),
    (&["f32[n, 5, m]"], &[], "Transpose(perm: [2, 0, 1])"),
    (&["f64[n, m]"], &[], "Unary(f: Tanh)"),
    (&["f16[n, m, 3]", "f16[n, m, 3]"], &[], "Binary(f: Mul)"),
    (&["f32[n, 4, m]", "i64[m, 2]"], &[], "Gather(axis: 1)"),
    (&["f32[n, m]", "f32[]"], &[], "Pad(before: [1, 0], after: [0, 2], mode: Constant)"),
    (
        &["f32[n, 2, \"m + 2\", 5]"],
        &[],
        "WindowReduce(f: Max, window: [1, 1, 3, 2], strides: [1, 1, 2, 1], dilations: [1, 1, 1, 2], before: [0, 0, 1, 1], after: [0, 0, 1, 1])",
    ),
    (
        &["f32[n, 4, m, 8]", "f32[n, 2, 6, 8]", "f32[n, 2, 6, 5]"],
        &[],
        "Attention(scale: 0.5, causal: false)",
    ),
    (&["f32[n, 5, m]"], &[], "Accumulate(f: Sum, axis: 1, exclusive: false, reverse: true)"),
];

/// Schedules of each kernel, and choices between one and the next.
const SCHEDULES: usize = 24;
const CHOICES: usize = 3;

fn kernel(types: &[&str], operation: &str) -> Kernel {
    let graph =
        single::graph(operation, types, 1).unwrap_or_else(|error| panic!("{error}\n{operation}"));
    let (id, _) = graph.nodes().last().unwrap();
    form(&graph, id).unwrap().kernel
}

fn sizes(shape: &[Dim], values: &SymbolValues) -> Vec<usize> {
    shape.iter().map(|dim| dim.evaluate(values).unwrap() as usize).collect()
}

struct Case {
    kernel: Kernel,
    values: SymbolValues,
    inputs: Vec<Tensor>,
    expected: Vec<Tensor>,
}

impl Case {
    fn new(kernel: &Kernel, n: i64, m: i64) -> Self {
        // The parameters are the kernel's own: which of the two they are does not matter.
        let values: SymbolValues = kernel
            .symbols
            .keys()
            .zip([n, m, n])
            .map(|(symbol, size)| (symbol.clone(), size))
            .collect();
        let inputs: Vec<Tensor> = kernel
            .operands
            .iter()
            .zip(1..)
            .filter(|(operand, _)| operand.role == Role::Input)
            .map(|(operand, seed)| {
                random_tensor(operand.dtype, sizes(&operand.shape, &values), seed).unwrap()
            })
            .collect();
        let expected = evaluate(kernel, &values, &inputs).unwrap();
        Case { kernel: kernel.clone(), values, inputs, expected }
    }

    fn check(&self, schedule: &Schedule, capabilities: Capabilities, how: &str) {
        let Case { kernel, values, .. } = self;
        let nest =
            lower(kernel, schedule, capabilities).unwrap_or_else(|error| panic!("{how}: {error}"));
        let mut inputs = self.inputs.iter();
        let mut buffers: Vec<Vec<u8>> = kernel
            .bound_operands()
            .map(|(number, operand)| {
                let sizes = sizes(&operand.shape, values);
                if operand.role == Role::Output {
                    return vec![0x5a; sizes.iter().product::<usize>() * operand.dtype.size()];
                }
                let tensor = inputs.next().unwrap();
                match schedule.packing.iter().find(|packing| packing.operand == number) {
                    None => tensor.bytes().to_vec(),
                    Some(packing) => {
                        let mut bytes = Vec::new();
                        pack(tensor, &sizes, &packing.layout, &mut bytes).unwrap();
                        bytes
                    }
                }
            })
            .collect();
        let params: Vec<i64> =
            kernel.symbols.keys().map(|symbol: &Symbol| values[symbol]).collect();
        let tasks = schedule.tasks(kernel).evaluate(values).unwrap();
        // As two threads would share them.
        for (from, to) in [(tasks / 2, tasks), (0, tasks / 2)] {
            interpret(&nest, &mut buffers, &params, from, to)
                .unwrap_or_else(|error| panic!("{how}: {error}\n{schedule:?}"));
        }
        let outputs = kernel.bound_operands().zip(&buffers);
        let outputs = outputs.filter(|((_, operand), _)| operand.role == Role::Output);
        for (((_, operand), bytes), expected) in outputs.zip(&self.expected) {
            let actual =
                Tensor::from_bytes(operand.dtype, expected.sizes().to_vec(), bytes).unwrap();
            let found = Tolerance::for_type(operand.dtype, 64)
                .with_magnitude(8.0)
                .compare(&actual, expected)
                .unwrap();
            assert!(found.agrees(), "{how}: {found}\n{schedule:?}");
        }
    }
}

#[test]
fn every_schedule_of_a_walk_through_the_space_computes_its_kernel() {
    let target = TileTarget::avx512(2);
    let machines =
        [("znver4", true), ("znver4", false), ("x86-64-v2", true)].map(|(name, full)| {
            let target = Target::named(name).unwrap();
            if full { Capabilities::full(&target) } else { Capabilities::narrow(&target) }
        });
    let mut random = fastrand::Rng::with_seed(7);
    for (types, constants, operation) in OPERATIONS {
        let kernel = kernel(types, operation);
        let constants: BTreeSet<usize> = constants.iter().copied().collect();
        let cases = [(2, 3), (1, 1), (3, 18)].map(|(n, m)| Case::new(&kernel, n, m));
        let space = Space::of(&kernel, &constants, &target);
        let mut at = tile(&kernel, &constants, &target);
        let mut seen = HashSet::from([at.clone()]);
        for number in 0..SCHEDULES {
            at = space.walk(&at, CHOICES, &mut random);
            legal(&kernel, &at).unwrap();
            seen.insert(at.clone());
            let how = format!("{operation}, schedule {number}");
            let (case, capabilities) = (&cases[number % 3], machines[number / 3 % 3]);
            case.check(&at, capabilities, &how);
        }
        assert!(seen.len() > SCHEDULES / 2, "{operation}: only {} schedules were seen", seen.len());
    }
}

#[test]
fn each_kind_of_choice_is_met_and_tiles_stay_small() {
    let target = TileTarget::avx512(2);
    let kernel = kernel(OPERATIONS[0].0, OPERATIONS[0].2);
    let constants = BTreeSet::from([1]);
    let space = Space::of(&kernel, &constants, &target);
    let start = tile(&kernel, &constants, &target);
    let mut random = fastrand::Rng::with_seed(1);
    let (mut vectors, mut tasks, mut orders, mut depths, mut packed) =
        (HashSet::new(), HashSet::new(), HashSet::new(), HashSet::new(), HashSet::new());
    let mut at = start;
    for _ in 0..600 {
        at = space.walk(&at, 1, &mut random);
        let stage = &at.stages[0];
        vectors.insert(stage.vector);
        tasks.insert(at.task.clone());
        let axes: Vec<usize> = stage.loops.iter().map(|level| level.axis).collect();
        depths.insert(axes.len());
        orders.insert(axes);
        packed.insert(at.packing.len());
        let last = |axis: usize| stage.loops.iter().rev().find(|level| level.axis == axis);
        let points: u64 = (0..3)
            .filter_map(|axis| {
                let lanes = stage.vector.filter(|v| v.axis == axis).map_or(1, |v| v.lanes.into());
                last(axis).map(|level| level.step / lanes)
            })
            .product();
        assert!(points <= POINTS, "{stage:?}");
    }
    let axes = kernel.axes(&kernel.stages[0]).filter(|axis| axis.kind != AxisKind::Sequential);
    let met: HashSet<usize> = vectors.iter().flatten().map(|vector| vector.axis).collect();
    assert_eq!(met.len(), axes.count(), "vectors along every axis");
    assert!(vectors.contains(&None) && tasks.len() > 8 && orders.len() > 8, "{orders:?}");
    assert!(depths.len() > 2 && packed.len() == 2, "{depths:?} {packed:?}");
}

#[test]
fn temporaries_lie_either_way() {
    let (types, _, operation) =
        OPERATIONS.iter().find(|(.., operation)| operation.starts_with("Attention")).unwrap();
    let (kernel, target) = (kernel(types, operation), TileTarget::avx512(2));
    let constants = BTreeSet::new();
    let space = Space::of(&kernel, &constants, &target);
    let mut random = fastrand::Rng::with_seed(1);
    let mut at = tile(&kernel, &constants, &target);
    let mut met = HashSet::new();
    for _ in 0..100 {
        at = space.walk(&at, 1, &mut random);
        met.insert(at.points);
    }
    assert_eq!(met.len(), 2);
}
