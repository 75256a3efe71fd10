//! Networks as denoisers: what searches, samplers and scores see of them.

use std::fmt::Debug;

use fewstep_core::denoiser::{Appearance, Counting, Denoiser, Differentiable, Guided, Spec, Spread};
use fewstep_core::noise;
use fewstep_core::plan::Constant;
use fewstep_core::space::Samples;
use tch::{Device, Kind, Tensor};

use crate::codec::Codec;
use crate::constant;
use crate::data;
use crate::error::{Error, Result};
use crate::model::Model;
use crate::parts::in_parts;
use crate::ranks::Ranks;
use crate::tensor::{Batch, leaf};
use crate::unet::Conditions;

/// The condition of every sample of a batch: `[N, classes]`, one-hot or soft; none where nothing is said of a class.
#[derive(Debug, Default)]
pub struct Labels(pub Option<Tensor>);

impl Clone for Labels {
    fn clone(&self) -> Self {
        Self(self.0.as_ref().map(Tensor::shallow_clone))
    }
}

/// Any denoiser on libtorch: our networks, programs from files, and wrappers of both.
pub trait TorchDenoiser: Denoiser<Batch = Batch, Conditions = Labels, Error = Error> + Debug {
    /// Where it computes.
    fn device(&self) -> Device;

    /// How its samples become images.
    fn codec(&self) -> &Codec;

    /// The processes that compute with it, each with a copy of its own.
    fn ranks(&self) -> Ranks {
        Ranks::alone()
    }

    /// As [`Codec::pixel_shape`].
    fn pixel_shape(&self) -> Option<[usize; 3]> {
        self.codec().pixel_shape()
    }

    /// As [`Codec::pixels`].
    ///
    /// # Errors
    /// As the same.
    fn pixels(&self, samples: &Batch) -> Result<Tensor> {
        self.codec().pixels(samples)
    }
}

/// A denoiser with its samples shared out among its processes: what searches and held-out errors are computed on.
pub fn spread<D: TorchDenoiser + ?Sized>(denoiser: &D) -> Spread<&D> {
    Spread::new(denoiser, denoiser.ranks().group())
}

/// One-hot rows `[N, classes]` of classes.
///
/// # Errors
/// If there is no such class.
pub fn one_hot(of: &[i64], classes: usize, device: Device) -> Result<Tensor> {
    if let Some(class) = of.iter().find(|class| !(0..classes as i64).contains(*class)) {
        return Err(Error::Input(match classes {
            0 => format!("class {class} was asked for, but the model knows no classes"),
            _ => format!("class {class} is out of range: the model knows classes 0 to {}", classes - 1),
        }));
    }
    Ok(Tensor::from_slice(of).f_one_hot(classes as i64)?.f_to_kind(Kind::Float)?.f_to_device(device)?)
}

/// Labels of one class, or of none, for so many samples.
pub(crate) fn same_label(class: Option<usize>, samples: usize, spec: &Spec, device: Device) -> Result<Labels> {
    match class {
        Some(class) => Ok(Labels(Some(one_hot(&vec![class as i64; samples], spec.classes, device)?))),
        None => Ok(Labels(None)),
    }
}

/// Labels of the class of each seed; none where there are no classes.
pub(crate) fn seed_labels(seeds: &[u64], spec: &Spec, device: Device) -> Result<Labels> {
    if spec.classes == 0 {
        return Ok(Labels(None));
    }
    Ok(Labels(Some(one_hot(&noise::classes(seeds, spec.classes), spec.classes, device)?)))
}

/// The constant sample of a plan for so many samples.
pub(crate) fn constant_samples(
    constant: &Constant,
    conditions: &Labels,
    samples: usize,
    (spec, device): (&Spec, Device),
) -> Result<Batch> {
    let shape: Vec<i64> = std::iter::once(samples).chain(spec.shape.iter().copied()).map(|n| n as i64).collect();
    let like = Tensor::f_empty(shape.as_slice(), (Kind::Float, device))?;
    constant::repeated(constant, &like, conditions.0.as_ref())
}

/// Several batches as one, which fills a network's.
pub(crate) struct Together {
    /// `[B N, ...]`, one batch after the other.
    pub x: Tensor,
    /// The level of each sample, `[B N]`.
    pub levels: Tensor,
    /// `[B N or 1, classes]`.
    pub labels: Option<Tensor>,
}

/// Batches of equally many samples as one. `labels`: `[N or 1, classes]`.
pub(crate) fn together(asked: &[(&Batch, f64)], labels: Option<&Tensor>) -> Result<Together> {
    let (several, samples) = (asked.len() as i64, asked.first().map_or(0, |(x, _)| x.samples() as i64));
    let x = Tensor::f_cat(&asked.iter().map(|(x, _)| &x.0).collect::<Vec<_>>(), 0)?;
    let levels: Vec<f32> = asked.iter().map(|(_, sigma)| *sigma as f32).collect();
    let levels = Tensor::from_slice(&levels).f_repeat_interleave_self_int(samples, 0, several * samples)?;
    let repeated = |labels: &Tensor| match labels.size()[0] {
        1 => Ok(labels.shallow_clone()),
        _ => labels.f_repeat([several, 1]),
    };
    Ok(Together { x, levels, labels: labels.map(repeated).transpose()? })
}

impl Model {
    fn conditioned<'a>(&self, labels: Option<&'a Tensor>) -> Conditions<'a> {
        Conditions { class_labels: labels, ..Conditions::default() }
    }
}

