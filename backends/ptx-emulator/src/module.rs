//! Modules: parsed text, ready to be launched any number of times.
//!
//! Invariant: every kernel of a module was decoded as a whole, so a launch cannot meet an unknown instruction.

use crate::decode::{Names, lower};
use crate::error::ParseError;
use crate::instruction::Instruction;
use crate::syntax::{self, Relocation, Storage};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A parameter of a kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// Its name.
    pub name: String,
    /// Offset in the parameters' memory.
    pub offset: u64,
    /// Bytes.
    pub bytes: u64,
    /// Alignment.
    pub align: u64,
}

/// What is known of a kernel before it is launched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelInfo {
    /// Its name.
    pub name: String,
    /// Its parameters.
    pub parameters: Vec<Parameter>,
    /// Bytes of shared memory that its variables take.
    pub static_shared: u64,
    /// Bytes of local memory a thread.
    pub local_bytes: u64,
    /// Threads that a block may have at most (`.maxntid`, `.reqntid`), if the text says it.
    pub max_threads: Option<u32>,
    /// Blocks of a cluster that the text demands (`.reqnctapercluster`).
    pub cluster: Option<[u32; 3]>,
    /// Instructions after inlining.
    pub instructions: usize,
}

/// A variable of the module in device memory.
#[derive(Clone, Debug)]
pub(crate) struct Symbol {
    pub name: String,
    pub constant: bool,
    pub size: u64,
    pub initial: Option<Vec<u8>>,
    pub relocations: Vec<Relocation>,
}

/// A kernel that can be executed.
#[derive(Clone, Debug)]
pub(crate) struct Kernel {
    pub name: String,
    pub parameters: Vec<Parameter>,
    pub parameter_bytes: u64,
    pub max_threads: Option<u32>,
    pub required: Option<[u32; 3]>,
    pub cluster: Option<[u32; 3]>,
    pub static_shared: u64,
    pub dynamic_align: u64,
    pub local_bytes: u64,
    pub registers: usize,
    pub register_names: Vec<String>,
    pub opcodes: Vec<String>,
    pub code: Vec<Instruction>,
    pub uses_wgmma: bool,
}

/// A parsed text.
#[derive(Clone, Debug)]
pub struct Module {
    pub(crate) kernels: Arc<Vec<Kernel>>,
    pub(crate) symbols: Arc<Vec<Symbol>>,
    /// Tells modules from each other on a device.
    pub(crate) identity: u64,
    target: String,
}

static NEXT: AtomicU64 = AtomicU64::new(0);

impl Module {
    /// Parses a text and decodes its kernels.
    pub fn parse(text: &str) -> Result<Module, ParseError> {
        let source = syntax::parse(text)?;
        let mut symbols = Vec::new();
        let mut by_name = HashMap::new();
        for variable in &source.variables {
            if variable.storage == Storage::Shared {
                continue;
            }
            if variable.open {
                let what = variable.name.clone();
                return Err(ParseError::unsupported(
                    variable.line,
                    what,
                    "a variable without size",
                ));
            }
            by_name.insert(variable.name.as_str(), symbols.len() as u32);
            symbols.push(Symbol {
                name: variable.name.clone(),
                constant: variable.storage == Storage::Constant,
                size: variable.size,
                initial: variable.initial.clone(),
                relocations: variable.relocations.clone(),
            });
        }
        // A declaration may come before its definition.
        let mut functions = HashMap::new();
        for function in &source.functions {
            if function.body.is_some() || !functions.contains_key(function.name.as_str()) {
                functions.insert(function.name.as_str(), function);
            }
        }
        let names = Names { source: &source, functions, symbols: by_name, globals: &symbols };
        let mut kernels = Vec::new();
        for function in source.functions.iter().filter(|f| f.entry && f.body.is_some()) {
            kernels.push(lower(&names, function)?);
        }
        let target = source.target.clone();
        Ok(Module {
            kernels: Arc::new(kernels),
            symbols: Arc::new(symbols),
            identity: NEXT.fetch_add(1, Ordering::Relaxed),
            target,
        })
    }

    /// What `.target` says.
    pub fn target(&self) -> &str {
        &self.target
    }

    /// The kernels, in the order of the text.
    pub fn kernels(&self) -> Vec<KernelInfo> {
        let info = |k: &Kernel| KernelInfo {
            name: k.name.clone(),
            parameters: k.parameters.clone(),
            static_shared: k.static_shared,
            local_bytes: k.local_bytes,
            max_threads: k.required.map(|r| r.iter().product()).or(k.max_threads),
            cluster: k.cluster,
            instructions: k.code.len(),
        };
        self.kernels.iter().map(info).collect()
    }
}
