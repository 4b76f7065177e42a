//! Attribute values, typed.
//!
//! Invariant: an attribute holds exactly the field that its type names.

use super::Body;
use crate::proto::{AttributeProto, TensorProto, TypeProto, attribute_proto::AttributeType};
use bytes::Bytes;

/// The value of an attribute.
#[derive(Debug)]
#[non_exhaustive]
pub enum Attribute<'m> {
    /// A number.
    Float(f32),
    /// An integer.
    Int(i64),
    /// A string, by convention UTF-8.
    String(&'m Bytes),
    /// A tensor.
    Tensor(&'m TensorProto),
    /// A graph with its names resolved.
    Graph(Box<Body<'m>>),
    /// Numbers.
    Floats(&'m [f32]),
    /// Integers.
    Ints(&'m [i64]),
    /// Strings.
    Strings(&'m [Bytes]),
    /// A type.
    Type(&'m TypeProto),
    /// Sparse tensors and lists of tensors or graphs, which no importer reads.
    Other(&'static str),
}

impl Attribute<'_> {
    /// ONNX's name of the attribute's type.
    pub fn type_name(&self) -> &'static str {
        match self {
            Attribute::Float(_) => "float",
            Attribute::Int(_) => "int",
            Attribute::String(_) => "string",
            Attribute::Tensor(_) => "tensor",
            Attribute::Graph(_) => "graph",
            Attribute::Floats(_) => "floats",
            Attribute::Ints(_) => "ints",
            Attribute::Strings(_) => "strings",
            Attribute::Type(_) => "type",
            Attribute::Other(name) => name,
        }
    }
}

/// The attribute's type; exporters of IR 3 may leave it out, then the field that is set tells it.
pub(super) fn attribute_type(attribute: &AttributeProto) -> AttributeType {
    match attribute.r#type() {
        AttributeType::Undefined if attribute.f.is_some() => AttributeType::Float,
        AttributeType::Undefined if attribute.i.is_some() => AttributeType::Int,
        AttributeType::Undefined if attribute.s.is_some() => AttributeType::String,
        AttributeType::Undefined if attribute.t.is_some() => AttributeType::Tensor,
        AttributeType::Undefined if attribute.g.is_some() => AttributeType::Graph,
        AttributeType::Undefined if !attribute.floats.is_empty() => AttributeType::Floats,
        AttributeType::Undefined if !attribute.ints.is_empty() => AttributeType::Ints,
        AttributeType::Undefined if !attribute.strings.is_empty() => AttributeType::Strings,
        known => known,
    }
}

/// What a string attribute is whose field an exporter left out because it is empty.
static EMPTY: Bytes = Bytes::new();

/// The value, unless it is a graph or has no type. Protobuf writers may leave out a field that
/// has its default value, so a missing number is zero.
pub(super) fn plain(attribute: &AttributeProto) -> Option<Attribute<'_>> {
    Some(match attribute_type(attribute) {
        AttributeType::Float => Attribute::Float(attribute.f()),
        AttributeType::Int => Attribute::Int(attribute.i()),
        AttributeType::String => Attribute::String(attribute.s.as_ref().unwrap_or(&EMPTY)),
        AttributeType::Tensor => Attribute::Tensor(attribute.t.as_ref()?),
        AttributeType::Floats => Attribute::Floats(&attribute.floats),
        AttributeType::Ints => Attribute::Ints(&attribute.ints),
        AttributeType::Strings => Attribute::Strings(&attribute.strings),
        AttributeType::SparseTensor => Attribute::Other("sparse_tensor"),
        AttributeType::SparseTensors => Attribute::Other("sparse_tensors"),
        AttributeType::Tensors => Attribute::Other("tensors"),
        AttributeType::Graphs => Attribute::Other("graphs"),
        AttributeType::TypeProto => match &attribute.tp {
            Some(ty) => Attribute::Type(ty),
            None => Attribute::Other("type_proto"),
        },
        AttributeType::TypeProtos => Attribute::Other("type_protos"),
        AttributeType::Graph | AttributeType::Undefined => return None,
    })
}
