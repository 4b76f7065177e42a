//! Kernels under schedules, compiled by Cranelift and compared with the interpreted loop nest.
//!
//! Invariant: bit for bit; only where lanes of floats are summed, in an order that is free, within the
//! rounding of that many additions.

mod kernels;
mod launch;

use kernels::*;
use kiln_backends::nest::{Block, Nest, Op, Stmt, interpret};
use kiln_backends::{CodeGenerator, Cranelift, Target, Unit};
use kiln_ir::kernel::{Kernel, Role};
use kiln_ir::op::UnaryFn;
use kiln_ir::schedule::{LoopLevel, Schedule, StageSchedule, VectorAxis};
use kiln_runtime::loader::LoadedCode;
use kiln_tensor::{DType, Symbol, SymbolValues, Tensor};
use launch::launch;

/// How a case is run: outer task, loops and vector axis of every stage.
type How<'a> = (&'a [u64], &'a [(usize, u64)], Option<(usize, u32)>);

fn schedule(kernel: &Kernel, (task, loops, vector): How<'_>) -> Schedule {
    let stage = StageSchedule {
        loops: loops.iter().map(|&(axis, step)| LoopLevel { axis, step }).collect(),
        vector: vector.map(|(axis, lanes)| VectorAxis { axis, lanes }),
    };
    Schedule {
        task: task.to_vec(),
        stages: vec![stage; kernel.stages.len()],
        ..Schedule::default()
    }
}

/// Numbers of an element type: halves from −8 to 8 as floats, small ones as integers.
fn numbers(dtype: DType, count: usize, seed: u64) -> Tensor {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let values: Vec<f64> = (0..count)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            match dtype {
                DType::Bool => (state >> 40 & 1) as f64,
                _ if dtype.is_float() => ((state >> 40) % 33) as f64 / 2.0 - 8.0,
                _ => ((state >> 40) % 6) as f64,
            }
        })
        .collect();
    Tensor::from_f64(dtype, vec![count], &values).unwrap()
}

fn reduces(block: &Block) -> bool {
    block.iter().any(|statement| match statement {
        Stmt::Let(_, op) => matches!(op, Op::Reduce(..)),
        Stmt::Store(_) | Stmt::Prefetch { .. } => false,
        Stmt::For(l) => reduces(&l.body),
        Stmt::If(branch) => reduces(&branch.then) || reduces(&branch.otherwise),
    })
}

/// Runs a kernel on numbers both ways, its tasks in two calls, the later ones first.
fn agree(kernel: &Kernel, sizes: &[(&str, i64)], how: How<'_>) {
    let schedule = schedule(kernel, how);
    let sizes: SymbolValues =
        sizes.iter().map(|(name, value)| (Symbol::new(name), *value)).collect();
    let params: Vec<i64> = kernel.symbols.keys().map(|symbol| sizes[symbol]).collect();
    let tensors = || -> Vec<Tensor> {
        let bound = kernel.bound_operands();
        bound
            .map(|(number, operand)| {
                let shape = operand.shape.iter().map(|dim| dim.evaluate(&sizes).unwrap());
                let count = shape.product::<i64>() as usize;
                let seed = if operand.role == Role::Output { 99 } else { number as u64 };
                numbers(operand.dtype, count, seed)
            })
            .collect()
    };
    let target = Target::host().unwrap();
    let unit = Unit { kernel, schedule: &schedule, symbol: "kernel" };
    let nest = Cranelift.nest(&unit, &target).unwrap();
    let tasks = schedule.tasks(kernel).evaluate(&sizes).unwrap();
    let calls = [(tasks / 2, tasks), (0, tasks / 2)];

    let mut expected: Vec<Vec<u8>> =
        tensors().iter().map(|tensor| tensor.bytes().to_vec()).collect();
    for (begin, end) in calls {
        interpret(&nest, &mut expected, &params, begin, end)
            .unwrap_or_else(|error| panic!("{error}\n{nest}"));
    }

    let objects = Cranelift.compile(&[unit], &target).unwrap();
    let code = LoadedCode::load(&[&objects[0].bytes]).unwrap();
    let mut actual = tensors();
    let scratch = nest.scratch.evaluate(&sizes).unwrap() as usize;
    launch(&code, "kernel", &mut actual, &params, scratch, &calls);
    for ((number, operand), (expected, actual)) in
        kernel.bound_operands().zip(expected.iter().zip(&actual))
    {
        let exact = !(operand.dtype.is_float() && reduces(&nest.body));
        compare(expected, actual, operand.dtype, exact)
            .unwrap_or_else(|what| panic!("operand {number}: {what}\n{nest}"));
    }
    others(&unit, &nest);
}

/// The other instruction sets are compiled for, though not run.
fn others(unit: &Unit<'_>, nest: &Nest) {
    for target in ["x86-64-v2", "armv8-a"].map(|name| Target::named(name).unwrap()) {
        Cranelift
            .compile(&[*unit], &target)
            .unwrap_or_else(|error| panic!("{}: {error}\n{nest}", target.triple));
    }
}

