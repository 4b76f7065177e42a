//! Small ONNX models, written here, for tests of the library and the command line.
//!
//! Invariant: every model is valid, and its weights are a fixed function of their place.

use kiln_frontend::proto::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto,
    TensorShapeProto, TypeProto, ValueInfoProto, attribute_proto::AttributeType,
    tensor_proto::DataType, tensor_shape_proto, type_proto,
};
use prost::Message;

/// A dimension: a size, or a name.
#[derive(Clone, Copy)]
pub enum D {
    Size(i64),
    Name(&'static str),
}

/// A node: operator, inputs and outputs with commas between.
pub fn node(op: &str, inputs: &str, outputs: &str) -> NodeProto {
    let names = |text: &str| text.split(',').map(str::to_owned).collect();
    NodeProto {
        op_type: Some(op.to_owned()),
        name: Some(format!("{op}_{outputs}")),
        input: names(inputs),
        output: names(outputs),
        ..Default::default()
    }
}

/// A node with an integer attribute.
pub fn node_with(op: &str, inputs: &str, outputs: &str, name: &str, value: i64) -> NodeProto {
    let attribute = AttributeProto {
        name: Some(name.to_owned()),
        r#type: Some(AttributeType::Int as i32),
        i: Some(value),
        ..Default::default()
    };
    NodeProto { attribute: vec![attribute], ..node(op, inputs, outputs) }
}

/// A constant of 32-bit floats.
pub fn floats(name: &str, sizes: &[i64], values: &[f32]) -> TensorProto {
    TensorProto {
        name: Some(name.to_owned()),
        data_type: Some(DataType::Float as i32),
        dims: sizes.to_vec(),
        raw_data: Some(values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>().into()),
        ..Default::default()
    }
}

/// The declaration of a tensor of strings.
pub fn strings(name: &str, shape: &[D]) -> ValueInfoProto {
    of_type(name, shape, DataType::String)
}

/// The declaration of a tensor of 64-bit integers.
pub fn integers(name: &str, shape: &[D]) -> ValueInfoProto {
    of_type(name, shape, DataType::Int64)
}

fn of_type(name: &str, shape: &[D], dtype: DataType) -> ValueInfoProto {
    let mut info = value(name, shape);
    let kind = info.r#type.as_mut().and_then(|kind| kind.value.as_mut());
    if let Some(type_proto::Value::TensorType(tensor)) = kind {
        tensor.elem_type = Some(dtype as i32);
    }
    info
}

/// The declaration of a tensor of 32-bit floats.
pub fn value(name: &str, shape: &[D]) -> ValueInfoProto {
    let dims = shape.iter().map(|dim| tensor_shape_proto::Dimension {
        value: Some(match *dim {
            D::Size(size) => tensor_shape_proto::dimension::Value::DimValue(size),
            D::Name(name) => tensor_shape_proto::dimension::Value::DimParam(name.to_owned()),
        }),
        ..Default::default()
    });
    let tensor = type_proto::Tensor {
        elem_type: Some(DataType::Float as i32),
        shape: Some(TensorShapeProto { dim: dims.collect() }),
    };
    ValueInfoProto {
        name: Some(name.to_owned()),
        r#type: Some(TypeProto {
            value: Some(type_proto::Value::TensorType(tensor)),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// The bytes of a model of opset 17.
pub fn model(
    inputs: Vec<ValueInfoProto>,
    constants: Vec<TensorProto>,
    nodes: Vec<NodeProto>,
    outputs: Vec<ValueInfoProto>,
) -> Vec<u8> {
    let graph = GraphProto {
        name: Some("small".to_owned()),
        input: inputs,
        initializer: constants,
        node: nodes,
        output: outputs,
        ..Default::default()
    };
    ModelProto {
        ir_version: Some(8),
        opset_import: vec![OperatorSetIdProto { domain: None, version: Some(17) }],
        graph: Some(graph),
        ..Default::default()
    }
    .encode_to_vec()
}

fn weights(count: usize) -> Vec<f32> {
    (0..count).map(|i| ((i * 37 % 101) as f32 - 50.0) / 60.0).collect()
}

/// `x: f32[batch, 8] → y: f32[batch, 4]`: two layers and a softmax.
pub fn perceptron() -> Vec<u8> {
    model(
        vec![value("x", &[D::Name("batch"), D::Size(8)])],
        vec![
            floats("w1", &[8, 16], &weights(128)),
            floats("b1", &[16], &weights(16)),
            floats("w2", &[16, 4], &weights(64)),
        ],
        vec![
            node("MatMul", "x,w1", "h"),
            node("Add", "h,b1", "i"),
            node("Relu", "i", "j"),
            node("MatMul", "j,w2", "k"),
            node_with("Softmax", "k", "y", "axis", -1),
        ],
        vec![value("y", &[D::Name("batch"), D::Size(4)])],
    )
}

/// [`perceptron`] with other weights, and a layer more in its middle.
pub fn deeper() -> Vec<u8> {
    let other = |from: usize, count: usize| weights(from + count)[from..].to_vec();
    model(
        vec![value("x", &[D::Name("batch"), D::Size(8)])],
        vec![
            floats("w1", &[8, 16], &other(5, 128)),
            floats("b1", &[16], &other(7, 16)),
            floats("w2", &[16, 16], &other(11, 256)),
            floats("w3", &[16, 4], &other(13, 64)),
        ],
        vec![
            node("MatMul", "x,w1", "h"),
            node("Add", "h,b1", "i"),
            node("Relu", "i", "j"),
            node("MatMul", "j,w2", "k"),
            node("Tanh", "k", "l"),
            node("MatMul", "l,w3", "m"),
            node_with("Softmax", "m", "y", "axis", -1),
        ],
        vec![value("y", &[D::Name("batch"), D::Size(4)])],
    )
}

/// Two layers that are equal but for their weights.
pub fn twins() -> Vec<u8> {
    model(
        vec![value("x", &[D::Name("batch"), D::Size(8)])],
        vec![floats("w1", &[8, 8], &weights(64)), floats("w2", &[8, 8], &weights(99)[35..])],
        vec![
            node("MatMul", "x,w1", "a"),
            node("Relu", "a", "b"),
            node("MatMul", "b,w2", "c"),
            node("Relu", "c", "y"),
        ],
        vec![value("y", &[D::Name("batch"), D::Size(8)])],
    )
}

/// `x: f32[batch, 8] → y: f32[batch, 4]`: columns that a constant names are picked out, so that
/// places to read from are part of the weights.
pub fn picker() -> Vec<u8> {
    let columns = TensorProto {
        name: Some("columns".to_owned()),
        data_type: Some(DataType::Int64 as i32),
        dims: vec![4],
        int64_data: vec![6, 0, 3, 3],
        ..Default::default()
    };
    model(
        vec![value("x", &[D::Name("batch"), D::Size(8)])],
        vec![columns],
        vec![node_with("Gather", "x,columns", "y", "axis", 1)],
        vec![value("y", &[D::Name("batch"), D::Size(4)])],
    )
}

/// `x: f32[rows, 2], at: i64[count] → y: f32[count, 2]`: rows that an input names.
pub fn lookup() -> Vec<u8> {
    model(
        vec![value("x", &[D::Name("rows"), D::Size(2)]), integers("at", &[D::Name("count")])],
        Vec::new(),
        vec![node("Gather", "x,at", "y")],
        vec![value("y", &[D::Name("count"), D::Size(2)])],
    )
}

/// `s: sequence of f32[2] → y: i64[]`: how many elements it has.
pub fn length() -> Vec<u8> {
    let mut s = value("s", &[D::Size(2)]);
    let element = s.r#type.take().map(Box::new);
    let sequence = type_proto::Sequence { elem_type: element };
    s.r#type = Some(TypeProto {
        value: Some(type_proto::Value::SequenceType(Box::new(sequence))),
        ..Default::default()
    });
    let length = node("SequenceLength", "s", "y");
    model(vec![s], Vec::new(), vec![length], vec![integers("y", &[])])
}

/// A model with three things wrong: an unknown operator, an unknown domain, operands that do not
/// fit.
pub fn broken() -> Vec<u8> {
    let mut foreign = node("Frobnicate", "x", "b");
    foreign.domain = Some("com.example".to_owned());
    model(
        vec![value("x", &[D::Size(2), D::Size(3)])],
        Vec::new(),
        vec![node("NoSuchOperator", "x", "a"), foreign, node("MatMul", "x,x", "c")],
        ["a", "b", "c"].map(|name| value(name, &[D::Size(2), D::Size(3)])).to_vec(),
    )
}
