//! A first look at the bytes: is this a protobuf message, and is it whole?
//!
//! Invariant: reads each field header once and steps over the contents; allocates nothing.

use super::ReadError;

/// Highest field number taken for one of a later `ModelProto`; above it, it is another kind of file.
const LAST_FIELD: u64 = 100;

/// The wire type of a field of `ModelProto`, if it is one of those that are known.
fn wire_type(number: u64) -> Option<u64> {
    match number {
        1 | 5 => Some(0),
        2..=4 | 6..=8 | 14 | 20 | 25 | 26 => Some(2),
        _ => None,
    }
}

/// Checks that `bytes` are a whole sequence of protobuf fields and name the kind of file they are
/// if they are not a model.
pub(super) fn check(bytes: &[u8]) -> Result<(), ReadError> {
    if bytes.is_empty() {
        return Err(ReadError::Empty);
    }
    if let Some(kind) = other_format(bytes) {
        return Err(ReadError::OtherFormat { kind });
    }
    let mut offset = 0;
    while offset < bytes.len() {
        offset = skip_field(bytes, offset)?;
    }
    Ok(())
}

fn other_format(bytes: &[u8]) -> Option<&'static str> {
    let starts: [(&[u8], &'static str); 7] = [
        (b"version https://git-lfs", "a Git LFS pointer"),
        (b"PK\x03\x04", "a zip archive (perhaps a PyTorch checkpoint)"),
        (b"GGUF", "a GGUF file"),
        (b"ORTM", "an ONNX Runtime file"),
        (b"\x89HDF", "an HDF5 file"),
        (b"\x1f\x8b", "a gzip archive"),
        (b"<", "a text or HTML page"),
    ];
    let start = starts.into_iter().find(|(start, _)| bytes.starts_with(start));
    if let Some((_, kind)) = start {
        return Some(kind);
    }
    match bytes {
        // ONNX Runtime and TFLite are flatbuffers: their identifier stands at byte 4.
        [_, _, _, _, b'O', b'R', b'T', b'M', ..] => Some("an ONNX Runtime file"),
        [_, _, _, _, b'T', b'F', b'L', ..] => Some("a TensorFlow Lite file"),
        // Eight bytes of header length, then JSON.
        [_, _, _, _, 0, 0, 0, 0, b'{', ..] => Some("a safetensors file"),
        _ => None,
    }
}

fn skip_field(bytes: &[u8], start: usize) -> Result<usize, ReadError> {
    let (tag, after) = varint(bytes, start, start)?;
    let number = tag >> 3;
    let known = match wire_type(number) {
        Some(wire_type) => wire_type == tag & 7,
        // Later versions may add fields, but no writer starts with them.
        None => start > 0 && (1..=LAST_FIELD).contains(&number),
    };
    if !known {
        return Err(ReadError::NotProtobuf { offset: start });
    }
    let (after, length) = match tag & 7 {
        0 => return Ok(varint(bytes, after, start)?.1),
        1 => (after, 8),
        2 => {
            let (length, after) = varint(bytes, after, start)?;
            (after, length)
        }
        5 => (after, 4),
        _ => return Err(ReadError::NotProtobuf { offset: start }),
    };
    let left = bytes.len() - after;
    match usize::try_from(length) {
        Ok(length) if length <= left => Ok(after + length),
        _ => Err(ReadError::Truncated { offset: start, needed: length, left }),
    }
}

/// The number at `at` and the offset behind it; `field` is where the field starts.
fn varint(bytes: &[u8], at: usize, field: usize) -> Result<(u64, usize), ReadError> {
    let mut value = 0u64;
    for index in 0..10 {
        let Some(&byte) = bytes.get(at + index) else {
            return Err(ReadError::Truncated { offset: field, needed: index as u64 + 1, left: 0 });
        };
        value |= u64::from(byte & 0x7f).checked_shl(7 * index as u32).unwrap_or(0);
        if byte & 0x80 == 0 {
            return Ok((value, at + index + 1));
        }
    }
    Err(ReadError::NotProtobuf { offset: field })
}
