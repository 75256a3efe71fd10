//! PNG and JPEG files to u8 `[channels, height, width]`, within limits.

use std::io::Cursor;

use image::{DynamicImage, ImageReader, Limits};

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
    let mut reader = ImageReader::new(Cursor::new(file)).with_guessed_format().map_err(|e| e.to_string())?;
    reader.limits(limits(MAX_SIDE));
    match reader.decode().map_err(|error| failed(&error))? {
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

/// A decoder's error in one line.
pub(super) fn failed(error: &image::ImageError) -> String {
    let text = error.to_string();
    format!("it cannot be decoded: {}", text.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// What a decoder may be asked for by a file.
pub(super) fn limits(max_side: u32) -> Limits {
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
