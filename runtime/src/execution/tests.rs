//! Programs over hand-assembled kernels, so that nothing but the runtime is tested.
#![cfg(target_arch = "x86_64")]

use super::*;
use crate::model::{ModelError, Weights};
use kiln_program::{
    Architecture, Artefact, Buffer, BufferId, CodeVariant, Contents, Coverage, KernelEntry,
    Lifetime, Location, LoopStep, Partition, Port, Program, Step, WeightRange,
};
use kiln_tensor::{Bounds, DType, Dim, Storage, Symbol};
use object::write::{Object, StandardSection, SymbolSection};
use object::{BinaryFormat, Endianness, SymbolFlags, SymbolKind, SymbolScope};
use proptest::prelude::*;
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Kernels with their numbers of operands, and their parameters beside the number of tasks.
const KERNELS: [(&str, u32, &[&str], &[u8]); 3] = [
    // out[i] = in[i] + p
    // mov rax,[rdi]; mov rdx,[rdi+8]; mov r9,[rsi]; l: cmp rcx,r8; jge e; mov r10,[rax+rcx*8];
    // add r10,r9; mov [rdx+rcx*8],r10; inc rcx; jmp l; e: ret
    (
        "add",
        2,
        &["p"],
        &[
            0x48, 0x8b, 0x07, 0x48, 0x8b, 0x57, 0x08, 0x4c, 0x8b, 0x0e, 0x4c, 0x39, 0xc1, 0x7d,
            0x10, 0x4c, 0x8b, 0x14, 0xc8, 0x4d, 0x01, 0xca, 0x4c, 0x89, 0x14, 0xca, 0x48, 0xff,
            0xc1, 0xeb, 0xeb, 0xc3,
        ],
    ),
    // out[i] = address of scratch, which is written to
    // mov rax,[rdi]; l: cmp rcx,r8; jge e; mov [rdx],rcx; mov [rax+rcx*8],rdx; inc rcx; jmp l;
    // e: ret
    (
        "scratch",
        1,
        &[],
        &[
            0x48, 0x8b, 0x07, 0x4c, 0x39, 0xc1, 0x7d, 0x0c, 0x48, 0x89, 0x0a, 0x48, 0x89, 0x14,
            0xc8, 0x48, 0xff, 0xc1, 0xeb, 0xef, 0xc3,
        ],
    ),
    // out = in[0] < p
    // mov rax,[rdi]; mov rdx,[rdi+8]; mov rax,[rax]; cmp rax,[rsi]; setl [rdx]; ret
    (
        "less",
        2,
        &["p"],
        &[
            0x48, 0x8b, 0x07, 0x48, 0x8b, 0x57, 0x08, 0x48, 0x8b, 0x00, 0x48, 0x3b, 0x06, 0x0f,
            0x9c, 0x02, 0xc3,
        ],
    ),
];

fn code() -> Vec<CodeVariant> {
    let objects = vec![object(KERNELS.map(|(name, _, _, code)| (name, code)))];
    let partitions = KERNELS.map(|_| partition("tasks", "100")).to_vec();
    vec![CodeVariant { architecture: Architecture::X86_64, features: vec![], objects, partitions }]
}

fn partition(tasks: &str, scratch: &str) -> Partition {
    Partition { tasks: dim(tasks), scratch: dim(scratch) }
}

fn object<const N: usize>(functions: [(&str, &[u8]); N]) -> Vec<u8> {
    let mut object =
        Object::new(BinaryFormat::Elf, object::Architecture::X86_64, Endianness::Little);
    let text = object.section_id(StandardSection::Text);
    for (name, code) in functions {
        let id = object.add_symbol(object::write::Symbol {
            name: name.as_bytes().to_vec(),
            value: 0,
            size: 0,
            kind: SymbolKind::Text,
            scope: SymbolScope::Dynamic,
            weak: false,
            section: SymbolSection::Undefined,
            flags: SymbolFlags::None,
        });
        object.add_symbol_data(id, text, code, 16);
    }
    object.write().unwrap()
}

