//! Kernels of every kind, under schedules of every family, interpreted and compiled.
//!
//! Invariant: each expected result is computed here, by plain loops that share nothing with the
//! lowering.

mod bytes;
mod case;
mod functions;
#[path = "../kernels/mod.rs"]
mod kernels;
#[cfg(feature = "llvm")]
#[path = "../launch/mod.rs"]
mod launch;

use case::{Case, numbers, one, stage};
use kernels::*;
use kiln_backends::Target;
use kiln_backends::nest::{Block, Capabilities, Op, Stmt, lower};
use kiln_ir::kernel::Kernel;
use kiln_ir::schedule::{PackedLayout, Packing, PointsPlace, Schedule, StageSchedule};
use kiln_tensor::{DType, Tensor};
use proptest::prelude::*;

fn gemm_case(kernel: Kernel, sizes: &[(&str, i64)], [m, n, k]: [usize; 3]) -> Case {
    let (a, b) = (numbers(m * k, 1), numbers(k * n, 2));
    let bias = numbers(n, 3);
    let epilogue = kernel.operands.len() == 4;
    let mut c = vec![0.0; m * n];
    for row in 0..m {
        for column in 0..n {
            let sum: f64 = (0..k).map(|i| a[row * k + i] * b[i * n + column]).sum();
            let sum = if epilogue { (sum + bias[column]).max(0.0) } else { sum };
            c[row * n + column] = sum;
        }
    }
    let inputs = if epilogue { vec![a, b, bias] } else { vec![a, b] };
    Case::new(kernel, sizes, inputs, c, 1e-5)
}

#[test]
fn matrix_products() {
    let schedules = [
        Schedule::default(),
        one(&[0, 0], &[(0, 3), (1, 8), (2, 2)], Some((1, 8))),
        one(&[14, 0], &[(1, 32), (0, 14), (2, 4)], Some((1, 16))),
        one(&[6, 16], &[(0, 6), (1, 16)], Some((1, 8))),
        Schedule { fastest: Some(0), ..one(&[4, 16], &[(0, 4), (1, 16)], Some((1, 8))) },
        one(&[0, 0], &[(0, 12), (1, 64), (0, 4), (1, 32), (2, 16), (2, 1)], Some((1, 16))),
        one(&[4, 4], &[(0, 2), (1, 2), (2, 32)], Some((2, 16))),
        one(&[0, 0], &[(1, 4)], Some((0, 4))),
    ];
    for [m, n, k] in [[1, 1, 1], [5, 7, 3], [14, 32, 8], [29, 70, 19], [2, 33, 65]] {
        let text = [m, n, k].map(|size: usize| size.to_string());
        let fixed = text.each_ref().map(String::as_str);
        let sizes = [("m", m as i64), ("n", n as i64), ("k", k as i64)];
        for schedule in &schedules {
            for (extents, epilogue) in [(fixed, false), (["m", "n", "k"], true)] {
                let kernel = gemm(DType::F32, extents, epilogue);
                gemm_case(kernel, &sizes, [m, n, k]).run(schedule);
            }
        }
    }
}

#[test]
fn packed_matrix_products() {
    let blocked = |operand, dim, block| {
        let layout = PackedLayout::panels(dim, block, [1 - dim]);
        Packing { operand, layout, ahead: 0 }
    };
    let mut both = one(&[28, 0], &[(1, 32), (0, 14), (2, 2)], Some((1, 16)));
    both.packing = vec![blocked(0, 0, 14), blocked(1, 1, 32)];
    let mut weights = one(&[0, 0], &[(1, 16), (0, 4)], Some((1, 4)));
    weights.packing = vec![blocked(1, 1, 16)];
    // Two register tiles share a panel, and reads are announced beyond the end.
    let mut narrower = one(&[0, 0], &[(1, 16), (0, 4)], Some((1, 8)));
    narrower.packing = vec![Packing { ahead: 256, ..blocked(1, 1, 32) }];
    for [m, n, k] in [[14, 32, 8], [31, 77, 5], [1, 16, 40]] {
        let sizes = [("m", m as i64), ("n", n as i64), ("k", k as i64)];
        let text = [m, n, k].map(|size: usize| size.to_string());
        for extents in [["m", "n", "k"], text.each_ref().map(String::as_str)] {
            for schedule in [&both, &weights, &narrower] {
                let kernel = gemm(DType::F32, extents, true);
                gemm_case(kernel, &sizes, [m, n, k]).run(schedule);
            }
        }
    }
}

