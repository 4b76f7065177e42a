//! From statements to instructions: functions are inlined, labels become places in one list.
//!
//! Invariant: a call is a copy of what it calls, with registers of its own, so that a kernel has one flat program
//! counter and no stack; recursion, and calls by address, are refused.

mod bits;
mod bulk;
mod comparison;
mod control;
mod convert;
mod float;
mod integer;
mod matrix;
mod memory;
mod operands;
mod target;
mod warp;
mod words;

pub(crate) use bits::insert;
pub(crate) use integer::reduction;
pub(crate) use operands::Decoder;

use crate::error::ParseError;
use crate::instruction::{Guard, Instruction, Operation, Source, Window};
use crate::module::{Kernel, Parameter, Symbol};
use crate::syntax::{self, Body, Function, Operand, Statement, Storage, Variable};
use std::collections::{BTreeMap, HashMap};
use words::Words;

/// Instructions of a kernel.
const MAX_CODE: usize = 1 << 20;
/// Registers of a kernel, those of inlined calls among them.
const MAX_REGISTERS: u32 = 1 << 18;
/// Calls within calls.
const MAX_DEPTH: usize = 32;
/// Bytes of local memory of a thread (PTX ISA: 512 KiB).
const MAX_LOCAL: u64 = 512 << 10;
/// Where a block's shared variables begin: below is what the system reserves on sm_90, so that an address of 0 is
/// never that of a variable.
pub(crate) const SHARED_START: u64 = 1024;
/// Where a thread's local variables begin.
pub(crate) const LOCAL_START: u64 = 16;

/// Where a variable is: an address of its window, or the start of dynamic shared memory.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Location {
    At(Window, u64),
    Symbol(Window, u32),
    Dynamic,
}

/// What is known of a module while its kernels are lowered.
pub(crate) struct Names<'a> {
    pub source: &'a syntax::Source,
    pub functions: HashMap<&'a str, &'a Function>,
    pub symbols: HashMap<&'a str, u32>,
    pub globals: &'a [Symbol],
}

/// A kernel that is being lowered.
pub(crate) struct Lowering<'a> {
    names: &'a Names<'a>,
    code: Vec<Instruction>,
    registers: u32,
    register_names: Vec<String>,
    opcodes: BTreeMap<String, u16>,
    local: u64,
    shared: u64,
    dynamic_align: u64,
    shared_at: HashMap<String, u64>,
    /// Functions that are being inlined.
    open: Vec<&'a str>,
    carry: Option<u32>,
    uses_wgmma: bool,
}

/// A body that is being copied.
pub(crate) struct Frame<'a> {
    pub body: &'a Body,
    /// Number of its first register.
    pub first: u32,
    locations: Vec<Location>,
    parameters: HashMap<&'a str, Location>,
    entry: bool,
}

fn align_up(value: u64, align: u64) -> u64 {
    value.div_ceil(align) * align
}

/// Offsets of parameters, and their bytes in all.
pub(crate) fn lay_out(parameters: &[Variable]) -> (Vec<Parameter>, u64) {
    let mut at = 0;
    let list = parameters
        .iter()
        .map(|p| {
            let offset = align_up(at, p.align);
            at = offset + p.size;
            Parameter { name: p.name.clone(), offset, bytes: p.size, align: p.align }
        })
        .collect();
    (list, at)
}