fn bound(symbol: Symbol, buffer: BufferId, element: u32) -> Step {
    Step::Bind { symbol, buffer, element, source: "bound".to_owned() }
}

/// Builds programs in a few words.
#[derive(Default)]
struct Builder(Program);

impl Builder {
    fn new() -> Self {
        let kernels = KERNELS.iter().map(|&(name, operands, params, _)| KernelEntry {
            name: name.to_owned(),
            symbol: name.to_owned(),
            operands,
            params: params.iter().chain(&["tasks"]).map(|name| Symbol::new(name)).collect(),
        });
        Builder(Program { kernels: kernels.collect(), ..Program::default() })
    }

    fn buffer(&mut self, dtype: DType, shape: &str, location: Location) -> BufferId {
        let dims = shape.split(',').filter(|dim| !dim.is_empty());
        let shape = dims.map(|dim| dim.parse().unwrap()).collect();
        self.0.buffers.push(Buffer { dtype, shape, location });
        BufferId(self.0.buffers.len() as u32 - 1)
    }

    fn input(&mut self, dtype: DType, shape: &str) -> BufferId {
        let number = self.0.inputs.len() as u32;
        let buffer = self.buffer(dtype, shape, Location::Input(number));
        self.0.inputs.push(Port { name: format!("in{number}"), buffer });
        buffer
    }

    fn arena(&mut self, dtype: DType, shape: &str) -> BufferId {
        self.buffer(dtype, shape, Location::Arena(Lifetime { first: 0, last: 1000 }))
    }

    fn output(&mut self, dtype: DType, shape: &str) -> BufferId {
        let number = self.0.outputs.len() as u32;
        let buffer = self.buffer(dtype, shape, Location::Output(number));
        self.yields(buffer);
        buffer
    }

    fn yields(&mut self, buffer: BufferId) {
        let number = self.0.outputs.len();
        self.0.outputs.push(Port { name: format!("out{number}"), buffer });
    }

    fn step(&mut self, step: Step) -> &mut Self {
        self.0.steps.push(step);
        self
    }

    fn load(self) -> Arc<LoadedModel> {
        Arc::new(LoadedModel::new(self.0, &code(), &weights()).unwrap())
    }

    fn session(self, threads: usize) -> Session {
        session(self.load(), threads)
    }
}

/// One constant: 100, 101.
fn weights() -> Weights {
    let bytes: Vec<u8> = [100i64, 101].iter().flat_map(|v| v.to_le_bytes()).collect();
    Weights::Pieces(BTreeMap::from([(0, Storage::copy_of(&bytes).unwrap())]))
}

const CONSTANT: Location = Location::Weights(WeightRange { offset: 0, length: 16 });

fn session(model: Arc<LoadedModel>, threads: usize) -> Session {
    Session::new(model, &SessionOptions { threads, ..SessionOptions::default() }).unwrap()
}

fn dim(text: &str) -> Dim {
    text.parse().unwrap()
}

/// A launch heavy enough for several threads.
fn launch(kernel: u32, operands: &[BufferId], param: Option<&str>, tasks: &str) -> Step {
    let (read, write) = (Coverage::Read, Coverage::Write);
    let last = operands.len() - 1;
    let coverage = |number: usize| if number == last { write } else { read };
    Step::Launch {
        kernel,
        operands: operands.iter().enumerate().map(|(n, &id)| (id, coverage(n))).collect(),
        params: param.into_iter().chain([tasks]).map(dim).collect(),
        flops: dim("1000000000"),
        bytes: dim("0"),
        source: format!("node_of_{}", KERNELS[kernel as usize].0),
    }
}

fn add(from: BufferId, to: BufferId, param: &str, tasks: &str) -> Step {
    launch(0, &[from, to], Some(param), tasks)
}

fn i64s(values: &[i64]) -> Tensor {
    Tensor::from_slice(vec![values.len()], values).unwrap()
}

fn flag(value: bool) -> Tensor {
    Tensor::from_bytes(DType::Bool, vec![], &[value.into()]).unwrap()
}

