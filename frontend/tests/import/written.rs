//! Models written as lines of text.
//!
//! ```text
//! case NAME opset N [ml N]            versions of the default domain and of ai.onnx.ml
//! input NAME TYPE[sizes] values…     an operand given at run time; a size `n=3` is open
//! const NAME TYPE[sizes] values…     an initializer
//! node OP in,in > out,out attr=…     `_` leaves one out; `domain:OP` for another domain
//! output NAME [TYPE[sizes] values…]  a result, with what is expected of it
//! type NAME TYPE[dims]               the type that a result is expected to have
//! fails MESSAGE                      what the error of a run is expected to say
//! ```
//!
//! Values may be one for all elements, or `wave`: numbers that look like data. Invariant: a line
//! that cannot be read fails its test.

use kiln_frontend::proto::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto,
    TensorShapeProto, TypeProto, ValueInfoProto, attribute_proto::AttributeType,
    tensor_shape_proto, type_proto,
};
use kiln_frontend::tensor_to_proto;
use kiln_tensor::{DType, Tensor};
use prost::Message;

/// A case: a model, its operands, what is expected of its results.
#[derive(Default)]
pub struct Case {
    pub name: String,
    pub model: ModelProto,
    pub operands: Vec<Tensor>,
    pub expected: Vec<Tensor>,
    pub types: Vec<(String, String)>,
    pub fails: Option<String>,
}

/// Every case of a text; empty lines part them.
pub fn cases(text: &str) -> Vec<Case> {
    let blocks = text.split("\n\n").map(|block| {
        block.lines().filter(|line| !line.starts_with('#')).collect::<Vec<_>>().join("\n")
    });
    blocks.filter(|block| !block.trim().is_empty()).map(|block| case(&block)).collect()
}

/// One case.
pub fn case(text: &str) -> Case {
    let mut case = Case::default();
    let mut graph = GraphProto { name: Some("g".to_owned()), ..Default::default() };
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["case", name, "opset", opset, ml @ ..] => {
                case.name = name.to_string();
                let import = |domain: &str, version| OperatorSetIdProto {
                    domain: Some(domain.to_owned()),
                    version: Some(version),
                };
                let opset = opset.parse().unwrap();
                let ml = if let ["ml", version] = ml { version.parse().unwrap() } else { 3 };
                case.model.opset_import = vec![
                    import("", opset),
                    import("com.microsoft", 1),
                    import("ai.onnx.ml", ml),
                    import("ai.onnx.preview.training", 1),
                    import("ai.onnx.preview", 1),
                ];
                case.model.ir_version = Some(8);
            }
            ["input", name, tensor @ ..] => {
                graph.input.push(input(name, tensor[0]));
                case.operands.push(self::tensor(tensor));
            }
            ["const", name, tensor @ ..] => {
                graph.initializer.push(initializer(name, &self::tensor(tensor)));
            }
            ["node", rest @ ..] => graph.node.push(node(rest)),
            ["output", name, tensor @ ..] => {
                let output = ValueInfoProto { name: Some(name.to_string()), ..Default::default() };
                graph.output.push(output);
                if !tensor.is_empty() {
                    case.expected.push(self::tensor(tensor));
                }
            }
            ["type", name, ty @ ..] => case.types.push((name.to_string(), ty.join(" "))),
            ["fails", message @ ..] => case.fails = Some(message.join(" ")),
            _ => panic!("cannot read `{line}`"),
        }
    }
    case.model.graph = Some(graph);
    case
}

fn initializer(name: &str, tensor: &Tensor) -> TensorProto {
    TensorProto::decode(tensor_to_proto(name, tensor).as_slice()).unwrap()
}

/// `f32[n=2,3]` in parts.
fn head(text: &str) -> (DType, Vec<&str>) {
    let (dtype, sizes) = text.strip_suffix(']').unwrap().split_once('[').unwrap();
    (dtype.parse().unwrap(), sizes.split(',').filter(|size| !size.is_empty()).collect())
}

fn input(name: &str, text: &str) -> ValueInfoProto {
    use tensor_shape_proto::{Dimension, dimension};
    let (dtype, sizes) = head(text);
    let dims = sizes.into_iter().map(|size| {
        let value = match size.split_once('=') {
            // A size without a name.
            Some(("", _)) => None,
            Some((name, _)) => Some(dimension::Value::DimParam(name.to_owned())),
            None => Some(dimension::Value::DimValue(size.parse().unwrap())),
        };
        Dimension { value, ..Default::default() }
    });
    let scalar = tensor_to_proto("", &Tensor::zeros(dtype, Vec::new()).unwrap());
    let tensor = type_proto::Tensor {
        elem_type: TensorProto::decode(scalar.as_slice()).unwrap().data_type,
        shape: Some(TensorShapeProto { dim: dims.collect() }),
    };
    let ty = TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..Default::default() };
    ValueInfoProto { name: Some(name.to_owned()), r#type: Some(ty), ..Default::default() }
}

