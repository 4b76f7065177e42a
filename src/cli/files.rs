//! The files that a command reads and writes.
//!
//! Invariant: what a command writes is none of its other files, so that nothing that it was given is lost.

use super::arguments::{Command, CommonArguments, InputArguments, ReportArguments};
use miette::{Result, miette};
use std::path::{Path, PathBuf};

/// The files of a command, each with the flag that names it.
#[derive(Default)]
struct Files<'c> {
    read: Vec<(&'static str, &'c Path)>,
    written: Vec<(&'static str, &'c Path)>,
}

/// An error if a file that the command writes is another of its files.
pub fn are_apart(command: &Command) -> Result<()> {
    let Files { read, written } = Files::of(command);
    for (number, (flag, file)) in written.iter().enumerate() {
        let mut others = read.iter().chain(&written[..number]);
        if let Some((other, _)) = others.find(|(_, other)| same(file, other)) {
            return Err(miette!(
                code = "cli/output",
                help = format!("give another name after {flag}"),
                "{} would be overwritten: {other} and {flag} name one file",
                file.display()
            ));
        }
    }
    Ok(())
}

impl<'c> Files<'c> {
    fn of(command: &'c Command) -> Self {
        let files = Files::default();
        match command {
            Command::Run(run) => files.model(&run.model).input(&run.input).common(&run.common),
            Command::Bench(bench) => {
                files.model(&bench.model).input(&bench.input).common(&bench.common)
            }
            Command::Compile(compile) => {
                let files = files.model(&compile.model);
                files.written("-o", Some(&compile.output)).common(&compile.common)
            }
            Command::Inspect(inspect) => files.model(&inspect.model).common(&inspect.common),
            Command::Check(check) => files.common(&check.common),
            Command::Verify { file, report } => files.model(file).json(report),
            Command::Tune(tune) => {
                let files = files.model(&tune.model).input(&tune.input);
                let files = files.written("--out", tune.out.as_ref());
                files.written("--report", tune.report.as_ref()).common(&tune.common)
            }
            Command::Calibrate(calibrate) => {
                files.written("--out", calibrate.out.as_ref()).json(&calibrate.report)
            }
            Command::Measure => files,
        }
    }

    fn model(mut self, file: &'c Path) -> Self {
        self.read.push(("the model", file));
        self
    }

    fn input(mut self, input: &'c InputArguments) -> Self {
        let files = input.inputs.iter().filter_map(|text| text.rsplit_once('='));
        self.read.extend(files.map(|(_, file)| ("--input", Path::new(file))));
        self
    }

    fn written(mut self, flag: &'static str, file: Option<&'c PathBuf>) -> Self {
        self.written.extend(file.map(|file| (flag, file.as_path())));
        self
    }

    fn common(mut self, common: &'c CommonArguments) -> Self {
        let schedules = common.schedules.as_deref();
        self.read.extend(schedules.map(|file| ("--schedules", file)));
        self.json(&common.report)
    }

    fn json(self, report: &'c ReportArguments) -> Self {
        // A dash is standard output.
        let file = report.json.as_ref().filter(|file| *file != Path::new("-"));
        self.written("--json", file)
    }
}

/// Whether two names are of one file, be it there or not.
fn same(a: &Path, b: &Path) -> bool {
    let whole = |file: &Path| {
        file.canonicalize().ok().or_else(|| {
            let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
            Some(folder.unwrap_or(Path::new(".")).canonicalize().ok()?.join(file.file_name()?))
        })
    };
    whole(a).is_some_and(|a| whole(b).is_some_and(|b| a == b))
}
