//! Elements of constants as text: numbers on a line where that is short and exact, base64 of the
//! bytes otherwise.
//!
//! Invariant: every bit survives, those of NaNs and of negative zeros too.

use super::scan::Scanner;
use super::{ParseError, ParseErrorKind};
use crate::graph::TensorType;
use crate::kernel::number::Number;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use kiln_tensor::{DType, Tensor};

/// Constants of more elements are written as data.
const MOST_INLINE: usize = 16;

/// `[1, 2.5]`, if that is short and says everything.
pub(super) fn inline(tensor: &Tensor) -> Option<String> {
    if tensor.len() > MOST_INLINE {
        return None;
    }
    let dtype = tensor.dtype();
    let mut elements = Vec::with_capacity(tensor.len());
    for bytes in tensor.bytes().chunks_exact(dtype.size()) {
        let text = element_text(dtype, bytes)?;
        if element(dtype, &text)? != bytes {
            return None;
        }
        elements.push(text);
    }
    Some(format!("[{}]", elements.join(", ")))
}

fn element_text(dtype: DType, bytes: &[u8]) -> Option<String> {
    Some(match Number::load(dtype, bytes)? {
        Number::Code(code) => dtype.decode(code as u8).filter(|_| !dtype.is_complex())?.to_string(),
        Number::Int(value) if dtype == DType::Bool => (value != 0).to_string(),
        Number::Int(value) => value.to_string(),
        // The shortest decimal of a narrower float, and then of f64 where that is not enough.
        Number::Float(value) if dtype == DType::F64 => value.to_string(),
        Number::Float(value) => (value as f32).to_string(),
    })
}

/// The bytes of one element.
fn element(dtype: DType, text: &str) -> Option<Vec<u8>> {
    let number = match (dtype, text) {
        (DType::Bool, "true") => Number::Int(1),
        (DType::Bool, "false") => Number::Int(0),
        (DType::Bool, _) => return None,
        _ if dtype.is_complex() => return None,
        _ if dtype.is_float() => Number::Float(text.parse().ok()?),
        _ if dtype.is_code() => Number::Code(u128::from(dtype.encode(text.parse().ok()?)?)),
        _ => {
            let value: i128 = text.parse().ok()?;
            let number = Number::Int(value);
            if !(dtype.integer_range()?.0..=dtype.integer_range()?.1).contains(&value) {
                return None;
            }
            number
        }
    };
    Some(number.store(dtype))
}

/// A list of elements as a tensor.
pub(super) fn parse_inline(
    scanner: &mut Scanner,
    ty: &TensorType,
    sizes: Vec<usize>,
) -> Result<Tensor, ParseError> {
    scanner.require("[")?;
    let mut bytes = Vec::new();
    let mut first = true;
    while !scanner.accept("]") {
        if !std::mem::take(&mut first) {
            scanner.require(",")?;
        }
        scanner.skip_space();
        let place = *scanner;
        let text = scanner.number().ok_or_else(|| scanner.expected("an element or `]`"))?;
        let message = || ParseErrorKind::Literal(format!("`{text}` is not of type {}", ty.dtype));
        bytes.extend(element(ty.dtype, text).ok_or_else(|| place.error(message()))?);
    }
    tensor(scanner, ty, sizes, &bytes)
}

/// A tensor of these bytes.
pub(super) fn tensor(
    scanner: &Scanner,
    ty: &TensorType,
    sizes: Vec<usize>,
    bytes: &[u8],
) -> Result<Tensor, ParseError> {
    Tensor::from_bytes(ty.dtype, sizes, bytes)
        .map_err(|error| scanner.error(ParseErrorKind::Data(error.to_string())))
}

/// The bytes as base64, in lines.
pub(super) fn encode(bytes: &[u8]) -> String {
    let text = STANDARD.encode(bytes);
    let mut lines = String::with_capacity(text.len() + text.len() / 90);
    for (position, character) in text.chars().enumerate() {
        if position > 0 && position % 96 == 0 {
            lines.push('\n');
        }
        lines.push(character);
    }
    lines
}

/// The bytes of base64 in lines.
pub(super) fn decode(text: &str) -> Option<Vec<u8>> {
    let text: String = text.chars().filter(|c| !c.is_whitespace()).collect();
    STANDARD.decode(text).ok()
}
