//! PNG and JPEG files to u8 `[channels, height, width]`, within limits.

use std::io::Cursor;

use image::{DynamicImage, ImageDecoder, ImageReader, Limits};

use super::whole;

/// Largest image file read.
pub(super) const MAX_FILE: u64 = 64 << 20;
/// Largest width or height of an image that is used as it is.
const MAX_SIDE: u32 = 8192;
/// Largest width or height of a picture that is made smaller.
pub(super) const MAX_PICTURE_SIDE: u32 = 32_768;

/// A decoded image of whatever size.
#[derive(Debug)]
pub(super) struct Raw {
    pub channels: usize,
    pub height: usize,
    pub width: usize,
    pub chw: Vec<u8>,
}

impl Raw {
    pub fn sizes(&self) -> [usize; 3] {
        [self.channels, self.height, self.width]
    }
}

/// Whether a file name is that of an image that can be decoded.
pub(super) fn is_image(name: &str) -> bool {
    let extension = name.rsplit_once('.').map(|(_, extension)| extension.to_ascii_lowercase());
    matches!(extension.as_deref(), Some("png" | "jpg" | "jpeg"))
}

/// Decodes a PNG or JPEG file of 8-bit grey or colour.
///
/// # Errors
/// A sentence if it is damaged, too large, or of another kind (alpha, 16 bits).
pub(super) fn decode(file: &[u8]) -> Result<Raw, String> {
    match picture(file, MAX_SIDE, false)? {
        DynamicImage::ImageLuma8(grey) => {
            let (width, height) = (grey.width() as usize, grey.height() as usize);
            Ok(Raw { channels: 1, height, width, chw: grey.into_raw() })
        }
        DynamicImage::ImageRgb8(colour) => {
            let (width, height) = (colour.width() as usize, colour.height() as usize);
            Ok(Raw { channels: 3, height, width, chw: planes(&colour.into_raw(), 3) })
        }
        other => Err(format!(
            "its pixels are {:?}, but only 8-bit grey and RGB without alpha are read: `fewstep data` converts pictures",
            other.color()
        )),
    }
}

/// Decodes a PNG or JPEG file of any kind of pixels, its sides at most `max_side`; `upright` turns it as its EXIF data say.
///
/// # Errors
/// A sentence if it is damaged, cut off or too large.
pub(super) fn picture(file: &[u8], max_side: u32, upright: bool) -> Result<DynamicImage, String> {
    let mut reader = ImageReader::new(Cursor::new(file)).with_guessed_format().map_err(|error| error.to_string())?;
    reader.limits(limits(max_side));
    let mut decoder = reader.into_decoder().map_err(|error| failed(&error))?;
    // After the decoder has seen a header: what is no picture at all is told so.
    whole::check(file)?;
    let orientation = if upright { Some(decoder.orientation().map_err(|error| failed(&error))?) } else { None };
    let mut picture = DynamicImage::from_decoder(decoder).map_err(|error| failed(&error))?;
    if let Some(orientation) = orientation {
        picture.apply_orientation(orientation);
    }
    Ok(picture)
}

/// A decoder's error in one line.
fn failed(error: &image::ImageError) -> String {
    let text = error.to_string();
    format!("it cannot be decoded: {}", text.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// What a decoder may be asked for by a file.
fn limits(max_side: u32) -> Limits {
    let mut limits = Limits::default();
    limits.max_image_width = Some(max_side);
    limits.max_image_height = Some(max_side);
    limits.max_alloc = Some(512 << 20);
    limits
}

/// `[height, width, channels]` to `[channels, height, width]`.
pub(super) fn planes(interleaved: &[u8], channels: usize) -> Vec<u8> {
    let plane = interleaved.len() / channels;
    let mut out = vec![0; interleaved.len()];
    for (p, pixel) in interleaved.chunks_exact(channels).enumerate() {
        for (c, &value) in pixel.iter().enumerate() {
            out[c * plane + p] = value;
        }
    }
    out
}
