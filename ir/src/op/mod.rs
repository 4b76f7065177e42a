//! The closed set of core operations: each declared once, with its attributes, type inference,
//! reference evaluation and docs side by side.
//!
//! Invariant: operations are pure functions of their operands; ONNX's operators are composed from
//! them in the frontend, and what is fused, tiled and compiled is nothing but these.

mod attention;
mod contraction;
mod control;
mod convolution;
mod elementwise;
mod indexing;
mod leaf;
mod movement;
mod normalisation;
mod recurrent;
mod reduction;
mod resize;
mod typing;
mod window;

pub use attention::Attention;
pub use contraction::{Contract, ContractSpec};
pub use control::{Fused, If, Loop};
pub use convolution::{Conv, ConvLayout, ConvTranspose};
pub use elementwise::{Binary, BinaryFn, Cast, Select, Unary, UnaryFn};
pub use indexing::{
    Gather, GatherElements, GatherNd, ScatterElements, ScatterNd, ScatterReduction,
};
pub use leaf::{Constant, Iota, SizeOf};
pub use movement::{Broadcast, Concat, Pad, PadMode, Reshape, Slice, Transpose};
pub use normalisation::{Normalize, Softmax};
pub use recurrent::{Activation, Cell, Direction, Recurrent};
pub use reduction::{ArgReduce, CumSum, Reduce, ReduceFn};
pub use resize::{CoordinateMode, NearestMode, Resize, ResizeMode};
pub use window::{WindowFn, WindowReduce};

use crate::graph::{Graph, TensorType};
use kiln_tensor::Dim;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// What an operation says of operands that it does not accept.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{message}")]
pub struct OpError {
    /// The rule that is broken, with the types that break it.
    pub message: String,
}

impl OpError {
    /// An error with this message.
    pub fn new(message: impl Into<String>) -> Self {
        OpError { message: message.into() }
    }
}

/// What one core operation is.
pub trait Operation {
    /// Name in text forms.
    const NAME: &'static str;

    /// Types of the results, or the rule that the operands break.
    fn infer(&self, inputs: &[&TensorType], regions: &[Graph]) -> Result<Vec<TensorType>, OpError>;

    /// The dimension expressions among the attributes.
    fn dims_mut(&mut self) -> Vec<&mut Dim> {
        Vec::new()
    }
}

macro_rules! operations {
    ($($variant:ident),* $(,)?) => {
        /// A core operation with its attributes.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        pub enum Op {
            $(#[doc = concat!("See [`", stringify!($variant), "`].")] $variant($variant),)*
        }

        impl Op {
            /// Names of all core operations.
            pub const NAMES: &'static [&'static str] = &[$($variant::NAME),*];

            /// Name in text forms.
            pub fn name(&self) -> &'static str {
                match self { $(Op::$variant(_) => $variant::NAME,)* }
            }

            /// Types of the results, or the rule that the operands break.
            pub fn infer(
                &self,
                inputs: &[&TensorType],
                regions: &[Graph],
            ) -> Result<Vec<TensorType>, OpError> {
                match self { $(Op::$variant(op) => op.infer(inputs, regions),)* }
            }

            /// The dimension expressions among the attributes.
            pub fn dims_mut(&mut self) -> Vec<&mut Dim> {
                match self { $(Op::$variant(op) => op.dims_mut(),)* }
            }
        }

        $(impl From<$variant> for Op {
            fn from(op: $variant) -> Op { Op::$variant(op) }
        })*
    };
}

operations! {
    Constant, SizeOf, Iota,
    Unary, Binary, Select, Cast,
    Reshape, Transpose, Broadcast, Slice, Concat, Pad,
    Gather, GatherElements, GatherNd, ScatterElements, ScatterNd,
    Reduce, ArgReduce, CumSum, WindowReduce,
    Contract, Conv, ConvTranspose, Resize,
    Softmax, Normalize, Attention, Recurrent,
    If, Loop, Fused,
}
