//! The command line: subcommands and flags, declared once.
//!
//! Invariant: whatever can be refused by looking at the words alone is refused here, as misuse.

use clap::{Args, Parser, Subcommand, ValueEnum};
use miette::{Result, miette};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// Compiles ONNX models to machine code and runs them.
#[derive(Debug, Parser)]
#[command(name = "kiln", version, propagate_version = true, arg_required_else_help = true)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Compile a model if need be and run it once
    Run(RunArguments),
    /// Compile an ONNX model into one file that the runtime loads at once
    Compile(CompileArguments),
    /// Check a compiled file completely, its weights included
    Verify {
        /// The compiled model
        file: PathBuf,
        #[command(flatten)]
        report: ReportArguments,
    },
    /// Show what a model becomes at one of the compiler's levels
    Inspect(InspectArguments),
    /// Measure latency, memory and compile time of a model
    Bench(BenchArguments),
    /// Run folders with ONNX test cases and compare the results with theirs
    Check(CheckArguments),
    /// Search for schedules of a model's kernels that are faster on this machine
    Tune(TuneArguments),
    /// Measure what kernels cost on this machine, for the choices that compiling makes
    Calibrate(CalibrateArguments),
    /// Measure schedules, asked over standard input: a part of `tune`
    #[command(hide = true)]
    Measure,
}

/// What every command takes that compiles.
#[derive(Args, Clone, Debug)]
pub struct CommonArguments {
    /// Code generator (default: llvm where it is built in, else cranelift)
    #[arg(long, value_enum)]
    pub backend: Option<BackendArgument>,
    /// Threads to run with (default: the cores that this process may use)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub threads: Option<u32>,
    /// Fix a symbolic dimension, e.g. `--dim batch=1`; may be given several times
    #[arg(long = "dim", value_name = "NAME=N", value_parser = parse_dim)]
    pub dims: Vec<(String, u64)>,
    /// How much the e-graph looks at; less is for measuring what the rest is worth
    #[arg(long, value_enum, default_value = "full")]
    pub egraph: EffortArgument,
    /// Leave out a rule of the e-graph, as `kiln inspect --at egraph` names it; may be given several times
    #[arg(long, value_name = "RULE", value_parser = parse_rule)]
    pub without: Vec<String>,
    /// Also use rules that make results less exact, by this much of the largest result, e.g. 1e-3
    #[arg(long, value_name = "X", value_parser = parse_error, allow_negative_numbers = true)]
    pub error_budget: Option<f64>,
    /// Database of what `kiln tune` and `kiln calibrate` found (`none` for none; default: the
    /// user's own)
    #[arg(long, value_name = "FILE")]
    pub schedules: Option<PathBuf>,
    /// Folder that the code of kernels is kept in, for the next compilation that has them (`none` for none;
    /// default: the user's own)
    #[arg(long, value_name = "DIR")]
    pub cache: Option<PathBuf>,
    /// CPU to compile for: `host` (the default) or a name such as x86-64-v3, znver4, neoverse-n1. Of several,
    /// with commas between them, a machine runs the first whose code it can
    #[arg(long, value_name = "CPU", value_delimiter = ',')]
    pub target: Vec<String>,
    #[command(flatten)]
    pub report: ReportArguments,
}

impl CommonArguments {
    /// The sizes that dimensions are fixed to; an error if one is given two.
    pub fn fixed_dims(&self) -> Result<BTreeMap<String, u64>> {
        let mut dims = BTreeMap::new();
        for (name, size) in &self.dims {
            if let Some(other) = dims.insert(name.clone(), *size).filter(|other| other != size) {
                return Err(miette!("dimension `{name}` is fixed to {other} and to {size}"));
            }
        }
        Ok(dims)
    }
}

/// Where the machine-readable report goes.
#[derive(Args, Clone, Debug)]
pub struct ReportArguments {
    /// Also write the report as JSON to this file (`-` for standard output)
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

/// Code generators by their names on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum BackendArgument {
    /// MLIR and LLVM: the fastest code
    Llvm,
    /// Cranelift: the fastest to compile
    Cranelift,
    /// The reference evaluator: slow and obvious, no code generated
    Reference,
}