/// `y = (x + n) + 5` through the arena, and outputs that are no results of steps.
fn two_adds() -> Builder {
    let mut b = Builder::new();
    let x = b.input(DType::I64, "n");
    let t = b.arena(DType::I64, "n");
    let y = b.output(DType::I64, "n");
    let w = b.buffer(DType::I64, "2", CONSTANT);
    for also in [y, x, w, t] {
        b.yields(also);
    }
    b.step(add(x, t, "n", "n")).step(add(t, y, "5", "n"));
    b
}

#[test]
fn one_program_runs_at_every_size_and_number_of_threads() {
    let model = two_adds().load();
    for threads in [1, 2, 4] {
        let mut session = session(Arc::clone(&model), threads);
        for n in [3usize, 0, 1, 1000, 3, 1000] {
            let x: Vec<i64> = (0..n as i64).collect();
            let given = i64s(&x);
            let outputs = session.run(std::slice::from_ref(&given)).unwrap();
            let sum: Vec<i64> = x.iter().map(|v| v + n as i64).collect();
            let y: Vec<i64> = sum.iter().map(|v| v + 5).collect();
            let expected = [&y, &y, &x, &vec![100, 101], &sum];
            for (number, expected) in expected.into_iter().enumerate() {
                assert_eq!(outputs[number].as_slice::<i64>().unwrap(), expected, "{n} {number}");
            }
            assert_eq!(outputs[2].bytes().as_ptr(), given.bytes().as_ptr(), "not copied");
            assert_eq!(outputs[0].bytes().as_ptr(), outputs[1].bytes().as_ptr(), "shared");
        }
    }
}

#[test]
fn results_outlive_later_runs_and_sessions_run_side_by_side() {
    let model = two_adds().load();
    let mut first = session(Arc::clone(&model), 2);
    let before = first.run(&[i64s(&[1, 2])]).unwrap();
    first.run(&[i64s(&[8, 9])]).unwrap();
    assert_eq!(before[0].as_slice::<i64>().unwrap(), [8, 9]);
    std::thread::scope(|scope| {
        for k in 0..4i64 {
            let model = Arc::clone(&model);
            scope.spawn(move || {
                let mut session = session(model, 2);
                for _ in 0..200 {
                    let outputs = session.run(&[i64s(&[k; 50])]).unwrap();
                    assert_eq!(outputs[0].as_slice::<i64>().unwrap(), [k + 55; 50]);
                }
            });
        }
    });
}

#[test]
fn models_are_shared_and_sessions_move_between_threads() {
    fn shared<T: Send + Sync>() {}
    fn sent<T: Send>() {}
    shared::<LoadedModel>();
    sent::<Session>();
}

#[test]
fn kernels_move_to_better_code_while_sessions_live() {
    // As `add`, but for `sub r10,r9`.
    let mut code = KERNELS[0].3.to_vec();
    code[20] = 0x29;
    let better = object([("add", &code)]);
    let model = two_adds().load();
    let mut session = session(Arc::clone(&model), 2);
    let mut result = || {
        let outputs = session.run(&[i64s(&[100; 50])]).unwrap();
        (outputs[0].as_slice::<i64>().unwrap()[49], session.memory_use().scratch)
    };
    let (sum, scratch) = result();
    assert_eq!(sum, 155);

    let improve = |number, object: &[u8], partition| {
        model.improve(object, &[(number, partition)]).map_err(|error| error.to_string())
    };
    let cut_up = || partition("tasks", "1000");
    assert!(improve(7, &better, cut_up()).unwrap_err().contains("no kernel 7"));
    assert!(improve(1, &better, cut_up()).unwrap_err().contains("scratch"));
    assert!(improve(0, &better, partition("n", "0")).unwrap_err().contains("`n`"));
    assert!(improve(0, &better[1..], cut_up()).unwrap_err().contains("damaged"));
    assert_eq!(result(), (155, scratch));

    let size = model.code_size();
    improve(0, &better, cut_up()).unwrap();
    assert!(model.code_size() > size);
    let (difference, more) = result();
    assert!(difference == 45 && more > scratch, "{difference} {more}");
    // What was called stays.
    improve(0, &object([("add", KERNELS[0].3)]), cut_up()).unwrap();
    assert_eq!(result(), (45, more));
}