impl Denoiser for Model {
    type Batch = Batch;
    type Conditions = Labels;
    type Error = Error;

    fn spec(&self) -> &Spec {
        self.spec_of()
    }

    fn latents(&self, seeds: &[u64]) -> Result<Batch> {
        Ok(Batch(data::latents(seeds, &self.spec().shape, self.device())?))
    }

    fn conditions(&self, seeds: &[u64]) -> Result<Labels> {
        let classes = self.spec().classes;
        if classes == 0 {
            return Ok(Labels(None));
        }
        Ok(Labels(Some(one_hot(&self.classes_of(seeds), classes, self.device())?)))
    }

    fn same_condition(&self, class: Option<usize>, samples: usize) -> Result<Labels> {
        same_label(class, samples, self.spec(), self.device())
    }

    fn constant(&self, constant: &Constant, conditions: &Labels, samples: usize) -> Result<Batch> {
        constant_samples(constant, conditions, samples, (self.spec(), self.device()))
    }

    fn denoise(&self, asked: &[(&Batch, f64)], conditions: &Labels) -> Result<Vec<Batch>> {
        let labels = conditions.0.as_ref();
        let [(first, _), _, ..] = asked else {
            let one = |(x, sigma): &(&Batch, f64)| self.denoise_in_parts(&x.0, *sigma, labels, self.batch()).map(Batch);
            return asked.iter().map(one).collect();
        };
        let samples = first.samples() as i64;
        let Together { x, levels, labels } = together(asked, labels)?;
        let levels = levels.f_split(self.batch() as i64, 0)?;
        let of_part = |((x, labels), level): ((Tensor, Option<Tensor>), Tensor)| {
            tch::no_grad(|| Model::denoise(self, &x, &level, &self.conditioned(labels.as_ref())))
        };
        let parts = in_parts(&x, labels.as_ref(), self.batch())?.into_iter().zip(levels);
        let outputs = Tensor::f_cat(&parts.map(of_part).collect::<Result<Vec<_>>>()?, 0)?;
        Ok(outputs.f_split(samples, 0)?.into_iter().map(Batch).collect())
    }

    fn differentiable(&self) -> Option<&dyn Differentiable<Batch = Batch, Conditions = Labels, Error = Error>> {
        Some(self)
    }

    fn appearance(&self) -> Option<&dyn Appearance<Batch, Error>> {
        self.codec().appearance()
    }
}

impl Differentiable for Model {
    fn pullback(&self, x: &Batch, sigma: f64, conditions: &Labels, cotangent: &Batch) -> Result<(Batch, f64)> {
        pullback(x, sigma, conditions, cotangent, (self.batch(), self.device()), |x, level, labels| {
            Model::denoise(self, x, level, &self.conditioned(labels))
        })
    }
}

/// The pullback of a function of a batch, its level `[1]` and its labels, so many samples at once.
pub(crate) fn pullback(
    x: &Batch,
    sigma: f64,
    conditions: &Labels,
    cotangent: &Batch,
    (batch, device): (usize, Device),
    denoise: impl Fn(&Tensor, &Tensor, Option<&Tensor>) -> Result<Tensor>,
) -> Result<(Batch, f64)> {
    let parts = in_parts(&x.0, conditions.0.as_ref(), batch)?;
    let cotangents = cotangent.0.f_split(batch.max(1) as i64, 0)?;
    let (mut d_x, mut d_sigma) = (Vec::with_capacity(parts.len()), 0.0);
    for ((x, labels), cotangent) in parts.iter().zip(cotangents) {
        let x = leaf(x)?;
        let level = Tensor::f_from_slice(&[sigma as f32])?.f_to_device(device)?.f_set_requires_grad(true)?;
        let product = denoise(&x, &level, labels.as_ref())?.f_mul(&cotangent)?.f_sum(Kind::Float)?;
        let slopes = Tensor::f_run_backward(&[product], &[&x, &level], false, false)?;
        // what a program does not use has no slope at all
        d_sigma += if slopes[1].defined() { slopes[1].f_double_value(&[0])? } else { 0.0 };
        d_x.push(if slopes[0].defined() { slopes[0].shallow_clone() } else { x.f_zeros_like()? });
    }
    Ok((Batch(Tensor::f_cat(&d_x, 0)?), d_sigma))
}

impl TorchDenoiser for Model {
    fn device(&self) -> Device {
        Model::device(self)
    }

    fn codec(&self) -> &Codec {
        &self.codec
    }

    fn ranks(&self) -> Ranks {
        self.ranks.clone()
    }
}

/// Images of a denoiser around another are those of the other's samples.
macro_rules! forward {
    ($(($($parameters:tt)*) $wrapper:ty, $self:ident => $inner:expr;)*) => {$(
        impl<$($parameters)*> TorchDenoiser for $wrapper {
            fn device(&$self) -> Device {
                $inner.device()
            }

            fn codec(&$self) -> &Codec {
                $inner.codec()
            }

            fn ranks(&$self) -> Ranks {
                $inner.ranks()
            }
        }
    )*};
}

forward! {
    (D: TorchDenoiser + ?Sized) &D, self => (**self);
    (D: TorchDenoiser + ?Sized) Box<D>, self => (**self);
    (D: TorchDenoiser + ?Sized) std::rc::Rc<D>, self => (**self);
    (D: TorchDenoiser, R: TorchDenoiser) Guided<D, R>, self => self.denoiser();
    (D: TorchDenoiser) Counting<D>, self => self.inner();
}
