//! Refinement of plans: levels and coefficients together, towards less rollout error.

use std::collections::BTreeMap;

use anyhow::{Context, Result, anyhow};
use fewstep_core::plan::Plan;
use fewstep_core::precondition::Preconditioning;
use fewstep_core::search::{
    Endpoints, GaussNewtonOptions, Held, Moving, RefineOptions, gauss_newton_seen, pseudo_huber, pseudo_huber_constant,
    refine, squared_error,
};
use fewstep_eval::features::Differentiable;
use fewstep_nn::distance::{Distance, FeatureMap, Measure};
use fewstep_nn::held;
use fewstep_nn::search::Network;
use fewstep_nn::tch::{Kind, Tensor};
use fewstep_nn::tensor::Batch;
use serde::{Deserialize, Serialize};

use super::{Method, Refinement, Search, Searcher, seeds};
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

/// How plans are refined by Gauss-Newton steps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GaussNewtonSettings {
    /// Rounds at most.
    pub rounds: usize,
    /// Plans of more evaluations stay as they are.
    pub most: usize,
    /// Latents at most, for a plan of few evaluations; see [`GaussNewtonSettings::latents`].
    pub samples: usize,
}

/// Plans of more evaluations are refined on fewer latents, as their errors are small and differ less from one to another, and
/// of outputs' coefficients only the last ones: else it would take too long for what it buys.
const MANY_EVALUATIONS: usize = 4;

impl GaussNewtonSettings {
    /// Latents that a plan of `nfe` evaluations is refined on and that judge it, of `all`: none twice. (A
    /// search that fits all of them has seen the judges, too; fits of fewer latents were worse all the same, see docs/choosing.md.)
    pub fn latents(&self, nfe: usize, all: usize) -> (usize, usize) {
        let samples = if nfe > MANY_EVALUATIONS { self.samples / 2 } else { self.samples };
        (samples.clamp(1, all.div_ceil(2)), samples.clamp(1, (all / 2).max(1)))
    }

    /// Combinations at the end, of a plan of `nfe` evaluations, of which all coefficients move.
    pub fn whole(&self, nfe: usize) -> usize {
        if nfe > MANY_EVALUATIONS { 2 } else { nfe + 1 }
    }
}

/// Some of the teacher's latents, with a network that knows their classes.
type Part<'a> = (Network<'a>, Endpoints<Batch>);

/// Looks at the judge's error in a refinement.
pub(super) const LOOKS: usize = 8;