#[test]
fn traces_name_what_ran() {
    let mut session = two_adds().session(2);
    let mut seen = Vec::new();
    let mut trace = |record: &LaunchRecord<'_>| {
        assert!(record.duration > Duration::ZERO);
        seen.push(format!("{} {} {}", record.source, record.tasks, record.threads));
    };
    let options = RunOptions { trace: Some(&mut trace), ..RunOptions::default() };
    session.run_with(&[i64s(&[1, 2, 3])], options).unwrap();
    assert_eq!(seen, ["node_of_add 3 2", "node_of_add 3 2"]);
}

#[test]
fn each_thread_has_scratch_memory_of_its_own() {
    let mut b = Builder::new();
    b.input(DType::I64, "n");
    let y = b.output(DType::I64, "n");
    b.step(launch(1, &[y], None, "n"));
    let mut session = b.session(3);
    let outputs = session.run(&[i64s(&[0; 9])]).unwrap();
    // Who does how many of the tasks is not known.
    let addresses: BTreeSet<i64> = outputs[0].as_slice::<i64>().unwrap().iter().copied().collect();
    let distances = addresses.iter().zip(addresses.iter().skip(1)).map(|(a, b)| b - a);
    assert!(addresses.len() <= 3 && distances.min().is_none_or(|least| least >= 100));
    assert!(addresses.iter().all(|address| address % 64 == 0));
    assert_eq!(session.memory_use().scratch, 3 * 128);
}

#[test]
fn branches_run_one_side_and_ignore_what_is_impossible_on_the_other() {
    let mut b = Builder::new();
    let x = b.input(DType::I64, "n");
    let condition = b.input(DType::Bool, "");
    let y = b.output(DType::I64, "n");
    let small = b.arena(DType::I64, "n - 3");
    b.step(Step::Branch {
        condition,
        then: vec![add(x, small, "1", "n - 3"), add(x, y, "10", "n")],
        otherwise: vec![add(x, y, "20", "n")],
    });
    let mut session = b.session(1);
    let mut first = |x: &[i64], condition| {
        session.run(&[i64s(x), flag(condition)]).map(|y| y[0].as_slice::<i64>().unwrap()[0])
    };
    assert_eq!(first(&[1, 2, 3, 4], true), Ok(11));
    assert_eq!(first(&[1, 2, 3, 4], false), Ok(21));
    assert_eq!(first(&[1, 2], false), Ok(21), "n - 3 is negative, but not used");
    let message = first(&[1, 2], true).unwrap_err().to_string();
    assert!(message.contains("node_of_add") && message.contains("-1"), "{message}");
}

/// `while x < limit { x += 3 }`, stacking each new x.
fn counting(limit: &str, trip: BufferId, b: &mut Builder) -> BufferId {
    let start = b.input(DType::I64, "1");
    let x = b.arena(DType::I64, "1");
    let next = b.arena(DType::I64, "1");
    let condition = b.arena(DType::Bool, "1");
    let iteration = b.arena(DType::I64, "");
    let stacked = b.output(DType::I64, "count, 1");
    b.yields(x);
    let less = || launch(2, &[x, condition], Some(limit), "1");
    b.step(Step::Copy { from: start, to: x }).step(less());
    b.step(Step::Loop(Box::new(LoopStep {
        trip,
        condition,
        iteration,
        body: vec![add(x, next, "3", "1"), Step::Copy { from: next, to: x }, less()],
        scans: vec![(stacked, next)],
        count: Some(Symbol::new("count")),
        source: "loop".into(),
    })));
    iteration
}

