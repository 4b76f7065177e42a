//! Files to pixels: which decoder a file is for, and what it may use up.
//!
//! Invariant: an image has at most [`MOST_PIXELS`] pixels, looked at before any is decoded; a
//! decoder that panics has refused its file.

use super::Image;
use hayro_jpeg2000::{ColorSpace, DecodeSettings, DecoderContext};
use image::{DynamicImage, ImageDecoder, ImageReader, Limits};
use libjpeg_turbo_rs::Decoder;
use std::io::Cursor;
use std::panic::catch_unwind;
use thiserror::Error;

/// 402 MB of samples; photographs that people take have less.
const MOST_PIXELS: u64 = 1 << 27;
/// What a decoder that keeps count may allocate.
const MOST_BYTES: u64 = 1 << 30;
/// A progressive photograph has about ten, and each goes over the whole image.
const MOST_SCANS: u32 = 100;

/// Why a file has no pixels.
#[derive(Debug, Error)]
pub(super) enum Undecodable {
    #[error("the image is of no format that is known, or damaged: {0}")]
    Image(#[from] image::ImageError),
    #[error("the JPEG image is damaged, or of a kind that is not decoded: {0}")]
    Jpeg(#[from] libjpeg_turbo_rs::JpegError),
    #[error("the JPEG 2000 image is damaged: {0}")]
    Jpeg2000(#[from] hayro_jpeg2000::DecodeError),
    #[error("the image has {width} × {height} pixels, and at most {MOST_PIXELS} are decoded")]
    TooLarge { width: u64, height: u64 },
    #[error("the image has {0} channels, which are neither grey nor red, green and blue")]
    Channels(usize),
    #[error("the image is damaged: it has {found} samples of {expected}")]
    Samples { found: usize, expected: usize },
    #[error("the image is damaged: its decoder gave up")]
    GaveUp,
}

/// The pixels of a file. Its format is what its first bytes say.
pub(super) fn read(file: &[u8]) -> Result<Image, Undecodable> {
    // Decoders are other people's code on whatever bytes there are. They hold nothing that could be
    // left half done: all that a decoder knows was made from these bytes.
    catch_unwind(|| match file {
        [0xff, 0xd8, 0xff, ..] => jpeg(file),
        [0xff, 0x4f, 0xff, 0x51, ..] | [0, 0, 0, 12, b'j', b'P', b' ', b' ', ..] => jpeg_2000(file),
        _ => other(file),
    })
    .unwrap_or(Err(Undecodable::GaveUp))
}

fn jpeg(file: &[u8]) -> Result<Image, Undecodable> {
    let mut decoder = Decoder::new(file)?;
    decoder.set_output_format(libjpeg_turbo_rs::PixelFormat::Rgb);
    let (width, height) = (decoder.header().width, decoder.header().height);
    within_limits(width.into(), height.into())?;
    decoder.set_max_memory(MOST_BYTES as usize);
    decoder.set_scan_limit(MOST_SCANS);
    let image = decoder.decode_image()?;
    rgb(image.width, image.height, 3, &image.data)
}

fn jpeg_2000(file: &[u8]) -> Result<Image, Undecodable> {
    // Each component has memory of its own, and a header may announce 16384.
    let components = jpeg_2000_components(file);
    if components > 4 {
        return Err(Undecodable::Channels(components));
    }
    let image = hayro_jpeg2000::Image::new(
        file,
        &DecodeSettings { strict: true, ..DecodeSettings::default() },
    )?;
    within_limits(image.width().into(), image.height().into())?;
    let colours = match image.color_space() {
        ColorSpace::CMYK => return Err(Undecodable::Channels(4)),
        space => usize::from(space.num_channels()),
    };
    let (width, height) = (image.width() as usize, image.height() as usize);
    let mut context = DecoderContext::default();
    let decoded = image.decode(&mut context)?;
    if decoded.components().len() != colours + usize::from(image.has_alpha()) {
        return Err(Undecodable::Channels(decoded.components().len()));
    }
    rgb(width, height, decoded.components().len(), &decoded.data_u8())
}

/// The most components that any codestream in the file has (ISO/IEC 15444-1, A.5.1: what follows the
/// SIZ marker at the start of a codestream).
fn jpeg_2000_components(file: &[u8]) -> usize {
    let counts = file.windows(42).filter(|header| header.starts_with(&[0xff, 0x4f, 0xff, 0x51]));
    counts
        .map(|header| usize::from(u16::from_be_bytes([header[40], header[41]])))
        .max()
        .unwrap_or(0)
}

fn other(file: &[u8]) -> Result<Image, Undecodable> {
    let mut limits = Limits::default();
    limits.max_alloc = Some(MOST_BYTES);
    let mut reader = ImageReader::new(Cursor::new(file))
        .with_guessed_format()
        .map_err(image::ImageError::IoError)?;
    reader.limits(limits.clone());
    let mut decoder = reader.into_decoder()?;
    let (width, height) = decoder.dimensions();
    within_limits(width.into(), height.into())?;
    limits.reserve(decoder.total_bytes())?;
    decoder.set_limits(limits)?;
    let image = DynamicImage::from_decoder(decoder)?.into_rgb8();
    rgb(width as usize, height as usize, 3, image.as_raw())
}

fn within_limits(width: u64, height: u64) -> Result<(), Undecodable> {
    match width.checked_mul(height) {
        Some(0..=MOST_PIXELS) => Ok(()),
        _ => Err(Undecodable::TooLarge { width, height }),
    }
}

/// An image of samples that are grey or red, green and blue, and perhaps opacity, which is dropped.
fn rgb(width: usize, height: usize, channels: usize, samples: &[u8]) -> Result<Image, Undecodable> {
    let expected = width * height * channels;
    if samples.len() != expected {
        return Err(Undecodable::Samples { found: samples.len(), expected });
    }
    let rgb = match channels {
        1 | 2 => samples.chunks_exact(channels).map(|pixel| [pixel[0]; 3]).collect(),
        3 | 4 => {
            samples.chunks_exact(channels).map(|pixel| [pixel[0], pixel[1], pixel[2]]).collect()
        }
        _ => return Err(Undecodable::Channels(channels)),
    };
    Ok(Image { height, width, rgb })
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::codecs::{bmp, png, pnm, tiff, webp};
    use image::{ExtendedColorType, ImageEncoder, ImageResult};
    use libjpeg_turbo_rs::Subsampling;
    use proptest::prelude::*;

    /// Two rows of three.
    const PIXELS: [[u8; 3]; 6] =
        [[255, 0, 0], [0, 255, 0], [0, 0, 255], [10, 120, 200], [0, 0, 0], [255, 255, 255]];

    /// Written by OpenJPEG: red and green, blue and `[10, 120, 200]`.
    const JPEG_2000: &str = "ff4fff51002f0000000000020000000200000000000000000000000200000002000000\
        00000000000003070101070101070101ff52000c00000001000004040001ff5c00044040ff64002500014372656174\
        6564206279204f70656e4a5045472076657273696f6e20322e352e34ff90000a0000000000270001ff93df80280bec\
        64654cdf802808f53677aedf803006427f0dc6bfffd9";

    fn jpeg_2000_file() -> Vec<u8> {
        let digits: Vec<u8> =
            JPEG_2000.chars().map(|digit| digit.to_digit(16).unwrap() as u8).collect();
        digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect()
    }

    fn written(write: impl FnOnce(&mut Cursor<Vec<u8>>, &[u8]) -> ImageResult<()>) -> Vec<u8> {
        let mut file = Cursor::new(Vec::new());
        write(&mut file, &PIXELS.concat()).unwrap();
        file.into_inner()
    }

    fn exact_files() -> [(&'static str, Vec<u8>); 5] {
        let rgb = ExtendedColorType::Rgb8;
        [
            ("bmp", written(|to, rgb8| bmp::BmpEncoder::new(to).write_image(rgb8, 3, 2, rgb))),
            ("png", written(|to, rgb8| png::PngEncoder::new(to).write_image(rgb8, 3, 2, rgb))),
            ("pnm", written(|to, rgb8| pnm::PnmEncoder::new(to).write_image(rgb8, 3, 2, rgb))),
            ("tiff", written(|to, rgb8| tiff::TiffEncoder::new(to).write_image(rgb8, 3, 2, rgb))),
            (
                "webp",
                written(|to, rgb8| {
                    webp::WebPEncoder::new_lossless(to).write_image(rgb8, 3, 2, rgb)
                }),
            ),
        ]
    }

    fn jpeg_file() -> Vec<u8> {
        let format = libjpeg_turbo_rs::PixelFormat::Rgb;
        libjpeg_turbo_rs::compress(&[90; 3 * 16 * 9], 16, 9, format, 90, Subsampling::S420).unwrap()
    }

    fn files() -> Vec<(&'static str, Vec<u8>)> {
        let lossy = [("jpeg", jpeg_file()), ("jpeg 2000", jpeg_2000_file())];
        exact_files().into_iter().chain(lossy).collect()
    }

    #[test]
    fn what_is_written_without_loss_is_read() {
        for (format, file) in exact_files() {
            let image = read(&file).unwrap();
            assert_eq!((image.height, image.width), (2, 3), "{format}");
            assert_eq!(image.rgb, PIXELS, "{format}");
        }
        let image = read(&jpeg_2000_file()).unwrap();
        assert_eq!((image.height, image.width), (2, 2));
        assert_eq!(image.rgb, [[255, 0, 0], [0, 255, 0], [0, 0, 255], [10, 120, 200]]);
    }

    #[test]
    fn a_grey_jpeg_is_grey() {
        let image = read(&jpeg_file()).unwrap();
        assert_eq!((image.height, image.width), (9, 16));
        assert_eq!(image.rgb, [[90; 3]; 9 * 16]);
    }

    #[test]
    fn half_a_file_is_an_error() {
        for (format, file) in files() {
            assert!(read(&file[..file.len() / 2]).is_err(), "{format}");
        }
    }

    #[test]
    fn too_large_an_image_is_refused_by_its_header() {
        for header in [
            &b"P6\n65536 65536\n255\n"[..],
            b"BM\0\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0\0\0\x01\0\0\0\x01\0\x01\0\x18\0\
              \0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
        ] {
            assert!(read(header).is_err());
        }
        let mut file = jpeg_file();
        let frame = file.windows(2).position(|marker| marker == [0xff, 0xc0]).unwrap();
        file[frame + 5..frame + 9].fill(0xff);
        assert!(read(&file).is_err());
        let mut file = jpeg_2000_file();
        for size in [8, 12, 24, 28] {
            file[size..size + 4].copy_from_slice(&[0, 1, 0, 0]);
        }
        assert!(matches!(read(&file), Err(Undecodable::TooLarge { width: 65536, .. })));
        let mut file = jpeg_2000_file();
        file[40..42].fill(0x3f);
        assert!(matches!(read(&file), Err(Undecodable::Channels(0x3f3f))));
    }

    #[test]
    fn what_is_no_image_is_an_error() {
        for file in
            [&b""[..], b"GIF89a", b"no image", &[0; 100], b"\xff\xd8\xff", b"\xff\x4f\xff\x51"]
        {
            assert!(read(file).is_err(), "{file:?}");
        }
    }

    proptest! {
        /// A damaged file is an error or an image within the limits.
        #[test]
        fn damage_is_survived(
            format in 0..7usize,
            damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
            cut in any::<prop::sample::Index>(),
        ) {
            let (_, mut file) = files().swap_remove(format);
            for (at, byte) in damage {
                let at = at.index(file.len());
                file[at] = byte;
            }
            file.truncate(cut.index(file.len()) + 1);
            if let Ok(image) = read(&file) {
                prop_assert_eq!(image.rgb.len(), image.height * image.width);
            }
        }
    }
}
