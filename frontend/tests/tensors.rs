//! Initializers: every element type in both encodings, external files, and their faults.
//!
//! Invariant: no path in a model reaches a file outside its folder.

use kiln_frontend::Model;
use kiln_frontend::proto::{
    GraphProto, ModelProto, OperatorSetIdProto, StringStringEntryProto, TensorProto,
    tensor_proto::{DataLocation, DataType},
};
use kiln_frontend::read::TensorProblem;
use kiln_tensor::DType;
use prost::Message;
use std::path::Path;

fn bytes_of(tensor: TensorProto) -> Vec<u8> {
    ModelProto {
        ir_version: Some(8),
        opset_import: vec![OperatorSetIdProto { domain: None, version: Some(17) }],
        graph: Some(GraphProto { initializer: vec![tensor], ..Default::default() }),
        ..Default::default()
    }
    .encode_to_vec()
}

fn read(tensor: TensorProto) -> Result<kiln_tensor::Tensor, TensorProblem> {
    let model = Model::from_bytes(bytes_of(tensor)).unwrap();
    model.tensor(&model.graph().initializer[0])
}

fn tensor(data_type: DataType, dims: &[i64]) -> TensorProto {
    TensorProto {
        data_type: Some(data_type as i32),
        dims: dims.to_vec(),
        name: Some("t".to_owned()),
        ..Default::default()
    }
}

#[test]
fn typed_fields_of_every_element_type() {
    let half = half::f16::from_f32(1.5).to_bits() as i32;
    let brain = half::bf16::from_f32(-2.0).to_bits() as i32;
    type Fill = fn(&mut TensorProto, i64);
    let narrow: Fill = |tensor, value| tensor.int32_data = vec![value as i32];
    let cases: [(DataType, DType, Fill, i64, f64); 27] = [
        (DataType::Float, DType::F32, |t, v| t.float_data = vec![v as f32], -3, -3.0),
        (DataType::Double, DType::F64, |t, v| t.double_data = vec![v as f64], -3, -3.0),
        (DataType::Int64, DType::I64, |t, v| t.int64_data = vec![v], -3, -3.0),
        (DataType::Uint64, DType::U64, |t, v| t.uint64_data = vec![v as u64], 3, 3.0),
        (DataType::Uint32, DType::U32, |t, v| t.uint64_data = vec![v as u64], 3, 3.0),
        (DataType::Int32, DType::I32, narrow, -3, -3.0),
        (DataType::Int16, DType::I16, narrow, -3, -3.0),
        (DataType::Int8, DType::I8, narrow, -3, -3.0),
        (DataType::Uint16, DType::U16, narrow, 65535, 65535.0),
        (DataType::Uint8, DType::U8, narrow, 255, 255.0),
        (DataType::Bool, DType::Bool, narrow, 1, 1.0),
        (DataType::Float16, DType::F16, narrow, half as i64, 1.5),
        (DataType::Bfloat16, DType::BF16, narrow, brain as i64, -2.0),
        // The numbers of these codes are ml_dtypes'.
        (DataType::Uint2, DType::U2, narrow, 2, 2.0),
        (DataType::Uint4, DType::U4, narrow, 11, 11.0),
        (DataType::Int2, DType::I2, narrow, 2, -2.0),
        (DataType::Int4, DType::I4, narrow, 11, -5.0),
        (DataType::Float4e2m1, DType::F4E2M1, narrow, 0xb, -1.5),
        (DataType::Float6e2m3, DType::F6E2M3, narrow, 0x2b, -1.375),
        (DataType::Float6e3m2, DType::F6E3M2, narrow, 0x2b, -0.875),
        (DataType::Float8e4m3fn, DType::F8E4M3FN, narrow, 0xbb, -1.375),
        (DataType::Float8e4m3fnuz, DType::F8E4M3FNUZ, narrow, 0xbb, -0.6875),
        (DataType::Float8e5m2, DType::F8E5M2, narrow, 0xbb, -0.875),
        (DataType::Float8e5m2fnuz, DType::F8E5M2FNUZ, narrow, 0xbb, -0.4375),
        (DataType::Float8e8m0, DType::F8E8M0, narrow, 0x80, 2.0),
        (DataType::Complex64, DType::C64, |t, v| t.float_data = vec![v as f32, 7.0], 3, 3.0),
        (DataType::Complex128, DType::C128, |t, v| t.double_data = vec![v as f64, 7.0], 3, 3.0),
    ];
    for (data_type, dtype, fill, value, expected) in cases {
        let mut proto = tensor(data_type, &[1]);
        fill(&mut proto, value);
        let host = read(proto).unwrap();
        assert_eq!((host.dtype(), host.to_f64()), (dtype, vec![expected]), "{data_type:?}");
        // The same bytes as `raw_data` mean the same.
        let mut raw = tensor(data_type, &[1]);
        raw.raw_data = Some(host.bytes().to_vec().into());
        let raw = read(raw).unwrap();
        assert_eq!(raw, host, "{data_type:?}");
        let written = kiln_frontend::tensor_to_proto("t", &host);
        assert_eq!(
            kiln_frontend::tensor_from_proto(&written, None).unwrap(),
            host,
            "{data_type:?}"
        );
    }
}

