//! A tensor by itself as a serialised message: ONNX's test data, inputs and results in `.pb` files.
//! What a tensor of a list holds is a `SequenceProto`, `OptionalProto` or `MapProto`, any other one a
//! `TensorProto`; nothing in such a file says which, so the reader must know.
//!
//! Invariant: what is written reads back as the same tensor under the same name.

use super::external::ExternalFiles;
use super::packing;
use super::tensor::{self, TensorProblem};
use crate::proto::{MapProto, OptionalProto, SequenceProto, TensorProto, tensor_proto::DataType};
use bytes::Bytes;
use kiln_tensor::{DType, Tensor, TensorError};
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

/// The tensor that a serialised message holds: of this type of list, or else of a `TensorProto`.
/// One whose data lies in another file is an error.
pub fn tensor_from_proto(bytes: &[u8], list: Option<DType>) -> Result<Tensor, TensorReadError> {
    fn decode<M: Message + Default>(bytes: &[u8]) -> Result<M, TensorReadError> {
        M::decode(Bytes::copy_from_slice(bytes))
            .map_err(|error| TensorReadError::Damaged { detail: error.to_string() })
    }
    match list {
        Some(DType::Sequence) => sequence(&decode(bytes)?),
        Some(DType::Optional) => optional(&decode(bytes)?),
        Some(DType::Map) => map(&decode(bytes)?),
        _ => plain(&decode(bytes)?),
    }
}

fn plain(proto: &TensorProto) -> Result<Tensor, TensorReadError> {
    Ok(tensor::to_host(proto, &ExternalFiles::default())?)
}

fn list(dtype: DType, elements: &[Tensor]) -> Result<Tensor, TensorReadError> {
    let damaged = |error: TensorError| TensorReadError::Damaged { detail: error.to_string() };
    Tensor::from_list(dtype, elements).map_err(damaged)
}

fn sequence(proto: &SequenceProto) -> Result<Tensor, TensorReadError> {
    let mut elements = Vec::new();
    for element in &proto.tensor_values {
        elements.push(plain(element)?);
    }
    for element in &proto.sequence_values {
        elements.push(sequence(element)?);
    }
    for element in &proto.optional_values {
        elements.push(optional(element)?);
    }
    for element in &proto.map_values {
        elements.push(map(element)?);
    }
    list(DType::Sequence, &elements)
}

fn optional(proto: &OptionalProto) -> Result<Tensor, TensorReadError> {
    let mut elements = Vec::new();
    if let Some(value) = &proto.tensor_value {
        elements.push(plain(value)?);
    } else if let Some(value) = &proto.sequence_value {
        elements.push(sequence(value)?);
    } else if let Some(value) = &proto.optional_value {
        elements.push(optional(value)?);
    } else if let Some(value) = &proto.map_value {
        elements.push(map(value)?);
    }
    list(DType::Optional, &elements)
}

/// Keys in a vector, and values in a sequence.
fn map(proto: &MapProto) -> Result<Tensor, TensorReadError> {
    let damaged = |detail: String| TensorReadError::Damaged { detail };
    let keys = if proto.string_keys.is_empty() {
        Tensor::from_slice(vec![proto.keys.len()], &proto.keys)
    } else {
        let texts = proto.string_keys.iter().map(|bytes| std::str::from_utf8(bytes));
        let texts = texts.collect::<Result<Vec<&str>, _>>();
        let texts = texts.map_err(|_| TensorReadError::Tensor(TensorProblem::Text))?;
        Tensor::from_strings(vec![texts.len()], &texts)
    };
    let keys = keys.map_err(|error| damaged(error.to_string()))?;
    let values = sequence(proto.values.as_ref().unwrap_or(&SequenceProto::default()))?;
    list(DType::Map, &[keys, values])
}

/// The tensor as a serialised message, numbers as raw data.
pub fn tensor_to_proto(name: &str, tensor: &Tensor) -> Vec<u8> {
    let elements = || tensor.list().unwrap_or_default();
    match tensor.dtype() {
        DType::Sequence => sequence_proto(name, &elements()).encode_to_vec(),
        DType::Optional => optional_proto(name, &elements()).encode_to_vec(),
        DType::Map => map_proto(name, &elements()).encode_to_vec(),
        _ => tensor_proto(name, tensor).encode_to_vec(),
    }
}

fn sequence_proto(name: &str, elements: &[Tensor]) -> SequenceProto {
    use crate::proto::sequence_proto::DataType as Of;
    let mut proto = SequenceProto { name: Some(name.to_owned()), ..Default::default() };
    let mut of = Of::Tensor;
    for element in elements {
        let list = element.list().unwrap_or_default();
        match element.dtype() {
            DType::Sequence => {
                of = Of::Sequence;
                proto.sequence_values.push(sequence_proto("", &list));
            }
            DType::Optional => {
                of = Of::Optional;
                proto.optional_values.push(optional_proto("", &list));
            }
            DType::Map => {
                of = Of::Map;
                proto.map_values.push(map_proto("", &list));
            }
            _ => proto.tensor_values.push(tensor_proto("", element)),
        }
    }
    proto.elem_type = Some(of as i32);
    proto
}

