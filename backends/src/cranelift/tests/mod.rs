//! Machine code against the nest interpreter: same nest, same bytes in, same bytes out.
//!
//! Invariant: every operation, element and kind of statement that the translation knows is run on
//! this machine and compiled for the other architectures.

mod control;
mod draft;
mod memory;
mod numbers;
mod operations;
mod refusals;

use super::isa::Isa;
use super::translate::translate;
use super::{NAME, object};
use crate::codegen::{CodegenError, Object};
use crate::nest::{Block, Element, Nest, Op, Stmt, Type, interpret};
use crate::target::Target;
use cranelift_frontend::FunctionBuilderContext;
use draft::draft;
use kiln_runtime::loader::LoadedCode;
use kiln_tensor::DType;

/// Memory as the runtime gives it to kernels.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u8; 64]);

fn compile(nests: &[Nest], target: &Target) -> Result<Vec<Object>, CodegenError> {
    let isa = Isa::new(target)?;
    let mut context = FunctionBuilderContext::new();
    let object = |(number, nest): (usize, &Nest)| {
        let function = translate(nest, &isa, &mut context)?;
        object::write(&object::compile(function, &format!("f{number}"), &isa, false)?, &isa)
    };
    nests.iter().enumerate().map(object).collect()
}

/// Processors with all of x86's extensions, with few, and another architecture.
fn other_targets() -> Vec<Target> {
    ["x86-64-v2", "znver4", "armv8-a"].map(|name| Target::named(name).unwrap()).to_vec()
}

/// A nest with what it is run on.
struct Run {
    nest: Nest,
    buffers: Vec<Vec<u8>>,
    params: Vec<i64>,
    tasks: [i64; 2],
    /// Element of each buffer by which bytes are compared: floats by value, so that any NaN equals
    /// any NaN and, where the nest leaves it open, −0 equals 0.
    compare: Vec<(Element, bool)>,
}

impl Run {
    /// Compared bit by bit, but for NaN in buffers of floats.
    fn new(nest: Nest, buffers: Vec<Vec<u8>>) -> Self {
        let compare = nest.buffers.iter().map(|buffer| (element_of(buffer.dtype), false));
        let compare = compare.collect();
        Run { nest, buffers, params: Vec::new(), tasks: [0, 1], compare }
    }
}

/// Checks that machine code and interpreter agree on every run.
fn check(runs: &[Run]) {
    let nests: Vec<Nest> = runs.iter().map(|run| run.nest.clone()).collect();
    for target in other_targets() {
        let nests: Vec<Nest> = nests
            .iter()
            .filter(|nest| target.fuses_multiply_add() || !uses_fma(&nest.body))
            .cloned()
            .collect();
        compile(&nests, &target).unwrap_or_else(|error| panic!("{}: {error}", target.triple));
    }
    let host = Target::host().unwrap();
    let mut runs: Vec<&Run> = runs.iter().collect();
    if !host.fuses_multiply_add() {
        runs.retain(|run| !uses_fma(&run.nest.body));
    }
    let nests: Vec<Nest> = runs.iter().map(|run| run.nest.clone()).collect();
    let objects = compile(&nests, &host).unwrap();
    let bytes: Vec<&[u8]> = objects.iter().map(|object| &object.bytes[..]).collect();
    let code = LoadedCode::load(&bytes).unwrap();
    for (number, run) in runs.iter().enumerate() {
        let mut expected = run.buffers.clone();
        interpret(&run.nest, &mut expected, &run.params, run.tasks[0], run.tasks[1])
            .unwrap_or_else(|error| panic!("{error}\n{}", run.nest));
        let actual = execute(&code, &format!("f{number}"), run);
        for (slot, (expected, actual)) in expected.iter().zip(&actual).enumerate() {
            let (element, lax) = run.compare[slot];
            compare(expected, actual, element, lax)
                .unwrap_or_else(|lane| panic!("buffer {slot}, {lane}\n{}", run.nest));
        }
    }
}

fn uses_fma(block: &Block) -> bool {
    block.iter().any(|statement| match statement {
        Stmt::Let(_, op) => matches!(op, Op::Fma(..)),
        Stmt::Store(_) | Stmt::Prefetch { .. } => false,
        Stmt::For(l) => uses_fma(&l.body),
        Stmt::If(branch) => uses_fma(&branch.then) || uses_fma(&branch.otherwise),
    })
}

