//! Kiln: a compiler for machine-learning models.
//!
//! Invariant: the only crate that sees every room; nothing is decided here that a room decides.
//!
//! ```
//! use kiln::{CompileOptions, Compiler, Model, Target, Tensor};
//!
//! # fn main() -> Result<(), kiln::Error> {
//! let compiler = Compiler::new(Target::host()?).options(CompileOptions::default());
//! let model = compiler.compile("examples/perceptron.onnx")?; // f32[batch, 2] → f32[batch, 3]
//! let input = Tensor::from_slice(vec![1, 2], &[1.0f32, 2.0])?;
//! let outputs = model.run(&[input.clone()])?;
//! assert_eq!(outputs[0].to_vec::<f32>()?, [2.0, 1.5, 0.0]);
//!
//! # let folder = std::env::temp_dir().join(format!("kiln-{}", std::process::id()));
//! # std::fs::create_dir_all(&folder).ok();
//! # let file = folder.join("model.kiln");
//! # let file = file.as_path();
//! model.save(file)?;
//! let loaded = Model::load(file)?; // takes no compiler
//! assert_eq!(loaded.run(&[input])?, outputs);
//! # std::fs::remove_dir_all(folder).ok();
//! # Ok(())
//! # }
//! ```

mod cache;
mod calibrate;
pub mod check;
mod compilation;
mod compiler;
mod error;
mod folders;
mod generate;
pub mod inspect;
mod model;
mod options;
mod phases;
mod random_inputs;
mod source;
pub mod statistics;
pub mod tensor_file;
mod tensor_info;
mod tiers;
pub mod tune;

pub use cache::{CacheError, CacheUse, KernelCache};
pub use calibrate::{Calibration, calibrate};
pub use compilation::Compilation;
pub use compiler::Compiler;
pub use error::Error;
pub use model::{LoadOptions, Model, RunSettings};
pub use options::{Backend, CancelToken, CompileOptions, rules};
pub use phases::{Phase, Phases};
pub use random_inputs::random_tensor;
pub use source::Source;
pub use tensor_info::TensorInfo;
pub use tiers::Tiers;

pub use kiln_backends::{Target, TargetError};
pub use kiln_frontend::{ImportError, Problem, ProblemKind, ReadError, Report, Site};
pub use kiln_passes::{CostModel, Effort};
pub use kiln_runtime::{LaunchRecord, MemoryUse, RunError, Trace};
pub use kiln_tensor::{DType, Dim, Element, Storage, Symbol, SymbolValues, Tensor, TensorError};