fn compare(expected: &[u8], actual: &Tensor, dtype: DType, exact: bool) -> Result<(), String> {
    let size = dtype.size();
    let wanted = Tensor::from_bytes(dtype, vec![expected.len() / size], expected)
        .map_err(|error| error.to_string())?
        .to_f64();
    let bytes = expected.chunks(size).zip(actual.bytes().chunks(size));
    for (place, ((wanted, found), (a, b))) in
        wanted.iter().zip(actual.to_f64()).zip(bytes).enumerate()
    {
        let bound = 256.0 * dtype.unit_roundoff() * wanted.abs().max(1.0);
        let close = !exact && (wanted - found).abs() <= bound;
        if a != b && !close && !(wanted.is_nan() && found.is_nan()) {
            return Err(format!("element {place}: expected {wanted} {a:x?}, got {found} {b:x?}"));
        }
    }
    Ok(())
}

const TYPES: [DType; 12] = [
    DType::U8,
    DType::U16,
    DType::U32,
    DType::U64,
    DType::I8,
    DType::I16,
    DType::I32,
    DType::I64,
    DType::F16,
    DType::BF16,
    DType::F32,
    DType::F64,
];

#[test]
fn matrix_products_of_every_type() {
    let hows: [How<'_>; 4] = [
        (&[], &[], None),
        (&[6, 16], &[(0, 6), (1, 16)], Some((1, 4))),
        (&[0, 0], &[(0, 12), (1, 64), (0, 4), (1, 8), (2, 16), (2, 1)], Some((1, 8))),
        (&[4, 4], &[(0, 2), (1, 2), (2, 32)], Some((2, 16))),
    ];
    for dtype in TYPES {
        for [m, n, k] in [[1, 1, 1], [5, 7, 3], [13, 33, 19]] {
            for how in hows {
                let kernel = gemm(dtype, ["m", "n", "k"], dtype.is_float());
                agree(&kernel, &[("m", m), ("n", n), ("k", k)], how);
            }
        }
    }
    let bytes = of_bytes(gemm(DType::I32, ["m", "n", "k"], false));
    for how in hows {
        agree(&bytes, &[("m", 5), ("n", 33), ("k", 20)], how);
    }
}

#[test]
fn functions_of_every_type() {
    for dtype in TYPES {
        for f in UnaryFn::ALL.into_iter().filter(|f| f.result(dtype).is_some()) {
            for (lanes, step) in [(4, 8), (16, 16)] {
                let kernel = unary(f, dtype, "n");
                agree(&kernel, &[("n", 53)], (&[32], &[(0, step)], Some((0, lanes))));
            }
        }
    }
}

#[test]
fn convolutions_softmax_and_positions() {
    for dtype in [DType::F32, DType::F64, DType::BF16] {
        let kernel = convolution(dtype, ["h", "w", "c", "m"]);
        for how in [
            (&[1, 0, 0][..], &[(1, 4), (2, 16)][..], Some((2, 4))),
            (&[1, 0, 0], &[(2, 2), (1, 8)], Some((1, 4))),
            (&[], &[], None),
        ] {
            agree(&kernel, &[("h", 5), ("w", 11), ("c", 3), ("m", 18)], how);
        }
        let kernel = softmax(dtype, ["r", "c"]);
        for how in [
            (&[2][..], &[(1, 32)][..], Some((1, 16))),
            (&[4], &[(0, 4)], Some((0, 4))),
            (&[], &[], None),
        ] {
            agree(&kernel, &[("r", 5), ("c", 37)], how);
        }
        let kernel = arg_max(dtype, ["r", "c"]);
        for how in [(&[0][..], &[(0, 2), (1, 4)][..], Some((0, 2))), (&[], &[(1, 4)], Some((1, 4)))]
        {
            agree(&kernel, &[("r", 7), ("c", 10)], how);
        }
    }
}

#[test]
fn movement_and_sequences() {
    for dtype in TYPES {
        let sizes = [("r", 9), ("c", 21), ("n", 6), ("b", 5), ("t", 9)];
        for how in [
            (&[4, 0][..], &[(0, 2), (1, 16)][..], Some((1, 8))),
            (&[0, 0], &[(1, 4), (0, 8)], Some((0, 8))),
            (&[], &[], None),
        ] {
            agree(&transpose(dtype, ["r", "c"]), &sizes, how);
            agree(&reshape(dtype, ["r", "c"]), &sizes, how);
            agree(&gather(dtype, ["n", "c", "r"]), &sizes, how);
        }
        if dtype.is_float() {
            agree(&decay(dtype, ["b", "t"]), &sizes, (&[0, 0], &[(0, 4)], Some((0, 4))));
        }
    }
}

/// What `inspect` shows, and that equal input gives equal bytes.
#[test]
fn forms_of_a_kernel() {
    let kernel = gemm(DType::F32, ["m", "n", "k"], true);
    let schedule = schedule(&kernel, (&[4, 8], &[(0, 4), (1, 8)], Some((1, 4))));
    let unit = Unit { kernel: &kernel, schedule: &schedule, symbol: "gemm_0" };
    let target = Target::named("haswell").unwrap();
    let text = Cranelift.intermediate(&unit, &target).unwrap();
    assert!(text.contains("function %gemm") && text.contains("fma"), "{text}");
    let assembly = Cranelift.assembly(&unit, &target).unwrap();
    assert!(assembly.contains("vfmadd"), "{assembly}");
    let objects = [(); 2].map(|()| Cranelift.compile(&[unit], &target).unwrap());
    assert_eq!(objects[0], objects[1]);

    let other = Unit { symbol: "gemm_1", ..unit };
    let both = Cranelift.compile(&[other, unit], &target).unwrap();
    assert!(both[1] == objects[0][0], "an object depends on its own unit alone");
    assert_ne!(both[0], both[1]);
}
