//! The command line of Kiln.
//!
//! Invariant: results go to standard output, everything else to standard error; the exit code is 0
//! for success, 1 for failure and 2 for misuse.

mod cli;

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main(cli::arguments::Arguments::parse())
}
