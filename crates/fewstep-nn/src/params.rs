//! Named tensors of a network: where layers get their weights from, and the one list that
//! optimisers, EMA and checkpoints walk over.
//!
//! Names are those of the EDM code's `state_dict`, so that weights travel both ways.

use std::collections::BTreeMap;

use fewstep_core::parameterisation::Parameterisation;
use tch::{Device, Kind, Tensor};

use crate::config::ModelConfig;
use crate::error::{Error, Result};
use crate::random::Stream;

/// A tensor of the network and whether training changes it.
#[derive(Debug)]
pub struct Param {
    /// The value: f32, on the model's device. Layers hold shallow clones of it, so writing into it changes them too.
    pub tensor: Tensor,
    /// `false` for buffers (resampling filters, Fourier frequencies, iDDPM's noise levels).
    pub trainable: bool,
}

/// Every parameter and buffer of a network, by name, in name order.
#[derive(Debug, Default)]
pub struct Params {
    entries: BTreeMap<String, Param>,
}

impl Params {
    /// Name and entry of each tensor, in name order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Param)> {
        self.entries.iter().map(|(name, param)| (name.as_str(), param))
    }

    /// The tensors that training changes, in name order.
    pub fn trainable(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.iter().filter(|(_, param)| param.trainable).map(|(name, param)| (name, &param.tensor))
    }

    /// The tensor of this name.
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.entries.get(name).map(|param| &param.tensor)
    }

    /// How many numbers training changes.
    pub fn trainable_count(&self) -> usize {
        self.trainable().map(|(_, tensor)| tensor.numel()).sum()
    }

    /// Copies every value from `other`, which must have the same names and shapes.
    pub fn copy_from(&self, other: &Params) -> Result<()> {
        for (name, param) in self.iter() {
            let source = other
                .get(name)
                .filter(|source| source.size() == param.tensor.size())
                .ok_or_else(|| Error::MissingTensor { name: name.to_owned() })?;
            tch::no_grad(|| param.tensor.shallow_clone().copy_(source));
        }
        Ok(())
    }

    /// Makes the trainable tensors leaves of the autograd graph (or no longer so).
    pub fn set_requires_grad(&self, requires_grad: bool) {
        for (_, tensor) in self.trainable() {
            let _ = tensor.set_requires_grad(requires_grad);
        }
    }
}

/// How a fresh weight is drawn (the EDM code's `weight_init`).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Init {
    /// The distribution.
    pub mode: InitMode,
    /// Factor on the weight.
    pub weight: f64,
    /// Factor on the bias.
    pub bias: f64,
}

/// Distributions of fresh weights, scaled by the layer's fan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InitMode {
    /// U(-1, 1) * sqrt(6 / (fan_in + fan_out))
    XavierUniform,
    /// U(-1, 1) * sqrt(3 / fan_in)
    KaimingUniform,
    /// N(0, 1) * sqrt(1 / fan_in)
    KaimingNormal,
    /// N(0, 1)
    UnitNormal,
}

impl Init {
    /// An initialisation with zero bias.
    pub const fn new(mode: InitMode, weight: f64) -> Self {
        Self { mode, weight, bias: 0.0 }
    }

    fn draw(&self, stream: &mut Stream, shape: &[i64], fan_in: i64, fan_out: i64, factor: f64) -> Tensor {
        let mut uniform = || stream.uniform(shape, Device::Cpu) * 2.0 - 1.0;
        // Drawn even where the factor is 0, so that one seed gives one network whatever the factors.
        let (unit, std) = match self.mode {
            InitMode::XavierUniform => (uniform(), (6.0 / (fan_in + fan_out) as f64).sqrt()),
            InitMode::KaimingUniform => (uniform(), (3.0 / fan_in as f64).sqrt()),
            InitMode::KaimingNormal => (stream.normal(shape, Device::Cpu), (1.0 / fan_in as f64).sqrt()),
            InitMode::UnitNormal => (stream.normal(shape, Device::Cpu), 1.0),
        };
        unit * (std * factor)
    }
}

/// Where the tensors of a network under construction come from.
pub enum Origin {
    /// Drawn.
    Fresh(Stream),
    /// Taken from a checkpoint by name.
    Loaded(BTreeMap<String, Tensor>),
    /// Nowhere: layers get empty tensors, and all that is left is how many numbers they asked for. What a network cannot be
    /// built of shows without it.
    Outline,
}

