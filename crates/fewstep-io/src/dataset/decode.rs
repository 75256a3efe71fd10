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
    let (width, height) = decoder.dimensions();
    if packed_bytes(file, &decoder) > file.len() as u64 {
        return Err(format!(
            "it is damaged: it declares {width} x {height} pixels, more than its {} bytes hold",
            file.len()
        ));
    }
    let orientation = if upright { Some(decoder.orientation().map_err(|error| failed(&error))?) } else { None };
    let mut picture = DynamicImage::from_decoder(decoder).map_err(|error| failed(&error))?;
    if let Some(orientation) = orientation {
        picture.apply_orientation(orientation);
    }
    Ok(picture)
}

/// The fewest bytes that a file with such a header takes: what is packed best shrinks to a 1032nd in a PNG (deflate), and in a JPEG, whose
/// blocks take a bit at least, to about as little.
fn packed_bytes(file: &[u8], decoder: &impl ImageDecoder) -> u64 {
    /// Bits of a sample and kind of colour, whose place in a PNG is fixed.
    const DEPTH: usize = 24;
    const SMALLEST: u64 = 1100;
    let (width, height) = decoder.dimensions();
    let samples = |of_pixel: u64| u64::from(width) * u64::from(height) * of_pixel;
    let bytes = match file.get(DEPTH..DEPTH + 2) {
        Some([depth, colour]) if file.starts_with(b"\x89PNG") => {
            let of_pixel = match colour {
                2 => 3,
                4 => 2,
                6 => 4,
                _ => 1,
            };
            samples(of_pixel) * u64::from(*depth) / 8
        }
        _ => decoder.total_bytes(),
    };
    bytes / SMALLEST
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A PNG's or a JPEG's width and height, in a file that holds less.
    fn enlarged(format: image::ImageFormat, side: u32) -> Vec<u8> {
        let mut file = Vec::new();
        image::GrayImage::new(32, 32).write_to(&mut Cursor::new(&mut file), format).unwrap();
        if format == image::ImageFormat::Png {
            for place in [16, 20] {
                file[place..place + 4].copy_from_slice(&side.to_be_bytes());
            }
            let checksum = crc(&file[12..29]);
            file[29..33].copy_from_slice(&checksum.to_be_bytes());
        } else {
            let frame = file.windows(2).position(|mark| mark == [0xff, 0xc0]).unwrap() + 5;
            for place in [frame, frame + 2] {
                file[place..place + 2].copy_from_slice(&(side as u16).to_be_bytes());
            }
        }
        file
    }

    /// The checksum of PNG's chunks.
    fn crc(bytes: &[u8]) -> u32 {
        let step = |crc: u32, _| if crc & 1 == 1 { 0xedb8_8320 ^ (crc >> 1) } else { crc >> 1 };
        !bytes.iter().fold(u32::MAX, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), step))
    }

    #[test]
    fn a_file_that_declares_more_than_it_holds_gets_no_memory() {
        for format in [image::ImageFormat::Png, image::ImageFormat::Jpeg] {
            let raw = decode(&enlarged(format, 32)).unwrap();
            assert_eq!(raw.sizes(), [1, 32, 32], "{format:?}");
            let reason = decode(&enlarged(format, 8000)).unwrap_err();
            assert!(reason.starts_with("it is damaged: it declares 8000 x 8000 pixels, more than its "), "{reason}");
        }
    }

    /// What shrinks best.
    #[test]
    fn blank_pictures_are_no_damage() {
        for format in [image::ImageFormat::Png, image::ImageFormat::Jpeg] {
            let mut file = Vec::new();
            image::RgbImage::new(2048, 2048).write_to(&mut Cursor::new(&mut file), format).unwrap();
            assert_eq!(decode(&file).unwrap().sizes(), [3, 2048, 2048]);
        }
    }
}
