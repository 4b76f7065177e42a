//! The text form of a nest.
//!
//! Invariant: shows every statement and the type of every value, one statement a line.

use super::{Address, Block, Chosen, Nest, Op, Place, Stmt, Type, ValueId};
use std::fmt;

impl fmt::Display for ValueId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "%{}", self.0)
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let element = format!("{:?}", self.element).to_lowercase();
        match self.lanes {
            1 => write!(f, "{element}"),
            lanes => write!(f, "{element}x{lanes}"),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Contiguous(start) => write!(f, "[{start}]"),
            Address::Strided(start, stride) => write!(f, "[{start} by {stride}]"),
            Address::Scattered(offsets) => write!(f, "[each {offsets}]"),
        }
    }
}

impl fmt::Display for Nest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "nest {}(", self.name)?;
        for (number, param) in self.params.iter().enumerate() {
            write!(f, "{}{param}", if number == 0 { "" } else { ", " })?;
        }
        writeln!(f, ") tasks {} scratch {} {{", self.tasks, self.scratch)?;
        for buffer in &self.buffers {
            write!(f, "  buffer {}: {}[{}] ", buffer.name, buffer.dtype, buffer.length)?;
            match &buffer.place {
                Place::Bound { slot, written: false } => writeln!(f, "= read {slot}")?,
                Place::Bound { slot, written: true } => writeln!(f, "= write {slot}")?,
                Place::Scratch { start } => writeln!(f, "= scratch from {start}")?,
            }
        }
        self.block(f, &self.body, 1)?;
        writeln!(f, "}}")
    }
}

impl Nest {
    fn block(&self, f: &mut fmt::Formatter<'_>, block: &Block, depth: usize) -> fmt::Result {
        let indent = "  ".repeat(depth);
        for statement in block {
            match statement {
                Stmt::Let(value, op) => {
                    write!(f, "{indent}{value}")?;
                    if let Some(ty) = self.type_of(*value) {
                        write!(f, ": {ty}")?;
                    }
                    write!(f, " = ")?;
                    self.op(f, op)?;
                    writeln!(f)?;
                }
                Stmt::Store(store) => {
                    let name = self.buffer_name(store.buffer);
                    write!(f, "{indent}{name}{} = {}", store.address, store.value)?;
                    if let Some(mask) = store.mask {
                        write!(f, " where {mask}")?;
                    }
                    writeln!(f)?;
                }
                Stmt::Prefetch { buffer, place, .. } => {
                    writeln!(f, "{indent}prefetch {}[{place}]", self.buffer_name(*buffer))?;
                }
                Stmt::For(l) => {
                    write!(
                        f,
                        "{indent}for {} = {} to {} step {}",
                        l.variable, l.from, l.to, l.step
                    )?;
                    for carried in &l.carried {
                        write!(f, ", {} = {}", carried.inside, carried.initial)?;
                    }
                    writeln!(f, " {{")?;
                    self.block(f, &l.body, depth + 1)?;
                    write!(f, "{indent}}}")?;
                    for (number, carried) in l.carried.iter().enumerate() {
                        let lead = if number == 0 { " gives" } else { "," };
                        write!(f, "{lead} {} = {}", carried.result, carried.next)?;
                    }
                    writeln!(f)?;
                }
                Stmt::If(branch) => {
                    writeln!(f, "{indent}if {} {{", branch.condition)?;
                    self.block(f, &branch.then, depth + 1)?;
                    writeln!(f, "{indent}}} else {{")?;
                    self.block(f, &branch.otherwise, depth + 1)?;
                    write!(f, "{indent}}}")?;
                    for (number, chosen) in branch.chosen.iter().enumerate() {
                        let lead = if number == 0 { " gives" } else { "," };
                        let Chosen { then, otherwise, result } = chosen;
                        write!(f, "{lead} {result} = {then} or {otherwise}")?;
                    }
                    writeln!(f)?;
                }
            }
        }
        Ok(())
    }

    fn buffer_name(&self, number: u32) -> &str {
        self.buffers.get(number as usize).map_or("?", |buffer| &buffer.name)
    }

    fn op(&self, f: &mut fmt::Formatter<'_>, op: &Op) -> fmt::Result {
        match op {
            Op::Begin => write!(f, "begin"),
            Op::End => write!(f, "end"),
            Op::Param(number) => match self.params.get(*number as usize) {
                Some(symbol) => write!(f, "param {symbol}"),
                None => write!(f, "param {number}"),
            },
            Op::Constant(bits) => write!(f, "constant {bits:#x}"),
            Op::Splat(a) => write!(f, "splat {a}"),
            Op::LaneNumbers => write!(f, "lanes"),
            Op::FirstLanes(a) => write!(f, "first {a}"),
            Op::Load { buffer, address, mask } => {
                write!(f, "{}{address}", self.buffer_name(*buffer))?;
                match mask {
                    Some(mask) => write!(f, " where {mask}"),
                    None => Ok(()),
                }
            }
            Op::Unary(function, a) => write!(f, "{function:?} {a}"),
            Op::Binary(function, a, b) => write!(f, "{function:?} {a}, {b}"),
            Op::Fma(a, b, c) => write!(f, "Fma {a}, {b}, {c}"),
            Op::Repeat(a) => write!(f, "repeat {a}"),
            Op::Dot { sum, unsigned, signed } => write!(f, "dot {unsigned}, {signed}, {sum}"),
            Op::Compare(predicate, a, b) => write!(f, "{predicate:?} {a}, {b}"),
            Op::Select(c, a, b) => write!(f, "select {c}, {a}, {b}"),
            Op::Convert(conversion, a) => write!(f, "{conversion:?} {a}"),
            Op::Reduce(function, a) => write!(f, "reduce {function:?} {a}"),
        }
    }
}
