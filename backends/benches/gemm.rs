//! A packed f32 matrix product on one core against the core's measured multiply-add peak.
//!
//! Invariant: both numbers come from the same process on the same core; the peak is measured, by a
//! kernel that does nothing but multiply-adds.

#![allow(missing_docs)]

#[path = "../tests/kernels/mod.rs"]
#[allow(dead_code)]
mod kernels;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use kiln_backends::{CodeGenerator, Llvm, Target, Unit};
use kiln_ir::kernel::{Kernel, ScalarOp};
use kiln_ir::schedule::{
    LoopLevel, PackedLayout, Packing, PointsPlace, Schedule, StageSchedule, VectorAxis,
};
use kiln_runtime::loader::LoadedCode;
use kiln_tensor::{DType, Tensor};
use std::hint::black_box;
use std::time::Instant;

const SIZE: usize = 1024;
/// Multiply-adds of each accumulator in one call of the peak kernel.
const STEPS: usize = 4096;

/// Rows and vectors of a register tile that fits the target's registers.
fn tile(target: &Target) -> [u64; 3] {
    let lanes = u64::from(target.vector_bits / 32);
    if target.vector_registers >= 32 { [14, 2 * lanes, lanes] } else { [6, 2 * lanes, lanes] }
}

fn schedule(target: &Target) -> Schedule {
    let [rows, columns, lanes] = tile(target);
    let blocked = |operand, dim, block| {
        let layout = PackedLayout::panels(dim, block, [1 - dim]);
        Packing { operand, layout, ahead: 0 }
    };
    Schedule {
        task: vec![rows * 8, 0],
        stages: vec![StageSchedule {
            loops: vec![
                LoopLevel { axis: 1, step: columns },
                LoopLevel { axis: 0, step: rows },
                LoopLevel { axis: 2, step: 4 },
            ],
            vector: Some(VectorAxis { axis: 1, lanes: lanes as u32 }),
        }],
        packing: vec![blocked(0, 0, rows), blocked(1, 1, columns)],
        fastest: None,
        points: PointsPlace::BeforeLast,
    }
}

/// Rows and columns of register tiles that have enough accumulators to hide the latency and leave
/// registers for the operands; the best of them is the peak.
fn peak_tiles(target: &Target) -> Vec<[u64; 2]> {
    let lanes = u64::from(target.vector_bits / 32);
    let tiles: &[[u64; 2]] =
        if target.vector_registers >= 32 { &[[5, 4], [4, 5]] } else { &[[3, 3], [2, 5], [3, 4]] };
    tiles.iter().map(|[rows, vectors]| [*rows, vectors * lanes]).collect()
}

/// Multiply-adds of a register tile whose operands never change: nothing is fetched, and enough
/// accumulators that nothing waits.
fn peak_kernel(target: &Target, [rows, columns]: [u64; 2]) -> (Kernel, Schedule) {
    let lanes = target.vector_bits / 32;
    let (m, n, k) = (rows.to_string(), columns.to_string(), STEPS.to_string());
    let mut kernel = kernels::gemm(DType::F32, [&m, &n, &k], false);
    for (operand, axis) in [(0, 0), (1, 1)] {
        kernel.operands[operand].shape.remove(1 - operand);
        kernel.stages[0].body.code[operand].0 =
            ScalarOp::Read { access: kernels::at(operand, &[axis]), outside: None };
    }
    let mut schedule = schedule(target);
    schedule.task = vec![0, 0];
    schedule.packing.clear();
    schedule.stages = vec![StageSchedule {
        loops: vec![
            LoopLevel { axis: 1, step: columns },
            LoopLevel { axis: 0, step: rows },
            LoopLevel { axis: 2, step: 4 },
        ],
        vector: Some(VectorAxis { axis: 1, lanes }),
    }];
    (kernel, schedule)
}

fn code(kernel: &Kernel, schedule: &Schedule, target: &Target) -> LoadedCode {
    let unit = Unit { kernel, schedule, symbol: "kernel" };
    let objects = Llvm.compile(&[unit], target).expect("the kernel compiles");
    LoadedCode::load(&[&objects[0].bytes]).expect("the object loads")
}

fn zeros(elements: usize) -> Tensor {
    Tensor::zeros(DType::F32, vec![elements]).expect("memory")
}

/// Peak in GFLOP/s, as the best of many short runs.
fn peak_of(target: &Target, tile: [u64; 2]) -> f64 {
    let (kernel, schedule) = peak_kernel(target, tile);
    let code = code(&kernel, &schedule, target);
    let function = code.entry("kernel").expect("the symbol is there");
    let [rows, columns] = tile.map(|size| size as usize);
    let mut memory = [zeros(rows), zeros(columns), zeros(rows * columns)];
    let pointers = memory.each_mut().map(|tensor| tensor.bytes_mut().as_mut_ptr());
    let flops = 2 * rows * columns * STEPS;
    let calls = 200;
    (0..20)
        .map(|_| {
            let start = Instant::now();
            for _ in 0..calls {
                // SAFETY: the buffers have the sizes of the kernel's operands.
                unsafe {
                    function(pointers.as_ptr(), [].as_ptr(), std::ptr::null_mut(), 0, 1);
                }
            }
            (flops * calls) as f64 / start.elapsed().as_secs_f64() / 1e9
        })
        .fold(0.0, f64::max)
}

fn peak(target: &Target) -> f64 {
    peak_tiles(target).into_iter().map(|tile| peak_of(target, tile)).fold(0.0, f64::max)
}

fn gemm(criterion: &mut Criterion) {
    let target = Target::host().expect("the host is a target");
    let size = SIZE.to_string();
    let kernel = kernels::gemm(DType::F32, [&size; 3].map(|s| s.as_str()), false);
    let schedule = schedule(&target);
    let tasks = schedule.tasks(&kernel).as_const().expect("sizes are known");
    let code = code(&kernel, &schedule, &target);
    let function = code.entry("kernel").expect("the symbol is there");
    let [rows, columns, _] = tile(&target).map(|size| size as usize);
    let mut memory = [
        zeros(SIZE.div_ceil(rows) * rows * SIZE),
        zeros(SIZE.div_ceil(columns) * columns * SIZE),
        zeros(SIZE * SIZE),
    ];
    let pointers = memory.each_mut().map(|tensor| tensor.bytes_mut().as_mut_ptr());
    let run = || {
        // SAFETY: the buffers have the sizes of the kernel's operands, padding included.
        unsafe { function(pointers.as_ptr(), [].as_ptr(), std::ptr::null_mut(), 0, tasks) };
        black_box(pointers[2]);
    };
    let flops = 2 * SIZE * SIZE * SIZE;
    run();
    let best = (0..10)
        .map(|_| {
            let start = Instant::now();
            run();
            flops as f64 / start.elapsed().as_secs_f64() / 1e9
        })
        .fold(0.0, f64::max);
    let peak = peak(&target);
    println!(
        "f32 {SIZE}x{SIZE}x{SIZE} on one core of {}: {best:.1} GFLOP/s, peak {peak:.1} GFLOP/s: {:.1} %",
        target.cpu,
        100.0 * best / peak
    );
    let mut group = criterion.benchmark_group("gemm");
    group.throughput(Throughput::Elements(flops as u64)).sample_size(20);
    group.bench_function(format!("f32/{SIZE}"), |bencher| bencher.iter(run));
    group.finish();
}

criterion_group!(benches, gemm);
criterion_main!(benches);