/// A kernel from its declaration.
pub(crate) fn lower<'a>(
    names: &'a Names<'a>,
    function: &'a Function,
) -> Result<Kernel, ParseError> {
    let (parameters, parameter_bytes) = lay_out(&function.parameters);
    // The PTX ISA allows 4,352 bytes, 32,764 from sm_70 on.
    if parameter_bytes > 32764 {
        return Err(ParseError::TooLarge {
            line: function.line,
            what: "bytes of parameters",
            limit: 32764,
        });
    }
    let mut lowering = Lowering {
        names,
        code: Vec::new(),
        registers: 0,
        register_names: Vec::new(),
        opcodes: BTreeMap::new(),
        local: LOCAL_START,
        shared: SHARED_START,
        dynamic_align: 16,
        shared_at: HashMap::new(),
        open: Vec::new(),
        carry: None,
        uses_wgmma: false,
    };
    let at = function
        .parameters
        .iter()
        .zip(&parameters)
        .map(|(p, laid)| (p.name.as_str(), Location::At(Window::Parameter, laid.offset)))
        .collect();
    lowering.inline(function, at, true)?;
    lowering.push(Operation::Exit, None, function.line, "exit")?;
    let mut opcodes = vec![String::new(); lowering.opcodes.len()];
    for (name, number) in lowering.opcodes {
        opcodes[number as usize] = name;
    }
    Ok(Kernel {
        name: function.name.clone(),
        parameters,
        parameter_bytes,
        max_threads: function.max_threads,
        required: function.required,
        cluster: function.cluster,
        static_shared: lowering.shared - SHARED_START,
        dynamic_align: lowering.dynamic_align,
        local_bytes: lowering.local,
        registers: lowering.registers as usize,
        register_names: lowering.register_names,
        opcodes,
        code: lowering.code,
        uses_wgmma: lowering.uses_wgmma,
    })
}

impl<'a> Lowering<'a> {
    fn push(
        &mut self,
        operation: Operation,
        guard: Option<Guard>,
        line: u32,
        opcode: &str,
    ) -> Result<(), ParseError> {
        if self.code.len() >= MAX_CODE {
            return Err(ParseError::TooLarge {
                line,
                what: "instructions",
                limit: MAX_CODE as u64,
            });
        }
        let next = self.opcodes.len();
        let opcode = match self.opcodes.get(opcode) {
            Some(known) => *known,
            None => {
                let number = u16::try_from(next).map_err(|_| ParseError::TooLarge {
                    line,
                    what: "opcodes",
                    limit: 1 << 16,
                })?;
                self.opcodes.insert(opcode.to_owned(), number);
                number
            }
        };
        self.code.push(Instruction { operation, guard, line, opcode });
        Ok(())
    }

    fn new_registers(
        &mut self,
        count: u32,
        line: u32,
        name: impl Fn(u32) -> String,
    ) -> Result<u32, ParseError> {
        let first = self.registers;
        if count > MAX_REGISTERS - first {
            let limit = u64::from(MAX_REGISTERS);
            return Err(ParseError::TooLarge { line, what: "registers", limit });
        }
        self.registers += count;
        self.register_names.extend((0..count).map(name));
        Ok(first)
    }

    /// The number of the target: 90 of `sm_90a`.
    pub fn generation(&self) -> u32 {
        let digits = |c: char| !c.is_ascii_digit();
        self.names.source.target.trim_matches(digits).parse().unwrap_or(0)
    }

    /// Whether the target is one whose features no other has: `sm_90a`.
    pub fn is_specific(&self) -> bool {
        self.names.source.target.ends_with('a')
    }

    /// The register of the carry flag.
    fn carry_flag(&mut self, line: u32) -> Result<u32, ParseError> {
        match self.carry {
            Some(register) => Ok(register),
            None => {
                let register = self.new_registers(1, line, |_| String::from("CC.CF"))?;
                self.carry = Some(register);
                Ok(register)
            }
        }
    }

    fn place_local(&mut self, variable: &Variable) -> Result<Location, ParseError> {
        let at = align_up(self.local, variable.align);
        self.local = at.saturating_add(variable.size);
        if self.local > MAX_LOCAL {
            let line = variable.line;
            return Err(ParseError::TooLarge {
                line,
                what: "bytes of local memory",
                limit: MAX_LOCAL,
            });
        }
        Ok(Location::At(Window::Local, at))
    }

