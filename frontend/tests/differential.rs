//! A second, independent decoder sees the same model: onnx-protobuf beside prost.
//!
//! Invariant: every node, attribute, initializer and declared type is compared, subgraphs and
//! functions included.

use kiln_frontend::Model;
use kiln_frontend::proto;
use onnx_protobuf as other;
use onnx_protobuf::Message as _;

fn same_tensor(ours: &proto::TensorProto, theirs: &other::TensorProto) {
    assert_eq!(ours.name(), theirs.name);
    assert_eq!(ours.dims, theirs.dims);
    assert_eq!(ours.data_type(), theirs.data_type);
    assert_eq!(ours.raw_data.clone().unwrap_or_default().as_ref(), theirs.raw_data);
    assert_eq!(ours.float_data, theirs.float_data);
    assert_eq!(ours.double_data, theirs.double_data);
    assert_eq!(ours.int32_data, theirs.int32_data);
    assert_eq!(ours.int64_data, theirs.int64_data);
    assert_eq!(ours.uint64_data, theirs.uint64_data);
}

fn same_value(ours: &proto::ValueInfoProto, theirs: &other::ValueInfoProto) {
    assert_eq!(ours.name(), theirs.name);
    let Some(ty) = &ours.r#type else {
        assert!(theirs.type_.is_none());
        return;
    };
    let Some(proto::type_proto::Value::TensorType(tensor)) = &ty.value else { return };
    let other = theirs.type_.tensor_type();
    assert_eq!(tensor.elem_type(), other.elem_type);
    let dims = tensor.shape.as_ref().map_or(&[][..], |shape| &shape.dim);
    assert_eq!(dims.len(), other.shape.dim.len());
    for (dim, other) in dims.iter().zip(&other.shape.dim) {
        use proto::tensor_shape_proto::dimension::Value;
        match &dim.value {
            Some(Value::DimParam(name)) => assert_eq!(name, other.dim_param()),
            Some(Value::DimValue(value)) => assert_eq!(*value, other.dim_value()),
            None => assert!(!other.has_dim_param() && !other.has_dim_value()),
        }
    }
}

fn same_nodes(ours: &[proto::NodeProto], theirs: &[other::NodeProto]) -> usize {
    assert_eq!(ours.len(), theirs.len());
    let mut count = ours.len();
    for (node, other) in ours.iter().zip(theirs) {
        assert_eq!(node.name(), other.name);
        assert_eq!(node.op_type(), other.op_type);
        assert_eq!(node.domain(), other.domain);
        assert_eq!((&node.input, &node.output), (&other.input, &other.output));
        assert_eq!(node.attribute.len(), other.attribute.len());
        for (ours, theirs) in node.attribute.iter().zip(&other.attribute) {
            assert_eq!(ours.name(), theirs.name);
            assert_eq!(ours.ref_attr_name(), theirs.ref_attr_name);
            assert_eq!(ours.r#type() as i32, theirs.type_.value());
            assert_eq!((ours.f(), ours.i()), (theirs.f, theirs.i));
            assert_eq!(ours.s.clone().unwrap_or_default().as_ref(), theirs.s);
            assert_eq!((&ours.floats, &ours.ints), (&theirs.floats, &theirs.ints));
            let strings: Vec<_> = ours.strings.iter().map(|text| text.to_vec()).collect();
            assert_eq!(strings, theirs.strings);
            assert_eq!(ours.t.is_some(), theirs.t.is_some());
            if let Some(tensor) = &ours.t {
                same_tensor(tensor, &theirs.t);
            }
            assert_eq!(ours.g.is_some(), theirs.g.is_some());
            if let Some(graph) = &ours.g {
                count += same_graph(graph, &theirs.g);
            }
        }
    }
    count
}

fn same_graph(ours: &proto::GraphProto, theirs: &other::GraphProto) -> usize {
    assert_eq!(ours.name(), theirs.name);
    assert_eq!(ours.initializer.len(), theirs.initializer.len());
    for (tensor, other) in ours.initializer.iter().zip(&theirs.initializer) {
        same_tensor(tensor, other);
    }
    for (ours, theirs) in [(&ours.input, &theirs.input), (&ours.output, &theirs.output)] {
        assert_eq!(ours.len(), theirs.len());
        for (value, other) in ours.iter().zip(theirs) {
            same_value(value, other);
        }
    }
    same_nodes(&ours.node, &theirs.node)
}

#[test]
fn two_decoders_agree() {
    let models: [(&str, &[u8], usize); 2] = [
        ("zfnet512_light", include_bytes!("models/zfnet512_light.onnx"), 38),
        ("control", include_bytes!("models/control.onnx"), 8),
    ];
    for (name, bytes, nodes) in models {
        let ours = Model::from_bytes(bytes).unwrap();
        let theirs = other::ModelProto::parse_from_bytes(bytes).unwrap();
        assert_eq!(ours.proto().ir_version(), theirs.ir_version, "{name}");
        let imports: Vec<_> = theirs.opset_import.iter().map(|i| (&i.domain, i.version)).collect();
        assert_eq!(imports.len(), ours.opsets().len(), "{name}");
        for (domain, version) in imports {
            let domain = kiln_frontend::read::canonical_domain(domain);
            assert_eq!(ours.opsets().get(domain), Some(&version), "{name}");
        }
        let mut count = same_graph(ours.graph(), &theirs.graph);
        assert_eq!(ours.proto().functions.len(), theirs.functions.len());
        for (function, other) in ours.proto().functions.iter().zip(&theirs.functions) {
            assert_eq!(function.name(), other.name);
            assert_eq!((&function.input, &function.output), (&other.input, &other.output));
            assert_eq!(function.attribute, other.attribute);
            count += same_nodes(&function.node, &other.node);
        }
        assert_eq!(count, nodes, "{name}: nodes compared");
    }
}
