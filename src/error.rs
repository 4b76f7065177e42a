//! Everything that can go wrong, by room.
//!
//! Invariant: a variant wraps the room's own typed error; each has a stable code, and help where
//! there is something that the user can do.

use crate::inspect::InspectError;
use crate::tune::{DatabaseError, RanksError, WorkerError};
use crate::{Backend, CacheError};
use kiln_backends::{CodegenError, TargetError};
use kiln_frontend::{ImportError, ReadError, Report};
use kiln_ir::EvaluateError;
use kiln_passes::{CostModel, PassError, PlanError};
use kiln_program::ArtefactError;
use kiln_runtime::{ModelError, RunError};
use kiln_tensor::TensorError;
use thiserror::Error;

/// Why a model could not be compiled, saved, loaded or run.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// The model cannot be read, or parts of it are malformed or not supported.
    #[error(transparent)]
    Import(#[from] ImportError),
    /// A pass could not finish.
    #[error(transparent)]
    Pass(#[from] PassError),
    /// The graph has no program.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// A kernel has no machine code.
    #[error(transparent)]
    Codegen(#[from] CodegenError),
    /// There is no such target.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// A compiled model cannot be read or written.
    #[error(transparent)]
    Artefact(#[from] ArtefactError),
    /// A compiled model cannot be loaded.
    #[error(transparent)]
    Load(#[from] ModelError),
    /// A compiled model cannot be run on these inputs.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The reference evaluator has no result for these inputs.
    #[error(transparent)]
    Evaluate(#[from] EvaluateError),
    /// A tensor is not what its type says.
    #[error(transparent)]
    Tensor(#[from] TensorError),
    /// The code generator is not part of this build.
    #[error("this build of Kiln has no {0} backend")]
    NoBackend(Backend),
    /// The reference evaluator makes no code that could be saved or shown.
    #[error("the {} backend evaluates the graph and makes no code", Backend::Reference)]
    NoCode,
    /// There is no memory for the weights in the layouts that the kernels read.
    #[error("no memory for {0} bytes of weights")]
    WeightMemory(u64),
    /// There is nothing to show at a level.
    #[error(transparent)]
    Inspect(#[from] InspectError),
    /// The database of schedules cannot be used.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// Compiled kernels cannot be kept.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// Schedules cannot be measured.
    #[error(transparent)]
    Worker(#[from] WorkerError),
    /// What was measured of the machine are no numbers to count with.
    #[error("what was measured of this machine makes no sense: {0:?}")]
    Calibration(CostModel),
    /// Processes cannot tune together.
    #[error(transparent)]
    Ranks(#[from] RanksError),
    /// Somebody cancelled.
    #[error("cancelled")]
    Cancelled,
}

impl Error {
    /// A stable name of the kind of error.
    pub fn code(&self) -> &'static str {
        match self {
            Error::Import(error) => error.code(),
            Error::Pass(_) => "compile/pass",
            Error::Plan(_) => "compile/plan",
            Error::Codegen(_) => "compile/codegen",
            Error::Target(_) => "compile/target",
            Error::NoBackend(_) => "compile/no-backend",
            Error::NoCode => "compile/no-code",
            Error::Artefact(_) => "load/artefact",
            Error::Load(_) => "load/model",
            Error::WeightMemory(_) => "load/memory",
            Error::Run(_) => "run/inputs",
            Error::Evaluate(_) => "run/reference",
            Error::Tensor(_) => "run/tensor",
            Error::Inspect(_) => "inspect",
            Error::Database(_) => "tune/database",
            Error::Cache(_) => "compile/cache",
            Error::Worker(_) => "tune/worker",
            Error::Calibration(_) => "calibrate",
            Error::Ranks(_) => "tune/ranks",
            Error::Cancelled => "cancelled",
        }
    }

    /// What would help, where something would.
    pub fn help(&self) -> Option<&'static str> {
        Some(match self {
            Error::Import(error) => return error.help(),
            Error::Run(RunError::Unequal { .. }) => {
                "the model only works where these sizes are equal: give inputs of other shapes, or \
                 fix sizes with --dim NAME=N"
            }
            Error::NoBackend(Backend::Llvm) => {
                "build Kiln with its default features, or use --backend cranelift"
            }
            Error::Inspect(error) => error.help(),
            Error::Calibration(_) => "run it again when the machine has less to do",
            Error::Ranks(RanksError::Start { .. }) => {
                "build Kiln with an MPI: cargo build --release --features mpi"
            }
            Error::NoCode => "use the llvm or the cranelift backend",
            Error::WeightMemory(_) => {
                "compile the model into a file and run that: its weights are mapped, not copied"
            }
            Error::Pass(_) | Error::Codegen(_) => {
                "this is a defect of Kiln; please report it with the model"
            }
            _ => return None,
        })
    }
}

impl From<ReadError> for Error {
    fn from(error: ReadError) -> Self {
        Error::Import(error.into())
    }
}

impl From<Report> for Error {
    fn from(report: Report) -> Self {
        Error::Import(report.into())
    }
}
