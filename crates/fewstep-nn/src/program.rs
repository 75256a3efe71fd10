//! Denoisers from TorchScript programs: a file that `torch.jit.save` wrote, and a JSON beside it that says what it computes.
//!
//! A program is code. Opening one runs it: [`Program::load`] and [`Decoder::load`] are for whoever has decided that the file is to be
//! trusted, and nothing in this crate calls them of its own accord. [`ProgramConfig::beside`] reads the JSON alone.

pub mod config;
mod decoder;
mod denoiser;
mod labels;
mod script;

use std::path::Path;

use fewstep_core::parameterisation::Coefficients;
use tch::{Device, IValue, Kind, Tensor};

pub use self::config::{DecoderConfig, ProgramConfig};
use self::config::{Input, NoiseShape};
pub use self::decoder::Decoder;
pub use self::denoiser::ProgramDenoiser;
use self::labels::Asked;
use self::script::Script;
use crate::codec::Codec;
use crate::error::{Error, Result};
use crate::ranks::Ranks;
use crate::tensor::coefficients;

/// Samples at once, where nobody says otherwise.
const BATCH: usize = 64;

/// A TorchScript program as a denoiser D(x; sigma), on a device. Its weights are constants: gradients flow through it, not into it.
#[derive(Debug)]
pub struct Program {
    script: Script,
    config: ProgramConfig,
    codec: Codec,
    device: Device,
    batch: usize,
    ranks: Ranks,
}

impl Program {
    /// Opens a program, and its decoder if it has one, and tries them out. **This executes what is in the files.**
    ///
    /// # Errors
    /// If the description is not valid, a file is no TorchScript, or the program does not do what the description says.
    pub fn load(path: &Path, config: ProgramConfig, device: Device) -> Result<Self> {
        config.validate()?;
        let script = Script::load(path, device)?;
        let codec = match &config.decoder {
            Some(decoder) => Codec::decoding(Decoder::load_beside(path, decoder, &config.shape, device)?)?,
            None => Codec::direct(&config.shape.iter().map(|&size| size as usize).collect::<Vec<_>>(), device),
        };
        let program = Self { script, config, codec, device, batch: BATCH, ranks: Ranks::alone() };
        program.try_out()?;
        Ok(program)
    }

    /// Lets the program see at most `batch` samples at once; at least 1.
    pub fn with_batch(mut self, batch: usize) -> Self {
        self.batch = batch.max(1);
        self.codec = self.codec.with_batch(batch);
        self
    }

    /// With these processes, each of which has opened it.
    pub fn with_ranks(mut self, ranks: Ranks) -> Self {
        self.ranks = ranks;
        self
    }

    /// The processes that compute with it.
    pub fn ranks(&self) -> &Ranks {
        &self.ranks
    }

    /// The description.
    pub fn config(&self) -> &ProgramConfig {
        &self.config
    }

    /// Where the program computes.
    pub fn device(&self) -> Device {
        self.device
    }

    /// How its states become images.
    pub fn codec(&self) -> &Codec {
        &self.codec
    }

    /// Runs the program once on zeros: for a class if it has any, and for none if it can.
    ///
    /// # Errors
    /// If it fails, or answers in another shape.
    pub fn try_out(&self) -> Result<()> {
        // two samples, so that a trace for a batch of one does not pass
        let n = self.batch.min(2) as i64;
        let (low, high) = self.config.parameterisation.sampling_range();
        let x = Tensor::f_zeros(self.states(n), (Kind::Float, self.device))?;
        let sigma = Tensor::from_slice(&[(low * high).sqrt()]);
        let classes = self.config.classes;
        tch::no_grad(|| {
            if classes > 0 {
                let label = Tensor::from_slice(&[0i64]).f_one_hot(classes)?;
                let _ = self.denoise(&x, &sigma, Some(&label))?;
            }
            if self.config.labels.is_none_or(|labels| labels.unconditional.is_some()) {
                let _ = self.denoise(&x, &sigma, None)?;
            }
            Ok(())
        })
    }

    /// Whether what the program answers has a derivative in the state, tried on zeros: one that computes without a graph, or in
    /// integers on the way, has none.
    pub fn has_derivative(&self) -> bool {
        let tried = || -> Result<bool> {
            let (low, high) = self.config.parameterisation.sampling_range();
            let x = Tensor::f_zeros(self.states(1), (Kind::Float, self.device))?.set_requires_grad(true);
            let label = match self.config.classes {
                0 => None,
                classes => Some(Tensor::from_slice(&[0i64]).f_one_hot(classes)?),
            };
            let asked =
                Asked::new(&self.config, label.as_ref(), 1, self.device).map_err(|reason| self.misfit(reason))?;
            let sigma = Tensor::from_slice(&[(low * high).sqrt() as f32]);
            let noise = coefficients(&self.config.parameterisation, &sigma)?.c_noise;
            let answer = self.answer(&x, &noise, &asked)?;
            if !answer.requires_grad() {
                return Ok(false);
            }
            Ok(Tensor::f_run_backward(&[answer.f_sum(Kind::Float)?], &[&x], false, false)?[0].defined())
        };
        tried().unwrap_or(false)
    }