/// Efforts of the e-graph by their names on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum EffortArgument {
    /// Nothing: every operation is a kernel of its own
    Off,
    /// All rules, and for each value what is cheapest by itself
    Greedy,
    /// All rules, and what is cheapest together
    Full,
}

/// Where inputs come from.
#[derive(Args, Clone, Debug)]
pub struct InputArguments {
    /// An input tensor from an .npy or .pb file; may be given several times
    #[arg(
        long = "input",
        value_name = "NAME=FILE",
        value_parser = parse_input,
        conflicts_with = "folder"
    )]
    pub inputs: Vec<String>,
    /// A folder with input_0.pb, input_1.pb … in the model's order
    #[arg(long = "inputs", value_name = "DIR")]
    pub folder: Option<PathBuf>,
    /// Seed for inputs that are made up because none were given
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
}

/// `kiln run`
#[derive(Args, Debug)]
pub struct RunArguments {
    /// The model: .onnx or .kiln
    pub model: PathBuf,
    #[command(flatten)]
    pub input: InputArguments,
    /// Write output_0, output_1 … in the model's order into this folder
    #[arg(long, value_name = "DIR")]
    pub outputs: Option<PathBuf>,
    /// Format of the output files
    #[arg(long, value_enum, default_value = "npy")]
    pub format: FormatArgument,
    /// Whose code to run, where LLVM is built in (default: both)
    #[arg(long, value_enum, conflicts_with = "backend")]
    pub tier: Option<TierArgument>,
    #[command(flatten)]
    pub common: CommonArguments,
}

/// Tiers of code by their names on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TierArgument {
    /// Cranelift's, which is there at once
    First,
    /// LLVM's, once all of it is there
    Best,
    /// Cranelift's at first, and for each kernel LLVM's as soon as it is there
    Both,
}

/// Tensor file formats by their names on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FormatArgument {
    /// NumPy array files
    Npy,
    /// ONNX TensorProto files
    Pb,
}

/// `kiln compile`
#[derive(Args, Debug)]
pub struct CompileArguments {
    /// The ONNX model
    pub model: PathBuf,
    /// The file to write
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,
    #[command(flatten)]
    pub common: CommonArguments,
}

/// `kiln inspect`
#[derive(Args, Debug)]
pub struct InspectArguments {
    /// The model: .onnx or .kiln
    pub model: PathBuf,
    /// Which level to show
    #[arg(long, value_enum)]
    pub at: LevelArgument,
    /// How to show it
    #[arg(long, value_enum, default_value_t = FormArgument::Text)]
    pub format: FormArgument,
    /// Only what came from the nodes whose name contains this
    #[arg(long, value_name = "NAME")]
    pub node: Option<String>,
    #[command(flatten)]
    pub common: CommonArguments,
}

/// Forms of a level.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FormArgument {
    /// Text
    Text,
    /// A picture for Graphviz, of the levels graph and egraph, with fused kernels as clusters
    Dot,
}

/// Levels of the compiler.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LevelArgument {
    /// The typed graph, as imported and simplified
    Graph,
    /// What the e-graph did: which rules fired where, costs, other choices, and the fused graph
    Egraph,
    /// Kernels with their schedules
    Kernels,
    /// The loop nests that kernels become under their schedules
    Nest,
    /// The MLIR that kernels are lowered to
    Mlir,
    /// LLVM IR after optimisation
    Llvm,
    /// Assembly
    Asm,
    /// Steps, buffers and memory
    Plan,
}

/// `kiln bench`
#[derive(Args, Debug)]
pub struct BenchArguments {
    /// The model: .onnx or .kiln
    pub model: PathBuf,
    #[command(flatten)]
    pub input: InputArguments,
    /// Timed runs
    #[arg(long, value_name = "N", default_value_t = 50,
          value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub runs: u32,
    #[command(flatten)]
    pub common: CommonArguments,
}

