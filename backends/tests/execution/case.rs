//! A kernel with inputs and expected results, interpreted and compiled under a schedule.
//!
//! Invariant: every case is also evaluated by the kernel's own definition.

use kiln_backends::Target;
use kiln_backends::nest::{Capabilities, interpret, lower};
use kiln_ir::kernel::{Kernel, Role};
use kiln_ir::schedule::{LoopLevel, PackedLayout, Part, Schedule, StageSchedule, VectorAxis};
use kiln_tensor::{SymbolValues, Tensor};

/// Deterministic numbers in −1..1.
pub(crate) fn numbers(count: usize, seed: u64) -> Vec<f64> {
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

pub(crate) fn stage(loops: &[(usize, u64)], vector: Option<(usize, u32)>) -> StageSchedule {
    StageSchedule {
        loops: loops.iter().map(|&(axis, step)| LoopLevel { axis, step }).collect(),
        vector: vector.map(|(axis, lanes)| VectorAxis { axis, lanes }),
    }
}

pub(crate) fn one(task: &[u64], loops: &[(usize, u64)], vector: Option<(usize, u32)>) -> Schedule {
    Schedule { task: task.to_vec(), stages: vec![stage(loops, vector)], ..Schedule::default() }
}

/// A kernel with sizes and inputs.
pub(crate) struct Case {
    pub(crate) kernel: Kernel,
    pub(crate) sizes: SymbolValues,
    pub(crate) inputs: Vec<Vec<f64>>,
    pub(crate) expected: Vec<f64>,
    pub(crate) tolerance: f64,
}

impl Case {
    pub(crate) fn new(
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

    pub(crate) fn run(&self, schedule: &Schedule) {
        self.interpret(schedule);
        #[cfg(feature = "llvm")]
        self.compiled(schedule);
    }

    pub(crate) fn interpret(&self, schedule: &Schedule) {
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
        use crate::launch::launch;
        use kiln_backends::{CodeGenerator, Unit};
        use kiln_tensor::DType;
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
            let objects = kiln_backends::Llvm.compile(&[unit], target).unwrap();
            let code = kiln_runtime::loader::LoadedCode::load(&[&objects[0].bytes]).unwrap();
            let memory = self.memory(schedule);
            let mut tensors: Vec<Tensor> = memory
                .iter()
                .map(|bytes| Tensor::from_bytes(DType::U8, vec![bytes.len()], bytes).unwrap())
                .collect();
            let scratch = schedule.scratch(&self.kernel).bytes.evaluate(&self.sizes).unwrap();
            let calls = [(tasks / 2, tasks), (0, tasks / 2)];
            launch(&code, "kernel", &mut tensors, &self.params(), scratch as usize, &calls);
            let memory: Vec<Vec<u8>> =
                tensors.iter().map(|tensor| tensor.bytes().to_vec()).collect();
            self.check(&format!("compiled for {}, {schedule:?}", target.cpu), &memory);
        }
    }
}

pub(crate) fn pack(values: &[f64], sizes: &[usize], layout: &PackedLayout) -> Vec<f64> {
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
