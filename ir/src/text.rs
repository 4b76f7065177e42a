//! The text form of graphs, `.kir`: printed for people, parsed for tests.
//!
//! Invariant: parsing what [`print()`] printed gives an equal graph, and no text makes the parser
//! panic.
//!
//! ```text
//! graph "model" {
//!   symbols batch: 0..
//!   %0 "x": f32[batch, 2] = input
//!   %1: f32[2] = Constant [0.5, -1]
//!   %2: f32[batch, 2] = Binary(f: Add) %0, %1 from "layer/add"
//!   return %2 as "y"
//! }
//! ```
//!
//! Attributes are in Rusty Object Notation. Bodies follow the operands as nested graphs. Values
//! may have any name after `%`, and their types may be left out, except for inputs and constants.
//! Constants too large for a line are `Constant data 0`, with the bytes at the end of the text as
//! `data 0 "…"` in base64.

mod constant;
mod dot;
mod error;
mod parse;
mod print;
mod scan;

pub use dot::{Cluster, Drawing, draw};
pub use error::{ParseError, ParseErrorKind};
pub use parse::{parse, parse_operation};
pub use print::{abbreviate, print, print_operation};

/// How attributes are written: as `Unary(f: Relu)`.
fn attribute_notation() -> ron::Options {
    use ron::extensions::Extensions;
    ron::Options::default()
        .with_default_extension(Extensions::UNWRAP_VARIANT_NEWTYPES | Extensions::IMPLICIT_SOME)
}

/// Bodies nested deeper than any model's, at which the parser stops.
const MOST_NESTED: usize = 32;

#[cfg(test)]
mod tests;
