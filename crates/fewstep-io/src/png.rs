//! Images as PNG: one alone, or many in a grid.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use image::codecs::png::PngEncoder;
use image::{ExtendedColorType, ImageEncoder};

use crate::dataset::Images;
use crate::{Error, Result, atomic};

const FORMAT: &str = "image";

/// Encodes one image, u8 `[channels, height, width]` with 1 or 3 channels.
///
/// # Errors
/// If the sizes do not fit the data or the channel count is neither 1 nor 3.
pub fn encode(chw: &[u8], channels: usize, height: usize, width: usize) -> Result<Vec<u8>> {
    let pixels = interleave(chw, channels, height, width)?;
    encode_interleaved(&pixels, channels, height, width)
}

/// Writes one image; the file appears whole or not at all.
///
/// # Errors
/// As [`encode`] and [`atomic::write_bytes`].
pub fn write<'a>(
    file: impl Into<atomic::OutFile<'a>>,
    chw: &[u8],
    channels: usize,
    height: usize,
    width: usize,
) -> Result<()> {
    atomic::write_bytes(file, &encode(chw, channels, height, width)?)
}

/// Whether there is a PNG at `path` that is not cut off, by its first and last bytes: what a power cut leaves is no picture.
pub fn is_whole(path: impl AsRef<Path>) -> bool {
    let ends = || -> std::io::Result<([u8; 8], [u8; 12])> {
        let (mut start, mut end) = ([0; 8], [0; 12]);
        let mut file = File::open(path)?;
        file.read_exact(&mut start)?;
        file.seek(SeekFrom::End(-12))?;
        file.read_exact(&mut end)?;
        Ok((start, end))
    };
    ends().is_ok_and(|(start, end)| start == *b"\x89PNG\r\n\x1a\n" && end == *b"\0\0\0\0IEND\xae\x42\x60\x82")
}

/// Encodes images row by row in a grid of `columns`, `gap` white pixels between neighbours; the last row may be short.
///
/// # Errors
/// If there are no images or columns, or as [`encode`].
pub fn encode_grid(images: &Images, columns: usize, gap: usize) -> Result<Vec<u8>> {
    let (channels, height, width) = (images.channels, images.height, images.width);
    if images.is_empty() || columns == 0 {
        return Err(Error::format(FORMAT, "the grid", "it has no images or no columns"));
    }
    let columns = columns.min(images.len());
    let rows = images.len().div_ceil(columns);
    let extent = |n: usize, size: usize| n.checked_mul(size)?.checked_add((n - 1).checked_mul(gap)?);
    let sizes = extent(rows, height).zip(extent(columns, width));
    let (grid_h, grid_w) = sizes.ok_or_else(|| Error::format(FORMAT, "the grid", "it is too large"))?;
    let mut pixels = vec![255; grid_h * grid_w * channels];
    for index in 0..images.len() {
        let image = interleave(images.image(index).unwrap_or_default(), channels, height, width)?;
        let (top, left) = ((index / columns) * (height + gap), (index % columns) * (width + gap));
        for (y, row) in image.chunks_exact(width * channels).enumerate() {
            let at = ((top + y) * grid_w + left) * channels;
            pixels[at..at + row.len()].copy_from_slice(row);
        }
    }
    encode_interleaved(&pixels, channels, grid_h, grid_w)
}

/// Writes a grid; the file appears whole or not at all.
///
/// # Errors
/// As [`encode_grid`] and [`atomic::write_bytes`].
pub fn write_grid<'a>(file: impl Into<atomic::OutFile<'a>>, images: &Images, columns: usize, gap: usize) -> Result<()> {
    atomic::write_bytes(file, &encode_grid(images, columns, gap)?)
}

/// `[channels, height, width]` to `[height, width, channels]`.
fn interleave(chw: &[u8], channels: usize, height: usize, width: usize) -> Result<Vec<u8>> {
    let plane = height.checked_mul(width).filter(|&plane| plane > 0);
    let fits = plane.is_some_and(|plane| plane.checked_mul(channels) == Some(chw.len()));
    let (Some(plane), true) = (plane, fits && matches!(channels, 1 | 3)) else {
        let reason =
            format!("{} bytes are not {channels} channels (1 or 3 are possible) of {height}x{width}", chw.len());
        return Err(Error::format(FORMAT, "the image", reason));
    };
    Ok((0..plane).flat_map(|p| (0..channels).map(move |c| chw[c * plane + p])).collect())
}

fn encode_interleaved(pixels: &[u8], channels: usize, height: usize, width: usize) -> Result<Vec<u8>> {
    let failed = |reason: String| Error::format(FORMAT, "the image", reason);
    let (w, h) = u32::try_from(width)
        .ok()
        .zip(u32::try_from(height).ok())
        .ok_or_else(|| failed("it is too large for PNG".into()))?;
    let color = if channels == 1 { ExtendedColorType::L8 } else { ExtendedColorType::Rgb8 };
    let mut out = Vec::new();
    PngEncoder::new(&mut out).write_image(pixels, w, h, color).map_err(|e| failed(e.to_string()))?;
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pixels_survive_and_channels_are_in_order() {
        // Two pixels: (1, 3, 5) and (2, 4, 6).
        let png = encode(&[1, 2, 3, 4, 5, 6], 3, 1, 2).unwrap();
        let decoded = image::load_from_memory(&png).unwrap().into_rgb8();
        assert_eq!(decoded.dimensions(), (2, 1));
        assert_eq!(decoded.into_raw(), [1, 3, 5, 2, 4, 6]);
    }

    #[test]
    fn what_a_power_cut_leaves_is_not_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.png");
        let png = encode(&[1, 2, 3, 4], 1, 2, 2).unwrap();
        for (bytes, whole) in
            [(&png[..], true), (&png[..png.len() - 1], false), (b"", false), (&vec![0; png.len()], false)]
        {
            std::fs::write(&path, bytes).unwrap();
            assert_eq!(is_whole(&path), whole);
        }
        assert!(!is_whole(folder.path().join("none")));
    }

    #[test]
    fn a_grid_fills_row_by_row_with_white_between() {
        let images = Images::new((1..=3).collect(), 1, 1, 1, None).unwrap();
        let png = encode_grid(&images, 2, 1).unwrap();
        let decoded = image::load_from_memory(&png).unwrap().into_luma8();
        assert_eq!(decoded.dimensions(), (3, 3));
        assert_eq!(decoded.into_raw(), [1, 255, 2, 255, 255, 255, 3, 255, 255]);
    }

    #[test]
    fn what_is_cut_off_is_not_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.png");
        assert!(!is_whole(&path));
        let png = encode(&[1, 2, 3, 4], 1, 2, 2).unwrap();
        for (length, whole) in [(png.len(), true), (png.len() - 1, false), (4, false), (0, false)] {
            std::fs::write(&path, &png[..length]).unwrap();
            assert_eq!(is_whole(&path), whole, "{length}");
        }
    }

    #[test]
    fn wrong_sizes_are_errors() {
        assert!(encode(&[0; 4], 2, 1, 2).is_err());
        assert!(encode(&[0; 4], 1, 2, 3).is_err());
        assert!(encode(&[], 3, 0, 0).is_err());
        assert!(encode(&[0; 4], usize::MAX, usize::MAX, 2).is_err());
        let none = Images::new(Vec::new(), 1, 1, 1, None).unwrap();
        assert!(encode_grid(&none, 4, 0).is_err());
    }
}
