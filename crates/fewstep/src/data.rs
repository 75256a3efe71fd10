//! Data sets.

use std::path::Path;

use fewstep_core::observe::{Observer, Progress};
use fewstep_io::atomic::OutFile;
use fewstep_io::dataset::{self, Dataset, DatasetOptions, Images, PrepareOptions, Prepared};
use fewstep_io::tensors::{Dtype, TensorData};
use fewstep_nn::tensor::Batch;
use fewstep_nn::{TorchDenoiser, data, random};
use fewstep_search::{DataMoments, MOST_TRAINING_SAMPLES, documented};

use serde::{Deserialize, Serialize};

use crate::float_range::{FloatRange, RANGE};

use crate::arrays::Arrays;
use crate::error::{Context, Result, bail, ensure};

/// Whether a path ends in `.extension`.
pub fn has_extension(path: &Path, extension: &str) -> bool {
    path.extension().is_some_and(|found| found.eq_ignore_ascii_case(extension))
}

/// Opens any data set: the formats of fewstep-io, and npz files of images as `sample` writes them.
///
/// # Errors
/// If it cannot be used.
pub fn open_data(path: &Path, pad_to: Option<usize>, max_images: Option<usize>) -> Result<Dataset> {
    if has_extension(path, "npz") {
        ensure!(
            pad_to.is_none() && max_images.is_none(),
            "images of npz files are used as they are, neither padded nor fewer: leave out both for {}",
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
        (None, None) => bail!("it has neither an array `images` nor `arr_0`, but {}", file.names()),
    };
    let &[n, a, b, c] = array.shape.as_slice() else {
        bail!("its images have the shape {:?}, where four dimensions are needed", array.shape);
    };
    let (channels, height, width) = if channels_last { (c, a, b) } else { (a, b, c) };
    ensure!(
        n > 0 && height > 0 && width > 0 && matches!(channels, 1 | 3),
        "its images have the shape {:?}: one image at least, of 1 or 3 channels and at least one pixel, is needed",
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
            .map(|class| u32::try_from(class).ok().with_context(|| format!("it has the class {class}")))
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
        other => bail!("its images are {other:?}, where u8 or floats are needed"),
    }
}

/// Packs the pictures below a folder into `out`, a zip in the layout of EDM's data-set tool: squares of one size.
///
/// # Errors
/// If there are no pictures, some cannot be read, or the zip cannot be written.
pub fn prepare(pictures: &Path, out: OutFile, options: PrepareOptions, observer: &dyn Observer) -> Result<Prepared> {
    let mut progress = None;
    Ok(dataset::prepare(pictures, out, options, &mut |done, total| {
        let progress = progress.get_or_insert_with(|| Progress::new(observer, "data", "img", total as u64, 0));
        progress.set(done as u64, "");
    })?)
}

documented! {
    /// How training images are read.
    #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    pub struct DataSettings {
        /// Images that are used, at most; 0 for all.
        pub max_images: usize,
    }
}

impl DataSettings {
    /// Opens a data set as [`open_data`] does.
    ///
    /// # Errors
    /// If it cannot be used.
    pub fn open(&self, path: &Path, pad_to: Option<usize>) -> Result<Dataset> {
        open_data(path, pad_to, (self.max_images > 0).then_some(self.max_images))
    }

    /// Refuses a data set of `images` that was opened in another way.
    ///
    /// # Errors
    /// If this one was.
    pub fn check(&self, images: usize) -> Result<()> {
        ensure!(
            self.max_images == 0 || images <= self.max_images,
            "the setting data.max_images is {}, and the data set has {images} images",
            self.max_images
        );
        Ok(())
    }
}

/// A data set as `run.json` keeps it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DataId {
    /// Its name.
    pub name: String,
    /// SHA-256 of what it holds.
    pub sha256: String,
    /// Images of it that are used.
    #[serde(default)]
    pub images: usize,
}

impl DataId {
    /// Whether these are as many images of the same data, whatever their file is called.
    pub fn is_same(&self, other: &Self) -> bool {
        (&self.sha256, self.images) == (&other.sha256, other.images)
    }

    /// Of a data set.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn of(dataset: &Dataset) -> Result<Self> {
        Ok(Self { name: dataset.name().to_owned(), sha256: dataset.fingerprint()?, images: dataset.len() })
    }
}

/// Seed of which ones.
const SEED: u64 = u64::from_le_bytes(*b"moments ");

/// The moments of training images, in the features that searches match them on.
///
/// # Errors
/// If the images do not fit the denoiser.
pub fn data_moments(images: &data::Images, denoiser: &dyn TorchDenoiser, batch: usize) -> Result<DataMoments> {
    let mut moments = DataMoments::new();
    let appearance = denoiser.codec().pixel_appearance()?;
    for indices in drawn(images.len()).chunks(batch.max(1)) {
        moments.add(appearance, &Batch(images.batch(indices, denoiser)?.images))?;
    }
    Ok(moments)
}

/// The training images that are measured, of so many: drawn at random, as their classes may come one after the other, or take turns.
fn drawn(len: usize) -> Vec<i64> {
    let mut order = random::permutation(SEED, 0, len);
    order.truncate(MOST_TRAINING_SAMPLES);
    order
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn every_class_is_drawn_in_whatever_order_they_come() {
        let drawn = drawn(50_000);
        assert_eq!(drawn.len(), MOST_TRAINING_SAMPLES);
        for class_of in [|index: i64| index % 10, |index: i64| index / 5000] {
            let of_class = |class: i64| drawn.iter().filter(|index| class_of(**index) == class).count();
            assert!((0..10).all(|class| (900..1100).contains(&of_class(class))));
        }
        assert_eq!(super::drawn(3).len(), 3);
    }

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
            open_data(&path, None, None).map(|data| data.image(0).unwrap()).map_err(|error| error.sentence())
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
            |name: &str, array: TensorData| open_data(&write(name, array).1, None, None).unwrap_err().sentence();
        let (_folder, path) = write("mu", TensorData::from_f64(&[1], &[0.0]).unwrap());
        assert!(open_data(&path, None, None).unwrap_err().sentence().contains("neither an array `images`"));
        assert!(open_data(&path, Some(32), None).unwrap_err().sentence().contains("neither padded nor fewer"));
        assert!(!error("images", TensorData::from_u8(&[2, 2], &[0; 4]).unwrap()).is_empty());
        for (name, shape) in [("arr_0", [1, 0, 0, 3]), ("arr_0", [1, 2, 0, 3]), ("images", [1, 3, 0, 2])] {
            let error = error(name, TensorData::from_u8(&shape, &[]).unwrap());
            assert!(error.contains(&format!("{shape:?}")) && error.contains("at least one pixel"), "{error}");
        }
    }
}