    /// D(x; sigma). `x`: `[N, ...]` of the program's shape, `sigma`: `[N]` or `[1]`, `labels`: `[N or 1, classes]`, one-hot, with
    /// rows of zeros (or `None` for all) where no class is asked for. Returns f32 in the shape of `x`, differentiable in `x` and
    /// `sigma`. Numbers that are not finite are left to the caller.
    ///
    /// # Errors
    /// If an argument does not fit the description, the program fails, or its answer has another shape.
    pub fn denoise(&self, x: &Tensor, sigma: &Tensor, labels: Option<&Tensor>) -> Result<Tensor> {
        let n = x.size().first().copied().unwrap_or(0);
        if x.size() != self.states(n) || n == 0 {
            return Err(self.misfit(format!(
                "states {:?}, where [N, ...] with {:?} are needed",
                x.size(),
                self.config.shape
            )));
        }
        let x = x.f_to_device(self.device)?.f_to_kind(Kind::Float)?;
        let sigma = sigma.f_to_kind(Kind::Float)?.f_reshape([-1])?; // [N] or [1]
        let levels = sigma.numel() as i64;
        if levels != 1 && levels != n {
            return Err(self.misfit(format!("{levels} noise levels for {n} states: 1 or {n} are needed")));
        }
        let asked = Asked::new(&self.config, labels, n, self.device).map_err(|reason| self.misfit(reason))?;
        let most = if self.one_by_one(&sigma)? { 1 } else { self.batch as i64 };
        if n <= most {
            return self.part(&x, &sigma, &asked);
        }
        let parts = (0..n).step_by(most as usize).map(|start| {
            let count = most.min(n - start);
            let sigma = if levels == 1 { sigma.shallow_clone() } else { sigma.f_narrow(0, start, count)? };
            self.part(&x.f_narrow(0, start, count)?, &sigma, &asked.narrow(start, count)?)
        });
        Ok(Tensor::f_cat(&parts.collect::<Result<Vec<_>>>()?, 0)?)
    }

    /// Whether samples need runs of their own: the program takes one noise level, and they are at several, or are to have a gradient
    /// each.
    fn one_by_one(&self, sigma: &Tensor) -> Result<bool> {
        if self.config.noise_shape == NoiseShape::Batch || sigma.numel() == 1 {
            return Ok(false);
        }
        Ok(sigma.requires_grad() || sigma.f_min()?.f_double_value(&[])? != sigma.f_max()?.f_double_value(&[])?)
    }

    /// [`Program::denoise`] of as many states as the program sees at once.
    fn part(&self, x: &Tensor, sigma: &Tensor, asked: &Asked) -> Result<Tensor> {
        let Coefficients { c_skip, c_out, c_in, c_noise } = coefficients(&self.config.parameterisation, sigma)?;
        let out = self.answer(&x.f_mul(&self.wide(&c_in)?)?, &c_noise, asked)?;
        Ok(self.wide(&c_skip)?.f_mul(x)?.f_add(&self.wide(&c_out)?.f_mul(&out)?)?)
    }

    /// What the program answers: f32 in the shape of `x`.
    fn answer(&self, x: &Tensor, noise: &Tensor, asked: &Asked) -> Result<Tensor> {
        let n = x.size()[0];
        let noise = noise.f_to_device(self.device)?;
        let noise = match self.config.noise_shape {
            NoiseShape::Batch => noise.f_expand([n], false)?.f_contiguous()?,
            NoiseShape::Scalar => noise.f_narrow(0, 0, 1)?.f_reshape([0i64; 0])?,
        };
        let (mut x, mut noise) = (Some(x.f_to_kind(self.config.input_dtype.kind())?), Some(noise));
        let arguments = self.config.inputs.iter().map(|input| match input {
            Input::X => x.take().map_or(IValue::None, IValue::Tensor),
            Input::Noise => noise.take().map_or(IValue::None, IValue::Tensor),
            Input::Labels => asked.argument(),
        });
        let arguments: Vec<IValue> = arguments.collect();
        let out = self.script.call(&arguments, &self.names())?;
        let needed = self.states(n);
        let mut answered = needed.clone();
        answered[1] = self.config.output_channels.unwrap_or(needed[1]);
        if out.size() != answered {
            let mut hint = String::new();
            if let [_, channels, ..] = out.size()[..]
                && channels > needed[1]
                && out.size()[2..] == needed[2..]
            {
                hint =
                    format!("; if the further channels are a learned variance, write \"output_channels\": {channels}");
            }
            let [found, called] = [format!("{:?}", out.size()), script::called(&arguments, &self.names())];
            return Err(self.script.error(format!("answers {found} to {called}, where {answered:?} is needed{hint}")));
        }
        Ok(out.f_narrow(1, 0, needed[1])?.f_to_device(self.device)?.f_to_kind(Kind::Float)?)
    }

    /// What its arguments are called.
    fn names(&self) -> Vec<&'static str> {
        self.config.inputs.iter().map(|input| input.name()).collect()
    }

    /// A coefficient for every sample, as states are multiplied by it: `[N or 1, 1, ...]`.
    fn wide(&self, coefficient: &Tensor) -> Result<Tensor> {
        let mut shape = vec![1; self.config.shape.len() + 1];
        shape[0] = -1;
        Ok(coefficient.f_to_device(self.device)?.f_reshape(shape)?)
    }

    /// Shape of `n` states.
    fn states(&self, n: i64) -> Vec<i64> {
        [&[n], &self.config.shape[..]].concat()
    }

    fn misfit(&self, reason: String) -> Error {
        Error::Input(format!("the program {} is given {reason}", self.script.name()))
    }
}