    fn place_shared(&mut self, variable: &Variable, key: String) -> Location {
        if variable.open {
            self.dynamic_align = self.dynamic_align.max(variable.align);
            return Location::Dynamic;
        }
        if let Some(at) = self.shared_at.get(&key) {
            return Location::At(Window::Shared, *at);
        }
        let at = align_up(self.shared, variable.align);
        self.shared = at + variable.size;
        self.shared_at.insert(key, at);
        Location::At(Window::Shared, at)
    }

    /// Where a variable of the module is.
    pub fn module_variable(&mut self, name: &str) -> Option<Location> {
        let names = self.names;
        if let Some(symbol) = names.symbols.get(name) {
            let window = match names.globals.get(*symbol as usize)?.constant {
                true => Window::Constant,
                false => Window::Global,
            };
            return Some(Location::Symbol(window, *symbol));
        }
        let shared = |v: &&Variable| v.storage == Storage::Shared && v.name == name;
        let variable = names.source.variables.iter().find(shared)?;
        Some(self.place_shared(variable, name.to_owned()))
    }

    /// Copies the body of a function to the end of the code.
    fn inline(
        &mut self,
        function: &'a Function,
        parameters: HashMap<&'a str, Location>,
        entry: bool,
    ) -> Result<(), ParseError> {
        let Some(body) = &function.body else {
            let what = format!("call {}", function.name);
            return Err(ParseError::unsupported(function.line, what, "a function without body"));
        };
        if self.open.contains(&function.name.as_str()) || self.open.len() >= MAX_DEPTH {
            let what = format!("call {}", function.name);
            return Err(ParseError::unsupported(
                function.line,
                what,
                "recursion, or calls too deep",
            ));
        }
        self.open.push(&function.name);
        let first = self.new_registers(body.registers, function.line, |i| body.register_name(i))?;
        let mut locations = Vec::with_capacity(body.variables.len());
        for (i, variable) in body.variables.iter().enumerate() {
            locations.push(match variable.storage {
                Storage::Local | Storage::Parameter => self.place_local(variable)?,
                Storage::Shared => self.place_shared(variable, format!("{} {i}", function.name)),
                Storage::Global | Storage::Constant => {
                    return Err(ParseError::unsupported(
                        variable.line,
                        &variable.name,
                        "in a function",
                    ));
                }
            });
            if self.shared > 1 << 30 {
                return Err(ParseError::TooLarge {
                    line: variable.line,
                    what: "bytes of shared memory",
                    limit: 1 << 30,
                });
            }
        }
        let frame = Frame { body, first, locations, parameters, entry };
        let begin = self.code.len();
        let mut starts = Vec::with_capacity(body.statements.len() + 1);
        for statement in &body.statements {
            starts.push(self.code.len() as u32);
            self.statement(&frame, statement)?;
        }
        starts.push(self.code.len() as u32);
        self.open.pop();
        // Targets of this body are numbers of statements still; those of calls within it were resolved before.
        let mut statement = 0;
        for at in begin..self.code.len() {
            while statement + 1 < body.statements.len() && starts[statement + 1] as usize <= at {
                statement += 1;
            }
            if is_call(&body.statements[statement]) {
                continue;
            }
            match &mut self.code[at].operation {
                Operation::Branch { target } => *target = starts[*target as usize],
                Operation::BranchIndex { targets, .. } => {
                    targets.iter_mut().for_each(|target| *target = starts[*target as usize]);
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn statement(&mut self, frame: &Frame<'a>, statement: &'a Statement) -> Result<(), ParseError> {
        let guard = statement
            .guard
            .map(|g| Guard { register: frame.first + g.register, negated: g.negated });
        if is_call(statement) {
            return self.call(frame, statement);
        }
        let words = Words::new(statement);
        let mut decoder = Decoder { lowering: self, frame, statement, words };
        decoder.check_target()?;
        let operation = decoder.decode()?;
        decoder.words.finish()?;
        let opcode = opcode(statement);
        if matches!(operation, Operation::Wgmma(_)) {
            self.uses_wgmma = true;
        }
        self.push(operation, guard, statement.line, &opcode)
    }

    fn call(&mut self, frame: &Frame<'a>, statement: &'a Statement) -> Result<(), ParseError> {
        let line = statement.line;
        if statement.guard.is_some() {
            return Err(ParseError::unsupported(line, "call", "a guarded call"));
        }
        let mut lists = Vec::new();
        let mut callee = None;
        for operand in &statement.operands {
            match operand {
                Operand::List(parts) => lists.push(parts),
                Operand::Name(name) if callee.is_none() => callee = Some((name, lists.len())),
                Operand::Register(_) => {
                    return Err(ParseError::unsupported(line, "call", "a call by address"));
                }
                _ => return Err(ParseError::malformed(line, "this is no call")),
            }
        }
        let Some((name, before)) = callee else {
            return Err(ParseError::malformed(line, "the call names no function"));
        };
        let Some(function) = self.names.functions.get(name.as_str()).copied() else {
            return Err(ParseError::unsupported(
                line,
                format!("call {name}"),
                "it is not defined here",
            ));
        };
        let empty = Vec::new();
        let returned = if before > 0 { lists[0] } else { &empty };
        let given = lists.get(before).copied().unwrap_or(&empty);
        let formal = function.returns.iter().chain(&function.parameters);
        if returned.len() != function.returns.len() || given.len() != function.parameters.len() {
            return Err(ParseError::malformed(line, format!("`{name}` has other parameters")));
        }
        let mut at = HashMap::new();
        for (formal, actual) in formal.zip(returned.iter().chain(given)) {
            let Operand::Variable(variable) = actual else {
                return Err(ParseError::unsupported(line, "call", "an argument that is no .param"));
            };
            let declared = frame.body.variables.get(*variable as usize);
            let location = frame.locations.get(*variable as usize);
            let (Some(declared), Some(location)) = (declared, location) else { continue };
            if declared.size < formal.size {
                return Err(ParseError::malformed(
                    line,
                    format!("`{}` is too small", declared.name),
                ));
            }
            at.insert(formal.name.as_str(), *location);
        }
        self.push(Operation::Nothing, None, line, "call")?;
        self.inline(function, at, false)
    }
}

fn is_call(statement: &Statement) -> bool {
    statement.name == "call"
}

/// What an instruction is counted as: its name, and its state space, its type or what else tells it from others.
fn opcode(statement: &Statement) -> String {
    let modifiers = &statement.modifiers;
    let mut out = statement.name.clone();
    let mut add = |word: &str| {
        out.push('.');
        out.push_str(word);
    };
    match statement.name.as_str() {
        "cp" => {
            let known =
                ["async", "bulk", "tensor", "reduce", "prefetch", "commit_group", "wait_group"];
            modifiers.iter().take_while(|m| known.contains(&m.as_str())).for_each(|m| add(m));
        }
        "ld" | "st" | "atom" | "red" => {
            let space = |m: &&String| {
                let stem = m.split("::").next().unwrap_or("");
                matches!(stem, "global" | "shared" | "local" | "param" | "const")
            };
            add(modifiers
                .iter()
                .find(space)
                .map_or("generic", |m| m.split("::").next().unwrap_or("")));
        }
        _ => {
            let last = modifiers.last().filter(|m| syntax::Type::parse(m).is_some());
            if let Some(word) = last.or(modifiers.first()) {
                add(word);
            }
        }
    }
    out
}

impl Frame<'_> {
    /// Whether `ret` ends the thread.
    pub fn is_entry(&self) -> bool {
        self.entry
    }
}

/// The operand of a location.
pub(crate) fn address(location: Location, offset: i64) -> (Source, Window) {
    match location {
        Location::At(window, at) => (Source::Immediate(at.wrapping_add(offset as u64)), window),
        Location::Symbol(window, symbol) => (Source::Symbol(symbol, offset), window),
        Location::Dynamic => (Source::Dynamic(offset), Window::Shared),
    }
}
