//! Plans whose images look like the teacher's, all of them together.

use std::collections::BTreeMap;

use anyhow::{Context, Result, anyhow};
use fewstep_core::plan::Plan;
use fewstep_core::search::{RefitOptions, refit_output};
use fewstep_eval::features::RandomFeatures;
use fewstep_eval::{FrechetReference, Moments};
use fewstep_nn::distance::FeatureMap;
use fewstep_nn::tch::Tensor;
use fewstep_nn::tensor::Batch;
use serde::{Deserialize, Serialize};

use super::Searcher;
use crate::ui::Progress;

/// How moments are matched.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MomentsSettings {
    /// What the squared error counts beside them.
    pub error_weight: f64,
}

impl Searcher<'_> {
    /// `plan` for this network with its images' moments matched: once more, where it was found for another one.
    pub fn matched(&self, plan: &Plan) -> Result<Plan> {
        let mut plans = BTreeMap::from([(plan.nfe(), plan.clone())]);
        self.match_moments(&mut plans)?;
        plans.into_values().next().context("the plan that was just matched")
    }

    /// Fits the last combination of every plan so that mean and covariance of its images' features, of a network that
    /// nobody trained, are those of the teacher's images. Returns the evaluations of single images.
    pub(super) fn match_moments(&self, plans: &mut BTreeMap<usize, Plan>) -> Result<u64> {
        let before = self.network.evaluations();
        let [channels, resolution, _] = self.model().image_shape();
        let features = RandomFeatures::new(channels, resolution, self.model().device());
        let mut moments = Moments::new(features.dim())?;
        moments.update(&features.features(&self.teacher.ends().image.0)?)?;
        let reference = FrechetReference::new(&moments.statistics(None)?)?;
        let options = RefitOptions { error_weight: self.settings.moments.error_weight, ..RefitOptions::default() };
        let mut progress = Progress::new("matching moments", "plans", plans.len() as u64, 0);
        for (done, plan) in (1..).zip(plans.values_mut()) {
            let distance = |images: &Batch| distance(&features, &reference, images);
            let denoise = |x: &Batch, sigma: f64| self.network.denoised(x, sigma);
            let refitted = refit_output(plan, self.teacher.ends(), &options, distance, denoise);
            *plan = refitted.map_err(|error| anyhow!(error.to_string()))?.plan;
            progress.set(done, "");
        }
        progress.finish();
        Ok(self.network.evaluations() - before)
    }
}

/// The Frechet distance of `images` and its gradient.
fn distance(
    features: &RandomFeatures,
    reference: &FrechetReference,
    images: &Batch,
) -> fewstep_nn::Result<(f64, Batch)> {
    let images = images.0.detach().copy().set_requires_grad(true);
    let distance = reference
        .differentiable(&features.features(&images)?)
        .map_err(|error| fewstep_nn::Error::Input(error.to_string()))?;
    let slope = Tensor::f_run_backward(&[&distance], &[&images], false, false)?;
    Ok((distance.double_value(&[]).max(0.0), Batch(slope[0].shallow_clone())))
}
