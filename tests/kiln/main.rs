//! Tests of the whole: one program, so that it is linked once.
//!
//! Invariant: no test here needs anything fetched; those of real models are in `tests/models.rs`.

mod architecture;
mod calibrate;
mod command_line;
mod damage;
mod library;
mod ranks;
mod schedules;
mod small;
mod tune;
