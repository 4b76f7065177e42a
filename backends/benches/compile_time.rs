//! Time from kernel and schedule to an object, by Cranelift, for a kernel of each kind.
//!
//! Invariant: what is measured is everything that `compile` does: loop nest, translation,
//! optimisation, register allocation, object.
#![allow(missing_docs)]

#[path = "../tests/kernels/mod.rs"]
#[allow(dead_code)]
mod kernels;

use criterion::{Criterion, criterion_group, criterion_main};
use kernels::{arg_max, convolution, gemm, softmax, transpose, unary};
use kiln_backends::{CodeGenerator, Cranelift, Target, Unit};
use kiln_ir::kernel::Kernel;
use kiln_ir::op::UnaryFn;
use kiln_ir::schedule::{LoopLevel, Schedule, StageSchedule, VectorAxis};
use kiln_tensor::DType;

fn schedule(kernel: &Kernel, loops: &[(usize, u64)], axis: usize, lanes: u32) -> Schedule {
    let stage = StageSchedule {
        loops: loops.iter().map(|&(axis, step)| LoopLevel { axis, step }).collect(),
        vector: Some(VectorAxis { axis, lanes }),
    };
    Schedule { task: Vec::new(), stages: vec![stage; kernel.stages.len()], ..Schedule::default() }
}

fn compile_time(criterion: &mut Criterion) {
    let f32s = DType::F32;
    let cases = [
        (gemm(f32s, ["m", "n", "k"], true), &[(0, 6), (1, 8)][..], 1, 4),
        (convolution(f32s, ["h", "w", "c", "m"]), &[(1, 4), (2, 8)], 2, 4),
        (softmax(f32s, ["r", "c"]), &[(1, 16)], 1, 4),
        (unary(UnaryFn::Gelu, f32s, "n"), &[(0, 16)], 0, 4),
        (unary(UnaryFn::Relu, DType::F16, "n"), &[(0, 16)], 0, 4),
        (arg_max(f32s, ["r", "c"]), &[(0, 4)], 0, 4),
        (transpose(f32s, ["r", "c"]), &[(1, 8)], 1, 4),
    ];
    let target = Target::host().expect("the host is a target");
    let mut group = criterion.benchmark_group("cranelift");
    let mut units = Vec::new();
    for (kernel, loops, axis, lanes) in &cases {
        units.push((kernel, schedule(kernel, loops, *axis, *lanes)));
    }
    let symbols: Vec<String> = (0..units.len()).map(|number| format!("kernel_{number}")).collect();
    let units: Vec<Unit<'_>> = units
        .iter()
        .zip(&symbols)
        .map(|((kernel, schedule), symbol)| Unit { kernel, schedule, symbol })
        .collect();
    for unit in &units {
        let name = format!("{} {}", unit.kernel.name, unit.kernel.operands[0].dtype);
        group.bench_function(name, |bencher| {
            bencher.iter(|| Cranelift.compile(&[*unit], &target).expect("it compiles"));
        });
    }
    group.bench_function("all in one object", |bencher| {
        bencher.iter(|| Cranelift.compile(&units, &target).expect("they compile"));
    });
    group.finish();
}

criterion_group!(benches, compile_time);
criterion_main!(benches);
