//! Kernels of several kinds on one core, in GFLOP/s or GB/s.
//!
//! Invariant: schedules here are written by hand; what the compiler's own are worth is measured on
//! models.
#![allow(missing_docs)]

#[path = "../tests/kernels/mod.rs"]
#[allow(dead_code)]
mod kernels;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use kiln_backends::{CodeGenerator, Llvm, Target, Unit};
use kiln_ir::kernel::Kernel;
use kiln_ir::op::UnaryFn;
use kiln_ir::schedule::{LoopLevel, PackedLayout, Packing, Schedule, StageSchedule, VectorAxis};
use kiln_runtime::loader::LoadedCode;
use kiln_tensor::{DType, Dim, SymbolValues, Tensor};

fn stage(loops: &[(usize, u64)], axis: usize, lanes: u32) -> StageSchedule {
    StageSchedule {
        loops: loops.iter().map(|&(axis, step)| LoopLevel { axis, step }).collect(),
        vector: Some(VectorAxis { axis, lanes }),
    }
}

/// Runs a kernel of constant sizes on zeros.
fn measure(
    criterion: &mut Criterion,
    name: &str,
    kernel: &Kernel,
    schedule: &Schedule,
    throughput: Throughput,
) {
    let target = Target::host().expect("the host is a target");
    let unit = Unit { kernel, schedule, symbol: "kernel" };
    let objects = Llvm.compile(&[unit], &target).expect("the kernel compiles");
    let code = LoadedCode::load(&[&objects[0].bytes]).expect("the object loads");
    let function = code.entry("kernel").expect("the symbol is there");
    let size = |dim: Dim| dim.evaluate(&SymbolValues::new()).expect("sizes are constant");
    let mut memory: Vec<Tensor> = kernel
        .bound_operands()
        .map(|(number, operand)| {
            let packing = schedule.packing.iter().find(|packing| packing.operand == number);
            let extents = packing.map_or_else(
                || operand.shape.clone(),
                |packing| packing.layout.extents(&operand.shape),
            );
            let elements = size(extents.into_iter().product()) as usize;
            Tensor::zeros(operand.dtype, vec![elements]).expect("memory")
        })
        .collect();
    let pointers: Vec<*mut u8> =
        memory.iter_mut().map(|tensor| tensor.bytes_mut().as_mut_ptr()).collect();
    let bytes = size(schedule.scratch(kernel).bytes) as usize;
    let mut scratch = Tensor::zeros(DType::U8, vec![bytes]).expect("memory");
    let scratch = scratch.bytes_mut().as_mut_ptr();
    let tasks = size(schedule.tasks(kernel));
    let mut group = criterion.benchmark_group("kernels");
    group.throughput(throughput).sample_size(20);
    group.bench_function(name, |bencher| {
        bencher.iter(|| {
            // SAFETY: buffers and scratch have the sizes that kernel and schedule ask for.
            unsafe { function(pointers.as_ptr(), [].as_ptr(), scratch, 0, tasks) }
        });
    });
    group.finish();
}

fn convolution(criterion: &mut Criterion) {
    let kernel = kernels::convolution(DType::F32, ["56", "56", "64", "64"]);
    let flops = 2 * 28 * 28 * 64 * 64 * 9;
    let mut schedule = Schedule {
        task: vec![1, 0, 0],
        stages: vec![stage(&[(2, 32), (1, 14), (3, 1), (4, 1), (5, 1)], 2, 16)],
        ..Schedule::default()
    };
    let unpacked = schedule.clone();
    let layout = PackedLayout::panels(3, 32, 0..3);
    schedule.packing = vec![Packing { operand: 1, layout, ahead: 0 }];
    for (name, schedule) in [("packed", schedule), ("plain", unpacked)] {
        let name = format!("convolution/{name}");
        measure(criterion, &name, &kernel, &schedule, Throughput::Elements(flops));
    }
}

fn elementwise(criterion: &mut Criterion) {
    for f in [UnaryFn::Relu, UnaryFn::Exp, UnaryFn::Gelu, UnaryFn::Tanh, UnaryFn::Sigmoid] {
        let kernel = kernels::unary(f, DType::F32, "65536");
        let schedule = Schedule {
            task: vec![0],
            stages: vec![stage(&[(0, 64)], 0, 16)],
            ..Schedule::default()
        };
        let name = format!("{f:?}").to_lowercase();
        measure(criterion, &name, &kernel, &schedule, Throughput::Elements(65536));
    }
}

fn softmax(criterion: &mut Criterion) {
    let kernel = kernels::softmax(DType::F32, ["256", "256"]);
    let schedule = Schedule {
        task: vec![16],
        stages: vec![stage(&[(1, 64)], 1, 16); 4],
        ..Schedule::default()
    };
    measure(criterion, "softmax", &kernel, &schedule, Throughput::Elements(65536));
}

fn transpose(criterion: &mut Criterion) {
    let kernel = kernels::transpose(DType::F32, ["512", "512"]);
    for (name, loops, axis) in [("rows", [(0, 16), (1, 16)], 1), ("columns", [(1, 16), (0, 16)], 0)]
    {
        let schedule = Schedule {
            task: vec![0, 0],
            stages: vec![stage(&loops, axis, 16)],
            ..Schedule::default()
        };
        let bytes = Throughput::Bytes(2 * 4 * 512 * 512);
        measure(criterion, &format!("transpose/{name}"), &kernel, &schedule, bytes);
    }
}

/// Time to machine code: a matrix product of unknown sizes, whose remainders all have their code.
fn compile(criterion: &mut Criterion) {
    let target = Target::host().expect("the host is a target");
    let product = kernels::gemm(DType::F32, ["m", "n", "k"], true);
    let tiles = Schedule {
        task: vec![14, 0],
        stages: vec![stage(&[(1, 32), (0, 14), (2, 4)], 1, 16)],
        ..Schedule::default()
    };
    let row = kernels::softmax(DType::F32, ["r", "c"]);
    let rows = Schedule {
        task: vec![16],
        stages: vec![stage(&[(1, 64)], 1, 16); 4],
        ..Schedule::default()
    };
    let mut group = criterion.benchmark_group("compile");
    group.sample_size(10);
    for (name, kernel, schedule) in [("gemm", &product, &tiles), ("softmax", &row, &rows)] {
        for count in [1, 10] {
            let symbols: Vec<String> = (0..count).map(|number| format!("k{number}")).collect();
            let units: Vec<Unit> =
                symbols.iter().map(|symbol| Unit { kernel, schedule, symbol }).collect();
            group.bench_function(format!("{name}/{count}"), |bencher| {
                bencher.iter(|| Llvm.compile(&units, &target).expect("it compiles"));
            });
        }
    }
    group.finish();
}

criterion_group!(benches, convolution, elementwise, softmax, transpose, compile);
criterion_main!(benches);
