//! Kernels of every kind, under schedules of every family, interpreted and compiled.
//!
//! Invariant: each expected result is computed here, by plain loops that share nothing with the
//! lowering.

mod kernels;

use kernels::*;
use kiln_backends::Target;
use kiln_backends::nest::{Capabilities, interpret, lower};
use kiln_ir::kernel::{AxisKind, Kernel, Role, ScalarOp, ScalarProgram, Stage};
use kiln_ir::op::{BinaryFn, UnaryFn};
use kiln_ir::schedule::{
    LoopLevel, PackedLayout, Packing, Part, Schedule, StageSchedule, VectorAxis,
};
use kiln_tensor::{DType, SymbolValues, Tensor};
use proptest::prelude::*;

/// Deterministic numbers in −1..1.
fn numbers(count: usize, seed: u64) -> Vec<f64> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..count)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            f64::from(((state >> 40) as f32) / (1u32 << 23) as f32 - 1.0)
        })
        .collect()
}

fn stage(loops: &[(usize, u64)], vector: Option<(usize, u32)>) -> StageSchedule {
    StageSchedule {
        loops: loops.iter().map(|&(axis, step)| LoopLevel { axis, step }).collect(),
        vector: vector.map(|(axis, lanes)| VectorAxis { axis, lanes }),
    }
}

fn one(task: &[u64], loops: &[(usize, u64)], vector: Option<(usize, u32)>) -> Schedule {
    Schedule { task: task.to_vec(), stages: vec![stage(loops, vector)], packing: Vec::new() }
}

/// A kernel with sizes and inputs.
struct Case {
    kernel: Kernel,
    sizes: SymbolValues,
    inputs: Vec<Vec<f64>>,
    expected: Vec<f64>,
    tolerance: f64,
}

impl Case {
    fn new(
        kernel: Kernel,
        sizes: &[(&str, i64)],
        inputs: Vec<Vec<f64>>,
        expected: Vec<f64>,
        tolerance: f64,
    ) -> Self {
        let sizes =
            sizes.iter().map(|(name, value)| (kiln_tensor::Symbol::new(name), *value)).collect();
        Case { kernel, sizes, inputs, expected, tolerance }
    }

    fn sizes_of(&self, operand: usize) -> Vec<usize> {
        let shape = &self.kernel.operands[operand].shape;
        shape.iter().map(|dim| dim.evaluate(&self.sizes).unwrap() as usize).collect()
    }

    fn params(&self) -> Vec<i64> {
        self.kernel.symbols.keys().map(|symbol| self.sizes[symbol]).collect()
    }

    /// The bound operands' bytes: inputs packed as the schedule says, outputs as garbage.
    fn memory(&self, schedule: &Schedule) -> Vec<Vec<u8>> {
        let mut memory = Vec::new();
        for (number, operand) in self.kernel.bound_operands() {
            let sizes = self.sizes_of(number);
            if operand.role == Role::Output {
                let elements: usize = sizes.iter().product();
                memory.push(vec![0x5a; elements * operand.dtype.size()]);
                continue;
            }
            let mut values = self.inputs[number].clone();
            if let Some(packing) = schedule.packing.iter().find(|p| p.operand == number) {
                values = pack(&values, &sizes, &packing.layout);
            }
            let tensor = Tensor::from_f64(operand.dtype, vec![values.len()], &values).unwrap();
            memory.push(tensor.bytes().to_vec());
        }
        memory
    }

    fn check(&self, how: &str, memory: &[Vec<u8>]) {
        let (number, operand) =
            self.kernel.bound_operands().find(|(_, o)| o.role == Role::Output).unwrap();
        let elements = memory[number].len() / operand.dtype.size();
        let found =
            Tensor::from_bytes(operand.dtype, vec![elements], &memory[number]).unwrap().to_f64();
        assert_eq!(found.len(), self.expected.len(), "{} {how}", self.kernel.name);
        for (place, (found, expected)) in found.iter().zip(&self.expected).enumerate() {
            let bound = self.tolerance * expected.abs().max(1.0);
            let close = (found - expected).abs() <= bound
                || found == expected
                || (found.is_nan() && expected.is_nan());
            assert!(
                close,
                "{} {how} {:?}: element {place} is {found}, not {expected}",
                self.kernel.name, self.sizes
            );
        }
    }

