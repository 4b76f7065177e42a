//! The emulator from outside: text in, memory or a fault out.
//!
//! Invariant: expected values come from the PTX ISA or from plain arithmetic beside the test, never from the emulator.

mod aligned;
mod arithmetic;
mod asynchronous;
mod bench;
mod compiled;
mod control;
mod elements;
mod faults;
mod launcher;
mod malformed;
mod matrix;
mod memory;
mod races;
mod tensors;
mod vector;
mod warps;
mod wgmma;
