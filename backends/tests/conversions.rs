//! Conversions between all element types, compiled and interpreted, against the reference.
//!
//! Invariant: bit for bit (a NaN is any NaN), for every code and every 16-bit number, and for wider
//! ones about every place where rounding to a narrower type changes; scalar and in vectors.

mod launch;

#[cfg(feature = "llvm")]
use kiln_backends::Llvm;
use kiln_backends::nest::interpret;
use kiln_backends::{CodeGenerator, Cranelift, Target, Unit};
use kiln_ir::Op;
use kiln_ir::kernel::{
    Access, Axis, AxisKind, Index, Kernel, Operand, Role, ScalarId, ScalarOp, ScalarProgram, Stage,
};
use kiln_ir::op::{BitCast, Cast};
use kiln_ir::schedule::{Schedule, StageSchedule, VectorAxis};
use kiln_runtime::loader::LoadedCode;
use kiln_tensor::{Bounds, DType, Dim, Symbol, SymbolValues, Tensor};
use launch::launch;

/// Numbers about the middle between neighbours of narrower types, nearer than they can tell.
fn near_middles() -> Vec<f64> {
    let mut numbers = vec![0.0, f64::NAN, f64::INFINITY, 1e-46, 1e-320, 1e300, 3.4028236e38];
    let narrower = DType::ALL.into_iter().filter(|dtype| dtype.format().is_some());
    let mut grids: Vec<Vec<f64>> = narrower
        .map(|dtype| {
            let format = dtype.format().unwrap();
            (0..=format.greatest_code()).map(|code| format.decode(code)).collect()
        })
        .collect();
    for (unit, exponents) in [(10, -26..16), (7, -135..128), (23, -150..128)] {
        let near = |exponent| [1.0, 1.5, 1.75].map(|x| x * 2f64.powi(exponent));
        let steps = exponents.clone().flat_map(near);
        grids.push(steps.flat_map(|x: f64| [x, x * (1.0 + 0.5f64.powi(unit))]).collect());
    }
    for pair in grids.iter().flat_map(|grid| grid.windows(2)) {
        let middle = (pair[0] + pair[1]) / 2.0;
        let single = f64::from(middle as f32);
        numbers.extend([pair[1], middle, middle.next_up(), middle.next_down()]);
        numbers
            .extend([f64::from((middle as f32).next_up()), f64::from((single as f32).next_down())]);
    }
    for bits in 0..63u32 {
        let whole = (1u64 << bits) as f64;
        numbers.extend([whole, whole - 1.0, whole + 1.0, whole * 1.5, whole + 0.5]);
    }
    numbers.extend(numbers.iter().map(|x| -x).collect::<Vec<_>>());
    numbers
}

/// What is converted from a type.
fn samples(dtype: DType) -> Tensor {
    let bytes: Vec<u8> = match dtype.bits() {
        _ if dtype == DType::Bool => vec![0, 1],
        bits @ ..=8 => (0..1u32 << bits).map(|code| dtype.extended(code as u8)).collect(),
        16 => (0..=u16::MAX).flat_map(u16::to_le_bytes).collect(),
        _ => {
            let numbers = near_middles();
            let tensor = Tensor::from_f64(dtype, vec![numbers.len()], &numbers).unwrap();
            tensor.bytes().to_vec()
        }
    };
    Tensor::from_bytes(dtype, vec![bytes.len() / dtype.size()], &bytes).unwrap()
}

fn operand(name: &str, role: Role, dtype: DType) -> Operand {
    Operand { name: name.to_owned(), role, dtype, shape: vec![Dim::named("n")] }
}

fn kernel(from: DType, to: DType, op: fn(ScalarId) -> ScalarOp) -> Kernel {
    let mut finish = ScalarProgram::default();
    let at = |operand| Access { operand, index: vec![Index::Axis(0)] };
    let x = finish.push(ScalarOp::Read { access: at(0), outside: None }, from);
    let y = finish.push(op(x), to);
    finish.results.push(y);
    let stage = Stage {
        axes: Vec::new(),
        body: ScalarProgram::default(),
        combine: Vec::new(),
        finish,
        writes: vec![at(1).into()],
    };
    Kernel {
        name: format!("{to}_of_{from}"),
        symbols: [(Symbol::new("n"), Bounds::default())].into(),
        operands: vec![operand("x", Role::Input, from), operand("y", Role::Output, to)],
        outer: vec![Axis { name: "i".into(), extent: Dim::named("n"), kind: AxisKind::Parallel }],
        stages: vec![stage],
    }
}

fn schedule(lanes: u32) -> Schedule {
    let stage = StageSchedule { loops: Vec::new(), vector: Some(VectorAxis { axis: 0, lanes }) };
    Schedule { task: Vec::new(), stages: vec![stage], ..Schedule::default() }
}

