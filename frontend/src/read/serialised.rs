//! A tensor by itself as a serialised `TensorProto`: ONNX's test data, inputs and results in
//! `.pb` files.
//!
//! Invariant: what is written reads back as the same tensor under the same name.

use super::external::ExternalFiles;
use super::packing;
use super::tensor::{self, TensorProblem};
use crate::proto::{TensorProto, tensor_proto::DataType};
use bytes::Bytes;
use kiln_tensor::{DType, Tensor};
use prost::Message;
use thiserror::Error;

/// Why bytes are not a tensor.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum TensorReadError {
    /// They are not a `TensorProto` message.
    #[error("this is not a serialised tensor: {detail}")]
    Damaged {
        /// What the decoder tells.
        detail: String,
    },
    /// They are one that cannot be used.
    #[error(transparent)]
    Tensor(#[from] TensorProblem),
}

impl TensorReadError {
    /// A stable name of the kind of error.
    pub fn code(&self) -> &'static str {
        match self {
            TensorReadError::Damaged { .. } => "tensor/damaged",
            TensorReadError::Tensor(_) => "tensor/unusable",
        }
    }

    /// What would help.
    pub fn help(&self) -> &'static str {
        match self {
            TensorReadError::Damaged { .. } => "write it with onnx.save_tensor",
            TensorReadError::Tensor(problem) => problem.help(),
        }
    }
}

/// The tensor that a serialised `TensorProto` holds; one whose data lies in another file is an
/// error.
pub fn tensor_from_proto(bytes: &[u8]) -> Result<Tensor, TensorReadError> {
    let proto = TensorProto::decode(Bytes::copy_from_slice(bytes))
        .map_err(|error| TensorReadError::Damaged { detail: error.to_string() })?;
    Ok(tensor::to_host(&proto, &ExternalFiles::default())?)
}

/// The tensor as a serialised `TensorProto` with raw data.
pub fn tensor_to_proto(name: &str, tensor: &Tensor) -> Vec<u8> {
    let raw = match tensor.dtype().bits() {
        ..8 => Bytes::from(packing::packed(tensor.dtype(), tensor.bytes())),
        _ => Bytes::copy_from_slice(tensor.bytes()),
    };
    let proto = TensorProto {
        name: Some(name.to_owned()),
        data_type: Some(data_type(tensor.dtype()) as i32),
        // A size of a tensor in memory is below 2⁶³.
        dims: tensor.sizes().iter().map(|&size| size as i64).collect(),
        raw_data: Some(raw),
        ..Default::default()
    };
    proto.encode_to_vec()
}

/// ONNX's number of an element type.
fn data_type(dtype: DType) -> DataType {
    match dtype {
        DType::Bool => DataType::Bool,
        DType::U8 => DataType::Uint8,
        DType::U16 => DataType::Uint16,
        DType::U32 => DataType::Uint32,
        DType::U64 => DataType::Uint64,
        DType::I8 => DataType::Int8,
        DType::I16 => DataType::Int16,
        DType::I32 => DataType::Int32,
        DType::I64 => DataType::Int64,
        DType::F16 => DataType::Float16,
        DType::BF16 => DataType::Bfloat16,
        DType::F32 => DataType::Float,
        DType::F64 => DataType::Double,
        DType::U2 => DataType::Uint2,
        DType::U4 => DataType::Uint4,
        DType::I2 => DataType::Int2,
        DType::I4 => DataType::Int4,
        DType::F4E2M1 => DataType::Float4e2m1,
        DType::F6E2M3 => DataType::Float6e2m3,
        DType::F6E3M2 => DataType::Float6e3m2,
        DType::F8E4M3FN => DataType::Float8e4m3fn,
        DType::F8E4M3FNUZ => DataType::Float8e4m3fnuz,
        DType::F8E5M2 => DataType::Float8e5m2,
        DType::F8E5M2FNUZ => DataType::Float8e5m2fnuz,
        DType::F8E8M0 => DataType::Float8e8m0,
        DType::C64 => DataType::Complex64,
        DType::C128 => DataType::Complex128,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_element_type_survives() {
        for dtype in DType::ALL {
            let tensor = Tensor::from_f64(dtype, vec![2, 1], &[0.0, 1.0]).unwrap();
            let bytes = tensor_to_proto("x", &tensor);
            assert_eq!(tensor_from_proto(&bytes).unwrap(), tensor);
            assert_eq!(TensorProto::decode(&bytes[..]).unwrap().name(), "x");
        }
    }

    #[test]
    fn other_bytes_are_errors() {
        let error = tensor_from_proto(b"\x08\xff").unwrap_err();
        assert_eq!(error.code(), "tensor/damaged");
        let text = TensorProto { data_type: Some(DataType::String as i32), ..Default::default() };
        let error = tensor_from_proto(&text.encode_to_vec()).unwrap_err();
        assert_eq!(error.code(), "tensor/unusable");
        assert!(error.to_string().contains("string"), "{error}");
    }
}
