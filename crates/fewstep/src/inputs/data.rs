//! Data sets.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use fewstep_io::dataset::{Dataset, DatasetOptions, Images};
use fewstep_io::tensors::{Dtype, TensorData};

use super::{Arrays, FloatRange, RANGE, has_extension};

/// A data set and how it is read.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Data")]
pub struct DataArgs {
    /// Data set: EDM zip, image folder, IDX file or folder, CIFAR-10 archive, npz of images
    #[arg(long, value_name = "PATH")]
    pub data: PathBuf,
    /// Pad images with zeros to squares of this size (Fashion-MNIST: 32)
    #[arg(long, value_name = "PIXELS")]
    pub pad_to: Option<usize>,
    /// Use at most so many images
    #[arg(long, value_name = "N")]
    pub max_images: Option<usize>,
}

impl DataArgs {
    /// Opens the data set.
    pub fn open(&self) -> Result<Dataset> {
        open_data(&self.data, self.pad_to, self.max_images)
    }
}

/// Opens any data set: the formats of fewstep-io, and npz files of images as `sample` writes them.
pub fn open_data(path: &Path, pad_to: Option<usize>, max_images: Option<usize>) -> Result<Dataset> {
    if has_extension(path, "npz") {
        ensure!(
            pad_to.is_none() && max_images.is_none(),
            "--pad-to and --max-images are not for npz files, whose images are used as they are: leave them out for {}",
            path.display()
        );
        return from_npz(path).with_context(|| format!("cannot use the data set {}", path.display()));
    }
    Ok(Dataset::open_with(path, &DatasetOptions { pad_to, max_size: max_images, subset_seed: 0 })?)
}

/// `images` `[N, C, H, W]`, u8 or floats (of the range that `range` says, or that their values tell), with `classes` `[N]` if there
/// are any; or the `arr_0` `[N, H, W, C]` of guided-diffusion's sample files.
fn from_npz(path: &Path) -> Result<Dataset> {
    let file = Arrays::read(path)?;
    let (array, channels_last) = match (file.get("images")?, file.get("arr_0")?) {
        (Some(images), _) => (images, false),
        (None, Some(images)) => (images, true),
        (None, None) => anyhow::bail!("it has neither an array `images` nor `arr_0`, but {}", file.names()),
    };
    let &[n, a, b, c] = array.shape.as_slice() else {
        anyhow::bail!("its images have the shape {:?}, where four dimensions are needed", array.shape);
    };
    let (channels, height, width) = if channels_last { (c, a, b) } else { (a, b, c) };
    ensure!(
        n > 0 && matches!(channels, 1 | 3),
        "its images have the shape {:?}: 1 or 3 channels are needed",
        array.shape
    );
    let mut pixels = to_u8(array, file.get(RANGE))?;
    if channels_last {
        let size = height * width * channels;
        let planar = |image: &[u8]| {
            (0..size).map(|i| image[i % (height * width) * channels + i / (height * width)]).collect::<Vec<_>>()
        };
        pixels = pixels.chunks_exact(size).flat_map(planar).collect();
    }
    let labels = file.get("classes")?.map(|classes| -> Result<Vec<u32>> {
        let classes = classes.to_i64()?;
        classes
            .into_iter()
            .map(|class| u32::try_from(class).with_context(|| format!("it has the class {class}")))
            .collect()
    });
    let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    Ok(Dataset::from_images(&name, Images::new(pixels, channels, height, width, labels.transpose()?)?)?)
}

/// Checks that all of `count` images are finite: what a diverging sampler leaves is not.
fn check_finite(values: &[f32], count: usize) -> Result<()> {
    let size = values.len().checked_div(count).unwrap_or_default().max(1);
    let bad = |image: &[f32]| image.iter().any(|value| !value.is_finite());
    let bad: Vec<usize> = values.chunks(size).enumerate().filter(|(_, image)| bad(image)).map(|(i, _)| i).collect();
    ensure!(bad.is_empty(), "{} of its {count} images hold values that are not finite: {}", bad.len(), few(&bad));
    Ok(())
}