#[test]
fn faulty_tensors() {
    let with = |dims: &[i64], raw: usize| {
        let mut proto = tensor(DataType::Float, dims);
        proto.raw_data = Some(vec![0; raw].into());
        read(proto)
    };
    assert_eq!(with(&[2, 2], 15).unwrap_err(), TensorProblem::Length { expected: 16, actual: 15 });
    assert!(matches!(with(&[-1], 4), Err(TensorProblem::Dims { .. })));
    assert!(matches!(with(&[i64::MAX, i64::MAX], 4), Err(TensorProblem::Dims { .. })));
    assert_eq!(with(&[1 << 32, 0], 0).unwrap().len(), 0);
    assert!(matches!(with(&[i64::MAX, 0], 0), Err(TensorProblem::Dims { .. })));
    let missing = read(tensor(DataType::Float, &[3])).unwrap_err();
    assert_eq!(missing, TensorProblem::Length { expected: 12, actual: 0 });
    let problem = read(tensor(DataType::String, &[1])).unwrap_err();
    assert!(matches!(problem, TensorProblem::Length { .. }));
    let mut text = tensor(DataType::String, &[1]);
    text.string_data = vec![vec![0xff].into()];
    assert_eq!(read(text).unwrap_err(), TensorProblem::Text);
    let problem = read(tensor(DataType::Undefined, &[1])).unwrap_err();
    assert_eq!(problem, TensorProblem::ElementType { number: 0 });
    let mut packed = tensor(DataType::Int4, &[3]);
    packed.raw_data = Some(vec![0x21].into());
    assert_eq!(read(packed).unwrap_err(), TensorProblem::Length { expected: 2, actual: 1 });
    let mut raw_bool = tensor(DataType::Bool, &[3]);
    raw_bool.raw_data = Some(vec![0u8, 2, 255].into());
    assert_eq!(read(raw_bool).unwrap().bytes(), [0, 1, 1]);
}

fn external(entries: &[(&str, &str)]) -> TensorProto {
    let entry = |(key, value): &(&str, &str)| StringStringEntryProto {
        key: Some(key.to_string()),
        value: Some(value.to_string()),
    };
    TensorProto {
        data_location: Some(DataLocation::External as i32),
        external_data: entries.iter().map(entry).collect(),
        ..tensor(DataType::Uint8, &[4])
    }
}

fn open_in(folder: &Path, tensor: TensorProto) -> Result<Vec<u8>, TensorProblem> {
    std::fs::create_dir_all(folder).unwrap();
    let path = folder.join("model.onnx");
    std::fs::write(&path, bytes_of(tensor)).unwrap();
    let model = Model::open(&path).unwrap();
    model.tensor(&model.graph().initializer[0]).map(|tensor| tensor.bytes().to_vec())
}

#[test]
fn external_data_is_read_in_place() {
    let outer = tempfile::tempdir().unwrap();
    let folder = outer.path().join("m");
    std::fs::create_dir_all(folder.join("weights")).unwrap();
    std::fs::write(folder.join("weights/w.bin"), [0, 1, 2, 3, 4, 5]).unwrap();
    for location in ["weights/w.bin", "./weights/w.bin"] {
        let entries = [("location", location), ("offset", "2"), ("length", "4")];
        assert_eq!(open_in(&folder, external(&entries)).unwrap(), [2, 3, 4, 5]);
        assert_eq!(open_in(&folder, external(&entries[..2])).unwrap(), [2, 3, 4, 5]);
    }
}

#[test]
fn external_data_stays_in_the_folder_and_in_bounds() {
    let outer = tempfile::tempdir().unwrap();
    let folder = outer.path().join("m");
    std::fs::create_dir_all(folder.join("pipe_is_a_folder")).unwrap();
    let secret = outer.path().join("secret");
    std::fs::write(&secret, [1, 2, 3, 4]).unwrap();
    std::fs::write(folder.join("w"), [1, 2, 3, 4]).unwrap();
    std::os::unix::fs::symlink(&secret, folder.join("link")).unwrap();
    std::os::unix::fs::symlink(outer.path(), folder.join("folder_link")).unwrap();
    let absolute = secret.to_str().unwrap();
    for location in ["../secret", absolute, "link", "folder_link/secret", "m/../../secret", ""] {
        let problem = open_in(&folder, external(&[("location", location)])).unwrap_err();
        assert!(matches!(problem, TensorProblem::OutsideFolder { .. }), "{location}: {problem}");
    }
    for location in ["absent", "pipe_is_a_folder", "a\0b"] {
        let problem = open_in(&folder, external(&[("location", location)])).unwrap_err();
        assert!(matches!(problem, TensorProblem::ExternalIo { .. }), "{location}: {problem}");
    }
    let far = "18446744073709551615";
    let range = |offset, length| {
        open_in(&folder, external(&[("location", "w"), ("offset", offset), ("length", length)]))
    };
    assert!(matches!(range("1", "4"), Err(TensorProblem::ExternalRange { .. })));
    assert!(matches!(range(far, "4"), Err(TensorProblem::ExternalRange { .. })));
    assert!(matches!(range("0", "3"), Err(TensorProblem::Length { .. })));
    assert!(matches!(range("-1", "4"), Err(TensorProblem::ExternalEntry { .. })));
    assert!(matches!(open_in(&folder, external(&[])), Err(TensorProblem::NoLocation)));
    let from_bytes = read(external(&[("location", "w")]));
    assert!(matches!(from_bytes, Err(TensorProblem::NoFolder)));
}
