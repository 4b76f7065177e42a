//! Image files as operands.
//!
//! Invariant: the number of channels is the pixel format's; height and width are the file's, so they
//! are known when it is read.

use super::build::V;
use super::fault::Fault;
use super::node::Use;
use super::operator::{Entry, onnx};
use kiln_ir::TensorType;
use kiln_routine::{PixelFormat, Routine};
use kiln_tensor::{DType, Dim};

pub(super) const OPERATORS: &[Entry] = &[onnx("ImageDecoder", 20, image_decoder)];

fn image_decoder(x: &mut Use<'_, '_, '_>) -> Result<Vec<V>, Fault> {
    let file = x.input(0)?;
    if x.rank(file) != 1 || x.dtype(file) != DType::U8 {
        let ty = x.ty(file);
        return Err(Fault::malformed(format!("the encoded image must be u8[n], but is {ty}")));
    }
    let pixel = match x.string_or("pixel_format", "RGB")? {
        "RGB" => PixelFormat::Rgb,
        "BGR" => PixelFormat::Bgr,
        "Grayscale" => PixelFormat::Grayscale,
        other => return Err(Fault::malformed(format!("pixel format `{other}` is not known"))),
    };
    let shape = vec![x.found("height"), x.found("width"), Dim::from(pixel.channels())];
    let image = TensorType::new(DType::U8, shape);
    Ok(vec![x.call1(Routine::DecodeImage { pixel }, &[file], image)?])
}
