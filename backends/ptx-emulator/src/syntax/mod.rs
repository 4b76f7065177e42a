//! PTX text as declarations and statements.
//!
//! Invariant: names of registers and variables are resolved in the scope they stand in; labels, functions and
//! variables of the module are not, since they may be declared later.

mod body;
mod lexer;
mod operand;
mod parser;
mod types;

pub(crate) use body::{Body, Statement};
pub(crate) use operand::{Operand, Special};
pub(crate) use parser::parse;
pub(crate) use types::{Type, low_bits, sign_extend};

/// Where a declared variable lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Storage {
    Global,
    Constant,
    Shared,
    Local,
    Parameter,
}

/// A place in an initialiser that holds the address of another variable.
#[derive(Clone, Debug)]
pub(crate) struct Relocation {
    pub offset: u64,
    pub name: String,
    pub addend: i64,
}

/// A declared variable.
#[derive(Clone, Debug)]
pub(crate) struct Variable {
    pub name: String,
    pub storage: Storage,
    pub align: u64,
    /// Bytes; 0 where the declaration leaves them open (`[]`).
    pub size: u64,
    pub open: bool,
    pub initial: Option<Vec<u8>>,
    pub relocations: Vec<Relocation>,
    pub scope: u32,
    pub line: u32,
}

/// A kernel or a function.
#[derive(Clone, Debug)]
pub(crate) struct Function {
    pub name: String,
    pub entry: bool,
    pub returns: Vec<Variable>,
    pub parameters: Vec<Variable>,
    /// `.maxntid`, as a product.
    pub max_threads: Option<u32>,
    /// `.reqntid`.
    pub required: Option<[u32; 3]>,
    /// `.reqnctapercluster`.
    pub cluster: Option<[u32; 3]>,
    pub body: Option<Body>,
    pub line: u32,
}

/// A whole text.
#[derive(Clone, Debug, Default)]
pub(crate) struct Source {
    pub target: String,
    pub variables: Vec<Variable>,
    pub functions: Vec<Function>,
}