#[test]
fn loops_stop_by_condition_or_count_and_stack_what_they_made() {
    let mut b = Builder::new();
    let trip = b.input(DType::I64, "");
    counting("10", trip, &mut b);
    let mut session = b.session(1);
    let cases: [(i64, i64, &[i64], i64); 5] = [
        (i64::MAX, 2, &[5, 8, 11], 11),
        (2, 2, &[5, 8], 8),
        (0, 2, &[], 2),
        (-1, 2, &[], 2),
        (9, 50, &[], 50),
    ];
    for (trip, start, stacked, last) in cases {
        let inputs = [Tensor::scalar(trip).unwrap(), i64s(&[start])];
        let outputs = session.run(&inputs).unwrap();
        assert_eq!(outputs[0].sizes(), [stacked.len(), 1]);
        assert_eq!(outputs[0].as_slice::<i64>().unwrap(), stacked);
        assert_eq!(outputs[1].as_slice::<i64>().unwrap(), [last]);
    }
}

#[test]
fn iterations_stack_if_they_have_one_shape_and_none_stack_to_nothing() {
    let mut b = Builder::new();
    let trip = b.input(DType::I64, "");
    let condition = b.input(DType::Bool, "");
    let iteration = b.arena(DType::I64, "");
    let element = b.arena(DType::I64, "k");
    let stacked = b.output(DType::I64, "count, k");
    let k = Symbol::new("k");
    b.step(Step::Loop(Box::new(LoopStep {
        trip,
        condition,
        iteration,
        body: vec![bound(k, iteration, 0)],
        scans: vec![(stacked, element)],
        count: Some(Symbol::new("count")),
        source: "repeats".into(),
    })));
    let mut session = b.session(1);
    let mut run = |trip: i64| {
        session.run(&[
            Tensor::scalar(trip).unwrap(),
            Tensor::from_bytes(DType::Bool, vec![], &[1]).unwrap(),
        ])
    };
    assert_eq!(run(0).unwrap()[0].sizes(), [0, 0]);
    assert_eq!(run(1).unwrap()[0].sizes(), [1, 0]);
    let node = "repeats".to_owned();
    assert_eq!(run(2), Err(RunError::Stack { node, first: vec![0], other: vec![1] }));
}

#[test]
fn endless_loops_end() {
    let mut b = Builder::new();
    let trip = b.input(DType::I64, "");
    counting("9223372036854775807", trip, &mut b);
    let model = b.load();
    let inputs = [Tensor::scalar(i64::MAX).unwrap(), i64s(&[0])];
    let run = |options: &SessionOptions, cancel: &AtomicBool| {
        let mut session = Session::new(Arc::clone(&model), options).unwrap();
        let options = RunOptions { cancel: Some(cancel), trace: None };
        session.run_with(&inputs, options).unwrap_err()
    };
    let never = AtomicBool::new(false);
    let base = || SessionOptions { threads: 1, ..SessionOptions::default() };
    let short = SessionOptions { loop_limit: 1000, ..base() };
    assert_eq!(run(&short, &never), RunError::LoopLimit(1000));
    let small = SessionOptions { memory_limit: Some(1 << 20), ..base() };
    assert!(matches!(run(&small, &never), RunError::MemoryLimit { .. }));
    let long = SessionOptions { loop_limit: u64::MAX, ..base() };
    let cancel = AtomicBool::new(false);
    let error = std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(20));
            cancel.store(true, std::sync::atomic::Ordering::Relaxed);
        });
        run(&long, &cancel)
    });
    assert_eq!(error, RunError::Cancelled);
}

/// A size that the program computes: `m = x[0] + 1`, then `y = sizes(m) + m`.
fn computed_size() -> Builder {
    let mut b = Builder::new();
    b.0.symbols.insert(Symbol::new("m"), Bounds { min: 1, max: Some(1000) });
    let x = b.input(DType::I64, "n");
    let size = b.arena(DType::I64, "1");
    let t = b.arena(DType::I64, "m");
    let y = b.output(DType::I64, "m");
    b.step(add(x, size, "1", "1"));
    b.step(bound(Symbol::new("m"), size, 0));
    b.step(Step::CheckEqual { left: dim("m"), right: dim("n"), source: "checked".to_owned() });
    b.step(add(x, t, "m", "m")).step(add(t, y, "0", "m"));
    b
}

