//! How far images are from where they should be, with a graph.

use std::cell::RefCell;

use fewstep_search::pseudo_huber_constant;
pub use fewstep_search::settings::Distance;
use tch::{Kind, Tensor};

use crate::critic::{Critic, Shown};
use crate::data::Minibatch;
use crate::error::{Error, Result};
use crate::random::Stream;

/// A network whose features of images can be differentiated.
pub trait FeatureMap: std::fmt::Debug {
    /// Features `[N, d]` of f32 `images` `[N, C, H, W]` in [-1, 1], with the graph that these have.
    ///
    /// # Errors
    /// If the images do not fit the network.
    fn features(&self, images: &Tensor) -> Result<Tensor>;
}

/// A distance with the features that it may need.
#[derive(Clone, Copy, Debug)]
pub struct Measure<'a> {
    distance: Distance,
    features: Option<&'a dyn FeatureMap>,
    /// Of finished images, beside.
    criticism: Option<Criticism<'a>>,
}

/// What a critic of finished images counts.
#[derive(Clone, Copy, Debug)]
pub struct Criticism<'a> {
    /// The critic.
    pub critic: &'a Critic,
    /// What its distance counts.
    pub weight: f64,
    /// The places of the images that it is shown.
    pub shown: &'a [i64],
    /// What the images are of.
    pub class_labels: Option<&'a Tensor>,
    /// At least as many images that they should look like, in place of those that they should be.
    pub data: Option<&'a Minibatch>,
    /// Where the noise of its images comes from.
    pub stream: &'a RefCell<Stream>,
}

impl<'a> Measure<'a> {
    /// The distance; `features` only matters to [`Distance::Features`], which needs it.
    pub fn new(distance: Distance, features: Option<&'a dyn FeatureMap>) -> Result<Self> {
        if distance == Distance::Features && features.is_none() {
            return Err(Error::Input("a distance of features needs a feature network".to_owned()));
        }
        Ok(Self { distance, features, criticism: None })
    }

    /// With a critic's distance of finished images ([`Critic::distance`]).
    pub fn criticised(self, criticism: Criticism<'a>) -> Self {
        Self { criticism: Some(criticism), ..self }
    }

    /// The distance of states `[N, C, H, W]` under noise, the mean over samples and pixels.
    pub fn of_states(&self, state: &Tensor, target: &Tensor) -> Tensor {
        let error = state - target;
        match self.distance {
            Distance::Squared | Distance::Features => error.square().mean(Kind::Float),
            Distance::PseudoHuber => {
                let dim = (error.numel() as i64 / error.size()[0]) as f64;
                let c = pseudo_huber_constant(dim);
                let square = error.square().flatten(1, -1).sum_dim_intlist(1, false, Kind::Float);
                ((square + c * c).sqrt() - c).mean(Kind::Float) / dim.sqrt()
            }
        }
    }

    /// The same of finished images.
    ///
    /// # Errors
    /// If the feature network cannot take them.
    pub fn of_images(&self, images: &Tensor, targets: &Tensor) -> Result<Tensor> {
        let distance = self.of_each_image(images, targets)?;
        let Some(Criticism { critic, weight, shown, class_labels, data, stream }) =
            self.criticism.filter(|by| !by.shown.is_empty())
        else {
            return Ok(distance);
        };
        let places = Tensor::f_from_slice(shown)?.f_to_device(images.device())?;
        let shown = |of_all: &Tensor| of_all.f_index_select(0, &places);
        let (wanted, their_labels) = match data {
            None => (targets, class_labels),
            Some(data) => (&data.images, data.class_labels.as_ref()),
        };
        let (images, wanted) = (shown(images)?, shown(wanted)?);
        let (class_labels, their_labels) = (class_labels.map(shown).transpose()?, their_labels.map(shown).transpose()?);
        let found = Shown { images: &images, class_labels: class_labels.as_ref() };
        let wanted = Shown { images: &wanted, class_labels: their_labels.as_ref() };
        Ok(distance + critic.distance(found, wanted, &mut stream.borrow_mut())? * weight)
    }

    fn of_each_image(&self, images: &Tensor, targets: &Tensor) -> Result<Tensor> {
        let Some(map) = self.features.filter(|_| self.distance == Distance::Features) else {
            return Ok(self.of_states(images, targets));
        };
        let wanted = tch::no_grad(|| map.features(targets))?;
        Ok(relative(images, targets) + relative(&map.features(images)?, &wanted))
    }
}

/// `E |x - x*|^2 / E |x*|^2`.
fn relative(found: &Tensor, wanted: &Tensor) -> Tensor {
    (found - wanted).square().mean(Kind::Float) / wanted.square().mean(Kind::Float).clamp_min(1e-12)
}
