//! What the passes make of graphs: alone, together, and whether results stay the same.
//!
//! Invariant: numbers are compared with the reference evaluation of the graph that went in.

mod book;
mod build;
mod bytes;
mod constants;
mod families;
mod filetests;
mod form;
mod images;
mod instance;
mod interpreter;
mod listing;
mod metamorphic;
mod moves;
mod networks;
mod picture;
mod pipeline;
mod plan;
mod rules;
mod simplify;
mod structure;
mod subnormal;
mod tasks;
mod unify;
mod whole;
mod winograd;
