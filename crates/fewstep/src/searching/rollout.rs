//! Refinement of plans: levels and coefficients down the gradient of the rollout error.

use std::collections::BTreeMap;

use anyhow::{Context, Result, anyhow};
use fewstep_core::plan::Plan;
use fewstep_core::search::{
    Endpoints, Held, RefineOptions, pseudo_huber, pseudo_huber_constant, refine, squared_error,
};
use fewstep_nn::held;
use fewstep_nn::search::Network;
use fewstep_nn::tensor::Batch;
use fewstep_nn::train::Distance;
use serde::{Deserialize, Serialize};

use super::{Method, Search, Searcher, seeds};
use crate::ui::Progress;

/// How plans are refined.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RolloutSettings {
    /// Gradient steps.
    pub steps: usize,
    /// Adam's learning rate for the coefficients of a fitted plan.
    pub learning_rate: f64,
    /// What is made small.
    pub loss: Distance,
}

/// Looks at the judge's error in a refinement.
pub(super) const LOOKS: usize = 8;

impl Searcher<'_> {
    /// Refines every plan on three quarters of the search's latents and keeps what is best on the others. Returns the
    /// evaluations of single images.
    pub(super) fn refine_all(&self, method: &Method, plans: &mut BTreeMap<usize, Plan>) -> Result<u64> {
        let samples = self.settings.teacher.samples;
        let kept_apart = samples / 4;
        anyhow::ensure!(kept_apart >= 1, "a refinement needs at least 4 latents: raise --search-samples");
        let (mut training, ends) = self.part(0, samples - kept_apart)?;
        let (judge, judge_ends) = self.part(samples - kept_apart, kept_apart)?;
        let settings = &self.settings.rollout;
        let precond = &self.model().config().precond;
        let pixels = self.model().image_shape().iter().product::<i64>() as f64;
        // what was fitted is near its optimum
        let scale = if method.search == Search::LeastSquares { 1.0 } else { 5.0 };
        let options = RefineOptions {
            steps: settings.steps,
            learning_rate: scale * settings.learning_rate,
            level_learning_rate: 4.0 * scale * settings.learning_rate,
            sigma_range: (precond.sigma_min(), precond.sigma_max()),
            check_every: settings.steps.div_ceil(LOOKS).max(1),
            ..RefineOptions::default()
        };
        let mut progress = Progress::new("rollout refinement", "plans", plans.len() as u64, 0);
        for (done, plan) in plans.values_mut().enumerate() {
            let error = |plan: &Plan| judge_ends.rollout_error(plan, |x: &Batch, sigma| judge.denoised(x, sigma));
            let loss = |image: &Batch, target: &Batch| {
                Ok(match settings.loss {
                    Distance::Squared => squared_error(image, target, ends.samples),
                    Distance::PseudoHuber => pseudo_huber(image, target, pseudo_huber_constant(pixels)),
                })
            };
            let batch = std::slice::from_ref(&ends);
            let refined = refine(plan, batch, error, &options, &mut training, loss);
            *plan = refined.map_err(|error| anyhow!(error.to_string()))?.plan;
            progress.set(done as u64 + 1, "");
        }
        progress.finish();
        Ok(training.evaluations() + judge.evaluations())
    }

    /// Some of the teacher's latents and images, with a network that knows their classes.
    fn part(&self, from: usize, count: usize) -> Result<(Network<'_>, Endpoints<Batch>)> {
        let seeds = seeds(self.settings);
        let seeds = seeds.get(from..from + count).context("a part of the latents that there are")?;
        let network = Network::new(self.network.model(), seeds, self.settings.batch)?;
        let latent = network.latents().clone();
        let whole = self.teacher.ends();
        let held = whole.held.as_ref().map(|held| Held {
            constant: held.constant.clone(),
            batch: held::repeated(&held.constant, &latent.0, network.class_labels()),
        });
        let image = Batch(whole.image.0.narrow(0, from as i64, count as i64));
        Ok((network, Endpoints { latent, held, image, samples: count }))
    }
}
