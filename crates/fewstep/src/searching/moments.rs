//! Plans whose images look like the teacher's, or like training images, all of them together.

use std::collections::BTreeMap;

use anyhow::{Context, Result, anyhow};
use fewstep_core::plan::Plan;
use fewstep_core::search::{RefitOptions, refit_output};
use fewstep_eval::features::RandomFeatures;
use fewstep_eval::{FrechetReference, Moments, Statistics, mean_shift};
use fewstep_nn::data::Images;
use fewstep_nn::distance::FeatureMap;
use fewstep_nn::sample::Seeded;
use fewstep_nn::tch::Tensor;
use fewstep_nn::tensor::Batch;
use serde::{Deserialize, Serialize};

use super::{MomentsOf, SEARCH_SEEDS, Searcher};
use crate::ui::Progress;

/// How moments are matched.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MomentsSettings {
    /// What the squared error counts beside them, for a plan of up to 5 evaluations; in proportion more for one of more.
    pub error_weight: f64,
    /// Latents on which a plan's images are compared with training images.
    pub control: usize,
}

/// With more evaluations than these, images come near the teacher's as they are, and less of it is given for their look.
const FEW_EVALUATIONS: usize = 5;

impl MomentsSettings {
    /// What the squared error counts for a plan of `nfe` evaluations.
    fn error_weight_for(&self, nfe: usize) -> f64 {
        self.error_weight * nfe.max(FEW_EVALUATIONS) as f64 / FEW_EVALUATIONS as f64
    }
}

/// Training images that are looked at, at most.
const MOST_IMAGES: usize = 10_000;

impl Searcher<'_> {
    /// `plan` for this network with its images' moments matched: once more, where it was found for another one.
    pub fn matched(&self, of: MomentsOf, plan: &Plan) -> Result<Plan> {
        let mut plans = BTreeMap::from([(plan.nfe(), plan.clone())]);
        self.match_moments(of, &mut plans)?;
        plans.into_values().next().context("the plan that was just matched")
    }

    /// Fits the last combination of every plan so that mean and covariance of its images' features, of a network that
    /// nobody trained, are those of the teacher's images, as they are or moved to training images. Returns the evaluations of single images.
    pub(super) fn match_moments(&self, of: MomentsOf, plans: &mut BTreeMap<usize, Plan>) -> Result<u64> {
        let before = self.network.evaluations();
        let [channels, resolution, _] = self.model().image_shape();
        let features = RandomFeatures::new(channels, resolution, self.model().device());
        let (target, control) = match of {
            MomentsOf::Teacher => (statistics(&features, &self.teacher.ends().image.0)?, 0),
            MomentsOf::Data => {
                let images = self.images.context(
                    "methods that end in +data-moments need training images: name them with --data, or write +moments for the \
                     teacher's",
                )?;
                self.teacher_moved_to_data(&features, images, plans)?
            }
        };
        let reference = FrechetReference::new(&target)?;
        let mut progress = Progress::new("matching moments", "plans", plans.len() as u64, 0);
        for (done, plan) in (1..).zip(plans.values_mut()) {
            let distance = |images: &Batch| distance(&features, &reference, images);
            let denoise = |x: &Batch, sigma: f64| self.network.denoised(x, sigma);
            let error_weight = self.settings.moments.error_weight_for(plan.nfe());
            let options = RefitOptions { error_weight, ..RefitOptions::default() };
            let refitted = refit_output(plan, self.teacher.ends(), &options, distance, denoise);
            *plan = refitted.map_err(|error| anyhow!(error.to_string()))?.plan;
            progress.set(done, "");
        }
        progress.finish();
        Ok(self.network.evaluations() - before + control)
    }

    /// The statistics of the teacher's images from the search's few latents, their mean moved by what the longest plan's images
    /// lack to training images. A few images miss the mean of many by far more than a teacher's images differ from training
    /// images, so a plan must not be drawn to the latter as it is; that difference is measured on many latents instead, as far as
    /// they can tell it ([`mean_shift`]).
    /// Covariances are too noisy for that, and distances rose with them. Second, evaluations of single images.
    fn teacher_moved_to_data(
        &self,
        features: &RandomFeatures,
        images: &Images,
        plans: &BTreeMap<usize, Plan>,
    ) -> Result<(Statistics, u64)> {
        let of_data = self.data_statistics(features, images)?;
        let of_teacher = statistics(features, &self.teacher.ends().image.0)?;
        let Some(plan) = plans.values().next_back() else {
            return Ok((of_teacher, 0));
        };
        let count = self.settings.moments.control;
        let seeds: Vec<u64> = (SEARCH_SEEDS..SEARCH_SEEDS + count as u64).collect();
        let run = Seeded { seeds: &seeds, class: None, batch: self.network.batch() };
        let mut progress = Progress::new("images of the control latents", "img", count as u64, 0);
        let mut made = Moments::new(features.dim())?;
        let collect = |start: usize, images: &Tensor| {
            let found = features.features(images)?;
            made.update(&found).map_err(|error| fewstep_nn::Error::Input(error.to_string()))?;
            progress.set((start + images.size()[0] as usize) as u64, "");
            Ok(())
        };
        run.run(self.model(), plan, collect)?;
        progress.finish();
        let shift = mean_shift(&made.statistics(None)?, &of_data)
            .context("cannot compare the images of --moments-control latents with --data")?;
        let mu = of_teacher.mu.iter().zip(shift).map(|(ours, shift)| ours + shift).collect();
        Ok((Statistics { mu, ..of_teacher }, (count * plan.nfe()) as u64))
    }

    /// Of images spread evenly over the data set, whose classes may come one after the other.
    fn data_statistics(&self, features: &RandomFeatures, images: &Images) -> Result<Statistics> {
        let count = images.len().min(MOST_IMAGES);
        let indices: Vec<i64> = (0..count).map(|i| (i * images.len() / count) as i64).collect();
        let mut moments = Moments::new(features.dim())?;
        for indices in indices.chunks(self.network.batch()) {
            moments.update(&features.features(&images.batch(indices, self.model())?.images)?)?;
        }
        moments.statistics(None).context("cannot match the moments of --data")
    }
}

fn statistics(features: &RandomFeatures, images: &Tensor) -> Result<Statistics> {
    let mut moments = Moments::new(features.dim())?;
    moments.update(&features.features(images)?)?;
    Ok(moments.statistics(None)?)
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