/// Every vector of an operand whose reads are announced is so, that many bytes before, where the target
/// announces reads at all.
#[test]
fn reads_of_packed_operands_are_announced() {
    let kernel = gemm(DType::F32, ["28", "64", "32"], false);
    let schedule = |ahead: u64| {
        let layout = PackedLayout::panels(1, 32, [0]);
        let packing = vec![Packing { operand: 1, layout, ahead }];
        Schedule { packing, ..one(&[28, 0], &[(1, 32), (0, 14), (2, 2)], Some((1, 16))) }
    };
    let count = |ahead: u64, capabilities: Capabilities| {
        let text = lower(&kernel, &schedule(ahead), capabilities).unwrap().to_string();
        [text.matches("prefetch b[").count(), text.matches("= b[").count()]
    };
    let target = Target::named("skylake-avx512").unwrap();
    // Two vectors at each of two points.
    assert_eq!(count(1024, Capabilities::full(&target)), [4, 4]);
    assert_eq!(count(0, Capabilities::full(&target))[0], 0);
    assert_eq!(count(1024, Capabilities::narrow(&target))[0], 0);
}

#[test]
fn half_precision_products() {
    for (dtype, tolerance) in [(DType::F16, 2e-3), (DType::BF16, 2e-2)] {
        let [m, n, k] = [5, 37, 9];
        let sizes = [("m", m as i64), ("n", n as i64), ("k", k as i64)];
        let mut case = gemm_case(gemm(dtype, ["m", "n", "k"], false), &sizes, [m, n, k]);
        // The reference sees the rounded inputs.
        for values in &mut case.inputs {
            *values = Tensor::from_f64(dtype, vec![values.len()], values).unwrap().to_f64();
        }
        let (a, b) = (&case.inputs[0], &case.inputs[1]);
        for place in 0..m * n {
            let (row, column) = (place / n, place % n);
            case.expected[place] = (0..k).map(|i| a[row * k + i] * b[i * n + column]).sum();
        }
        case.tolerance = tolerance;
        case.run(&Schedule::default());
        case.run(&one(&[0, 0], &[(0, 4), (1, 16)], Some((1, 16))));
    }
}

#[test]
fn convolutions_with_padding() {
    let schedules = [
        Schedule::default(),
        one(&[1, 0, 0], &[(1, 4), (2, 16)], Some((2, 8))),
        one(&[2, 2, 0], &[(2, 4), (1, 2), (3, 1), (4, 3), (5, 2)], Some((2, 4))),
        one(&[1, 0, 0], &[(2, 2), (1, 8)], Some((1, 8))),
    ];
    for extents in [[5, 7, 3, 20], [1, 1, 1, 1], [4, 18, 5, 9], [9, 13, 8, 5]] {
        for symbolic in [false, true] {
            for schedule in &schedules {
                convolution_case(extents, symbolic).run(schedule);
            }
        }
    }
}

/// Reads of an image inside of its border need no guard: of the sums of a convolution, one version has
/// none, and the other has them all.
#[test]
fn convolutions_have_a_version_without_guards() {
    let schedule = one(&[1, 0, 0], &[(1, 4), (2, 16)], Some((2, 8)));
    let capabilities = Capabilities::full(&Target::named("skylake-avx512").unwrap());
    for (kernel, versions) in [
        (convolution(DType::F32, ["28", "28", "16", "32"]), [true, true]),
        (convolution(DType::F32, ["h", "w", "c", "m"]), [true, true]),
        (convolution(DType::F32, ["28", "28", "3", "32"]), [true, true]),
        // One channel does not repay looking.
        (convolution(DType::F32, ["28", "28", "1", "32"]), [false, true]),
    ] {
        let nest = lower(&kernel, &schedule, capabilities).unwrap();
        let mut sums = Vec::new();
        guarded_sums(&nest.body, &mut sums);
        let found = [false, true].map(|guarded| sums.contains(&guarded));
        assert_eq!(found, versions, "{nest}");
    }
}

