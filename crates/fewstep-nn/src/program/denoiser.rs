//! Programs as denoisers: what searches, samplers and scores see of them.

use std::cell::OnceCell;
use std::ops::Range;

use fewstep_core::denoiser::{Appearance, Clipping, Denoiser, Differentiable, Levels, Spec};
use fewstep_core::plan::Constant;
use tch::{Device, Kind, Tensor};

use super::Program;
use super::config::NoiseShape;
use crate::data;
use crate::denoiser::{
    Labels, Together, TorchDenoiser, clipping, constant_samples, features, no_pixels, own_pixels, pullback, same_label,
    seed_labels, together,
};
use crate::error::{Error, Result};
use crate::model::rounding;
use crate::tensor::Batch;
use crate::texture::RandomFeatures;

/// A program from a file as a denoiser. Its samples are pixels, or what its decoder makes pixels of, or neither.
#[derive(Debug)]
pub struct ProgramDenoiser {
    program: Program,
    spec: Spec,
    pixel_shape: Option<[usize; 3]>,
    /// Features of its pixels, or of latents `[C, H, W]` where nothing decodes them; none for samples that are no such grids.
    features: Option<GridFeatures>,
    /// Whether the program has a derivative, once somebody asked.
    derivative: OnceCell<bool>,
}

impl ProgramDenoiser {
    /// The denoiser of `program`, called `identity` in cache keys and plans. Its decoder is run once.
    ///
    /// # Errors
    /// If the decoder fails.
    pub fn new(program: Program, identity: &str) -> Result<Self> {
        let config = program.config();
        let spec = Spec {
            shape: config.shape.iter().map(|size| *size as usize).collect(),
            levels: Levels::from(&config.parameterisation),
            classes: config.classes as usize,
            calls: 1,
            guidance: None,
            rounding: rounding(config.input_dtype.kind()).max(rounding(Kind::Float)), // answers are f32
            identity: identity.to_owned(),
        };
        let pixel_shape = match program.decoder() {
            Some(decoder) => Some(decoder.pixel_shape()?),
            None => own_pixels(&spec),
        };
        let grid = pixel_shape.or(match spec.shape[..] {
            [channels, height, width] => Some([channels, height, width]),
            _ => None,
        });
        let features = grid.map(|shape| GridFeatures {
            shape: shape.map(|size| size as i64),
            clips: pixel_shape.is_some(),
            device: program.device(),
            batch: program.batch,
            texture: OnceCell::new(),
        });
        Ok(Self { program, spec, pixel_shape, features, derivative: OnceCell::new() })
    }

    /// The program.
    pub fn program(&self) -> &Program {
        &self.program
    }

    fn grid_features(&self) -> Result<&GridFeatures> {
        self.features.as_ref().ok_or_else(|| {
            Error::Input(format!(
                "samples of shape {:?} are no grids of two axes: they have no features",
                self.spec.shape
            ))
        })
    }

    /// The images of samples: decoded, if there is a decoder.
    fn images(&self, samples: &Tensor) -> Result<Tensor> {
        match self.program.decoder() {
            Some(decoder) => tch::no_grad(|| decoder.decode(samples)),
            None => Ok(samples.shallow_clone()),
        }
    }

    /// Parts of a batch, so that pixels of a few samples are held at a time.
    fn parts(&self, batch: &Batch) -> Result<Vec<Tensor>> {
        Ok(batch.0.f_split(self.program.batch.max(1) as i64, 0)?)
    }
}

impl Denoiser for ProgramDenoiser {
    type Batch = Batch;
    type Conditions = Labels;
    type Error = Error;

    fn spec(&self) -> &Spec {
        &self.spec
    }

    fn latents(&self, seeds: &[u64]) -> Result<Batch> {
        Ok(Batch(data::latents(seeds, &self.spec.shape, self.program.device())?))
    }

    fn conditions(&self, seeds: &[u64]) -> Result<Labels> {
        seed_labels(seeds, &self.spec, self.program.device())
    }

    fn same_condition(&self, class: Option<usize>, samples: usize) -> Result<Labels> {
        let labels = self.program.config().labels;
        if class.is_none() && labels.is_some_and(|labels| labels.unconditional.is_none()) {
            return Err(Error::Input(format!(
                "the program {} always needs a class (its description has no `labels.unconditional`): it cannot be guided by \
                 a dropped one",
                self.program.script.name()
            )));
        }
        same_label(class, samples, &self.spec, self.program.device())
    }