impl Searcher<'_> {
    /// Refines the plans. Returns the evaluations of single images.
    pub(super) fn refine_all(
        &self,
        method: &Method,
        how: Refinement,
        plans: &mut BTreeMap<usize, Plan>,
    ) -> Result<u64> {
        match how {
            Refinement::Rollout => self.all_down_the_gradient(method, plans),
            Refinement::GaussNewton => self.all_by_gauss_newton(plans),
        }
    }

    /// Every plan on three quarters of the search's latents; what is best on the others is kept.
    fn all_down_the_gradient(&self, method: &Method, plans: &mut BTreeMap<usize, Plan>) -> Result<u64> {
        let samples = self.settings.teacher.samples;
        let kept_apart = samples / 4;
        let mut training = self.part(0, samples - kept_apart)?;
        let judge = self.part(samples - kept_apart, kept_apart)?;
        // what was fitted is near its optimum
        let scale = if method.search == Search::LeastSquares { 1.0 } else { 5.0 };
        let mut progress = Progress::new("rollout refinement", "plans", plans.len() as u64, 0);
        for (done, plan) in plans.values_mut().enumerate() {
            *plan = self.down_the_gradient(plan, scale, &mut training, &judge)?;
            progress.set(done as u64 + 1, "");
        }
        progress.finish();
        Ok(training.0.evaluations() + judge.0.evaluations())
    }

    /// The plans of up to so many evaluations, on the first of the search's latents; the last of them judge.
    fn all_by_gauss_newton(&self, plans: &mut BTreeMap<usize, Plan>) -> Result<u64> {
        let settings = &self.settings.gauss_newton;
        let mut progress =
            Progress::new("Gauss-Newton refinement", "plans", plans.range(..=settings.most).count() as u64, 0);
        let mut evaluations = 0;
        for (done, (nfe, plan)) in (1..).zip(plans.range_mut(..=settings.most)) {
            let (seen, others) = settings.latents(*nfe, self.settings.teacher.samples);
            evaluations += self.by_gauss_newton(plan, seen, others)?;
            progress.set(done, "");
        }
        progress.finish();
        Ok(evaluations)
    }

    fn by_gauss_newton(&self, plan: &mut Plan, seen: usize, others: usize) -> Result<u64> {
        let all = self.settings.teacher.samples;
        let ((network, batch), judge) = (self.part(0, seen)?, self.part(all - others, others)?);
        let precond = &self.model().config().precond;
        let options = GaussNewtonOptions {
            rounds: self.settings.gauss_newton.rounds,
            sigma_range: (precond.sigma_min(), precond.sigma_max()),
            // differences of runs must stand out of the network's rounding
            difference: if self.model().kind() == Kind::Float { 1e-3 } else { 3e-2 },
            // a network of discrete levels says nothing between them
            moving: Moving { levels: !matches!(precond, Preconditioning::Iddpm { .. }), coefficients: true },
            robust: self.settings.robust,
            calibrated: self.settings.calibrated,
            whole: self.settings.gauss_newton.whole(plan.nfe()),
        };
        let denoise = |asked: &[(&Batch, f64)]| network.denoised_together(asked);
        let judged = |plan: &Plan| error(&judge, plan);
        let solved = gauss_newton_seen(plan, &batch, judged, &options, self.view(), denoise);
        *plan = solved.map_err(|error| anyhow!(error.to_string()))?.plan;
        Ok(network.evaluations() + judge.0.evaluations())
    }

    fn down_the_gradient(&self, plan: &Plan, scale: f64, training: &mut Part, judge: &Part) -> Result<Plan> {
        let (settings, precond) = (&self.settings.rollout, &self.model().config().precond);
        let features = self.features.map(Differentiable);
        let measure = Measure::new(settings.loss, features.as_ref().map(|map| map as &dyn FeatureMap))?;
        let pixels = self.model().image_shape().iter().product::<i64>() as f64;
        let options = RefineOptions {
            steps: settings.steps,
            learning_rate: scale * settings.learning_rate,
            level_learning_rate: 4.0 * scale * settings.learning_rate,
            sigma_range: (precond.sigma_min(), precond.sigma_max()),
            check_every: settings.steps.div_ceil(LOOKS).max(1),
            ..RefineOptions::default()
        };
        let samples = training.1.samples;
        let loss = |image: &Batch, target: &Batch| {
            Ok(match settings.loss {
                Distance::Squared => squared_error(image, target, samples),
                Distance::PseudoHuber => pseudo_huber(image, target, pseudo_huber_constant(pixels)),
                Distance::Features => differentiated(&measure, image, target)?,
            })
        };
        let (network, ends) = training;
        let batch = std::slice::from_ref(ends);
        let refined = refine(plan, batch, |plan| error(judge, plan), &options, network, loss);
        Ok(refined.map_err(|error| anyhow!(error.to_string()))?.plan)
    }

    /// Some of the teacher's latents and images, with a network that knows their classes.
    pub(super) fn part(&self, from: usize, count: usize) -> Result<Part<'_>> {
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

/// The rollout error on a part of the latents.
fn error(part: &Part, plan: &Plan) -> fewstep_nn::Result<f64> {
    part.1.rollout_error(plan, |x: &Batch, sigma| part.0.denoised(x, sigma))
}

/// A distance of images and its gradient, by libtorch.
fn differentiated(measure: &Measure, image: &Batch, target: &Batch) -> fewstep_nn::Result<(f64, Batch)> {
    let image = image.0.detach().copy().set_requires_grad(true);
    let distance = measure.of_images(&image, &target.0)?;
    let slope = Tensor::f_run_backward(&[&distance], &[&image], false, false)?;
    Ok((distance.double_value(&[]), Batch(slope[0].shallow_clone())))
}