#[test]
fn sizes_that_the_run_computes_place_buffers_and_outputs() {
    let mut session = computed_size().session(2);
    for m in [5i64, 5, 2, 900, 5] {
        let mut x: Vec<i64> = (0..m).collect();
        x[0] = m - 1;
        let outputs = session.run(&[i64s(&x)]).unwrap();
        let expected: Vec<i64> = x.iter().map(|v| v + m).collect();
        assert_eq!(outputs[0].as_slice::<i64>().unwrap(), expected);
        assert_eq!(session.memory_use().outputs, 8 * m as u64);
    }
    let error = |session: &mut Session, x: &[i64]| session.run(&[i64s(x)]).unwrap_err();
    let message = error(&mut session, &[7, 0]).to_string();
    assert_eq!(message, "node `checked`: m = 8 and n = 2 must be equal");
    assert!(matches!(error(&mut session, &[1000]), RunError::OutOfBounds { value: 1001, .. }));
    assert!(matches!(error(&mut session, &[-5]), RunError::OutOfBounds { value: -4, .. }));
}

#[test]
fn a_computed_size_may_not_contradict_the_inputs() {
    let mut b = computed_size();
    b.input(DType::Bool, "m");
    let mut session = b.session(1);
    let mask = |m| Tensor::zeros(DType::Bool, vec![m]).unwrap();
    let outputs = session.run(&[i64s(&[1, 5]), mask(2)]).unwrap();
    assert_eq!(outputs[0].as_slice::<i64>().unwrap(), [3, 7]);
    let error = session.run(&[i64s(&[1, 5]), mask(3)]).unwrap_err();
    let (node, symbol) = ("bound".to_owned(), Symbol::new("m"));
    assert_eq!(error, RunError::Contradiction { node, symbol, value: 3, computed: 2 });
}

#[test]
fn sizes_can_be_written_to_memory() {
    let mut b = Builder::new();
    b.input(DType::F32, "n, m");
    let y = b.output(DType::I64, "3");
    b.step(Step::Sizes { buffer: y, dims: vec![dim("n"), dim("m"), dim("n*m - 1")] });
    let outputs = b.session(1).run(&[Tensor::zeros(DType::F32, vec![3, 4]).unwrap()]).unwrap();
    assert_eq!(outputs[0].as_slice::<i64>().unwrap(), [3, 4, 11]);
}

#[test]
fn copies_check_their_sizes() {
    let mut b = Builder::new();
    let (x, y) = (b.input(DType::I64, "n"), b.output(DType::I64, "2"));
    b.step(Step::Copy { from: x, to: y });
    let mut session = b.session(1);
    assert_eq!(session.run(&[i64s(&[4, 5])]).unwrap()[0].as_slice::<i64>().unwrap(), [4, 5]);
    let error = session.run(&[i64s(&[4])]).unwrap_err();
    assert!(matches!(error, RunError::Bytes { from: 8, to: 16, .. }), "{error}");
}

#[test]
fn memory_is_known_before_the_run_and_limited() {
    let model = two_adds().load();
    let options = SessionOptions { threads: 1, memory_limit: Some(10_000), ..Default::default() };
    let mut session = Session::new(model, &options).unwrap();
    let planned = session.plan_memory(&[vec![100]]).unwrap();
    assert_eq!(planned, MemoryUse { arena: 832, scratch: 128, outputs: 800 });
    session.run(&[i64s(&[0; 100])]).unwrap();
    assert_eq!(session.memory_use(), planned);
    let error = session.run(&[i64s(&[0; 1000])]).unwrap_err();
    assert!(matches!(error, RunError::MemoryLimit { limit: 10_000, .. }), "{error}");
    // Shapes that no memory holds.
    for n in [1 << 40, 1 << 59] {
        let planned = session.plan_memory(&[vec![n]]);
        assert!(planned.is_err() || planned.unwrap().total() > 1 << 40, "{n}");
    }
}

