//! How samples become images: they are images themselves, or a decoder makes them, or there are none.

use std::cell::OnceCell;
use std::ops::Range;
use std::rc::Rc;

use fewstep_core::denoiser::{Appearance, Clipping};
use tch::{Device, Kind, Tensor};

use crate::error::{Error, Result};
use crate::model::BATCH;
use crate::program::Decoder;
use crate::tensor::Batch;
use crate::texture::RandomFeatures;

/// How the samples of a denoiser become images, and how these look. Copies share their decoder.
#[derive(Clone, Debug)]
pub struct Codec {
    /// Shape of a sample.
    shape: Vec<usize>,
    decoder: Option<Rc<Decoder>>,
    pixel_shape: Option<[usize; 3]>,
    /// Features of its pixels, or of latents `[C, H, W]` where nothing decodes them; none for samples that are no such grids.
    features: Option<GridFeatures>,
}

impl Codec {
    /// Samples of this shape that are images themselves, of 1 or 3 channels, or none.
    pub fn direct(shape: &[usize], device: Device) -> Self {
        let pixel_shape = match *shape {
            [channels @ (1 | 3), height, width] => Some([channels, height, width]),
            _ => None,
        };
        let grid = <[usize; 3]>::try_from(shape).ok();
        let features = grid.map(|grid| GridFeatures::new(grid, pixel_shape.is_some(), device));
        Self { shape: shape.to_vec(), decoder: None, pixel_shape, features }
    }

    /// Samples that `decoder` makes images of. It is run once.
    ///
    /// # Errors
    /// If it fails.
    pub fn decoding(decoder: Decoder) -> Result<Self> {
        let pixel_shape = decoder.pixel_shape()?;
        let features = Some(GridFeatures::new(pixel_shape, true, decoder.device()));
        let shape = decoder.shape().iter().map(|&size| size as usize).collect();
        let decoder = Some(Rc::new(decoder));
        Ok(Self { shape, decoder, pixel_shape: Some(pixel_shape), features })
    }

    /// The same, at most `batch` samples at once.
    pub(crate) fn with_batch(mut self, batch: usize) -> Self {
        if let Some(features) = &mut self.features {
            features.batch = batch.max(1);
        }
        self
    }

    /// The decoder, if samples are no images themselves.
    pub fn decoder(&self) -> Option<&Decoder> {
        self.decoder.as_deref()
    }

    /// Channels, height and width of the images, if there are any.
    pub fn pixel_shape(&self) -> Option<[usize; 3]> {
        self.pixel_shape
    }

    /// The images of a batch of samples, f32 `[N, C, H, W]` in [-1, 1] (which they may leave a little).
    ///
    /// # Errors
    /// If there are none, or the decoder fails.
    pub fn pixels(&self, samples: &Batch) -> Result<Tensor> {
        match (self.pixel_shape, &self.features) {
            (Some(_), Some(features)) if self.decoder.is_some() => {
                let parts = samples.0.f_split(features.batch as i64, 0)?;
                let decoded = parts.iter().map(|part| self.decoded(part)).collect::<Result<Vec<_>>>()?;
                Ok(Tensor::f_cat(&decoded, 0)?)
            }
            (Some(_), _) => Ok(samples.0.shallow_clone()),
            (None, _) => Err(self.no_pixels()),
        }
    }

    /// How samples look: decoded if there is a decoder, and as they are if there is none; none for samples that are no grids of two
    /// axes.
    pub fn appearance(&self) -> Option<&dyn Appearance<Batch, Error>> {
        self.features.is_some().then_some(self as _)
    }

    /// How batches of images look, as against batches of samples that are decoded first.
    ///
    /// # Errors
    /// If there are none.
    pub fn pixel_appearance(&self) -> Result<&dyn Appearance<Batch, Error>> {
        match (self.pixel_shape, &self.features) {
            (Some(_), Some(features)) => Ok(features),
            _ => Err(self.no_pixels()),
        }
    }

