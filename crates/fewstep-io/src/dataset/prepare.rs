//! Photographs as a data set: any PNG and JPEG files of a folder, cut to their middle square, resized, packed into an EDM zip.

use std::io::{self, Write};
use std::path::Path;
use std::thread;

use image::imageops::{self, FilterType};
use image::{DynamicImage, Rgb, RgbImage};
use serde_json::json;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use super::decode::{self, Raw};
use super::{FORMAT, Source, folder, labels, unusable};
use crate::{Error, Result, atomic, png};

/// What pictures become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PrepareOptions {
    /// Height and width in pixels.
    pub size: usize,
    /// Grey instead of colour.
    pub grey: bool,
}

/// What was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prepared {
    /// Images.
    pub images: usize,
    /// Number of classes, 0 without.
    pub classes: usize,
    /// Names of the classes in their order, where they are subfolders.
    pub names: Vec<String>,
}

/// Images at once: few enough to be in memory.
const CHUNK: usize = 64;

/// Packs the pictures below `pictures` into the zip `out`, under the names and with the `dataset.json` that EDM's tool gives them. A
/// picture is turned as its EXIF data say, laid on white where it is transparent, cut to its middle square, and resized (Lanczos).
/// Subfolders are classes. `progress` hears how many of how many are done.
///
/// # Errors
/// If there are no pictures, or some cannot be read: all of them are counted and the first named, and nothing is written.
pub fn prepare<'a>(
    pictures: &Path,
    out: impl Into<atomic::OutFile<'a>>,
    options: PrepareOptions,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Prepared> {
    let place = pictures.display().to_string();
    if !(1..=4096).contains(&options.size) {
        return Err(Error::format(FORMAT, place, format!("pictures of {0}x{0} were asked for", options.size)));
    }
    if !pictures.is_dir() {
        return Err(Error::format(
            FORMAT,
            place,
            "there is no such folder; pictures are taken from a folder of PNG and JPEG files",
        ));
    }
    let opened = folder::open(pictures)?;
    let Source::Folder(folder) = &opened.source else {
        return Err(Error::format(FORMAT, place, "it holds a data set already, not pictures"));
    };
    progress(0, opened.len);
    let mut failed = Vec::new();
    let written = atomic::write_with(out, |file| {
        let mut zip = ZipWriter::new(file);
        // PNGs are compressed already
        let stored = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
        let mut names = Vec::with_capacity(opened.len);
        for start in (0..opened.len).step_by(CHUNK) {
            let indices: Vec<usize> = (start..opened.len.min(start + CHUNK)).collect();
            for (index, made) in indices.iter().zip(all(folder, &indices, options)) {
                let made = match made {
                    Ok(made) => made,
                    // The others are still read, so that one run names all that cannot be used.
                    Err(error) => {
                        failed.push(error);
                        continue;
                    }
                };
                if !failed.is_empty() {
                    continue;
                }
                let name = format!("{:05}/img{index:08}.png", index / 1000);
                zip.start_file(&name, stored)?;
                zip.write_all(&made)?;
                names.push(name);
            }
            progress(opened.len.min(start + CHUNK), opened.len);
        }
        if !failed.is_empty() {
            return Err(io::Error::other("some pictures cannot be used"));
        }
        let labelled = opened.labels.as_ref().map(|labels| names.iter().zip(labels).collect::<Vec<_>>());
        zip.start_file(labels::FILE, SimpleFileOptions::default())?;
        zip.write_all(json!({ "labels": labelled }).to_string().as_bytes())?;
        zip.finish()?;
        Ok(())
    });
    if !failed.is_empty() {
        return Err(unusable::images(place, failed, opened.len));
    }
    written?;
    let labelled = opened.num_classes > 0 && !pictures.join(labels::FILE).exists();
    let names = if labelled { folder.classes() } else { Vec::new() };
    Ok(Prepared { images: opened.len, classes: opened.num_classes, names })
}

/// PNGs of these pictures, made on all cores.
fn all(folder: &folder::Folder, indices: &[usize], options: PrepareOptions) -> Vec<Result<Vec<u8>>> {
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let share = indices.len().div_ceil(threads).max(1);
    thread::scope(|scope| {
        let one = |index: &usize| one(folder, *index, options);
        let workers: Vec<_> =
            indices.chunks(share).map(|part| scope.spawn(move || part.iter().map(one).collect::<Vec<_>>())).collect();
        let lost = |_| vec![Err(Error::format(FORMAT, "a picture", "its reader gave up"))];
        workers.into_iter().flat_map(|worker| worker.join().unwrap_or_else(lost)).collect()
    })
}

fn one(folder: &folder::Folder, index: usize, options: PrepareOptions) -> Result<Vec<u8>> {
    let picture = decode::picture(&folder.file(index)?, decode::MAX_PICTURE_SIDE, true);
    let picture = picture.map_err(|reason| folder.failed(index, reason))?;
    let Raw { channels, height, width, chw } = square(&picture, options);
    png::encode(&chw, channels, height, width)
}

/// Its middle square at the size asked for, without transparency.
fn square(picture: &DynamicImage, options: PrepareOptions) -> Raw {
    let (width, height) = (picture.width(), picture.height());
    let side = width.min(height);
    let middle = picture.crop_imm((width - side) / 2, (height - side) / 2, side, side);
    let opaque = DynamicImage::ImageRgb8(on_white(&middle));
    let size = options.size as u32;
    let resized = |image: DynamicImage| image.resize_exact(size, size, FilterType::Lanczos3);
    let (height, width) = (options.size, options.size);
    if options.grey {
        let grey = resized(DynamicImage::ImageLuma8(imageops::grayscale(&opaque))).into_luma8();
        return Raw { channels: 1, height, width, chw: grey.into_raw() };
    }
    let colour = resized(opaque).into_rgb8();
    Raw { channels: 3, height, width, chw: decode::planes(&colour.into_raw(), 3) }
}

fn on_white(image: &DynamicImage) -> RgbImage {
    if !image.color().has_alpha() {
        return image.to_rgb8();
    }
    let rgba = image.to_rgba8();
    RgbImage::from_fn(rgba.width(), rgba.height(), |x, y| {
        let [r, g, b, a] = rgba.get_pixel(x, y).0.map(u32::from);
        Rgb([r, g, b].map(|value| ((value * a + 255 * (255 - a) + 127) / 255) as u8))
    })
}
