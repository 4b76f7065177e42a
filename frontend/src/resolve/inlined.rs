//! How much a node adds to a model each time that the function around it is inlined, and a call to what is
//! to be looked at.
//!
//! Invariant: what a copy of a node takes, in the graph as well, is at most a constant and so many times
//! its weight.

use super::attribute::attribute_type;
use crate::proto::{
    AttributeProto, FunctionProto, NodeProto, TensorProto, attribute_proto::AttributeType,
};
use prost::Message;

/// What a value takes beside its name, in bytes.
const VALUE: usize = 64;

/// The weight in bytes of a node whose name stands behind `path`, and whose attributes are these.
/// Nodes of graphs in attributes are weighed by themselves.
pub(super) fn weight<'m>(
    proto: &NodeProto,
    path: &str,
    attributes: impl Iterator<Item = &'m AttributeProto>,
) -> usize {
    let texts = [path, proto.name(), proto.op_type(), proto.domain()];
    let own: usize = texts.iter().map(|text| text.len()).sum();
    let inputs = proto.input.len() * size_of::<usize>();
    let outputs: usize = proto.output.iter().map(|name| name.len() + VALUE).sum();
    own + inputs + outputs + attributes.map(of_attribute).sum::<usize>()
}

/// The weight in bytes of what a call of a function looks at before any of its nodes.
pub(super) fn signature(function: &FunctionProto) -> usize {
    let attributes = function.attribute.len() + function.attribute_proto.len();
    let values = function.input.len() + function.output.len();
    size_of::<String>() * (attributes + values + function.opset_import.len())
}

fn of_attribute(attribute: &AttributeProto) -> usize {
    let value = match (attribute_type(attribute), &attribute.g, &attribute.t) {
        (AttributeType::Graph, Some(graph), _) => {
            let initializers = graph.initializer.iter();
            let initializers = initializers.map(|tensor| tensor.name().len() + of_tensor(tensor));
            let inputs = graph.input.iter().map(|input| input.name().len());
            let outputs = graph.output.iter().map(|output| output.name().len());
            let values = initializers.chain(inputs).chain(outputs);
            graph.name().len() + values.map(|bytes| bytes + VALUE).sum::<usize>()
        }
        (AttributeType::Tensor, _, Some(tensor)) => of_tensor(tensor),
        _ => attribute.encoded_len(),
    };
    VALUE + attribute.name().len() + value
}

/// Raw data stay where they are.
fn of_tensor(tensor: &TensorProto) -> usize {
    tensor.encoded_len() - tensor.raw_data().len()
}
