//! The feature networks of a fit: that of its distances, and that of its judge, which are never the same.

use anyhow::{Result, ensure};
use fewstep_eval::features::{Convention, FeatureNetwork};
use fewstep_nn::Model;

use super::Args;
use super::names::WeightsName;
use crate::fitting::Phase1Search;
use crate::inputs::{FeatureArgs, Judge, OpenModel, dimension, is_built_in};
use crate::searching::{DistanceName, Refinement};

impl Args {
    /// The feature network, if a distance needs it.
    pub fn feature_network(&self, model: &Model) -> Result<Option<Box<dyn FeatureNetwork>>> {
        let wanted = self.has_distance_of_features();
        ensure!(
            wanted || self.features.is_none() || self.reference.is_some(),
            "--features is for --ref or for a distance of features (--distance, --rollout-loss), and changes nothing here: give one of \
             them, too, or leave --features out"
        );
        if !wanted {
            return Ok(None);
        }
        let shape = model.image_shape().map(|size| size as usize);
        let network = FeatureArgs::file(self.features.clone(), Convention::Tf1.name()).open(shape, model.device())?;
        dimension(&*network, shape)?;
        Ok(Some(network))
    }

    /// What networks on the way to a tuned one are judged by, if there is anything, and nothing was fitted to it.
    pub fn judge(&self, opened: &OpenModel) -> Result<Option<Judge>> {
        let settles = self.phases.contains(&2)
            && self.settling_images > 0
            && !self.no_early_stop
            && !self.has_distance_of_features();
        ensure!(
            settles || self.reference.is_none(),
            "--ref chooses among networks on the way to the tuned one: that takes phase 2 in --phases, --settling-images above 0, \
             no distance of features, and no --no-early-stop"
        );
        let given = self.reference.is_some() || is_built_in(&opened.name);
        if !given || !settles {
            return Ok(None);
        }
        let (features, device) = (self.features.clone(), opened.model.device());
        Judge::open(opened, features, self.reference.as_ref(), Convention::Tf1.name(), device).map(Some)
    }

    /// Whether either phase makes a distance of features small.
    fn has_distance_of_features(&self) -> bool {
        let tuned = self.weights == WeightsName::Rollout && self.phases.contains(&2);
        let refined = match &self.search {
            Phase1Search::Method(method) => method.refinement == Some(Refinement::Rollout),
            Phase1Search::Paper => false,
        };
        [(tuned, self.distance()), (refined, self.search_args.rollout_loss)].contains(&(true, DistanceName::Features))
    }
}
