//! What is tuned: one of our networks, alone or guided.

use std::rc::Rc;

use fewstep_core::Parameterisation;
use fewstep_core::denoiser::{Appearance, Denoiser, Differentiable, GuidanceError, Guided, Reference, Spec};
use fewstep_core::plan::Constant;
use tch::{Device, Tensor};

use crate::codec::Codec;
use crate::denoiser::{Labels, TorchDenoiser};
use crate::error::{Error, Result};
use crate::model::Model;
use crate::params::Params;
use crate::ranks::Ranks;
use crate::tensor::Batch;
use crate::tunable::{Encoder, Tunable};
use crate::unet::Conditions;

/// One of our networks, alone or guided. A guided one is tuned as it samples: gradients go through both calls where it guides itself,
/// and a second network that guides it stays as it is.
#[derive(Debug)]
pub enum Network {
    /// The network itself.
    Alone(Box<Model>),
    /// Guided.
    Guided(Box<Guided<Model, Rc<Model>>>),
}

impl Network {
    /// `model` alone.
    pub fn new(model: Model) -> Self {
        Self::Alone(Box::new(model))
    }

    /// `model` guided away from `reference` by `weight`.
    ///
    /// # Errors
    /// If they do not fit.
    pub fn guided(
        model: Model,
        reference: Reference<Rc<Model>>,
        weight: f64,
    ) -> std::result::Result<Self, GuidanceError> {
        Ok(Self::Guided(Box::new(Guided::new(model, reference, weight)?)))
    }

    /// The network whose weights are tuned.
    pub fn model(&self) -> &Model {
        match self {
            Self::Alone(model) => model,
            Self::Guided(guided) => guided.denoiser(),
        }
    }

    /// `model` in the place of this one's, guided as this one is.
    ///
    /// # Errors
    /// If its samples are of another shape.
    pub fn with_model(&self, model: Model) -> Result<Self> {
        match self {
            Self::Alone(_) => Ok(Self::new(model)),
            Self::Guided(guided) => Self::guided(model, guided.reference().clone(), guided.weight())
                .map_err(|error| Error::Input(error.to_string())),
        }
    }

    fn denoiser(&self) -> &dyn TorchDenoiser {
        match self {
            Self::Alone(model) => &**model,
            Self::Guided(guided) => &**guided,
        }
    }
}

impl Tunable for Network {
    fn params(&self) -> &Params {
        self.model().params()
    }

    fn forward(&self, x: &Tensor, sigma: &Tensor, conditions: &Conditions) -> Result<Tensor> {
        let Self::Guided(guided) = self else { return self.model().forward(x, sigma, conditions) };
        let Labels(class_labels) = guided
            .reference_conditions(&Labels(conditions.class_labels.map(Tensor::shallow_clone)), x.size()[0] as usize)?;
        let under = Conditions { class_labels: class_labels.as_ref(), ..*conditions };
        let reference = match guided.reference() {
            Reference::Unconditional => guided.denoiser().forward(x, sigma, &under)?,
            // without what is for training alone: its own augmentation and dropout
            Reference::Network(other) => {
                other.forward(x, sigma, &Conditions { class_labels: under.class_labels, ..Conditions::default() })?
            }
        };
        let main = guided.denoiser().forward(x, sigma, conditions)?;
        Ok(main.f_mul_scalar(guided.weight())?.f_add(&reference.f_mul_scalar(1.0 - guided.weight())?)?)
    }

    fn parameterisation(&self) -> &Parameterisation {
        self.model().parameterisation()
    }

    fn description(&self) -> String {
        let guided = match &self.spec().guidance {
            Some(guidance) => format!(", guided by {} from {}", guidance.weight, guidance.reference),
            None => String::new(),
        };
        self.model().description() + &guided
    }

    fn duplicate(&self) -> Result<Self> {
        self.with_model(self.model().duplicate()?)
    }

    fn encoder(&self) -> Result<Box<dyn Encoder>> {
        self.model().encoder()
    }
}

impl Denoiser for Network {
    type Batch = Batch;
    type Conditions = Labels;
    type Error = Error;

    fn spec(&self) -> &Spec {
        self.denoiser().spec()
    }

    fn latents(&self, seeds: &[u64]) -> Result<Batch> {
        self.denoiser().latents(seeds)
    }

    fn conditions(&self, seeds: &[u64]) -> Result<Labels> {
        self.denoiser().conditions(seeds)
    }

    fn same_condition(&self, class: Option<usize>, samples: usize) -> Result<Labels> {
        self.denoiser().same_condition(class, samples)
    }

    fn constant(&self, constant: &Constant, conditions: &Labels, samples: usize) -> Result<Batch> {
        self.denoiser().constant(constant, conditions, samples)
    }

    fn denoise(&self, asked: &[(&Batch, f64)], conditions: &Labels) -> Result<Vec<Batch>> {
        self.denoiser().denoise(asked, conditions)
    }

    fn differentiable(&self) -> Option<&dyn Differentiable<Batch = Batch, Conditions = Labels, Error = Error>> {
        self.denoiser().differentiable()
    }

    fn appearance(&self) -> Option<&dyn Appearance<Batch, Error>> {
        self.denoiser().appearance()
    }
}

impl TorchDenoiser for Network {
    fn device(&self) -> Device {
        self.denoiser().device()
    }

    fn codec(&self) -> &Codec {
        self.denoiser().codec()
    }

    fn ranks(&self) -> Ranks {
        self.denoiser().ranks()
    }
}
