//! What the reader accepts, and what it says of what it does not.
//!
//! Invariant: every kind of `ReadError` is provoked here, under its code.

use kiln_frontend::Model;
use kiln_frontend::ReadError;
use kiln_frontend::proto::{
    GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, tensor_proto::DataType,
};
use kiln_frontend::read::{IR_VERSIONS, OPSET_VERSIONS};
use prost::Message;

fn opset(domain: &str, version: i64) -> OperatorSetIdProto {
    OperatorSetIdProto { domain: Some(domain.to_owned()), version: Some(version) }
}

fn model() -> ModelProto {
    let node = NodeProto {
        op_type: Some("Relu".to_owned()),
        input: vec!["w".to_owned()],
        output: vec!["y".to_owned()],
        ..Default::default()
    };
    let weight = TensorProto {
        name: Some("w".to_owned()),
        dims: vec![1024],
        data_type: Some(DataType::Float as i32),
        raw_data: Some(vec![7; 4096].into()),
        ..Default::default()
    };
    ModelProto {
        ir_version: Some(8),
        opset_import: vec![opset("", 17)],
        graph: Some(GraphProto {
            node: vec![node],
            initializer: vec![weight],
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn code(bytes: Vec<u8>) -> &'static str {
    match Model::from_bytes(bytes) {
        Ok(_) => "ok",
        Err(error) => {
            assert!(!error.help().is_empty() && !error.to_string().is_empty());
            error.code()
        }
    }
}

fn changed(change: impl FnOnce(&mut ModelProto)) -> Vec<u8> {
    let mut model = model();
    change(&mut model);
    model.encode_to_vec()
}

#[test]
fn each_fault_has_its_code() {
    let whole = model().encode_to_vec();
    let mut damaged = whole.clone();
    // The graph is the outer message's longest field: its inside becomes nonsense, its length stays.
    let graph = damaged.iter().position(|&byte| byte == 7 << 3 | 2).unwrap();
    damaged[graph + 3..graph + 9].fill(0xff);
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("ok", whole.clone()),
        ("read/empty", Vec::new()),
        ("read/truncated", whole[..whole.len() / 2].to_vec()),
        ("read/damaged", damaged),
        ("read/not-protobuf", b"import torch\n".to_vec()),
        ("read/not-protobuf", vec![0xff; 64]),
        ("read/other-format", b"version https://git-lfs.github.com/spec/v1\n".to_vec()),
        ("read/other-format", b"PK\x03\x04rest".to_vec()),
        ("read/other-format", b"<!DOCTYPE html>".to_vec()),
        ("read/other-format", b"\x20\x00\x00\x00\x00\x00\x00\x00{\"a\":1}".to_vec()),
        ("read/no-graph", changed(|model| model.graph = None)),
        ("read/ir-version", changed(|model| model.ir_version = Some(0))),
        ("read/ir-version", changed(|model| model.ir_version = Some(15))),
        ("read/ir-version", changed(|model| model.ir_version = None)),
        ("read/no-opset", changed(|model| model.opset_import = Vec::new())),
        ("read/opset", changed(|model| model.opset_import = vec![opset("ai.onnx", 0)])),
        ("read/opset", changed(|model| model.opset_import = vec![opset("", 29)])),
        (
            "read/opset-conflict",
            changed(|model| model.opset_import = vec![opset("", 17), opset("ai.onnx", 18)]),
        ),
    ];
    for (expected, bytes) in cases {
        let start = String::from_utf8_lossy(&bytes[..bytes.len().min(24)]).into_owned();
        assert_eq!(code(bytes), expected, "{start:?}");
    }
}

#[test]
fn every_supported_version_is_read() {
    for version in IR_VERSIONS {
        assert_eq!(code(changed(|model| model.ir_version = Some(version))), "ok");
    }
    for version in OPSET_VERSIONS {
        assert_eq!(code(changed(|model| model.opset_import = vec![opset("", version)])), "ok");
    }
}

#[test]
fn faults_of_the_file_itself() {
    let folder = tempfile::tempdir().unwrap();
    let missing = Model::open(folder.path().join("missing.onnx")).unwrap_err();
    assert!(matches!(missing, ReadError::Io { .. }));
    assert!(missing.to_string().contains("missing.onnx"));
    assert!(matches!(Model::open(folder.path()), Err(ReadError::NotAFile { .. })));
    let empty = folder.path().join("empty.onnx");
    std::fs::write(&empty, []).unwrap();
    assert!(matches!(Model::open(&empty), Err(ReadError::Empty)));
    // Sparse: it takes no room on the disk, and must be refused before it is mapped.
    let huge = folder.path().join("huge.onnx");
    std::fs::File::create(&huge).unwrap().set_len(3 << 30).unwrap();
    assert!(matches!(Model::open(&huge), Err(ReadError::TooLarge { .. })));
}

#[test]
fn weights_stay_in_the_mapped_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.onnx");
    std::fs::write(&path, model().encode_to_vec()).unwrap();
    let model = Model::open(&path).unwrap();
    let [tensor] = &model.graph().initializer[..] else { panic!("one initializer") };
    let host = model.tensor(tensor).unwrap();
    assert_eq!(host.sizes(), [1024]);
    assert_eq!(host.bytes().as_ptr(), tensor.raw_data.as_ref().unwrap().as_ptr());
    let again = model.tensor(tensor).unwrap();
    assert_eq!(host.bytes().as_ptr(), again.bytes().as_ptr());
}

#[test]
fn nesting_and_lengths_cannot_crash() {
    // A graph in an attribute of a node of a graph …, deeper than any stack could take.
    let mut message = GraphProto::default().encode_to_vec();
    for _ in 0..20_000 {
        // graph ∋ node (1) ∋ attribute (5) ∋ g (6)
        for field in [6u8, 5, 1] {
            let mut outer = vec![field << 3 | 2];
            prost::encoding::encode_varint(message.len() as u64, &mut outer);
            outer.extend_from_slice(&message);
            message = outer;
        }
        if message.len() > 200_000 {
            break;
        }
    }
    let mut nested = vec![7 << 3 | 2];
    prost::encoding::encode_varint(message.len() as u64, &mut nested);
    nested.extend_from_slice(&message);
    assert_eq!(code(nested), "read/damaged");
    // A length of 2^63 bytes.
    let mut hostile = vec![7 << 3 | 2];
    prost::encoding::encode_varint(1 << 63, &mut hostile);
    assert_eq!(code(hostile), "read/truncated");
}

proptest::proptest! {
    #[test]
    fn damaged_bytes_never_crash(
        flips in proptest::collection::vec((0usize..400, 0u8..=255), 1..12),
        cut in 0usize..5000,
    ) {
        let mut bytes = model().encode_to_vec();
        bytes.truncate(cut.max(1));
        for (at, byte) in flips {
            let length = bytes.len();
            bytes[at % length] = byte;
        }
        if let Ok(model) = Model::from_bytes(bytes) {
            for tensor in &model.graph().initializer {
                let _ = model.tensor(tensor);
            }
            let _ = kiln_frontend::resolve::resolve(&model);
        }
    }
}
