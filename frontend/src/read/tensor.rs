//! From a `TensorProto` to a host tensor over the bytes where they lie.
//!
//! Invariant: the bytes given out have exactly the length that type and dimensions ask for.

use super::external::ExternalFiles;
use super::packing;
use crate::proto::{TensorProto, tensor_proto::DataLocation, tensor_proto::DataType};
use bytes::Bytes;
use kiln_tensor::{DType, Storage, Tensor, TensorError};
use std::sync::Arc;
use thiserror::Error;

/// Why a tensor in a model cannot be used.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum TensorProblem {
    /// No element type.
    #[error("{number} is not the number of an element type")]
    ElementType {
        /// What stands where the number of one should.
        number: i32,
    },
    /// A negative dimension, or more elements than can be addressed.
    #[error("dimensions {dims:?} are not those of a tensor")]
    Dims {
        /// As they stand in the model.
        dims: Vec<i64>,
    },
    /// Too few or too many bytes.
    #[error("type and dimensions ask for {expected} bytes, the data has {actual}")]
    Length {
        /// Bytes needed.
        expected: usize,
        /// Bytes there are.
        actual: usize,
    },
    /// A string that is not text.
    #[error("a string of the tensor is not UTF-8")]
    Text,
    /// Part of a tensor that was split over several.
    #[error("the tensor is split into segments, which is not supported")]
    Segmented,
    /// External data without a `location`.
    #[error("the tensor's external data has no location")]
    NoLocation,
    /// External data in a model that was given as bytes.
    #[error("the tensor's data lies in a file, but the model was given as bytes, without a folder")]
    NoFolder,
    /// An offset or length that is not a number.
    #[error("external data has {key} `{value}`, which is not a size")]
    ExternalEntry {
        /// `offset` or `length`.
        key: &'static str,
        /// The text.
        value: String,
    },
    /// A path that leads out of the model's folder.
    #[error("external data at `{location}` lies outside the model's folder")]
    OutsideFolder {
        /// The path in the model.
        location: String,
    },
    /// The file cannot be read.
    #[error("external data at `{location}` cannot be read: {reason}")]
    ExternalIo {
        /// The path in the model.
        location: String,
        /// What the operating system said.
        reason: String,
    },
    /// The file is too short.
    #[error("external data at `{location}` has {file} bytes; {length} from {offset} are asked for")]
    ExternalRange {
        /// The path in the model.
        location: String,
        /// First byte.
        offset: usize,
        /// Number of bytes.
        length: usize,
        /// Length of the file.
        file: usize,
    },
}

impl TensorProblem {
    /// What would help.
    pub fn help(&self) -> &'static str {
        match self {
            TensorProblem::ElementType { .. } => {
                "onnx.TensorProto.DataType lists the numbers of element types"
            }
            TensorProblem::NoFolder => "give the model's path instead of its bytes",
            TensorProblem::OutsideFolder { .. } => "move the data file into the model's folder",
            TensorProblem::ExternalIo { .. } | TensorProblem::ExternalRange { .. } => {
                "put the whole data file beside the model"
            }
            _ => "export the model again",
        }
    }
}

/// The element type that ONNX's number stands for.
pub fn element_type(number: i32) -> Result<DType, TensorProblem> {
    Ok(match DataType::try_from(number) {
        Ok(DataType::Bool) => DType::Bool,
        Ok(DataType::Uint8) => DType::U8,
        Ok(DataType::Uint16) => DType::U16,
        Ok(DataType::Uint32) => DType::U32,
        Ok(DataType::Uint64) => DType::U64,
        Ok(DataType::Int8) => DType::I8,
        Ok(DataType::Int16) => DType::I16,
        Ok(DataType::Int32) => DType::I32,
        Ok(DataType::Int64) => DType::I64,
        Ok(DataType::Float16) => DType::F16,
        Ok(DataType::Bfloat16) => DType::BF16,
        Ok(DataType::Float) => DType::F32,
        Ok(DataType::Double) => DType::F64,
        Ok(DataType::Uint2) => DType::U2,
        Ok(DataType::Uint4) => DType::U4,
        Ok(DataType::Int2) => DType::I2,
        Ok(DataType::Int4) => DType::I4,
        Ok(DataType::Float4e2m1) => DType::F4E2M1,
        Ok(DataType::Float6e2m3) => DType::F6E2M3,
        Ok(DataType::Float6e3m2) => DType::F6E3M2,
        Ok(DataType::Float8e4m3fn) => DType::F8E4M3FN,
        Ok(DataType::Float8e4m3fnuz) => DType::F8E4M3FNUZ,
        Ok(DataType::Float8e5m2) => DType::F8E5M2,
        Ok(DataType::Float8e5m2fnuz) => DType::F8E5M2FNUZ,
        Ok(DataType::Float8e8m0) => DType::F8E8M0,
        Ok(DataType::Complex64) => DType::C64,
        Ok(DataType::Complex128) => DType::C128,
        Ok(DataType::String) => DType::String,
        _ => return Err(TensorProblem::ElementType { number }),
    })
}