/// Where the window's points are the innermost loop, it is looked at before the loops: whether all reads lie
/// inside, and if not, whether they do along the rows of the tile. The guard that is left is the same for all
/// of those. An image lower than the window never has all inside.
#[test]
fn convolutions_whose_window_runs_last_have_a_version_with_the_guards_of_lines() {
    let loops = [(1, 7), (2, 16), (5, 1), (3, 1), (4, 1)];
    let schedule = one(&[1, 0, 0], &loops, Some((2, 8)));
    let capabilities = Capabilities::full(&Target::named("skylake-avx512").unwrap());
    for (height, versions) in [("28", vec![false, true, true]), ("2", vec![true, true])] {
        let kernel = convolution(DType::F32, [height, "28", "16", "32"]);
        let nest = lower(&kernel, &schedule, capabilities).unwrap();
        let mut sums = Vec::new();
        guarded_sums(&nest.body, &mut sums);
        assert_eq!(sums, versions, "{nest}");
    }
    for extents in [[28, 28, 3, 20], [2, 9, 2, 32], [1, 1, 1, 1], [4, 18, 5, 9]] {
        for symbolic in [false, true] {
            convolution_case(extents, symbolic).run(&schedule);
        }
    }
}

/// For each block that adds up products, whether one of its reads of the first operand is guarded.
fn guarded_sums(block: &Block, found: &mut Vec<bool>) {
    let is_sum = |statement: &Stmt| matches!(statement, Stmt::Let(_, Op::Fma(..)));
    if block.iter().any(is_sum) {
        found.push(block.iter().any(|statement| {
            matches!(statement, Stmt::Let(_, Op::Load { buffer: 0, mask: Some(_), .. }))
        }));
    }
    for statement in block {
        match statement {
            Stmt::For(l) => guarded_sums(&l.body, found),
            Stmt::If(branch) => {
                guarded_sums(&branch.then, found);
                guarded_sums(&branch.otherwise, found);
            }
            Stmt::Let(..) | Stmt::Store(_) | Stmt::Prefetch { .. } => {}
        }
    }
}

/// A convolution of 3×3 with steps of two and padding of one, channels last.
pub(crate) fn convolved([h, w, c, m]: [usize; 4], x: &[f64], k: &[f64]) -> Vec<f64> {
    let (oh, ow) = (h.div_ceil(2), w.div_ceil(2));
    let mut y = vec![0.0; oh * ow * m];
    for (place, sum) in y.iter_mut().enumerate() {
        let (row, column, channel) = (place / m / ow, place / m % ow, place % m);
        for tap in 0..9 * c {
            let (i, j, from) = (tap / c / 3, tap / c % 3, tap % c);
            let (r, s) = ((row * 2 + i).wrapping_sub(1), (column * 2 + j).wrapping_sub(1));
            if r < h && s < w {
                *sum += x[(r * w + s) * c + from] * k[tap * m + channel];
            }
        }
    }
    y
}

fn convolution_case([h, w, c, m]: [usize; 4], symbolic: bool) -> Case {
    let (x, k) = (numbers(h * w * c, 4), numbers(9 * c * m, 5));
    let y = convolved([h, w, c, m], &x, &k);
    let sizes = [("h", h as i64), ("w", w as i64), ("c", c as i64), ("m", m as i64)];
    let text = [h, w, c, m].map(|size: usize| size.to_string());
    let names = if symbolic { ["h", "w", "c", "m"] } else { text.each_ref().map(String::as_str) };
    Case::new(convolution(DType::F32, names), &sizes, vec![x, k], y, 1e-5)
}