/// Runs a function on copies of the buffers, and checks that it wrote nowhere else.
fn execute(code: &LoadedCode, symbol: &str, run: &Run) -> Vec<Vec<u8>> {
    const MARK: u8 = 0x5c;
    let mut memory: Vec<Vec<Line>> = run
        .buffers
        .iter()
        .map(|bytes| {
            let mut lines = vec![Line([MARK; 64]); bytes.len() / 64 + 3];
            as_bytes(&mut lines)[64..64 + bytes.len()].copy_from_slice(bytes);
            lines
        })
        .collect();
    let pointers: Vec<*mut u8> =
        memory.iter_mut().map(|lines| as_bytes(lines)[64..].as_mut_ptr()).collect();
    let mut scratch = vec![Line([0xa5; 64]); 1 << 10];
    let function = code.entry(symbol).unwrap();
    // SAFETY: the function was compiled from this nest, which the interpreter has run on buffers of
    // these sizes without leaving them; the code is alive.
    unsafe {
        function(
            pointers.as_ptr(),
            run.params.as_ptr(),
            scratch.as_mut_ptr().cast(),
            run.tasks[0],
            run.tasks[1],
        );
    }
    let mut after = Vec::new();
    for (slot, lines) in memory.iter_mut().enumerate() {
        let length = run.buffers[slot].len();
        let bytes = as_bytes(lines);
        let outside = bytes[..64].iter().chain(&bytes[64 + length..]);
        assert!(outside.into_iter().all(|byte| *byte == MARK), "{}: wrote outside", run.nest);
        after.push(bytes[64..64 + length].to_vec());
    }
    after
}

fn as_bytes(lines: &mut [Line]) -> &mut [u8] {
    lines.as_flattened_mut_bytes()
}

trait Flatten {
    fn as_flattened_mut_bytes(&mut self) -> &mut [u8];
}

impl Flatten for [Line] {
    fn as_flattened_mut_bytes(&mut self) -> &mut [u8] {
        let length = std::mem::size_of_val(self);
        // SAFETY: lines are bytes without padding, and any byte is valid.
        unsafe { std::slice::from_raw_parts_mut(self.as_mut_ptr().cast(), length) }
    }
}

/// Compares element by element; gives the first difference.
fn compare(expected: &[u8], actual: &[u8], element: Element, lax: bool) -> Result<(), String> {
    let size = (element.bits() / 8).max(1) as usize;
    for (number, (a, b)) in expected.chunks(size).zip(actual.chunks(size)).enumerate() {
        let equal = match element {
            Element::F32 => {
                let [a, b] = [a, b].map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap()));
                a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan() || lax && a == b
            }
            Element::F64 => {
                let [a, b] = [a, b].map(|bytes| f64::from_le_bytes(bytes.try_into().unwrap()));
                a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan() || lax && a == b
            }
            _ => a == b,
        };
        if !equal {
            return Err(format!("element {number}: expected {a:x?}, got {b:x?}"));
        }
    }
    Ok(())
}

/// An element type in memory of an element in registers.
fn dtype_of(element: Element) -> DType {
    match element {
        Element::Mask => DType::Bool,
        Element::I8 => DType::I8,
        Element::I16 => DType::I16,
        Element::I32 => DType::I32,
        Element::I64 => DType::I64,
        Element::F32 => DType::F32,
        Element::F64 => DType::F64,
    }
}

fn element_of(dtype: DType) -> Element {
    match (dtype, dtype.size()) {
        (DType::F32, _) => Element::F32,
        (DType::F64, _) => Element::F64,
        (_, 1) => Element::I8,
        (_, 2) => Element::I16,
        (_, 4) => Element::I32,
        _ => Element::I64,
    }
}

#[test]
fn equal_nests_give_equal_bytes() {
    let mut nest = draft();
    let buffer = nest.buffer(DType::F32, 4, true);
    let zero = nest.index(0);
    let value = nest.load(Type::new(Element::F32, 4), buffer, zero);
    nest.store(buffer, zero, value);
    let nests = [nest.finish("copy")];
    let target = Target::named("haswell").unwrap();
    assert_eq!(compile(&nests, &target), compile(&nests, &target));
    assert_eq!(NAME, crate::codegen::CodeGenerator::name(&super::Cranelift));
}