/// The tensor, its bytes in place where they are raw or external.
pub(super) fn to_host(
    tensor: &TensorProto,
    external: &ExternalFiles,
) -> Result<Tensor, TensorProblem> {
    let dtype = element_type(tensor.data_type())?;
    let bad_dims = || TensorProblem::Dims { dims: tensor.dims.clone() };
    let sizes = tensor
        .dims
        .iter()
        .map(|&dim| usize::try_from(dim))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|_| bad_dims())?;
    if dtype == DType::String {
        return strings(tensor, sizes);
    }
    let length = Tensor::byte_length(dtype, &sizes).map_err(|_| bad_dims())?;
    let expected = packing::packed_length(dtype, length);
    if tensor.segment.is_some() {
        return Err(TensorProblem::Segmented);
    }
    let bytes = if tensor.data_location() == DataLocation::External {
        external.bytes(&tensor.external_data, expected)?
    } else if let Some(raw) = &tensor.raw_data {
        raw.clone()
    } else {
        Bytes::from(typed_bytes(tensor, dtype))
    };
    let actual = bytes.len();
    if actual != expected {
        return Err(TensorProblem::Length { expected, actual });
    }
    let bytes = match dtype.bits() {
        ..8 => Bytes::from(packing::unpacked(dtype, &bytes, length)),
        _ => bytes,
    };
    // Other bytes than 0 and 1 would make `bool` arithmetic on bytes wrong everywhere else.
    let bytes = if dtype == DType::Bool && bytes.iter().any(|&byte| byte > 1) {
        Bytes::from_iter(bytes.iter().map(|&byte| u8::from(byte != 0)))
    } else {
        bytes
    };
    let storage = Storage::shared(Arc::new(bytes), 0, length)
        .ok_or(TensorProblem::Length { expected: length, actual })?;
    Tensor::from_storage(dtype, sizes, storage).map_err(|error| match error {
        TensorError::Length { expected, actual, .. } => TensorProblem::Length { expected, actual },
        _ => bad_dims(),
    })
}

/// A tensor of strings, which have a field of their own.
fn strings(tensor: &TensorProto, sizes: Vec<usize>) -> Result<Tensor, TensorProblem> {
    let texts = tensor.string_data.iter().map(|bytes| std::str::from_utf8(bytes));
    let texts = texts.collect::<Result<Vec<&str>, _>>().map_err(|_| TensorProblem::Text)?;
    Tensor::from_strings(sizes, &texts).map_err(|error| match error {
        TensorError::Length { expected, actual, .. } => TensorProblem::Length { expected, actual },
        _ => TensorProblem::Dims { dims: tensor.dims.clone() },
    })
}

/// The elements of the typed fields, little-endian. Which field carries a type is the format's
/// rule: narrow integers and codes travel in `int32_data`, packed into bytes as they are in raw data
/// where they have fewer than 8 bits; only those of 6 bits come one by one.
fn typed_bytes(tensor: &TensorProto, dtype: DType) -> Vec<u8> {
    fn bytes<T: Copy, const N: usize>(values: &[T], convert: impl Fn(T) -> [u8; N]) -> Vec<u8> {
        values.iter().flat_map(|&value| convert(value)).collect()
    }
    match dtype {
        DType::F32 => bytes(&tensor.float_data, f32::to_le_bytes),
        DType::F64 => bytes(&tensor.double_data, f64::to_le_bytes),
        DType::I64 => bytes(&tensor.int64_data, i64::to_le_bytes),
        DType::U64 => bytes(&tensor.uint64_data, u64::to_le_bytes),
        DType::U32 => bytes(&tensor.uint64_data, |value| (value as u32).to_le_bytes()),
        DType::I32 => bytes(&tensor.int32_data, i32::to_le_bytes),
        DType::I16 | DType::U16 | DType::F16 | DType::BF16 => {
            bytes(&tensor.int32_data, |value| (value as u16).to_le_bytes())
        }
        DType::C64 => bytes(&tensor.float_data, f32::to_le_bytes),
        DType::C128 => bytes(&tensor.double_data, f64::to_le_bytes),
        DType::F6E2M3 | DType::F6E3M2 => {
            let codes: Vec<u8> = bytes(&tensor.int32_data, |value| [value as u8]);
            packing::packed(dtype, &codes)
        }
        DType::U2
        | DType::U4
        | DType::I2
        | DType::I4
        | DType::F4E2M1
        | DType::F8E4M3FN
        | DType::F8E4M3FNUZ
        | DType::F8E5M2
        | DType::F8E5M2FNUZ
        | DType::F8E8M0
        | DType::I8
        | DType::U8 => bytes(&tensor.int32_data, |value| [value as u8]),
        DType::Bool => bytes(&tensor.int32_data, |value| [u8::from(value != 0)]),
        // Strings have been read, and lists are no tensors in files.
        DType::String | DType::Sequence | DType::Optional | DType::Map => Vec::new(),
    }
}
