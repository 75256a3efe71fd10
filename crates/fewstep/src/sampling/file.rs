//! Samples in memory, and the file that they will be.

use fewstep_io::atomic::OutFile;
use fewstep_io::dataset::Images;
use fewstep_io::tensors::{Dtype, TensorData, TensorMap};
use fewstep_io::{npz, png};
use fewstep_nn::TorchDenoiser;
use fewstep_nn::tch::Tensor;

use super::Source;
use crate::error::{Error, Result, bail, ensure};
use crate::float_range::{FloatRange, RANGE};
use crate::pixels;

/// White pixels between the images of a grid.
const GAP: usize = 2;

/// Samples in memory, and the file that they will be.
#[derive(Debug)]
pub struct Collected<'a> {
    out: OutFile<'a>,
    form: Form,
    /// Shape of one.
    shape: Vec<usize>,
    bytes: Vec<u8>,
    seeds: Option<Vec<i64>>,
    classes: Vec<i64>,
}

/// What the file holds.
#[derive(Clone, Copy, Debug)]
enum Form {
    /// One PNG, with so many images in a row.
    Grid(Option<usize>),
    /// u8 pixels, in the array `images`.
    Pixels,
    /// The sampler's own f32 values, in the array of this name.
    Floats(&'static str),
}

impl<'a> Collected<'a> {
    /// One PNG of all.
    pub fn grid(
        out: OutFile<'a>,
        columns: Option<usize>,
        denoiser: &dyn TorchDenoiser,
        source: &Source,
    ) -> Result<Self> {
        Self::new(out, Form::Grid(columns), denoiser, source)
    }

    /// An npz file: pixels where samples are images and `raw` is not set.
    pub fn arrays(out: OutFile<'a>, raw: bool, denoiser: &dyn TorchDenoiser, source: &Source) -> Result<Self> {
        let shape = &denoiser.spec().shape;
        let form = match denoiser.pixel_shape() {
            Some(_) if !raw => Form::Pixels,
            Some(pixels) if *shape == pixels => Form::Floats("images"),
            _ => Form::Floats("samples"),
        };
        Self::new(out, form, denoiser, source)
    }

    fn new(out: OutFile<'a>, form: Form, denoiser: &dyn TorchDenoiser, source: &Source) -> Result<Self> {
        let shape = match (form, denoiser.pixel_shape()) {
            (Form::Grid(_) | Form::Pixels, Some(pixels)) => pixels.to_vec(),
            _ => denoiser.spec().shape.clone(),
        };
        let seeds = match (form, source) {
            (Form::Pixels | Form::Floats(_), Source::Seeds { seeds, .. }) => {
                Some(seeds.iter().map(|&seed| storable(seed)).collect::<Result<_>>()?)
            }
            _ => None,
        };
        let count = source.len();
        let mut bytes = Vec::new();
        let size = shape.iter().try_fold(form.dtype().size() * count, |size, side| size.checked_mul(*side));
        let room = size.and_then(|size| bytes.try_reserve_exact(size).ok());
        ensure!(room.is_some(), "{count} samples do not fit into memory: write a folder, or fewer at once");
        Ok(Self { out, form, shape, bytes, seeds, classes: Vec::new() })
    }

    /// Takes the next samples, u8 or f32 as the file holds them, with their classes if they have any.
    pub fn take(&mut self, values: &Tensor, classes: &[i64]) -> Result<()> {
        self.classes.extend(classes);
        self.bytes.extend(pixels::bytes(values)?);
        Ok(())
    }

    /// Writes the file.
    pub fn finish(self) -> Result<()> {
        match self.form {
            Form::Grid(columns) => self.write_grid(columns),
            Form::Pixels => self.write_npz("images"),
            Form::Floats(name) => self.write_npz(name),
        }
    }

    fn write_grid(self, columns: Option<usize>) -> Result<()> {
        let &[c, h, w] = self.shape.as_slice() else { bail!("samples of shape {:?} are no images", self.shape) };
        let images = Images::new(self.bytes, c, h, w, None)?;
        let square = (images.len() as f64).sqrt().ceil() as usize;
        Ok(png::write_grid(self.out, &images, columns.unwrap_or(square), GAP)?)
    }

    /// The samples `[N, ...]` under this name, `seeds` `[N]`, `classes` `[N]`.
    fn write_npz(self, name: &str) -> Result<()> {
        let dtype = self.form.dtype();
        let size = self.shape.iter().product::<usize>() * dtype.size();
        let count = self.bytes.len().checked_div(size).unwrap_or_default();
        let shape = std::iter::once(count).chain(self.shape).collect();
        let mut arrays = TensorMap::from([(name.to_owned(), TensorData::new(dtype, shape, self.bytes)?)]);
        let classes = Some(self.classes).filter(|classes| !classes.is_empty());
        for (name, values) in [("seeds", self.seeds), ("classes", classes)] {
            if let Some(values) = values {
                arrays.insert(name.to_owned(), TensorData::from_i64(&[count], &values)?);
            }
        }
        if matches!(self.form, Form::Floats("images")) {
            // what the values of black and white are: a sampler's overshoot them
            arrays.insert(RANGE.to_owned(), TensorData::from_f32(&[2], &FloatRange::Signed.ends())?);
        }
        Ok(npz::write(self.out, &arrays)?)
    }
}

/// A seed as the array `seeds` holds it.
fn storable(seed: u64) -> Result<i64> {
    i64::try_from(seed).map_err(|_| {
        Error::Input(format!(
            "the seed {seed} is larger than what the array `seeds` of an npz file holds, {} at most: take smaller \
             seeds",
            i64::MAX
        ))
    })
}

impl Form {
    fn dtype(self) -> Dtype {
        match self {
            Self::Grid(_) | Self::Pixels => Dtype::U8,
            Self::Floats(_) => Dtype::F32,
        }
    }
}