    fn constant(&self, constant: &Constant, conditions: &Labels, samples: usize) -> Result<Batch> {
        constant_samples(constant, conditions, samples, (&self.spec, self.program.device()))
    }

    fn denoise(&self, asked: &[(&Batch, f64)], conditions: &Labels) -> Result<Vec<Batch>> {
        let labels = conditions.0.as_ref();
        tch::no_grad(|| match asked {
            [(Batch(first), _), _, ..] if self.program.config().noise_shape == NoiseShape::Batch => {
                let Together { x, levels, labels } = together(asked, labels)?;
                let outputs = self.program.denoise(&x, &levels, labels.as_ref())?;
                Ok(outputs.f_split(first.size()[0], 0)?.into_iter().map(Batch).collect())
            }
            _ => {
                let level = |sigma: f64| Tensor::from_slice(&[sigma as f32]);
                let one = |(x, sigma): &(&Batch, f64)| self.program.denoise(&x.0, &level(*sigma), labels).map(Batch);
                asked.iter().map(one).collect()
            }
        })
    }

    fn differentiable(&self) -> Option<&dyn Differentiable<Batch = Batch, Conditions = Labels, Error = Error>> {
        let has = *self.derivative.get_or_init(|| self.program.has_derivative());
        has.then_some(self as _)
    }

    fn appearance(&self) -> Option<&dyn Appearance<Batch, Error>> {
        self.features.is_some().then_some(self as _)
    }
}

impl Differentiable for ProgramDenoiser {
    fn pullback(&self, x: &Batch, sigma: f64, conditions: &Labels, cotangent: &Batch) -> Result<(Batch, f64)> {
        let size = (self.program.batch, self.program.device());
        pullback(x, sigma, conditions, cotangent, size, |x, level, labels| self.program.denoise(x, level, labels))
    }
}

impl TorchDenoiser for ProgramDenoiser {
    fn device(&self) -> Device {
        self.program.device()
    }

    fn pixel_shape(&self) -> Option<[usize; 3]> {
        self.pixel_shape
    }

    fn pixels(&self, samples: &Batch) -> Result<Tensor> {
        match self.pixel_shape {
            Some(_) => self.images(&samples.0),
            None => Err(no_pixels(&self.spec)),
        }
    }

    fn pixel_appearance(&self) -> Result<&dyn Appearance<Batch, Error>> {
        match (self.pixel_shape, &self.features) {
            (Some(_), Some(features)) => Ok(features),
            _ => Err(no_pixels(&self.spec)),
        }
    }
}

/// Of decoded samples where there is a decoder, and of samples as they are where there is none.
impl Appearance<Batch, Error> for ProgramDenoiser {
    fn features(&self, batch: &Batch) -> Result<(Vec<f64>, usize)> {
        let grid = self.grid_features()?;
        let mut rows = Vec::new();
        for part in self.parts(batch)? {
            rows.extend(grid.features(&Batch(self.images(&part)?))?.0);
        }
        Ok((rows, grid.texture().dim()))
    }

    fn clipping(&self, batch: &Batch, near: Range<f64>) -> Result<Clipping> {
        let mut all = Clipping::default();
        for part in self.parts(batch)? {
            let Clipping { values, beyond, near } = clipping(&self.images(&part)?, near.clone())?;
            all.values += values;
            all.beyond += beyond;
            all.near.extend(near);
        }
        Ok(all)
    }

    fn is_direct(&self) -> bool {
        self.program.decoder().is_none() && self.pixel_shape.is_some()
    }
}

/// Random features of images `[N, C, H, W]`.
#[derive(Debug)]
struct GridFeatures {
    shape: [i64; 3],
    /// Whether they are pixels, which files clip.
    clips: bool,
    device: Device,
    batch: usize,
    texture: OnceCell<RandomFeatures>,
}

impl GridFeatures {
    fn texture(&self) -> &RandomFeatures {
        self.texture.get_or_init(|| RandomFeatures::new(self.shape, self.clips, self.device))
    }
}

impl Appearance<Batch, Error> for GridFeatures {
    fn features(&self, batch: &Batch) -> Result<(Vec<f64>, usize)> {
        features(self.texture(), &batch.0, self.batch)
    }

    fn clipping(&self, batch: &Batch, near: Range<f64>) -> Result<Clipping> {
        clipping(&batch.0, near)
    }

    fn is_direct(&self) -> bool {
        self.clips
    }
}
