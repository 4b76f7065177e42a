//! The runtime: loads compiled models and runs them. It links no compiler.
//!
//! Invariant: what is loaded was checked before it is believed; running relies on those checks.
//!
//! ```no_run
//! use kiln_runtime::{LoadedModel, Session, SessionOptions};
//! use std::{path::Path, sync::Arc};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let model = Arc::new(LoadedModel::open(Path::new("model.kiln"))?);
//! let mut session = Session::new(model, &SessionOptions::default())?;
//! let input = kiln_tensor::Tensor::from_slice(vec![1, 2], &[1f32, 2.0])?;
//! let outputs = session.run(&[input])?;
//! # Ok(())
//! # }
//! ```

pub mod arena;
mod execution;
mod host;
mod kernel;
pub mod loader;
mod model;
pub mod threads;

pub use execution::{
    LaunchRecord, MemoryUse, RunError, RunOptions, Session, SessionOptions, Trace,
};
pub use host::has_feature;
pub use model::{LoadedModel, ModelError, Weights, check};
