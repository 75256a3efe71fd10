//! How far images are from where they should be, with a graph.

use fewstep_core::search::pseudo_huber_constant;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use crate::error::{Error, Result};

/// What refinements and tuning make small.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Distance {
    /// Squared differences.
    Squared,
    /// `sqrt(|d|^2 + c^2) - c` of each sample, with [`pseudo_huber_constant`]: no few bad samples rule.
    PseudoHuber,
    /// The relative squared error of images plus that of a network's features of them; of other states, squared
    /// differences.
    Features,
}

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
    /// What the look of all images together counts beside, and by which features.
    look: Option<(f64, &'a dyn FeatureMap)>,
}

impl<'a> Measure<'a> {
    /// The distance; `features` only matters to [`Distance::Features`], which needs it.
    pub fn new(distance: Distance, features: Option<&'a dyn FeatureMap>) -> Result<Self> {
        if distance == Distance::Features && features.is_none() {
            return Err(Error::Input("a distance of features needs a feature network".to_owned()));
        }
        Ok(Self { distance, features, look: None })
    }

    /// With `weight` times what the look of all finished images together lacks ([`look_distance`]), by other features, such
    /// as those of a network that nobody trained.
    pub fn looking(self, weight: f64, features: &'a dyn FeatureMap) -> Self {
        Self { look: Some((weight, features)), ..self }
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
        match self.look {
            None => Ok(distance),
            Some((weight, map)) => {
                let wanted = tch::no_grad(|| map.features(targets))?;
                Ok(distance + look_distance(&map.features(images)?, &wanted) * weight)
            }
        }
    }

    fn of_each_image(&self, images: &Tensor, targets: &Tensor) -> Result<Tensor> {
        let Some(map) = self.features.filter(|_| self.distance == Distance::Features) else {
            return Ok(self.of_states(images, targets));
        };
        let wanted = tch::no_grad(|| map.features(targets))?;
        Ok(relative(images, targets) + relative(&map.features(images)?, &wanted))
    }
}

/// How far mean and standard deviation over the samples of features `[N, d]` are from those of `wanted` `[N, d]`: the squares
/// of both differences in units of the wanted deviation, the mean over the features. A regression leaves out what it
/// cannot predict; this sees it where every sample lacks a little of the same.
pub fn look_distance(found: &Tensor, wanted: &Tensor) -> Tensor {
    let moments = |features: &Tensor| {
        let features = features.to_kind(Kind::Float);
        let mean = features.mean_dim(&[0i64][..], true, Kind::Float);
        let variance = (features - &mean).square().mean_dim(&[0i64][..], true, Kind::Float);
        (mean, (variance + 1e-12).sqrt())
    };
    let ((mean, deviation), (wanted_mean, wanted_deviation)) = (moments(found), moments(wanted));
    let squares = (mean - wanted_mean).square() + (deviation - &wanted_deviation).square();
    // a feature that is hardly ever anything else is not to rule
    let unit = wanted_deviation.square();
    let least = unit.mean(Kind::Float) * 1e-2 + 1e-12;
    (squares / unit.maximum(&least)).mean(Kind::Float)
}

/// `E |x - x*|^2 / E |x*|^2`.
fn relative(found: &Tensor, wanted: &Tensor) -> Tensor {
    (found - wanted).square().mean(Kind::Float) / wanted.square().mean(Kind::Float).clamp_min(1e-12)
}
