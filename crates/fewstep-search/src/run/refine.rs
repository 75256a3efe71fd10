//! Refinement of plans: levels and coefficients together, towards less rollout error.

use fewstep_core::denoiser::{Denoiser, Levels};
use fewstep_core::execute::ExecuteError;
use fewstep_core::observe::Progress;
use fewstep_core::plan::Plan;
use fewstep_core::solver::Solver;

use super::check::levels_can_move;
use super::{Candidates, Search, error_space};
use crate::error::{Error, Result};
use crate::refine::{GaussNewtonOptions, Moving, RefineOptions, gauss_newton_in, refine};
use crate::seeded::Seeded;
use crate::settings::{Distance, GaussNewtonSettings, RolloutSettings};
use crate::{Endpoints, pseudo_huber, pseudo_huber_constant, squared_error};

/// Plans of so few evaluations take long steps, so that images bend along their coordinates, and derivatives of both sides cost little.
const FEW_EVALUATIONS: usize = 3;

/// Plans of more evaluations are refined on fewer latents, as their errors are small and differ less from one to another, and
/// of outputs' coefficients only the last ones: else it would take too long for what it buys.
const MANY_EVALUATIONS: usize = 4;

/// As [`MANY_EVALUATIONS`], for the latents that decide.
const MANY_EVALUATIONS_TO_DECIDE: usize = 6;

/// Evaluations of the deciding latents' error in a refinement by gradient.
const CHECKS: usize = 8;

/// Answers that are rounded more coarsely than this need larger differences to be told apart.
const SINGLE_PRECISION: f64 = 1e-6;

/// How far a coordinate is moved to measure what it does, for answers of this relative rounding.
///
/// A level that moves takes the noise of its state along, so a step of 1e-3 moves images by as little as 1e-5, of which single precision
/// leaves two digits; regressions with a weak ridge make a hundred times more of what is lost. Steps are of 1e-1, so that a
/// difference over 1e-2 is as good a derivative.
fn difference(rounding: f64) -> f64 {
    if rounding <= SINGLE_PRECISION { 1e-2 } else { 3e-2 }
}

impl GaussNewtonSettings {
    /// Latents that a plan of `nfe` evaluations is refined on and that decide, of `all`: none twice. (A
    /// search that fits all of them has fitted the deciding ones, too; fits of fewer latents were worse all the same.)
    fn latents(&self, nfe: usize, all: usize) -> (usize, usize) {
        let samples = |many: usize| if nfe > many { self.samples / 2 } else { self.samples };
        let (fitted, deciding) = (samples(MANY_EVALUATIONS), samples(MANY_EVALUATIONS_TO_DECIDE));
        (fitted.clamp(1, all.div_ceil(2)), deciding.clamp(1, (all / 2).max(1)))
    }

    /// Combinations at the end, of a plan of `nfe` evaluations, of which all coefficients move.
    fn whole(&self, nfe: usize) -> usize {
        if nfe > MANY_EVALUATIONS { 2 } else { nfe + 1 }
    }
}

/// What of plans may move: a network of discrete levels says nothing between them.
fn moving(levels: &Levels) -> Moving {
    Moving { levels: !levels.is_discrete(), coefficients: true }
}

/// Some of the teacher's latents, with the denoiser on them.
type Part<'a, D> = (Seeded<'a, D>, Endpoints<<D as Denoiser>::Batch>);