    /// Why these samples cannot be shown.
    pub fn no_pixels(&self) -> Error {
        Error::Input(format!(
            "samples of shape {:?} are no images of 1 or 3 channels, and the model has no decoder: sample into an .npz file, or give \
             the model a decoder",
            self.shape
        ))
    }

    fn grid(&self) -> Result<&GridFeatures> {
        let why = || format!("samples of shape {:?} are no grids of two axes: they have no features", self.shape);
        self.features.as_ref().ok_or_else(|| Error::Input(why()))
    }

    /// Images of samples, all at once.
    fn decoded(&self, samples: &Tensor) -> Result<Tensor> {
        match &self.decoder {
            Some(decoder) => tch::no_grad(|| decoder.decode(samples)),
            None => Ok(samples.shallow_clone()),
        }
    }
}

/// A few samples are decoded at a time.
impl Appearance<Batch, Error> for Codec {
    fn features(&self, batch: &Batch) -> Result<(Vec<f64>, usize)> {
        let grid = self.grid()?;
        let mut rows = Vec::new();
        for part in batch.0.f_split(grid.batch as i64, 0)? {
            rows.extend(grid.features(&Batch(self.decoded(&part)?))?.0);
        }
        Ok((rows, grid.texture().dim()))
    }

    fn clipping(&self, batch: &Batch, near: Range<f64>) -> Result<Clipping> {
        let grid = self.grid()?;
        let mut all = Clipping::default();
        for part in batch.0.f_split(grid.batch as i64, 0)? {
            let Clipping { values, beyond, near } = grid.clipping(&Batch(self.decoded(&part)?), near.clone())?;
            all.values += values;
            all.beyond += beyond;
            all.near.extend(near);
        }
        Ok(all)
    }

    fn is_direct(&self) -> bool {
        self.decoder.is_none() && self.pixel_shape.is_some()
    }
}

/// Random features of grids `[N, C, H, W]`.
#[derive(Clone, Debug)]
struct GridFeatures {
    shape: [i64; 3],
    /// Whether they are pixels, which files clip.
    clips: bool,
    device: Device,
    /// Samples decoded and measured at once.
    batch: usize,
    texture: Rc<OnceCell<RandomFeatures>>,
}

impl GridFeatures {
    fn new(shape: [usize; 3], clips: bool, device: Device) -> Self {
        Self { shape: shape.map(|size| size as i64), clips, device, batch: BATCH, texture: Rc::default() }
    }

    fn texture(&self) -> &RandomFeatures {
        self.texture.get_or_init(|| RandomFeatures::new(self.shape, self.clips, self.device))
    }
}

impl Appearance<Batch, Error> for GridFeatures {
    fn features(&self, batch: &Batch) -> Result<(Vec<f64>, usize)> {
        let texture = self.texture();
        let mut rows = Vec::with_capacity(batch.0.size()[0] as usize * texture.dim());
        for part in batch.0.f_split(self.batch as i64, 0)? {
            let features = tch::no_grad(|| texture.features(&part))?;
            rows.extend(Vec::<f64>::try_from(
                features.f_to_device(Device::Cpu)?.f_to_kind(Kind::Double)?.f_flatten(0, -1)?,
            )?);
        }
        Ok((rows, texture.dim()))
    }

    fn clipping(&self, batch: &Batch, near: Range<f64>) -> Result<Clipping> {
        let size = batch.0.f_abs()?.f_to_kind(Kind::Float)?.f_flatten(0, -1)?;
        let inside = size.f_ge(near.start)?.f_logical_and(&size.f_lt(near.end)?)?;
        Ok(Clipping {
            values: size.numel() as u64,
            beyond: u64::try_from(size.f_ge(near.end)?.f_sum(Kind::Int64)?.f_int64_value(&[])?).unwrap_or(0),
            near: Vec::<f32>::try_from(size.f_masked_select(&inside)?.f_to_device(Device::Cpu)?)?,
        })
    }

    fn is_direct(&self) -> bool {
        self.clips
    }
}