    /// The kernel's own definition gives the expected result, too.
    fn evaluate(&self) {
        let mut inputs = Vec::new();
        for (number, operand) in self.kernel.bound_operands() {
            if operand.role == Role::Input {
                let sizes = self.sizes_of(number);
                inputs.push(Tensor::from_f64(operand.dtype, sizes, &self.inputs[number]).unwrap());
            }
        }
        let outputs = kiln_ir::kernel::evaluate(&self.kernel, &self.sizes, &inputs).unwrap();
        let mut memory = vec![Vec::new(); inputs.len()];
        memory.extend(outputs.iter().map(|tensor| tensor.bytes().to_vec()));
        self.check("evaluated", &memory);
    }

    fn run(&self, schedule: &Schedule) {
        self.interpret(schedule);
        #[cfg(feature = "llvm")]
        self.compiled(schedule);
    }

    fn interpret(&self, schedule: &Schedule) {
        self.evaluate();
        let tasks = schedule.tasks(&self.kernel).evaluate(&self.sizes).unwrap();
        let host = Target::host().unwrap();
        let old = Target::named("x86-64-v2").unwrap();
        for (name, capabilities) in [
            ("full", Capabilities::full(&host)),
            ("narrow", Capabilities::narrow(&host)),
            ("old", Capabilities::full(&old)),
        ] {
            let nest = lower(&self.kernel, schedule, capabilities).unwrap();
            let mut memory = self.memory(schedule);
            // Two calls, as two threads would share the tasks.
            for (begin, end) in [(tasks / 2, tasks), (0, tasks / 2)] {
                interpret(&nest, &mut memory, &self.params(), begin, end).unwrap_or_else(|error| {
                    panic!("{} {name} {schedule:?}: {error}\n{nest}", self.kernel.name)
                });
            }
            self.check(&format!("interpreted, {name}, {schedule:?}"), &memory);
        }
    }

    #[cfg(feature = "llvm")]
    fn compiled(&self, schedule: &Schedule) {
        use kiln_backends::{CodeGenerator, Unit};
        let tasks = schedule.tasks(&self.kernel).evaluate(&self.sizes).unwrap();
        let unit = Unit { kernel: &self.kernel, schedule, symbol: "kernel" };
        let mut targets = vec![Target::host().unwrap()];
        // Every schedule on the host; the older instruction sets where there is little to compile.
        let older: &[&str] =
            if self.expected.len() < 300 { &["x86-64-v3", "x86-64-v2"] } else { &[] };
        for name in older {
            let target = Target::named(name).unwrap();
            if target.features.is_subset(&targets[0].features) {
                targets.push(target);
            }
        }
        for target in &targets {
            let object = kiln_backends::Llvm.compile(&[unit], target).unwrap();
            let code = kiln_runtime::loader::LoadedCode::load(&[&object.bytes]).unwrap();
            let function = code.entry("kernel").unwrap();
            let memory = self.memory(schedule);
            let mut tensors: Vec<Tensor> = memory
                .iter()
                .map(|bytes| Tensor::from_bytes(DType::U8, vec![bytes.len()], bytes).unwrap())
                .collect();
            let pointers: Vec<*mut u8> =
                tensors.iter_mut().map(|tensor| tensor.bytes_mut().as_mut_ptr()).collect();
            let bytes = schedule.scratch(&self.kernel).bytes.evaluate(&self.sizes).unwrap();
            let mut scratch = Tensor::zeros(DType::U8, vec![bytes as usize]).unwrap();
            scratch.bytes_mut().fill(0xa5);
            let params = self.params();
            for (begin, end) in [(tasks / 2, tasks), (0, tasks / 2)] {
                // SAFETY: buffers and scratch have the sizes that kernel and schedule ask for.
                unsafe {
                    function(
                        pointers.as_ptr(),
                        params.as_ptr(),
                        scratch.bytes_mut().as_mut_ptr(),
                        begin,
                        end,
                    );
                }
            }
            let memory: Vec<Vec<u8>> =
                tensors.iter().map(|tensor| tensor.bytes().to_vec()).collect();
            self.check(&format!("compiled for {}, {schedule:?}", target.cpu), &memory);
        }
    }
}