/// `kiln check`
#[derive(Args, Debug)]
pub struct CheckArguments {
    /// Folders with model.onnx and test_data_set_*, or folders of such folders
    #[arg(required = true, value_name = "DIR")]
    pub folders: Vec<PathBuf>,
    /// Relative part of the tolerance `atol + rtol·|expected|`; by default what the case's
    /// data.json says, or else ONNX's 0.001, which is meant for single operators
    #[arg(long, value_name = "X", value_parser = parse_tolerance)]
    pub rtol: Option<f64>,
    /// Absolute part of the tolerance; by default the case's, or else ONNX's 1e-7
    #[arg(long, value_name = "X", value_parser = parse_tolerance)]
    pub atol: Option<f64>,
    #[command(flatten)]
    pub common: CommonArguments,
}

/// `kiln tune`
#[derive(Args, Debug)]
pub struct TuneArguments {
    /// The model: .onnx
    pub model: PathBuf,
    #[command(flatten)]
    pub input: InputArguments,
    /// How long to search, e.g. 90s, 10m, 2h
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = parse_time)]
    pub budget: Duration,
    /// The database to keep schedules in (default: the one that compiling reads)
    #[arg(long, value_name = "DB")]
    pub out: Option<PathBuf>,
    /// Also write a page in HTML: how the searches went, and how far each kernel is from the roofline
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
    #[command(flatten)]
    pub common: CommonArguments,
}

/// `kiln calibrate`
#[derive(Args, Debug)]
pub struct CalibrateArguments {
    /// Code generator (default: llvm where it is built in, else cranelift)
    #[arg(long, value_enum)]
    pub backend: Option<BackendArgument>,
    /// Threads that models will run with (default: one, and then the cores that this process may
    /// use)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub threads: Option<u32>,
    /// The database to keep what was measured in (default: the one that compiling reads)
    #[arg(long, value_name = "DB")]
    pub out: Option<PathBuf>,
    #[command(flatten)]
    pub report: ReportArguments,
}

fn parse_time(text: &str) -> Result<Duration, String> {
    let wrong =
        || "expected a time such as 90s, 1.5m, 500ms or 2h; seconds without a unit".to_owned();
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let seconds = match &text[digits.len()..] {
        "ms" => 1e-3,
        "" | "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(wrong()),
    };
    let plain = digits.chars().all(|c| c.is_ascii_digit() || c == '.');
    let count = digits.parse::<f64>().ok().filter(|_| plain).ok_or_else(wrong)?;
    // Beyond that no search goes on, and no clock.
    let time = Duration::try_from_secs_f64(count * seconds).ok();
    time.filter(|time| time.as_secs() <= u32::MAX.into()).ok_or_else(wrong)
}

fn parse_tolerance(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(tolerance) if tolerance >= 0.0 && tolerance.is_finite() => Ok(tolerance),
        _ => Err("expected a number that is not negative".to_owned()),
    }
}

fn parse_dim(text: &str) -> Result<(String, u64), String> {
    let (name, size) = text.split_once('=').ok_or("expected NAME=N")?;
    let size = size.parse::<u64>().map_err(|_| format!("`{size}` is not a size"))?;
    if name.is_empty() || size > i64::MAX as u64 {
        return Err("expected NAME=N".to_owned());
    }
    Ok((name.to_owned(), size))
}

/// Which `=` parts the name from the file only the model tells.
fn parse_input(text: &str) -> Result<String, String> {
    match text.split_once('=') {
        Some((name, file)) if !name.is_empty() && !file.is_empty() => Ok(text.to_owned()),
        _ => Err("expected NAME=FILE".to_owned()),
    }
}

fn parse_rule(text: &str) -> Result<String, String> {
    match kiln::rules().contains(&text) {
        true => Ok(text.to_owned()),
        false => Err(format!("there is no such rule; there are {}", kiln::rules().join(", "))),
    }
}

fn parse_error(text: &str) -> Result<f64, String> {
    let error = text.parse::<f64>().ok().filter(|error| (0.0..=1.0).contains(error));
    error.ok_or_else(|| "expected a number from 0 to 1".to_owned())
}
