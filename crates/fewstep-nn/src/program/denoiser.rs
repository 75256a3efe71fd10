//! Programs as denoisers: what searches, samplers and scores see of them.

use std::cell::OnceCell;

use fewstep_core::denoiser::{Appearance, Denoiser, Differentiable, Levels, Spec};
use fewstep_core::plan::Constant;
use tch::{Device, Kind, Tensor};

use super::Program;
use super::config::NoiseShape;
use crate::codec::Codec;
use crate::data;
use crate::denoiser::{Labels, Together, TorchDenoiser, constant_samples, pullback, same_label, seed_labels, together};
use crate::error::{Error, Result};
use crate::model::rounding;
use crate::ranks::Ranks;
use crate::tensor::Batch;

/// A program from a file as a denoiser. Its samples are pixels, or what its decoder makes pixels of, or neither.
#[derive(Debug)]
pub struct ProgramDenoiser {
    program: Program,
    spec: Spec,
    /// Whether the program has a derivative, once somebody asked.
    derivative: OnceCell<bool>,
}

impl ProgramDenoiser {
    /// The denoiser of `program`, called `identity` in cache keys and plans.
    pub fn new(program: Program, identity: &str) -> Self {
        let config = program.config();
        let spec = Spec {
            shape: config.shape.iter().map(|size| *size as usize).collect(),
            levels: Levels::from(&config.parameterisation),
            parameterisation: config.parameterisation.name(),
            classes: config.classes as usize,
            calls: 1,
            guidance: None,
            rounding: rounding(config.input_dtype.kind()).max(rounding(Kind::Float)), // answers are f32
            identity: identity.to_owned(),
        };
        Self { program, spec, derivative: OnceCell::new() }
    }

    /// The program.
    pub fn program(&self) -> &Program {
        &self.program
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
        self.codec().appearance()
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

    fn codec(&self) -> &Codec {
        self.program.codec()
    }

    fn ranks(&self) -> Ranks {
        self.program.ranks().clone()
    }
}