fn tensor(words: &[&str]) -> Tensor {
    let (dtype, sizes) = head(words[0]);
    let sizes: Vec<usize> =
        sizes.iter().map(|size| size.rsplit('=').next().unwrap().parse().unwrap()).collect();
    let count: usize = sizes.iter().product();
    let unsigned = dtype.is_integer() && !dtype.is_signed();
    let wave = |place: usize| {
        let step = ((place * 7 + 3) % 11) as f64 - 5.0;
        let shift = if unsigned { 5.0 } else { 0.0 };
        if dtype.is_float() { step / 2.0 } else { step + shift }
    };
    if let (DType::I64, [_, value]) = (dtype, words)
        && let Ok(value) = value.parse::<i64>()
    {
        return Tensor::from_slice(sizes, &vec![value; count]).unwrap();
    }
    if let (DType::I64, [_, values @ ..]) = (dtype, words)
        && values.len() > 1
    {
        let values: Vec<i64> = values.iter().map(|value| value.parse().unwrap()).collect();
        return Tensor::from_slice(sizes, &values).unwrap();
    }
    let values: Vec<f64> = match &words[1..] {
        ["wave"] => (0..count).map(wave).collect(),
        [one] => vec![one.parse().unwrap(); count],
        values => values.iter().map(|value| value.parse().unwrap()).collect(),
    };
    Tensor::from_f64(dtype, sizes, &values).unwrap()
}

fn node(words: &[&str]) -> NodeProto {
    let (domain, op) = words[0].rsplit_once(':').unwrap_or(("", words[0]));
    let arrow = words.iter().position(|word| *word == ">").unwrap();
    let names = |words: &[&str]| -> Vec<String> {
        let names = words.iter().flat_map(|word| word.split(','));
        names.map(|name| if name == "_" { String::new() } else { name.to_owned() }).collect()
    };
    NodeProto {
        op_type: Some(op.to_owned()),
        domain: Some(domain.to_owned()),
        input: names(&words[1..arrow]),
        output: names(&words[arrow + 1..=arrow + 1]),
        attribute: words[arrow + 2..].iter().map(|text| attribute(text)).collect(),
        ..Default::default()
    }
}

fn attribute(text: &str) -> AttributeProto {
    let (name, value) = text.split_once('=').unwrap();
    let mut made = AttributeProto { name: Some(name.to_owned()), ..Default::default() };
    let string = |text: &str| text.trim_matches('\'').as_bytes().to_vec().into();
    let is_float = |text: &str| text.contains(['.', 'e']) || text == "nan";
    let kind = if let Some(list) = value.strip_prefix('[').and_then(|v| v.strip_suffix(']')) {
        let items: Vec<&str> = list.split(',').filter(|item| !item.is_empty()).collect();
        match items.first() {
            Some(first) if first.starts_with('\'') => {
                made.strings = items.iter().map(|item| string(item)).collect();
                AttributeType::Strings
            }
            Some(first) if is_float(first) => {
                made.floats = items.iter().map(|item| item.parse().unwrap()).collect();
                AttributeType::Floats
            }
            _ => {
                made.ints = items.iter().map(|item| item.parse().unwrap()).collect();
                AttributeType::Ints
            }
        }
    } else if let Some((head, values)) = value.split_once("]:") {
        let head = format!("{head}]");
        let words: Vec<&str> = std::iter::once(head.as_str()).chain(values.split(',')).collect();
        made.t = Some(initializer("", &tensor(&words)));
        AttributeType::Tensor
    } else if value.starts_with('\'') {
        made.s = Some(string(value));
        AttributeType::String
    } else if is_float(value) {
        made.f = Some(value.parse().unwrap());
        AttributeType::Float
    } else {
        made.i = Some(value.parse().unwrap());
        AttributeType::Int
    };
    made.r#type = Some(kind as i32);
    made
}

/// What is wrong with a result, if it is not what was expected: integers exactly, floats within
/// some roundings of their type.
pub fn difference(actual: &Tensor, expected: &Tensor) -> Option<String> {
    if actual.dtype() != expected.dtype() || actual.sizes() != expected.sizes() {
        let ty = |tensor: &Tensor| format!("{}{:?}", tensor.dtype(), tensor.sizes());
        return Some(format!("is {} instead of {}", ty(actual), ty(expected)));
    }
    let allowed = 64.0 * actual.dtype().unit_roundoff();
    let close = |a: f64, b: f64| (a - b).abs() <= allowed * (1.0 + b.abs());
    let same = |a: f64, b: f64| a == b || (a.is_nan() && b.is_nan()) || close(a, b);
    let pairs = actual.to_f64().into_iter().zip(expected.to_f64());
    let mut wrong = pairs.enumerate().filter(|&(_, (a, b))| !same(a, b));
    wrong.next().map(|(place, (a, b))| format!("element {place} is {a} instead of {b}"))
}
