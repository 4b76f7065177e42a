//! A decoded model together with the bytes it borrows from.
//!
//! Invariant: a `Model` has a graph, a supported IR version and, if it imports ai.onnx at all, a
//! supported version of it.

use super::external::ExternalFiles;
use super::{ReadError, TensorProblem, source, tensor, wire};
use crate::proto::{GraphProto, ModelProto, OperatorSetIdProto, TensorProto};
use bytes::Bytes;
use kiln_tensor::Tensor;
use prost::Message;
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::Path;

/// ONNX IR versions that can be read.
pub const IR_VERSIONS: RangeInclusive<i64> = 1..=14;

/// The first IR version in which models say which operator sets they use.
const IR_WITH_OPSETS: i64 = 3;

/// Versions of the ai.onnx operator set that can be read.
pub const OPSET_VERSIONS: RangeInclusive<i64> = 1..=28;

/// Greatest length of a model file: what a protobuf message can have.
pub const MAX_MODEL_BYTES: u64 = i32::MAX as u64;

/// The name of the default operator domain, which models also write as the empty string.
pub const ONNX_DOMAIN: &str = "ai.onnx";

/// The domain with its one name: the default one has two in the format.
pub fn canonical_domain(domain: &str) -> &str {
    if domain.is_empty() { ONNX_DOMAIN } else { domain }
}

/// A model as it stands in its file: decoded structure, weights in place.
#[derive(Debug)]
pub struct Model {
    proto: ModelProto,
    graph: GraphProto,
    opsets: BTreeMap<String, i64>,
    external: ExternalFiles,
}

impl Model {
    /// Reads the model at `path`. The file stays mapped as long as anything borrows from it.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, ReadError> {
        let path = path.as_ref();
        Self::decode(source::map_model(path)?, ExternalFiles::beside(path))
    }

    /// Reads a model from memory; it can refer to no external data.
    pub fn from_bytes(bytes: impl Into<Bytes>) -> Result<Self, ReadError> {
        Self::decode(bytes.into(), ExternalFiles::default())
    }

    fn decode(bytes: Bytes, external: ExternalFiles) -> Result<Self, ReadError> {
        if bytes.len() as u64 > MAX_MODEL_BYTES {
            return Err(ReadError::TooLarge { bytes: bytes.len() as u64, limit: MAX_MODEL_BYTES });
        }
        wire::check(&bytes)?;
        // prost stops at a nesting of 100 messages and checks each length against what is left.
        let mut proto = ModelProto::decode(bytes)
            .map_err(|error| ReadError::Damaged { detail: error.to_string() })?;
        let graph = proto.graph.take().ok_or(ReadError::NoGraph)?;
        let found = proto.ir_version();
        if !IR_VERSIONS.contains(&found) {
            let (min, max) = (*IR_VERSIONS.start(), *IR_VERSIONS.end());
            return Err(ReadError::IrVersion { found, min, max });
        }
        let mut opsets = opset_versions(&proto.opset_import)?;
        if opsets.is_empty() {
            if found >= IR_WITH_OPSETS {
                return Err(ReadError::NoOpset);
            }
            opsets.insert(ONNX_DOMAIN.to_owned(), 1);
        }
        if let Some(&found) = opsets.get(ONNX_DOMAIN)
            && !OPSET_VERSIONS.contains(&found)
        {
            return Err(ReadError::Opset {
                domain: ONNX_DOMAIN.to_owned(),
                found,
                min: *OPSET_VERSIONS.start(),
                max: *OPSET_VERSIONS.end(),
            });
        }
        Ok(Model { proto, graph, opsets, external })
    }

    /// The decoded message, without its graph.
    pub fn proto(&self) -> &ModelProto {
        &self.proto
    }

    /// The main graph.
    pub fn graph(&self) -> &GraphProto {
        &self.graph
    }

    /// The imported operator set versions by canonical domain.
    pub fn opsets(&self) -> &BTreeMap<String, i64> {
        &self.opsets
    }

    /// A tensor of the model (an initializer or an attribute). Raw and external bytes are shared
    /// with the mapped file, those of typed fields are converted.
    pub fn tensor(&self, tensor: &TensorProto) -> Result<Tensor, TensorProblem> {
        tensor::to_host(tensor, &self.external)
    }
}

/// The versions by canonical domain; an error if a domain has two.
pub(crate) fn opset_versions(
    imports: &[OperatorSetIdProto],
) -> Result<BTreeMap<String, i64>, ReadError> {
    let mut opsets = BTreeMap::new();
    for import in imports {
        let domain = canonical_domain(import.domain()).to_owned();
        let second = import.version();
        if let Some(first) = opsets.insert(domain.clone(), second)
            && first != second
        {
            return Err(ReadError::OpsetConflict { domain, first, second });
        }
    }
    Ok(opsets)
}
