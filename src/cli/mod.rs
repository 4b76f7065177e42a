//! The subcommands, one file each.
//!
//! Invariant: a command does nothing that the library does not offer.

pub mod arguments;
mod bench;
mod calibrate;
mod check;
mod compile;
mod failure;
mod files;
mod inputs;
mod inspect;
mod model;
mod output;
mod peak;
mod preview;
mod progress;
mod run;
mod tune;
mod verify;

use arguments::{Arguments, Command};
use std::process::ExitCode;

/// Runs a command, whose files are apart and whose report can be written for all that is known before; the
/// exit code says how it went.
fn command(command: Command) -> miette::Result<ExitCode> {
    files::are_apart(&command)?;
    output::expected(match &command {
        Command::Run(arguments) => &arguments.common.report,
        Command::Compile(arguments) => &arguments.common.report,
        Command::Verify { report, .. } => report,
        Command::Inspect(arguments) => &arguments.common.report,
        Command::Bench(arguments) => &arguments.common.report,
        Command::Check(arguments) => &arguments.common.report,
        Command::Tune(arguments) => &arguments.common.report,
        Command::Calibrate(arguments) => &arguments.report,
        Command::Measure => return tune::measure(),
    })?;
    match command {
        Command::Run(arguments) => run::run(&arguments),
        Command::Compile(arguments) => compile::compile(&arguments),
        Command::Verify { file, report } => verify::verify(&file, &report),
        Command::Inspect(arguments) => inspect::inspect(&arguments),
        Command::Bench(arguments) => bench::bench(&arguments),
        Command::Check(arguments) => check::check(&arguments),
        Command::Tune(arguments) => tune::tune(&arguments),
        Command::Calibrate(arguments) => calibrate::calibrate(&arguments),
        Command::Measure => tune::measure(),
    }
}

pub fn main(arguments: Arguments) -> ExitCode {
    failure::install();
    match command(arguments.command) {
        Ok(code) => code,
        Err(report) => {
            // Nobody reads what a closed standard error would have got.
            let _ = std::io::Write::write_fmt(&mut std::io::stderr(), format_args!("{report:?}"));
            ExitCode::FAILURE
        }
    }
}