#[test]
fn models_without_fitting_code_are_refused() {
    let mut variants = code();
    variants[0].features = vec!["avx4096".to_owned()];
    let error = LoadedModel::new(two_adds().0, &variants, &weights()).unwrap_err();
    assert!(error.to_string().contains("code that needs avx4096"), "{error}");
    // The first version that fits is taken.
    variants.extend(code());
    assert!(LoadedModel::new(two_adds().0, &variants, &weights()).is_ok());

    let mut program = two_adds().0;
    program.kernels[0].symbol = "missing".to_owned();
    let error = LoadedModel::new(program, &code(), &weights()).unwrap_err();
    assert!(matches!(error, ModelError::Code(_)), "{error}");
    let none = Weights::Pieces(BTreeMap::new());
    let error = LoadedModel::new(two_adds().0, &code(), &none).unwrap_err();
    assert!(matches!(error, ModelError::Program(_)), "{error}");
}

/// A model whose control flow depends on its weights.
fn artefact_bytes() -> Vec<u8> {
    let mut b = Builder::new();
    let w = b.buffer(DType::I64, "2", CONSTANT);
    let trip = b.buffer(DType::I64, "", Location::Weights(WeightRange { offset: 64, length: 8 }));
    let x = b.input(DType::I64, "n");
    let size = b.arena(DType::I64, "2");
    let y = b.output(DType::I64, "m");
    b.step(add(w, size, "n", "2"));
    b.step(bound(Symbol::new("m"), size, 1));
    b.step(add(x, y, "0", "min(n, m)"));
    counting("1000", trip, &mut b);
    let weights = [(0u64, [100i64, 101].as_slice()), (64, &[3])].map(|(offset, values)| {
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        (WeightRange { offset, length: bytes.len() as u64 }, Cow::Owned(bytes))
    });
    let (code, notes) = (code(), BTreeMap::new());
    let contents = Contents { program: &b.0, code: &code, notes: &notes };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.kiln");
    kiln_program::write(&path, contents, weights).unwrap();
    assert!(LoadedModel::open(&path).is_ok());
    std::fs::read(path).unwrap()
}

fn run_artefact(bytes: Vec<u8>) -> Result<Result<Vec<Tensor>, RunError>, ModelError> {
    let artefact = Artefact::from_bytes(Arc::new(bytes))?;
    let model = Arc::new(LoadedModel::from_artefact(&artefact)?);
    let options =
        SessionOptions { threads: 1, memory_limit: Some(64 << 20), ..SessionOptions::default() };
    let mut session = Session::new(model, &options).unwrap();
    Ok(session.run(&[i64s(&[1, 2, 3]), i64s(&[0])]))
}

#[test]
fn artefacts_run_in_place() {
    let outputs = run_artefact(artefact_bytes()).unwrap().unwrap();
    assert_eq!(outputs[0].sizes(), [104]);
    assert_eq!(outputs[1].as_slice::<i64>().unwrap(), [3, 6, 9]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    /// A damaged file is an error, or (inside the weights, which are not checked on loading) a run
    /// that ends; it is never a crash.
    #[test]
    fn damaged_artefacts_never_crash(
        place in any::<prop::sample::Index>(),
        // Near the end are the weights, which would else be met rarely.
        in_weights in any::<bool>(),
        flip in 1u8..,
        cut in prop::bool::weighted(0.2),
    ) {
        thread_local! {
            static SOUND: Vec<u8> = artefact_bytes();
        }
        let mut bytes = SOUND.with(Clone::clone);
        let weights = bytes.len() - 72;
        let place = match in_weights {
            true => weights + place.index(72),
            false => place.index(weights),
        };
        if cut {
            bytes.truncate(place);
            prop_assert!(run_artefact(bytes).is_err());
        } else {
            bytes[place] ^= flip;
            prop_assert_eq!(run_artefact(bytes).is_ok(), in_weights);
        }
    }
}