/// Numbers in a row, the first twenty where there are more.
pub fn few(numbers: &[usize]) -> String {
    const SHOWN: usize = 20;
    let shown: Vec<String> = numbers.iter().take(SHOWN).map(usize::to_string).collect();
    let more = if numbers.len() > SHOWN { format!(" and {} more", numbers.len() - SHOWN) } else { String::new() };
    format!("{}{more}", shown.join(", "))
}

/// Pixels of u8, or of floats whose range the file says or their values tell.
fn to_u8(array: &TensorData, stated: Result<Option<&TensorData>>) -> Result<Vec<u8>> {
    match array.dtype {
        Dtype::U8 => Ok(array.bytes.clone()),
        dtype if dtype.is_float() => {
            let values = array.to_f32();
            check_finite(&values, array.shape.first().copied().unwrap_or(1))?;
            let range = FloatRange::of(&values, stated?)?;
            Ok(values.into_iter().map(|value| range.pixel(value)).collect())
        }
        other => anyhow::bail!("its images are {other:?}, where u8 or floats are needed"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fewstep_io::npz;
    use fewstep_io::tensors::TensorMap;

    fn write(name: &str, array: TensorData) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.npz");
        npz::write(&path, &TensorMap::from([(name.to_owned(), array)])).unwrap();
        (folder, path)
    }

    #[test]
    fn channels_last_and_floats_become_pixels() {
        let (_folder, path) = write("arr_0", TensorData::from_u8(&[1, 1, 2, 3], &[1, 3, 5, 2, 4, 6]).unwrap());
        assert_eq!(open_data(&path, None, None).unwrap().image(0).unwrap(), [1, 2, 3, 4, 5, 6]);
        let pixels = |values: &[f32; 4]| {
            let (_folder, path) = write("images", TensorData::from_f32(&[1, 1, 2, 2], values).unwrap());
            open_data(&path, None, None).map(|data| data.image(0).unwrap()).map_err(|error| format!("{error:#}"))
        };
        for values in [[-1.0, 0.0, 0.2, 1.0], [0.0, 0.5, 0.6, 1.0], [0.0, 127.6, 153.0, 255.0]] {
            assert_eq!(pixels(&values), Ok(vec![0, 128, 153, 255]), "{values:?}");
        }
        let error = pixels(&[-1.0, 0.0, 1.0, 7.0]).unwrap_err();
        assert!(error.contains("x.npz") && error.contains("from -1 to 7"), "{error}");
        assert!(
            pixels(&[0.0, f32::NAN, 1.0, 0.0])
                .unwrap_err()
                .contains("1 of its 1 images hold values that are not finite: 0")
        );
    }

    #[test]
    fn the_range_that_the_file_says_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.npz");
        let images = TensorData::from_f32(&[1, 1, 2, 2], &[-1.0, 0.0, 0.2, 7.0]).unwrap();
        let range = TensorData::from_f32(&[2], &[-1.0, 1.0]).unwrap();
        npz::write(&path, &TensorMap::from([("images".to_owned(), images), (RANGE.to_owned(), range)])).unwrap();
        assert_eq!(open_data(&path, None, None).unwrap().image(0).unwrap(), [0, 128, 153, 255]);
    }

    #[test]
    fn other_arrays_are_refused() {
        let error =
            |name: &str, array: TensorData| format!("{:#}", open_data(&write(name, array).1, None, None).unwrap_err());
        let (_folder, path) = write("mu", TensorData::from_f64(&[1], &[0.0]).unwrap());
        assert!(format!("{:#}", open_data(&path, None, None).unwrap_err()).contains("neither an array `images`"));
        assert!(format!("{:#}", open_data(&path, Some(32), None).unwrap_err()).contains("--pad-to"));
        assert!(!error("images", TensorData::from_u8(&[2, 2], &[0; 4]).unwrap()).is_empty());
    }
}
