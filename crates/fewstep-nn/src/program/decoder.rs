//! Pixels from latent states, by a program.

use std::path::Path;

use tch::{Device, IValue, Kind, Tensor};

use super::BATCH;
use super::config::{DecoderConfig, PerChannel};
use super::script::{self, Script};
use crate::error::{Error, Result};

/// A TorchScript program that makes pixels of states, on a device. Its weights are constants.
#[derive(Debug)]
pub struct Decoder {
    script: Script,
    /// With the place of its file as it was opened.
    config: DecoderConfig,
    shape: Vec<i64>,
    device: Device,
    batch: usize,
}

/// Pixels of a state of zeros beyond this are of another range than -1 to 1.
const FAR: f64 = 8.0;

impl Decoder {
    /// Opens the decoder that stands at its path, relative to the folder of `beside`. **This executes what is in the file.**
    ///
    /// # Errors
    /// As [`Decoder::load`].
    pub fn load_beside(beside: &Path, config: &DecoderConfig, shape: &[i64], device: Device) -> Result<Self> {
        let folder = beside.parent().unwrap_or(Path::new(""));
        Self::load(&folder.join(&config.path), config, shape, device)
    }

    /// Opens a program for states of this `shape` (without the batch) and tries it out. **This executes what is in the file.** The
    /// path of the `config` is not read.
    ///
    /// # Errors
    /// If the description is not valid, the file is no TorchScript, or the program makes no pixels of a state.
    pub fn load(path: &Path, config: &DecoderConfig, shape: &[i64], device: Device) -> Result<Self> {
        let Some(channels) = shape.first() else {
            return Err(Error::Input("a decoder needs states of at least one dimension".to_owned()));
        };
        config.validate(*channels)?;
        let script = Script::load(path, device)?;
        let config = DecoderConfig { path: path.to_owned(), ..config.clone() };
        let decoder = Self { script, config, shape: shape.to_vec(), device, batch: BATCH };
        decoder.try_out()?;
        Ok(decoder)
    }

    /// Its description, with the place of its file as it was opened.
    pub fn config(&self) -> &DecoderConfig {
        &self.config
    }

    /// Shape of its states, without the batch.
    pub fn shape(&self) -> &[i64] {
        &self.shape
    }

    /// Where it computes.
    pub fn device(&self) -> Device {
        self.device
    }

    /// Runs the program once on zeros.
    ///
    /// # Errors
    /// If it fails, or answers no pixels from -1 to 1.
    pub fn try_out(&self) -> Result<()> {
        let n = self.batch.min(2) as i64;
        let x = Tensor::f_zeros([&[n], &self.shape[..]].concat(), (Kind::Float, self.device))?;
        let pixels = tch::no_grad(|| self.decode(&x))?;
        let largest = pixels.f_abs()?.f_max()?.f_double_value(&[])?;
        match largest {
            _ if largest <= FAR => Ok(()),
            // which the largest of them is as soon as one of them is
            _ if largest.is_nan() => {
                Err(self.script.error("answers pixels that are not a number to a state of zeros".to_owned()))
            }
            _ => Err(self
                .script
                .error(format!("answers pixels up to {largest:.0} to a state of zeros, where -1 to 1 are needed"))),
        }
    }

    /// Channels, height and width of its pixels, tried on one state.
    ///
    /// # Errors
    /// If it fails.
    pub fn pixel_shape(&self) -> Result<[usize; 3]> {
        let x = Tensor::f_zeros([&[1], &self.shape[..]].concat(), (Kind::Float, self.device))?;
        let size = tch::no_grad(|| self.decode(&x))?.size();
        Ok([1, 2, 3].map(|axis| size[axis] as usize))
    }

    /// Pixels `[N, C, H, W]` of states `[N, ...]`: f32, nominally in [-1, 1] (what lies beyond is left to the caller), with 1 or 3
    /// channels, differentiable in `x`.
    ///
    /// # Errors
    /// If the states have another shape, or the program fails or answers no pixels.
    pub fn decode(&self, x: &Tensor) -> Result<Tensor> {
        let n = x.size().first().copied().unwrap_or(0);
        if x.size() != [&[n], &self.shape[..]].concat() || n == 0 {
            return Err(Error::Input(format!(
                "the decoder {} is given states {:?}, where [N, ...] with {:?} are needed",
                self.script.name(),
                x.size(),
                self.shape
            )));
        }
        let x = x.f_to_device(self.device)?.f_to_kind(Kind::Float)?;
        let x = x.f_mul(&self.wide(&self.config.scale)?)?.f_add(&self.wide(&self.config.shift)?)?;
        let parts = (0..n).step_by(self.batch).map(|start| {
            let count = (self.batch as i64).min(n - start);
            self.part(&x.f_narrow(0, start, count)?)
        });
        Ok(Tensor::f_cat(&parts.collect::<Result<Vec<_>>>()?, 0)?)
    }

    fn part(&self, x: &Tensor) -> Result<Tensor> {
        let n = x.size()[0];
        let argument = [IValue::Tensor(x.f_to_kind(self.config.input_dtype.kind())?)];
        let pixels = self.script.call(&argument, &["x"])?;
        match pixels.size()[..] {
            [rows, 1 | 3, h, w] if rows == n && h > 0 && w > 0 => {
                Ok(pixels.f_to_device(self.device)?.f_to_kind(Kind::Float)?)
            }
            ref size => Err(self.script.error(format!(
                "answers {size:?} to {}, where pixels [{n}, 1 or 3, height, width] are needed",
                script::called(&argument, &["x"])
            ))),
        }
    }

    /// `[1, C or 1, 1, ...]`.
    fn wide(&self, numbers: &PerChannel) -> Result<Tensor> {
        let mut shape = vec![1; self.shape.len() + 1];
        shape[1] = -1;
        let numbers = Tensor::from_slice(numbers.values()).f_to_kind(Kind::Float)?;
        Ok(numbers.f_to_device(self.device)?.f_reshape(shape)?)
    }
}
