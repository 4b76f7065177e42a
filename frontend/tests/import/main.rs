//! The importer: what operators mean, how bodies are built, what is reported.
//!
//! Invariant: models are written as text, and what is expected of them stands beside them.

mod control;
mod hostile;
mod operators;
mod random;
mod reports;
mod sizes;
mod table;
mod written;