fn pack(values: &[f64], sizes: &[usize], layout: &PackedLayout) -> Vec<f64> {
    let part = |size: usize, part: Part| match part {
        Part::Whole => size,
        Part::Outer(block) => size.div_ceil(block as usize),
        Part::Inner(block) => block as usize,
    };
    let extents: Vec<usize> = layout.levels.iter().map(|(dim, p)| part(sizes[*dim], *p)).collect();
    let mut packed = vec![0.0; extents.iter().product()];
    for (number, value) in values.iter().enumerate() {
        let mut rest = number;
        let mut index = vec![0; sizes.len()];
        for dim in (0..sizes.len()).rev() {
            index[dim] = rest % sizes[dim];
            rest /= sizes[dim];
        }
        let mut place = 0;
        for ((dim, part), extent) in layout.levels.iter().zip(&extents) {
            let at = match part {
                Part::Whole => index[*dim],
                Part::Outer(block) => index[*dim] / *block as usize,
                Part::Inner(block) => index[*dim] % *block as usize,
            };
            place = place * extent + at;
        }
        packed[place] = *value;
    }
    packed
}

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
    let blocked = |operand, dim, block| Packing {
        operand,
        layout: PackedLayout {
            levels: vec![
                (dim, Part::Outer(block)),
                (1 - dim, Part::Whole),
                (dim, Part::Inner(block)),
            ],
        },
    };
    let mut both = one(&[28, 0], &[(1, 32), (0, 14), (2, 2)], Some((1, 16)));
    both.packing = vec![blocked(0, 0, 14), blocked(1, 1, 32)];
    let mut weights = one(&[0, 0], &[(1, 16), (0, 4)], Some((1, 4)));
    weights.packing = vec![blocked(1, 1, 16)];
    // Two register tiles share a panel.
    let mut narrower = one(&[0, 0], &[(1, 16), (0, 4)], Some((1, 8)));
    narrower.packing = vec![blocked(1, 1, 32)];
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
    for extents in [[5, 7, 3, 20], [1, 1, 1, 1], [4, 18, 5, 9]] {
        for symbolic in [false, true] {
            for schedule in &schedules {
                convolution_case(extents, symbolic).run(schedule);
            }
        }
    }
}

