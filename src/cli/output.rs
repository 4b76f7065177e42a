//! Standard output and the JSON report.
//!
//! Invariant: a reader that closes the pipe early ends the program quietly, as it does for other
//! tools.

use super::arguments::ReportArguments;
use super::failure;
use miette::{Result, miette};
use serde::Serialize;
use std::fs::OpenOptions;
use std::io::{self, ErrorKind, Write};
use std::path::Path;

/// Writes a line to standard output.
pub fn line(text: impl AsRef<str>) {
    let mut out = io::stdout().lock();
    if let Err(error) = writeln!(out, "{}", text.as_ref().trim_end_matches('\n')) {
        if error.kind() == ErrorKind::BrokenPipe {
            std::process::exit(0);
        }
        note(format!("cannot write to standard output: {error}"));
        std::process::exit(1);
    }
}

/// Writes a line to standard error: what is said beside the results.
pub fn note(text: impl AsRef<str>) {
    // If nobody listens, nothing is lost that was asked for.
    let _ = writeln!(io::stderr().lock(), "{}", text.as_ref());
}

/// An error where no report can be written as it was asked for: before anything is computed for it.
pub fn expected(arguments: &ReportArguments) -> Result<()> {
    let file = arguments.json.as_deref().filter(|file| *file != Path::new("-"));
    file.map_or(Ok(()), place)
}

/// An error where no file can be.
pub fn place(file: &Path) -> Result<()> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
    if let Some(folder) = folder.filter(|folder| !folder.is_dir()) {
        return Err(miette!(
            code = "cli/output",
            help = "make the folder, or give a file in another one",
            "{}: there is no folder {}",
            file.display(),
            folder.display()
        ));
    }
    if file.is_dir() {
        let help = "give the name of a file in it";
        return Err(miette!(code = "cli/output", help = help, "{} is a folder", file.display()));
    }
    writable(file).map_err(|error| failure::io(file, error))
}

/// An error where a file cannot be written; nothing of it is changed, and others may ask at the same time.
fn writable(file: &Path) -> io::Result<()> {
    match file.metadata() {
        // Opening a pipe would wait for its reader.
        Ok(about) if about.is_file() => OpenOptions::new().append(true).open(file).map(drop),
        Ok(_) => Ok(()),
        Err(_) => {
            // Another name in the folder: this one may appear at any time.
            let beside = file.with_extension(format!("kiln-{}", std::process::id()));
            OpenOptions::new().write(true).create_new(true).open(&beside)?;
            std::fs::remove_file(beside)
        }
    }
}

/// Writes the machine-readable report if one was asked for.
pub fn json(arguments: &ReportArguments, report: &impl Serialize) -> Result<()> {
    let Some(file) = &arguments.json else { return Ok(()) };
    let mut text = serde_json::to_string_pretty(report)
        .map_err(|error| failure::io(file, io::Error::other(error)))?;
    text.push('\n');
    if file == Path::new("-") {
        line(text);
        return Ok(());
    }
    std::fs::write(file, text).map_err(|error| failure::io(file, error))
}

/// Whether the JSON report takes standard output for itself.
pub fn is_taken(arguments: &ReportArguments) -> bool {
    arguments.json.as_deref() == Some(Path::new("-"))
}

/// `1.5 MB`
pub fn bytes(count: u64) -> String {
    let units = ["B", "kB", "MB", "GB", "TB"];
    let mut value = count as f64;
    let mut unit = 0;
    while value >= 1000.0 && unit + 1 < units.len() {
        value /= 1000.0;
        unit += 1;
    }
    if unit == 0 { format!("{count} B") } else { format!("{value:.1} {}", units[unit]) }
}
