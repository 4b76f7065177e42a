//! The closed set of core operations: each declared once, with its attributes, type inference,
//! reference evaluation and docs side by side.
//!
//! Invariant: operations are pure functions of their operands; ONNX's operators are composed from
//! them in the frontend, and what is fused, tiled and compiled is nothing but these.

mod attention;
mod bind;
mod call;
mod contraction;
mod control;
mod convolution;
mod elements;
mod elementwise;
mod indexing;
mod leaf;
mod movement;
mod normalisation;
mod places;
mod recurrent;
mod reduction;
mod resize;
mod run;
mod typing;
mod window;
mod winograd;

pub use attention::Attention;
pub use bind::{Bind, Check};
pub use call::Call;
pub use contraction::{Contract, ContractSpec};
pub use control::{Fused, If, Loop};
pub use convolution::{Conv, ConvLayout, ConvTranspose};
pub use elementwise::{Binary, BinaryFn, BitCast, Cast, Select, Unary, UnaryFn};
pub use indexing::{
    Gather, GatherElements, GatherNd, ScatterElements, ScatterNd, ScatterReduction,
};
pub use leaf::{Constant, Iota, SizeOf};
pub use movement::{Assume, Broadcast, Concat, Pad, PadMode, Reshape, Slice, Transpose};
pub use normalisation::{Normalize, Softmax};
pub use recurrent::{Activation, Cell, Direction, Recurrent, RecurrentOperands};
pub use reduction::{Accumulate, ArgReduce, Reduce, ReduceFn};
pub use resize::{CoordinateMode, NearestMode, Resize, ResizeMode};
pub use window::{WindowFn, WindowReduce};
pub use winograd::Winograd;

use crate::graph::{Graph, TensorType};
use elements::MOST_ELEMENTS;
use kiln_tensor::{DType, Dim, DimError, Symbol, SymbolValues, Tensor, TensorError};
pub use run::Run;
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

impl From<TensorError> for OpError {
    fn from(error: TensorError) -> Self {
        OpError::new(error.to_string())
    }
}

impl From<DimError> for OpError {
    fn from(error: DimError) -> Self {
        OpError::new(error.to_string())
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

    /// The results, computed the slow and obvious way: the oracle for everything below. Floats
    /// are computed in f64 and rounded to their type once, on the way out; integers wrap. The
    /// symbols among the attributes have their values already.
    fn evaluate(
        &self,
        inputs: &[Tensor],
        regions: &[Graph],
        run: &Run,
    ) -> Result<Vec<Tensor>, OpError>;

    /// Element types and sizes of the results for these very operands, if they are accepted and
    /// nothing is absurdly large.
    fn results(&self, inputs: &[Tensor]) -> Result<Vec<(DType, Vec<usize>)>, OpError> {
        let types: Vec<TensorType> = inputs.iter().map(TensorType::of).collect();
        let results = self.infer(&types.iter().collect::<Vec<_>>(), &[])?.into_iter();
        let known = results.map(|ty| {
            let sizes = ty.static_sizes().ok_or_else(|| {
                OpError::new(format!("the sizes of the result {ty} are not known"))
            })?;
            let bytes = Tensor::byte_length(ty.dtype, &sizes)?;
            if bytes / ty.dtype.size() > MOST_ELEMENTS && Self::NAME != Constant::NAME {
                return Err(OpError::new(format!(
                    "a result {ty} is more than the reference evaluation makes"
                )));
            }
            Ok((ty.dtype, sizes))
        });
        known.collect()
    }

    /// [`Operation::results`] of an operation with one.
    fn result(&self, inputs: &[Tensor]) -> Result<(DType, Vec<usize>), OpError> {
        let first = self.results(inputs)?.into_iter().next();
        first.ok_or_else(|| OpError::new("has no result"))
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

            /// The results, computed the slow and obvious way: the oracle for everything below.
            /// Floats are computed in f64 and rounded to their type once, on the way out.
            pub fn evaluate(
                &self,
                inputs: &[Tensor],
                regions: &[Graph],
                symbols: &SymbolValues,
            ) -> Result<Vec<Tensor>, OpError> {
                self.evaluate_in(inputs, regions, &Run::new(symbols))
            }

            /// [`Op::evaluate`] as a part of a run.
            pub(crate) fn evaluate_in(
                &self,
                inputs: &[Tensor],
                regions: &[Graph],
                run: &Run,
            ) -> Result<Vec<Tensor>, OpError> {
                let op = self.substitute(&|symbol| run.symbols().get(symbol).copied().map(Dim::from));
                // Handles of one run are of one table.
                let objects = run.objects();
                let inputs = inputs.iter().map(|input| objects.adopt(input));
                let inputs = &inputs.collect::<Result<Vec<_>, _>>()?[..];
                let results = match op {
                    $(Op::$variant(op) => op.evaluate(inputs, regions, run),)*
                };
                Ok(results?.into_iter().map(|result| result.with_objects(objects)).collect())
            }

            /// The operation with symbols among its attributes replaced. Bodies are not part of
            /// an operation and stay as they are.
            pub fn substitute(&self, replace: &impl Fn(&Symbol) -> Option<Dim>) -> Op {
                let mut op = self.clone();
                for dim in op.dims_mut() {
                    *dim = dim.substitute(replace);
                }
                op
            }
        }

        $(impl From<$variant> for Op {
            fn from(op: $variant) -> Op { Op::$variant(op) }
        })*
    };
}

operations! {
    Constant, SizeOf, Iota, Bind, Check,
    Unary, Binary, Select, Cast, BitCast,
    Reshape, Assume, Transpose, Broadcast, Slice, Concat, Pad,
    Gather, GatherElements, GatherNd, ScatterElements, ScatterNd,
    Reduce, ArgReduce, Accumulate, WindowReduce,
    Contract, Conv, ConvTranspose, Winograd, Resize,
    Softmax, Normalize, Attention, Recurrent,
    If, Loop, Fused, Call,
}