#[test]
fn softmax_keeps_its_rows_in_scratch() {
    for [rows, columns] in [[1, 1], [3, 40], [7, 17]] {
        let x: Vec<f64> = numbers(rows * columns, 6).iter().map(|x| x * 20.0).collect();
        let mut y = Vec::new();
        for row in x.chunks(columns) {
            let top = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let sum: f64 = row.iter().map(|x| (x - top).exp()).sum();
            y.extend(row.iter().map(|x| (x - top).exp() / sum));
        }
        let all = |how: StageSchedule, task: u64| Schedule {
            task: vec![task],
            stages: vec![how; 4],
            ..Schedule::default()
        };
        for schedule in [
            Schedule::default(),
            all(stage(&[(1, 32)], Some((1, 16))), 2),
            all(stage(&[(0, 2), (1, 8)], Some((1, 4))), 0),
            all(stage(&[(0, 4)], Some((0, 4))), 4),
            Schedule { points: PointsPlace::Last, ..all(stage(&[(0, 4)], Some((0, 4))), 4) },
            Schedule {
                points: PointsPlace::Last,
                ..all(stage(&[(0, 2), (1, 8)], Some((1, 4))), 0)
            },
        ] {
            let kernel = softmax(DType::F32, ["r", "c"]);
            let sizes = [("r", rows as i64), ("c", columns as i64)];
            Case::new(kernel, &sizes, vec![x.clone()], y.clone(), 1e-6).run(&schedule);
        }
    }
}

#[test]
fn the_first_greatest_element_is_found() {
    let x = vec![1.0, 5.0, 5.0, -2.0, -3.0, -3.0, -9.0, -4.0, 0.0, 0.0, 0.0, 0.0];
    for schedule in [
        Schedule::default(),
        one(&[0], &[(0, 2), (1, 4)], Some((0, 2))),
        one(&[0], &[(1, 4)], Some((1, 4))),
    ] {
        let kernel = arg_max(DType::F32, ["r", "c"]);
        let sizes = [("r", 3), ("c", 4)];
        Case::new(kernel, &sizes, vec![x.clone()], vec![1.0, 0.0, 0.0], 0.0).run(&schedule);
    }
}

#[test]
fn a_sequential_axis_carries_temporaries() {
    let [batch, steps] = [5, 9];
    let x = numbers(batch * steps, 12);
    let mut y = vec![0.0; batch * steps];
    for row in 0..batch {
        let mut state = 0.0;
        for step in 0..steps {
            state = state * 0.5 + x[row * steps + step];
            y[row * steps + step] = state;
        }
    }
    let sizes = [("b", batch as i64), ("t", steps as i64)];
    for schedule in
        [Schedule::default(), one(&[2, 0], &[], None), one(&[0, 0], &[(0, 4)], Some((0, 4)))]
    {
        let kernel = decay(DType::F32, ["b", "t"]);
        Case::new(kernel, &sizes, vec![x.clone()], y.clone(), 1e-6).run(&schedule);
    }
}

#[test]
fn movement_follows_its_index_maps() {
    let schedules = [
        Schedule::default(),
        one(&[4, 0], &[(0, 2), (1, 16)], Some((1, 8))),
        one(&[0, 0], &[(1, 4), (0, 8)], Some((0, 8))),
    ];
    for (rows, columns) in [(3, 4), (9, 21), (18, 32)] {
        let sizes = [("r", rows as i64), ("c", columns as i64), ("n", 6)];
        for schedule in &schedules {
            let x = numbers(rows * columns, 7);
            let y: Vec<f64> = (0..rows * columns)
                .map(|place| x[place % columns * rows + place / columns])
                .collect();
            let kernel = transpose(DType::F32, ["r", "c"]);
            Case::new(kernel, &sizes, vec![x.clone()], y, 0.0).run(schedule);

            let kernel = reshape(DType::F64, ["r", "c"]);
            Case::new(kernel, &sizes, vec![x.clone()], x, 0.0).run(schedule);

            let picks = numbers(rows, 8);
            let picks: Vec<f64> = picks.iter().map(|x| ((x + 1.0) * 3.0).floor()).collect();
            let table = numbers(6 * columns, 9);
            let y = (0..rows * columns)
                .map(|place| table[picks[place / columns] as usize * columns + place % columns])
                .collect();
            let kernel = gather(DType::F32, ["n", "c", "r"]);
            Case::new(kernel, &sizes, vec![table, picks], y, 0.0).run(schedule);
        }
    }
}