fn optional_proto(name: &str, elements: &[Tensor]) -> OptionalProto {
    use crate::proto::optional_proto::DataType as Of;
    let mut proto = OptionalProto { name: Some(name.to_owned()), ..Default::default() };
    let Some(element) = elements.first() else { return proto };
    let list = element.list().unwrap_or_default();
    let of = match element.dtype() {
        DType::Sequence => {
            proto.sequence_value = Some(sequence_proto("", &list));
            Of::Sequence
        }
        DType::Optional => {
            proto.optional_value = Some(Box::new(optional_proto("", &list)));
            Of::Optional
        }
        DType::Map => {
            proto.map_value = Some(map_proto("", &list));
            Of::Map
        }
        _ => {
            proto.tensor_value = Some(tensor_proto("", element));
            Of::Tensor
        }
    };
    proto.elem_type = Some(of as i32);
    proto
}

fn map_proto(name: &str, parts: &[Tensor]) -> MapProto {
    let mut proto = MapProto { name: Some(name.to_owned()), ..Default::default() };
    if let [keys, values] = parts {
        proto.key_type = Some(data_type(keys.dtype()) as i32);
        match keys.strings() {
            Ok(texts) => {
                let texts = texts.iter().map(|text| Bytes::copy_from_slice(text.as_bytes()));
                proto.string_keys = texts.collect();
            }
            Err(_) => proto.keys = keys.to_i64(),
        }
        proto.values = Some(sequence_proto("", &values.list().unwrap_or_default()));
    }
    proto
}

fn tensor_proto(name: &str, tensor: &Tensor) -> TensorProto {
    let mut proto = TensorProto {
        name: Some(name.to_owned()),
        data_type: Some(data_type(tensor.dtype()) as i32),
        // A size of a tensor in memory is below 2⁶³.
        dims: tensor.sizes().iter().map(|&size| size as i64).collect(),
        ..Default::default()
    };
    if let Ok(texts) = tensor.strings() {
        let texts = texts.iter().map(|text| Bytes::copy_from_slice(text.as_bytes()));
        proto.string_data = texts.collect();
        return proto;
    }
    let raw = match tensor.dtype().bits() {
        ..8 => Bytes::from(packing::packed(tensor.dtype(), tensor.bytes())),
        _ => Bytes::copy_from_slice(tensor.bytes()),
    };
    proto.raw_data = Some(raw);
    proto
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
        DType::String => DataType::String,
        // No element type of a tensor in a file.
        DType::Sequence | DType::Optional | DType::Map => DataType::Undefined,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_element_type_survives() {
        for dtype in DType::ALL.into_iter().filter(|dtype| !dtype.is_handle()) {
            let tensor = Tensor::from_f64(dtype, vec![2, 1], &[0.0, 1.0]).unwrap();
            let bytes = tensor_to_proto("x", &tensor);
            assert_eq!(tensor_from_proto(&bytes, None).unwrap(), tensor);
            assert_eq!(TensorProto::decode(&bytes[..]).unwrap().name(), "x");
        }
    }

    #[test]
    fn objects_survive() {
        let text = Tensor::from_strings(vec![2], &["a", ""]).unwrap();
        assert_eq!(tensor_from_proto(&tensor_to_proto("x", &text), None).unwrap(), text);
        let number = Tensor::scalar(1.5f32).unwrap();
        let sequence = Tensor::from_list(DType::Sequence, &[number.clone(), number]).unwrap();
        let some = Tensor::from_list(DType::Optional, std::slice::from_ref(&sequence)).unwrap();
        let none = Tensor::from_list(DType::Optional, &[]).unwrap();
        let map = Tensor::from_list(DType::Map, &[text, sequence.clone()]).unwrap();
        let maps = Tensor::from_list(DType::Sequence, std::slice::from_ref(&map)).unwrap();
        for tensor in [sequence, some, none, map, maps] {
            let bytes = tensor_to_proto("x", &tensor);
            assert_eq!(tensor_from_proto(&bytes, Some(tensor.dtype())).unwrap(), tensor);
        }
    }

    #[test]
    fn other_bytes_are_errors() {
        for list in [None, Some(DType::Sequence), Some(DType::Optional), Some(DType::Map)] {
            let error = tensor_from_proto(b"\x08\xff", list).unwrap_err();
            assert_eq!(error.code(), "tensor/damaged");
        }
        let unknown = TensorProto { data_type: Some(99), ..Default::default() };
        let error = tensor_from_proto(&unknown.encode_to_vec(), None).unwrap_err();
        assert_eq!(error.code(), "tensor/unusable");
        assert!(error.to_string().contains("99"), "{error}");
    }
}
