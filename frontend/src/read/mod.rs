//! From a path or bytes to a decoded model whose weights are still where they were.
//!
//! Invariant: reading copies no weight; every byte a model refers to is checked to exist.

mod error;
mod external;
mod model;
mod packing;
mod serialised;
mod source;
mod tensor;
mod wire;

pub use error::ReadError;
pub(crate) use model::opset_versions;
pub use model::{
    IR_VERSIONS, MAX_MODEL_BYTES, Model, ONNX_DOMAIN, OPSET_VERSIONS, canonical_domain,
};
pub use serialised::{TensorReadError, tensor_from_proto, tensor_to_proto};
pub use tensor::{TensorProblem, element_type};