#[test]
fn an_unfit_schedule_is_refused_with_its_reason() {
    let kernel = gemm(DType::F32, ["m", "n", "k"], false);
    let capabilities = Capabilities::full(&Target::named("znver4").unwrap());
    for (schedule, reason) in [
        (one(&[], &[(2, 4), (0, 4)], None), "stands inside a reduction"),
        (one(&[], &[(1, 20)], Some((1, 16))), "whole number of vectors"),
        (one(&[], &[(7, 1)], None), "no axis 7"),
        (one(&[], &[(0, 4), (0, 8)], None), "do not fall"),
        (one(&[], &[], Some((1, 12))), "power of two"),
        (one(&[], &[(0, 1 << 40)], None), "more than"),
        (one(&[], &[(0, 0)], None), "do not fall"),
    ] {
        let error = lower(&kernel, &schedule, capabilities).unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
    }
}

/// A schedule of a stage with these axes, reduction axes behind the others.
pub(crate) fn any_schedule(
    parallel: usize,
    reduction: usize,
    most: u64,
) -> impl Strategy<Value = Schedule> {
    let axes = parallel + reduction;
    let steps = proptest::collection::vec((1..=most, 0u64..4), axes);
    let orders = (Just((0..parallel).collect::<Vec<_>>()).prop_shuffle(), any::<bool>());
    let vector = proptest::option::of((0..axes, 1u32..4));
    let task = proptest::collection::vec(0u64..6, parallel);
    (steps, orders, vector, task).prop_map(move |(steps, (order, blocked), vector, task)| {
        let vector = vector.map(|(axis, log)| (axis, 1u32 << log));
        let step = |axis: usize| {
            let lanes = vector.filter(|(at, _)| *at == axis).map_or(1, |(_, lanes)| lanes);
            // A few vectors or points: the register tile stays small.
            if lanes > 1 { u64::from(lanes) * (1 + steps[axis].0 / 3) } else { steps[axis].0 }
        };
        let mut loops = Vec::new();
        for axes in [order, (parallel..axes).collect()] {
            if blocked {
                loops.extend(axes.iter().map(|&axis| (axis, step(axis) + steps[axis].1 * 4)));
            }
            loops.extend(axes.iter().map(|&axis| (axis, step(axis))));
        }
        one(&task, &loops, vector)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn any_schedule_of_a_product_computes_it(
        schedule in any_schedule(2, 1, 8),
        extents in (1usize..40, 1usize..40, 1usize..20),
        symbolic in any::<bool>(),
    ) {
        let (m, n, k) = extents;
        let text = [m, n, k].map(|size| size.to_string());
        let names = if symbolic { ["m", "n", "k"] } else { text.each_ref().map(String::as_str) };
        let sizes = [("m", m as i64), ("n", n as i64), ("k", k as i64)];
        gemm_case(gemm(DType::F32, names, true), &sizes, [m, n, k]).interpret(&schedule);
    }

    #[test]
    fn any_schedule_of_a_convolution_computes_it(
        schedule in any_schedule(3, 3, 3),
        extents in (1usize..8, 1usize..8, 1usize..5, 1usize..20),
        symbolic in any::<bool>(),
    ) {
        let (h, w, c, m) = extents;
        convolution_case([h, w, c, m], symbolic).interpret(&schedule);
    }
}

#[cfg(feature = "llvm")]
#[test]
fn equal_kernels_give_equal_bytes() {
    use kiln_backends::{CodeGenerator, Unit};
    let kernel = gemm(DType::F32, ["m", "n", "k"], true);
    let schedule = one(&[14, 0], &[(1, 32), (0, 14), (2, 4)], Some((1, 16)));
    let target = Target::named("znver4").unwrap();
    let unit = Unit { kernel: &kernel, schedule: &schedule, symbol: "kernel" };
    let compile = |units: &[Unit<'_>]| kiln_backends::Llvm.compile(units, &target).unwrap();
    let alone = compile(&[unit]);
    assert_eq!(alone, compile(&[unit]));
    let other = Unit { symbol: "other", ..unit };
    assert!(compile(&[other, unit])[1] == alone[0], "an object depends on its own unit alone");
}
