//! Errors as a person sees them: what went wrong, its code, and what would help.
//!
//! Invariant: a library error is shown with its own code and help, nothing is reworded here.

use kiln::Error;
use miette::{Diagnostic, MietteHandlerOpts, Report, miette};
use std::fmt::{self, Display};
use std::path::Path;

/// Lines are not broken: messages name nodes and files that people search for.
pub fn install() {
    // It can only fail if somebody else installed one before, and nobody does.
    let _ = miette::set_hook(Box::new(|_| {
        Box::new(MietteHandlerOpts::new().wrap_lines(false).terminal_links(false).build())
    }));
}

/// A library error with the model that it is about.
#[derive(Debug)]
struct Failure {
    file: Option<String>,
    error: Error,
}

impl Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.file {
            Some(file) => write!(f, "{file}: {}", self.error),
            None => self.error.fmt(f),
        }
    }
}

impl std::error::Error for Failure {}

impl Diagnostic for Failure {
    fn code<'a>(&'a self) -> Option<Box<dyn Display + 'a>> {
        Some(Box::new(self.error.code()))
    }

    fn help<'a>(&'a self) -> Option<Box<dyn Display + 'a>> {
        self.error.help().map(|help| Box::new(help) as Box<dyn Display>)
    }
}

/// A library error for the terminal.
pub fn report(error: impl Into<Error>) -> Report {
    Report::new(Failure { file: None, error: error.into() })
}

/// A library error about a file. Errors of the file system name it already.
pub fn of_file(file: &Path, error: impl Into<Error>) -> Report {
    let error = error.into();
    let name = file.display().to_string();
    let file = (!error.to_string().contains(&name)).then_some(name);
    Report::new(Failure { file, error })
}

/// A file that could not be written or read.
pub fn io(file: &Path, error: std::io::Error) -> Report {
    miette!(code = "io", "{}: {error}", file.display())
}