fn compare(how: &str, kernel: &Kernel, x: &Tensor, actual: &[u8], expected: &Tensor) {
    let size = expected.dtype().size();
    let actual = Tensor::from_bytes(expected.dtype(), vec![actual.len() / size], actual).unwrap();
    if actual.bytes() == expected.bytes() {
        return;
    }
    let x = x.to_f64();
    let numbers = actual.to_f64().into_iter().zip(expected.to_f64());
    let chunks = actual.bytes().chunks(size).zip(expected.bytes().chunks(size));
    for (place, ((a, b), (found, wanted))) in numbers.zip(chunks).enumerate() {
        assert!(
            found == wanted || a.is_nan() && b.is_nan(),
            "{} {how}: {:e} is {a:e}, not {b:e}",
            kernel.name,
            x[place]
        );
    }
}

/// One code generator over many kernels.
fn compiled(generator: &dyn CodeGenerator, lanes: u32, cases: &[(Kernel, Tensor, Tensor)]) {
    let target = Target::host().unwrap();
    let schedule = schedule(lanes);
    let unit = |(kernel, ..): &'_ (Kernel, Tensor, Tensor)| kernel.name.clone();
    let names: Vec<String> = cases.iter().map(unit).collect();
    let units: Vec<Unit> = cases
        .iter()
        .zip(&names)
        .map(|((kernel, ..), name)| Unit { kernel, schedule: &schedule, symbol: name })
        .collect();
    let objects = generator.compile(&units, &target).unwrap();
    let bytes: Vec<&[u8]> = objects.iter().map(|object| &object.bytes[..]).collect();
    let code = LoadedCode::load(&bytes).unwrap();
    for ((kernel, x, expected), name) in cases.iter().zip(&names) {
        let count = x.len() as i64;
        let sizes: SymbolValues = [(Symbol::new("n"), count)].into();
        let tasks = schedule.tasks(kernel).evaluate(&sizes).unwrap();
        let mut operands = [x.clone(), expected.clone()];
        operands[1].bytes_mut().fill(0x5a);
        launch(&code, name, &mut operands, &[count], 0, &[(0, tasks)]);
        compare(&format!("{lanes} lanes"), kernel, x, operands[1].bytes(), expected);
    }
}

fn interpreted(kernel: &Kernel, x: &Tensor, expected: &Tensor) {
    let schedule = schedule(4);
    let unit = Unit { kernel, schedule: &schedule, symbol: "kernel" };
    let nest = Cranelift.nest(&unit, &Target::host().unwrap()).unwrap();
    let mut buffers = vec![x.bytes().to_vec(), vec![0x5a; expected.bytes().len()]];
    let count = x.len() as i64;
    let sizes: SymbolValues = [(Symbol::new("n"), count)].into();
    let tasks = schedule.tasks(kernel).evaluate(&sizes).unwrap();
    interpret(&nest, &mut buffers, &[count], 0, tasks).unwrap();
    compare("interpreted", kernel, x, &buffers[1], expected);
}

fn evaluated(op: Op, x: &Tensor) -> Option<Tensor> {
    op.evaluate(std::slice::from_ref(x), &[], &SymbolValues::new()).ok()?.pop()
}

fn check(cases: Vec<(Kernel, Tensor, Tensor)>) {
    for (kernel, x, expected) in cases.iter().filter(|(_, x, _)| x.len() < 5000) {
        interpreted(kernel, x, expected);
    }
    for lanes in [1, 4, 16] {
        compiled(&Cranelift, lanes, &cases);
        #[cfg(feature = "llvm")]
        compiled(&Llvm, lanes, &cases);
    }
}

/// Everything is converted to the types that this test is about, and those to everything.
#[test]
fn casts_round_as_the_reference_does() {
    let narrow = |dtype: DType| dtype.bits() < 8 || dtype.is_code() || dtype.bits() == 16;
    for from in DType::ALL {
        let x = samples(from);
        let targets =
            DType::ALL.into_iter().filter(|&to| from != to && (narrow(from) || narrow(to)));
        let cases: Vec<_> = targets
            .filter_map(|to| {
                let expected = evaluated(Cast { to }.into(), &x)?;
                Some((kernel(from, to, ScalarOp::Cast), x.clone(), expected))
            })
            .collect();
        check(cases);
    }
}

#[test]
fn bit_casts_keep_every_bit() {
    let mut cases = Vec::new();
    for from in DType::ALL.into_iter().filter(|from| *from != DType::C128) {
        let x = samples(from);
        for to in DType::ALL.into_iter().filter(|&to| from != to) {
            if let Some(expected) = evaluated(BitCast { to }.into(), &x) {
                cases.push((kernel(from, to, ScalarOp::BitCast), x.clone(), expected));
            }
        }
    }
    check(cases);
}