/// Hands out tensors to layers and remembers them under their full names.
pub struct Builder {
    origin: Origin,
    device: Device,
    params: Params,
    numbers: i64,
}

impl Builder {
    /// A builder that places every tensor on `device`.
    pub fn new(origin: Origin, device: Device) -> Self {
        Self { origin, device, params: Params::default(), numbers: 0 }
    }

    /// Where the tensors are placed.
    pub fn device(&self) -> Device {
        self.device
    }

    /// How many numbers the tensors so far hold, or would in an outline.
    pub fn numbers(&self) -> i64 {
        self.numbers
    }

    /// The finished set. A loaded tensor that no layer asked for is an error: the architecture is not the file's.
    pub fn finish(self) -> Result<Params> {
        if let Origin::Loaded(rest) = &self.origin
            && let Some(name) = rest.keys().next()
        {
            return Err(Error::UnknownTensor { name: name.clone(), count: rest.len() });
        }
        Ok(self.params)
    }

    /// A weight or bias called `name`.
    pub fn weight(&mut self, name: &str, shape: &[i64], fan: (i64, i64), init: Init) -> Result<Tensor> {
        let factor = if name.ends_with("bias") { init.bias } else { init.weight };
        let fresh = match &mut self.origin {
            Origin::Fresh(stream) => Some(init.draw(stream, shape, fan.0, fan.1, factor)),
            Origin::Loaded(_) | Origin::Outline => None,
        };
        self.add(name, shape, true, fresh)
    }

    /// A trainable tensor of equal values (the scale and shift of a normalisation).
    pub fn constant(&mut self, name: &str, shape: &[i64], value: f64) -> Result<Tensor> {
        let fresh = match &self.origin {
            Origin::Fresh(_) => Some(Tensor::full(shape, value, (Kind::Float, Device::Cpu))),
            Origin::Loaded(_) | Origin::Outline => None,
        };
        self.add(name, shape, true, fresh)
    }

    /// A tensor that belongs to the checkpoint but is never trained. One that follows from the architecture may lack in a
    /// file: older snapshots do not store it.
    pub fn buffer(&mut self, name: &str, value: &Tensor) -> Result<Tensor> {
        self.add(name, &value.size(), false, Some(value.shallow_clone()))
    }

    /// One that is drawn, `std` times unit normal numbers, and never trained.
    pub fn drawn_buffer(&mut self, name: &str, shape: &[i64], std: f64) -> Result<Tensor> {
        let fresh = match &mut self.origin {
            Origin::Fresh(stream) => Some(stream.normal(shape, Device::Cpu) * std),
            Origin::Loaded(_) | Origin::Outline => None,
        };
        self.add(name, shape, false, fresh)
    }

    fn add(&mut self, name: &str, shape: &[i64], trainable: bool, fresh: Option<Tensor>) -> Result<Tensor> {
        self.numbers = self.numbers.saturating_add(shape.iter().product());
        let missing = || Error::MissingTensor { name: name.to_owned() };
        let tensor = match &mut self.origin {
            Origin::Outline => return Ok(Tensor::zeros([0], (Kind::Float, Device::Cpu))),
            Origin::Fresh(_) => fresh.ok_or_else(missing)?,
            Origin::Loaded(map) => match map.remove(name) {
                Some(tensor) if tensor.size() == shape => tensor,
                Some(tensor) => {
                    return Err(Error::WrongShape {
                        name: name.to_owned(),
                        expected: shape.to_vec(),
                        found: tensor.size(),
                    });
                }
                None => fresh.ok_or_else(missing)?,
            },
        };
        let tensor = tensor.to_device(self.device).to_kind(Kind::Float).contiguous();
        let shared = tensor.shallow_clone();
        self.params.entries.insert(name.to_owned(), Param { tensor, trainable });
        Ok(shared)
    }
}

impl Builder {
    /// Buffers that the parameterisation keeps in a snapshot: iDDPM's noise levels `u`, `[M + 1]`.
    pub fn buffers(&mut self, config: &ModelConfig) -> Result<()> {
        let mut levels = config.parameterisation.discrete_levels();
        if let Parameterisation::Iddpm { m, .. } = config.parameterisation {
            levels.resize(m + 1, 0.0); // u_M = 0 closes the list
            let _ = self.buffer("u", &Tensor::from_slice(&levels).to_kind(Kind::Float))?;
        }
        Ok(())
    }
}
