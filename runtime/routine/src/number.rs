//! Numbers as text, and text as numbers.
//!
//! Invariant: a float is written with the fewest digits that give it back in its own type, and
//! whatever was written reads back as it was.

use crate::{RoutineError, text::strings};
use half::{bf16, f16};
use kiln_tensor::{DType, Objects, Tensor};
use std::sync::Arc;

pub(crate) fn format([x]: &[Tensor; 1], objects: &Arc<Objects>) -> Result<Tensor, RoutineError> {
    let dtype = x.dtype();
    let texts: Vec<String> = match dtype {
        _ if dtype.is_handle() => return Err(RoutineError::new("these are no numbers")),
        DType::U64 => x.to_i64().into_iter().map(|bits| (bits as u64).to_string()).collect(),
        _ if dtype.is_float() => x.to_f64().into_iter().map(|v| written(v, dtype)).collect(),
        _ => x.to_i64().into_iter().map(|value| value.to_string()).collect(),
    };
    strings(x.sizes().to_vec(), texts, objects)
}

/// As NumPy writes it: with an exponent below 10⁻⁴ and from 10¹⁶ on.
fn written(value: f64, dtype: DType) -> String {
    if value.is_nan() {
        return "nan".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "inf".to_owned() } else { "-inf".to_owned() };
    }
    let rounded = |text: &str| text.parse::<f64>().map(|read| round(read, dtype));
    let shortest = (0..=17).map(|digits| format!("{value:.digits$e}"));
    let shortest = shortest.into_iter().find(|text| rounded(text) == Ok(value));
    let scientific = shortest.unwrap_or_else(|| format!("{value:e}"));
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if value != 0.0 && !(-4..16).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{mantissa}e{sign}{:02}", exponent.abs());
    }
    let decimals = mantissa.split_once('.').map_or(0, |(_, digits)| digits.len() as i32) - exponent;
    // The digits are those of the shortest form, not of the binary value.
    let exact: f64 = scientific.parse().unwrap_or(value);
    format!("{exact:.*}", decimals.max(1) as usize)
}

/// To a float type, once.
fn round(value: f64, dtype: DType) -> f64 {
    match dtype {
        DType::F16 => f16::from_f64(value).to_f64(),
        DType::BF16 => bf16::from_f64(value).to_f64(),
        DType::F32 => f64::from(value as f32),
        _ => value,
    }
}

pub(crate) fn parse([x]: &[Tensor; 1], to: DType) -> Result<Tensor, RoutineError> {
    let texts = x.strings()?;
    let wrong = |text: &str| RoutineError::new(format!("`{text}` is not a number of type {to}"));
    let sizes = x.sizes().to_vec();
    if to == DType::I64 || to == DType::U64 {
        // Beyond 2⁵³ a float would lose digits.
        let whole = |text: &str| match to {
            DType::U64 => text.parse::<u64>().ok(),
            _ => text.parse::<i64>().ok().map(|value| value as u64),
        };
        let values = texts.iter().map(|text| {
            let text = text.trim();
            let fraction =
                || text.parse::<f64>().ok().filter(|v| v.is_finite()).map(|v| v as i64 as u64);
            whole(text).or_else(fraction).ok_or_else(|| wrong(text))
        });
        let values = values.collect::<Result<Vec<u64>, _>>()?;
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        return Ok(Tensor::from_bytes(to, sizes, &bytes)?);
    }
    if to.is_handle() {
        return Err(RoutineError::new(format!("{to} is not a type of numbers")));
    }
    let values = texts.iter().map(|text| {
        let value = text.trim().parse::<f64>().ok();
        value.filter(|value| to.is_float() || value.is_finite()).ok_or_else(|| wrong(text))
    });
    Ok(Tensor::from_f64(to, sizes, &values.collect::<Result<Vec<f64>, _>>()?)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fewest_digits() {
        for (value, expected) in [
            (0.47892547f32, "0.47892547"),
            (0.1, "0.1"),
            (1.0, "1.0"),
            (-0.0, "-0.0"),
            (1e-5, "1e-05"),
            (123456.79, "123456.79"),
            (1e16, "1e+16"),
            (16777216.0, "16777216.0"),
            (f32::NAN, "nan"),
            (f32::NEG_INFINITY, "-inf"),
        ] {
            assert_eq!(written(f64::from(value), DType::F32), expected);
        }
        assert_eq!(written(f16::from_f32(0.1).to_f64(), DType::F16), "0.1");
    }

    #[test]
    fn what_was_written_reads_back() {
        let objects = Arc::default();
        for dtype in [DType::F32, DType::F16, DType::F64, DType::I64, DType::U8] {
            let x = Tensor::from_f64(dtype, vec![3], &[0.0, 7.0, 100.0]).unwrap();
            let text = format(std::slice::from_ref(&x).try_into().unwrap(), &objects).unwrap();
            assert_eq!(parse(&[text], dtype).unwrap(), x);
        }
        let text = Tensor::from_strings(vec![4], &["+INF", "NaN", " -2.5e1 ", "x"]).unwrap();
        assert!(parse(std::slice::from_ref(&text).try_into().unwrap(), DType::F32).is_err());
        let large = Tensor::from_strings(vec![1], &["18446744073709551615"]).unwrap();
        assert_eq!(parse(&[large], DType::U64).unwrap().bytes(), [255; 8]);
    }
}
