//! Images: the pixels that a file of any of the usual formats holds.
//!
//! Invariant: a format's decoder is only told to decode what its header says is within the limits,
//! and whatever it makes of a damaged file is an error.

#[cfg(feature = "images")]
mod formats;

use crate::RoutineError;
use kiln_tensor::{DType, Tensor};
use serde::{Deserialize, Serialize};

/// What a pixel is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PixelFormat {
    /// Red, green and blue.
    Rgb,
    /// Blue, green and red.
    Bgr,
    /// Luma as ITU-R BT.601 has it.
    Grayscale,
}

impl PixelFormat {
    /// How many samples a pixel has.
    pub fn channels(self) -> usize {
        match self {
            PixelFormat::Rgb | PixelFormat::Bgr => 3,
            PixelFormat::Grayscale => 1,
        }
    }

    /// Pixels of this format.
    fn of(self, mut rgb: Vec<[u8; 3]>) -> Vec<u8> {
        match self {
            PixelFormat::Rgb => {}
            PixelFormat::Bgr => rgb.iter_mut().for_each(|pixel| pixel.reverse()),
            PixelFormat::Grayscale => return rgb.into_iter().map(luma).collect(),
        }
        rgb.into_flattened()
    }
}

/// Weights in units of 2⁻¹⁶, which sum to one, rounded half up: what Pillow, by which ONNX's operator
/// is defined, has.
fn luma([red, green, blue]: [u8; 3]) -> u8 {
    let [red, green, blue] = [red, green, blue].map(u32::from);
    ((red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16) as u8
}

/// An image as its decoder leaves it, row by row.
struct Image {
    height: usize,
    width: usize,
    rgb: Vec<[u8; 3]>,
}

pub(crate) fn decode([file]: &[Tensor; 1], pixel: PixelFormat) -> Result<Tensor, RoutineError> {
    if file.dtype() != DType::U8 || file.sizes().len() != 1 {
        return Err(RoutineError::new("an image file is of u8, in one dimension"));
    }
    let image = read(file.bytes())?;
    let sizes = vec![image.height, image.width, pixel.channels()];
    Ok(Tensor::from_bytes(DType::U8, sizes, &pixel.of(image.rgb))?)
}

#[cfg(feature = "images")]
fn read(file: &[u8]) -> Result<Image, RoutineError> {
    formats::read(file).map_err(|error| RoutineError::new(error.to_string()))
}

#[cfg(not(feature = "images"))]
fn read(_: &[u8]) -> Result<Image, RoutineError> {
    Err(RoutineError::new("no image is decoded here: built without the feature `images`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pixels_are_of_the_format() {
        let rgb = || vec![[255, 0, 0], [0, 255, 0], [0, 0, 255], [7, 7, 7], [255, 255, 255]];
        let bgr = [0, 0, 255, 0, 255, 0, 255, 0, 0, 7, 7, 7, 255, 255, 255];
        assert_eq!(PixelFormat::Rgb.of(rgb()), rgb().concat());
        assert_eq!(PixelFormat::Bgr.of(rgb()), bgr);
        assert_eq!(PixelFormat::Grayscale.of(rgb()), [76, 150, 29, 7, 255]);
    }

    #[test]
    fn a_file_is_bytes_in_one_dimension() {
        for (dtype, sizes) in [(DType::I8, vec![4]), (DType::U8, vec![2, 2]), (DType::U8, vec![])] {
            let file = [Tensor::zeros(dtype, sizes).unwrap()];
            let error = decode(&file, PixelFormat::Rgb).unwrap_err();
            assert_eq!(error.message, "an image file is of u8, in one dimension");
        }
    }

    #[cfg(not(feature = "images"))]
    #[test]
    fn without_decoders_there_is_an_error() {
        let file = [Tensor::zeros(DType::U8, vec![4]).unwrap()];
        let error = decode(&file, PixelFormat::Rgb).unwrap_err();
        assert!(error.message.ends_with("built without the feature `images`"));
    }
}