impl<D: Denoiser> Search<'_, D> {
    /// The plans of up to so many evaluations, on the first of the search's latents; the last of them decide.
    pub(super) fn gauss_newton(&self, settings: &GaussNewtonSettings, candidates: &mut Candidates) -> Result<()> {
        let refined = || candidates.found.iter().filter(|found| found.plan.nfe() <= settings.up_to);
        let mut progress = Progress::new(self.observer, "Gauss-Newton", "plans", refined().count() as u64, 0);
        let mut evaluations = 0;
        let fit = candidates.fit.as_ref().filter(|_| self.tries_all);
        let plans = candidates.found.iter_mut().filter(|found| found.plan.nfe() <= settings.up_to);
        for (done, found) in (1..).zip(plans) {
            // how many terms a fitted plan has depends on the denoiser
            let dearest = fit.map(|fit| self.fullest(fit, found.plan.nfe()));
            evaluations += self.by_gauss_newton(&mut found.plan, dearest.as_ref(), settings)?;
            progress.set(done, "");
        }
        candidates.evaluations += evaluations;
        Ok(())
    }

    /// Refines one plan and returns the evaluations of single samples that it takes. Where all is tried that may be, these are as many as
    /// the refinement of the `dearest` plan may take, or of this one where there is none.
    fn by_gauss_newton(&self, plan: &mut Plan, dearest: Option<&Plan>, settings: &GaussNewtonSettings) -> Result<u64> {
        let all = self.settings.teacher.samples;
        let (fitted, deciding) = settings.latents(plan.nfe(), all);
        let ((student, batch), others) = (self.part(0, fitted)?, self.part(all - deciding, deciding)?);
        let spec = student.denoiser().spec();
        let options = GaussNewtonOptions {
            rounds: settings.rounds,
            sigma_range: spec.levels.supported,
            difference: difference(spec.rounding),
            central: plan.nfe() <= FEW_EVALUATIONS,
            moving: moving(&spec.levels),
            least_gain: settings.least_gain,
            robust: settings.robust,
            match_variance: settings.match_variance,
            whole: settings.whole(plan.nfe()),
            first_state: settings.first_state,
        };
        let denoise = |asked: &[(&D::Batch, f64)]| student.denoised_together(asked);
        let decide = |plan: &Plan| others.1.mean_distance(plan, |x: &D::Batch, sigma| others.0.denoised(x, sigma));
        let space = error_space(settings.error_space);
        let most = options.most_evaluations(dearest.unwrap_or(plan));
        *plan = gauss_newton_in(plan, &batch, decide, &options, space, denoise)?.plan;
        if self.tries_all {
            let sigma = self.teacher.grid().sigma_max();
            for (part, most) in
                [(&student, most.0.saturating_mul(fitted)), (&others.0, most.1.saturating_mul(deciding))]
            {
                while part.evaluations() < most as u64 {
                    part.denoised(part.latents(), sigma)?;
                }
            }
        }
        Ok(student.evaluations() + others.0.evaluations())
    }

    /// Every plan on three quarters of the search's latents; what is best on the others is kept.
    /// With a solver, levels alone move.
    ///
    /// # Errors
    /// If levels alone are to move and cannot, and if the denoiser fails.
    pub(super) fn rollout(
        &self,
        settings: &RolloutSettings,
        solver: Option<Solver>,
        candidates: &mut Candidates,
    ) -> Result<()> {
        if solver.is_some() {
            levels_can_move(&self.student.denoiser().spec().levels)?;
        }
        let samples = self.settings.teacher.samples;
        let kept_apart = samples / 4;
        let mut training = self.part(0, samples - kept_apart)?;
        let others = self.part(samples - kept_apart, kept_apart)?;
        let mut progress =
            Progress::new(self.observer, "rollout refinement", "plans", candidates.found.len() as u64, 0);
        for (done, found) in (1..).zip(&mut candidates.found) {
            found.plan = self.down_the_gradient(&found.plan, settings, solver, &mut training, &others)?;
            progress.set(done, "");
        }
        candidates.evaluations += training.0.evaluations() + others.0.evaluations();
        Ok(())
    }

    fn down_the_gradient(
        &self,
        plan: &Plan,
        settings: &RolloutSettings,
        solver: Option<Solver>,
        training: &mut Part<D>,
        others: &Part<D>,
    ) -> Result<Plan> {
        let spec = self.student.denoiser().spec();
        let features = self.extras.loss;
        if settings.loss == Distance::Features && features.is_none() {
            return Err(Error::NoFeatures);
        }
        let options = RefineOptions {
            steps: settings.steps,
            learning_rate: settings.learning_rate,
            level_learning_rate: 4.0 * settings.learning_rate,
            moving: moving(&spec.levels),
            solver,
            sigma_range: spec.levels.supported,
            check_every: settings.steps.div_ceil(CHECKS).max(1),
        };
        let (student, ends) = training;
        let (samples, constant) = (ends.samples, pseudo_huber_constant(spec.numel() as f64));
        let loss = |image: &D::Batch, target: &D::Batch| match (settings.loss, features) {
            (Distance::PseudoHuber, _) => Ok(pseudo_huber(image, target, constant)),
            (Distance::Features, Some(features)) => features.loss(image, target).map_err(Error::Denoiser),
            (Distance::Squared | Distance::Features, _) => Ok(squared_error(image, target, samples)),
        };
        let batch = std::slice::from_ref(ends);
        let refined = refine(plan, batch, |plan| error(others, plan), &options, &mut &*student, loss)?;
        Ok(refined.plan)
    }
}

/// The rollout error on a part of the latents.
fn error<D: Denoiser>(part: &Part<D>, plan: &Plan) -> std::result::Result<f64, ExecuteError<Error>> {
    part.1.rollout_error(plan, |x: &D::Batch, sigma| part.0.denoised(x, sigma))
}
