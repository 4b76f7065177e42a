//! Machine code against the nest interpreter: same nest, same bytes in, same bytes out.
//!
//! Invariant: every operation, element and kind of statement that the translation knows is run on
//! this machine and compiled for the other architectures.

mod control;
mod memory;
mod operations;
mod refusals;

use super::isa::Isa;
use super::translate::translate;
use super::{NAME, object};
use crate::codegen::{CodegenError, Object};
use crate::nest::{
    Address, Block, Buffer, Element, Nest, Op, Place, Stmt, Store, Type, ValueId, interpret,
};
use crate::target::Target;
use cranelift_frontend::FunctionBuilderContext;
use kiln_runtime::loader::LoadedCode;
use kiln_tensor::{DType, Dim, Symbol};

/// Builds nests by hand.
#[derive(Default)]
struct Draft {
    types: Vec<Type>,
    buffers: Vec<Buffer>,
    params: Vec<Symbol>,
    body: Block,
}

fn draft() -> Draft {
    Draft::default()
}

impl Draft {
    /// A new value of a type, not yet defined.
    fn value(&mut self, ty: Type) -> ValueId {
        self.types.push(ty);
        ValueId(self.types.len() as u32 - 1)
    }

    fn op(&mut self, ty: Type, op: Op) -> ValueId {
        let value = self.value(ty);
        self.body.push(Stmt::Let(value, op));
        value
    }

    fn index(&mut self, value: i64) -> ValueId {
        self.op(Type::INDEX, Op::Constant(value as u64))
    }

    fn buffer(&mut self, dtype: DType, length: usize, written: bool) -> u32 {
        let number = self.buffers.len() as u32;
        self.buffers.push(Buffer {
            name: format!("b{number}"),
            dtype,
            length: Dim::from(length),
            place: Place::Bound { slot: number, written },
        });
        number
    }

    fn load(&mut self, ty: Type, buffer: u32, start: ValueId) -> ValueId {
        let address = Address::Contiguous(start);
        self.op(ty, Op::Load { buffer, address, mask: None })
    }

    fn store(&mut self, buffer: u32, start: ValueId, value: ValueId) {
        let address = Address::Contiguous(start);
        self.body.push(Stmt::Store(Store { buffer, address, value, mask: None }));
    }

    fn finish(self, name: &str) -> Nest {
        Nest {
            name: name.to_owned(),
            params: self.params,
            buffers: self.buffers,
            tasks: Dim::from(1usize),
            scratch: Dim::from(256usize),
            types: self.types,
            body: self.body,
        }
    }
}

/// Memory as the runtime gives it to kernels.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u8; 64]);

fn compile(nests: &[Nest], target: &Target) -> Result<Object, CodegenError> {
    let isa = Isa::new(target)?;
    let mut context = FunctionBuilderContext::new();
    let mut codes = Vec::new();
    for (number, nest) in nests.iter().enumerate() {
        let function = translate(nest, &isa, &mut context)?;
        codes.push(object::compile(function, &format!("f{number}"), &isa, false)?);
    }
    object::write(&codes, &isa)
}

/// Processors with all of x86's extensions, with few, and another architecture.
fn other_targets() -> Vec<Target> {
    let mut arm = Target::named("x86-64-v2").unwrap();
    arm.triple = "aarch64-unknown-linux-gnu".to_owned();
    arm.features.clear();
    vec![Target::named("x86-64-v2").unwrap(), Target::named("znver4").unwrap(), arm]
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
        let nests: Vec<Nest> =
            nests.iter().filter(|nest| target.has("fma") || !uses_fma(&nest.body)).cloned().collect();
        compile(&nests, &target).unwrap_or_else(|error| panic!("{}: {error}", target.triple));
    }
    let host = Target::host().unwrap();
    let mut runs: Vec<&Run> = runs.iter().collect();
    if !host.has("fma") {
        runs.retain(|run| !uses_fma(&run.nest.body));
    }
    let nests: Vec<Nest> = runs.iter().map(|run| run.nest.clone()).collect();
    let object = compile(&nests, &host).unwrap();
    let code = LoadedCode::load(&[&object.bytes]).unwrap();
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
        Stmt::Store(_) => false,
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

/// The same numbers on every run.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        // SplitMix64 (Steele, Lea, Flood 2014).
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    /// The bits of a number: often one at an edge, else any.
    fn bits(&mut self, element: Element) -> u64 {
        let any = self.next();
        let pick = self.below(4);
        match element {
            Element::Mask => any & 1,
            Element::F32 => {
                const EDGES: [f32; 18] = [
                    0.0, -0.0, 1.0, -1.0, 0.5, 1.5, 2.5, -2.5, 127.5, 300.0, -70000.0, 3e9, -3e9,
                    1e30, 1e-40, f32::INFINITY, f32::NEG_INFINITY, f32::NAN,
                ];
                let value = match pick {
                    0 => EDGES[self.below(EDGES.len())],
                    1 => f32::from_bits(any as u32),
                    _ => (any as i32 as f32) * 2f32.powi(self.below(40) as i32 - 40),
                };
                u64::from(value.to_bits())
            }
            Element::F64 => {
                const EDGES: [f64; 18] = [
                    0.0, -0.0, 1.0, -1.0, 0.5, 1.5, 2.5, -2.5, 127.5, 300.0, -70000.0, 5e9, -1e19,
                    1e300, 1e-310, f64::INFINITY, f64::NEG_INFINITY, f64::NAN,
                ];
                let value = match pick {
                    0 => EDGES[self.below(EDGES.len())],
                    1 => f64::from_bits(any),
                    _ => (any as i64 as f64) * 2f64.powi(self.below(80) as i32 - 80),
                };
                value.to_bits()
            }
            _ => {
                let width = element.bits();
                let keep = u64::MAX >> (64 - width);
                let edges = [0, 1, 2, keep, keep >> 1, (keep >> 1) + 1, keep - 1];
                match pick {
                    0 => edges[self.below(edges.len())],
                    1 => any % 32,
                    _ => any & keep,
                }
            }
        }
    }

    /// This many elements as they lie in memory.
    fn bytes(&mut self, element: Element, count: usize) -> Vec<u8> {
        let size = dtype_of(element).size();
        (0..count).flat_map(|_| self.bits(element).to_le_bytes()[..size].to_vec()).collect()
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