fn convolution_case([h, w, c, m]: [usize; 4], symbolic: bool) -> Case {
    let (x, k) = (numbers(h * w * c, 4), numbers(9 * c * m, 5));
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
            packing: Vec::new(),
        };
        for schedule in [
            Schedule::default(),
            all(stage(&[(1, 32)], Some((1, 16))), 2),
            all(stage(&[(0, 2), (1, 8)], Some((1, 4))), 0),
            all(stage(&[(0, 4)], Some((0, 4))), 4),
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

/// Arguments over a function's range, with its edges.
fn arguments(f: UnaryFn) -> Vec<f64> {
    use UnaryFn::*;
    let (low, high) = match f {
        Exp | Sigmoid | Silu => (-100.0, 88.0),
        Sinh | Cosh => (-88.0, 88.0),
        Log | Sqrt | Rsqrt => (0.0, 1e6),
        Asin | Acos | Atanh => (-0.999, 0.999),
        Acosh => (-1e4, 1e4),
        Sin | Cos => (-1000.0, 1000.0),
        Tan => (-1.5, 1.5),
        _ => (-12.0, 12.0),
    };
    let mut x: Vec<f64> =
        numbers(200, 10).iter().map(|x| low + (x + 1.0) / 2.0 * (high - low)).collect();
    x.extend(numbers(40, 11).iter().map(|x| (x * 1e-3).clamp(low, high)));
    x.extend([f64::NAN, low, high]);
    if !matches!(f, Sin | Cos | Tan | Asin | Acos | Acosh | Atanh) {
        x.extend([f64::INFINITY, 0.0]);
        if !matches!(f, Log | Sqrt | Rsqrt | Gelu | GeluTanh | Silu) {
            x.push(f64::NEG_INFINITY);
        }
    }
    x.iter().map(|x| f64::from(*x as f32)).collect()
}

/// 2/√π·e^(−x²)·Σ 2ⁿx²ⁿ⁺¹/(2n + 1)!!, whose terms all have one sign.
fn erf(x: f64) -> f64 {
    if x.abs() > 6.0 {
        return x.signum();
    }
    let (mut term, mut sum) = (x, x);
    for n in 1..200 {
        term *= 2.0 * x * x / f64::from(2 * n + 1);
        sum += term;
    }
    sum * (-x * x).exp() * 2.0 / std::f64::consts::PI.sqrt()
}

fn exact(f: UnaryFn, x: f64) -> Option<f64> {
    use UnaryFn::*;
    Some(match f {
        Neg => -x,
        Abs => x.abs(),
        Sign => {
            if x == 0.0 || x.is_nan() {
                x
            } else {
                x.signum()
            }
        }
        Exp => x.exp(),
        Log => x.ln(),
        Sqrt => x.sqrt(),
        Rsqrt => 1.0 / x.sqrt(),
        Reciprocal => 1.0 / x,
        Sin => x.sin(),
        Cos => x.cos(),
        Tan => x.tan(),
        Asin => x.asin(),
        Acos => x.acos(),
        Atan => x.atan(),
        Sinh => x.sinh(),
        Cosh => x.cosh(),
        Asinh => x.asinh(),
        Acosh => x.acosh(),
        Atanh => (x.ln_1p() - (-x).ln_1p()) / 2.0,
        Tanh => x.tanh(),
        Erf => erf(x),
        Sigmoid => 1.0 / (1.0 + (-x).exp()),
        Floor => x.floor(),
        Ceil => x.ceil(),
        Round => x.round_ties_even(),
        Relu => {
            if x < 0.0 {
                0.0
            } else {
                x
            }
        }
        Gelu => x * (1.0 + erf(x / std::f64::consts::SQRT_2)) / 2.0,
        GeluTanh => {
            let scale = (2.0 / std::f64::consts::PI).sqrt();
            x * (1.0 + (scale * (x + 0.044715 * x * x * x)).tanh()) / 2.0
        }
        Silu => x / (1.0 + (-x).exp()),
        IsNan => f64::from(u8::from(x.is_nan())),
        IsInf => f64::from(u8::from(x.is_infinite())),
        Not | BitNot => return None,
    })
}

#[test]
fn functions_are_as_precise_as_documented() {
    for (dtype, ulps) in [(DType::F32, 8.0), (DType::F64, 32.0)] {
        for f in UnaryFn::ALL {
            let x = arguments(f);
            let Some(expected) = x.iter().map(|x| exact(f, *x)).collect::<Option<Vec<f64>>>()
            else {
                continue;
            };
            let expected: Vec<f64> = match dtype {
                DType::F32 => expected.iter().map(|x| f64::from(*x as f32)).collect(),
                _ => expected,
            };
            let kernel = unary(f, dtype, "n");
            let sizes = [("n", x.len() as i64)];
            // The standard library's own atanh loses digits towards the ends.
            let ulps = if f == UnaryFn::Atanh { 64.0 } else { ulps };
            let tolerance = ulps * 2.0 * dtype.unit_roundoff();
            let case = Case::new(kernel, &sizes, vec![x], expected, tolerance);
            case.run(&one(&[64], &[(0, 32)], Some((0, 16))));
        }
    }
}

/// One function of two vectors.
fn binary(f: BinaryFn, dtype: DType, n: &str) -> Kernel {
    let mut finish = ScalarProgram::default();
    let (a, b) = (read(&mut finish, at(0, &[0]), dtype), read(&mut finish, at(1, &[0]), dtype));
    let y = finish.push(ScalarOp::Binary(f, a, b), dtype);
    finish.results.push(y);
    let mut kernel = Kernel {
        name: format!("{f:?}").to_lowercase(),
        symbols: Default::default(),
        operands: vec![
            operand("a", Role::Input, dtype, &[n]),
            operand("b", Role::Input, dtype, &[n]),
            operand("y", Role::Output, dtype, &[n]),
        ],
        outer: vec![axis("n", n, AxisKind::Parallel)],
        stages: vec![Stage {
            axes: Vec::new(),
            body: ScalarProgram::default(),
            combine: Vec::new(),
            finish,
            writes: vec![at(2, &[0])],
        }],
    };
    symbols(&mut kernel);
    kernel
}

/// Zeros, numbers at the ends of f32, and some between.
const SPECIAL: [f64; 24] = [
    0.0,
    -0.0,
    1.0,
    -1.0,
    0.5,
    -0.5,
    2.0,
    3.0,
    -3.0,
    1.5,
    0.1,
    0.37,
    255.0,
    -1e4,
    1e7,
    123456792.0,
    1e10,
    1e-30,
    1e-40,
    1e30,
    3.4e38,
    f64::INFINITY,
    f64::NEG_INFINITY,
    f64::NAN,
];

#[test]
fn powers_and_remainders_of_special_numbers_are_those_of_c() {
    let exact = |f: BinaryFn, a: f64, b: f64| match f {
        BinaryFn::Pow => a.powf(b),
        _ => a % b,
    };
    for dtype in [DType::F32, DType::F64] {
        let kept = |x: &f64| if dtype == DType::F32 { f64::from(*x as f32) } else { *x };
        for f in [BinaryFn::Pow, BinaryFn::Rem] {
            let numbers: Vec<f64> = SPECIAL.iter().map(kept).collect();
            let pairs = numbers.iter().flat_map(|&a| numbers.iter().map(move |&b| (a, b)));
            let (a, b): (Vec<f64>, Vec<f64>) = pairs.unzip();
            let expected = a.iter().zip(&b).map(|(&a, &b)| kept(&exact(f, a, b))).collect();
            let sizes = [("n", a.len() as i64)];
            let bound = if f == BinaryFn::Rem { 0.0 } else { 1e3 * dtype.unit_roundoff() };
            let case = Case::new(binary(f, dtype, "n"), &sizes, vec![a, b], expected, bound);
            case.run(&one(&[64], &[(0, 32)], Some((0, 16))));
        }
    }
}

#[test]
fn every_angle_of_f32_is_reduced() {
    let mut x: Vec<f64> = (0..120).map(|k| f64::from(1.37f32 * 2f32.powi(k))).collect();
    x.extend(x.clone().iter().map(|x| -x));
    x.extend([8191.9, 8192.0, 3.4028235e38, f64::INFINITY, f64::NEG_INFINITY, f64::NAN]);
    let x: Vec<f64> = x.iter().map(|x| f64::from(*x as f32)).collect();
    for f in [UnaryFn::Sin, UnaryFn::Cos, UnaryFn::Tan] {
        let expected = x.iter().filter_map(|x| exact(f, *x)).map(|y| f64::from(y as f32)).collect();
        let kernel = unary(f, DType::F32, "n");
        let sizes = [("n", x.len() as i64)];
        let tolerance = 16.0 * DType::F32.unit_roundoff();
        let case = Case::new(kernel, &sizes, vec![x.clone()], expected, tolerance);
        case.run(&one(&[64], &[(0, 32)], Some((0, 16))));
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
fn any_schedule(parallel: usize, reduction: usize, most: u64) -> impl Strategy<Value = Schedule> {
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
    let compile = || kiln_backends::Llvm.compile(&[unit], &target).unwrap();
    assert_eq!(compile(), compile());
}
