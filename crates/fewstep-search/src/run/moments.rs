//! Plans whose samples have the moments of the teacher's, or of training data.

use std::cell::RefCell;
use std::rc::Rc;

use fewstep_core::denoiser::{Appearance, Denoiser};
use fewstep_core::observe::{Event, Progress};
use fewstep_core::plan::Plan;
use fewstep_core::schedule::karras;
use fewstep_core::solver::Solver;
use fewstep_core::space::{Batch, Samples, VectorSpace};

use super::check::needs_moments;
use super::{Candidates, SEARCH_SEEDS, Search, on_schedule};
use crate::FoundPlan;
use crate::clipping::{ClippingHistogram, ClippingTarget, NEAR};
use crate::error::{Error, Result};
use crate::gaussian::{FeatureMoments, Gaussian, GaussianError, LinearFeatures, Reference, mean_shift};
use crate::method::MomentsOf;
use crate::refine::{RefitOptions, refit_output};
use crate::seeded::sample;
use crate::settings::MomentsSettings;

/// With more evaluations than these, samples come near the teacher's as they are, and what a few latents say of its moments is
/// worth less of that.
const FEW_EVALUATIONS: usize = 5;

/// Half the range of an image's values is as many grey levels.
const GREY_LEVELS: f64 = 127.5;

/// Evaluations of the sampler whose samples are compared with training data: what they lack the teacher is taken to lack.
const CONTROL_EVALUATIONS: usize = 15;

/// Samples of it at once.
pub(super) const CONTROL_BATCH: usize = 64;

/// How far samples are moved along a direction to see what it does, in units of the error that a plan leaves.
const DIFFERENCE: f64 = 0.1;

/// Samples of training data that are measured, at most: so many know their moments well enough.
pub const MOST_TRAINING_SAMPLES: usize = 10_000;

/// What training data look like, in the features that moments are matched on: [`DataMoments::add`] is given every batch of them.
#[derive(Clone, Debug, Default)]
pub struct DataMoments {
    pub(super) features: FeatureMoments,
    clipping: ClippingHistogram,
}

impl DataMoments {
    /// Of nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a batch of images.
    ///
    /// # Errors
    /// If they have no features.
    pub fn add<B, E>(&mut self, appearance: &dyn Appearance<B, E>, batch: &B) -> Result<()>
    where
        E: std::error::Error + Send + Sync + 'static,
    {
        let (rows, dim) = appearance.features(batch).map_err(Error::denoiser)?;
        self.features.add(&rows, dim)?;
        self.clipping.add(appearance.clipping(batch, NEAR).map_err(Error::denoiser)?);
        Ok(())
    }

    /// Refuses samples that are too few to tell moments from: these, or those that a search would make to compare with them.
    pub(super) fn check(&self, settings: &MomentsSettings) -> Result<()> {
        let (samples, features) = (self.features.samples().min(settings.control as u64), self.features.dim());
        if samples <= features as u64 { Err(GaussianError::TooFew { features, samples }.into()) } else { Ok(()) }
    }
}

impl MomentsSettings {
    /// How moments of samples of so many values are matched for a plan of `nfe` evaluations.
    fn options(&self, of: MomentsOf, nfe: usize, values: f64) -> RefitOptions {
        let (error_weight, hardly_matters) = match of {
            MomentsOf::Teacher => (self.error_weight * nfe.max(FEW_EVALUATIONS) as f64 / FEW_EVALUATIONS as f64, 0.0),
            MomentsOf::Data => (self.data_error_weight, (self.negligible_error / GREY_LEVELS).powi(2) * values),
        };
        RefitOptions { error_weight, hardly_matters, ..RefitOptions::default() }
    }
}

/// What plans' samples are to be like, all of them together.
#[derive(Debug)]
pub(super) struct Target {
    /// Mean and covariance of their features.
    features: Gaussian,
    /// How much of them is to be clipped; none where that is left as it is.
    clipping: Option<ClippingTarget>,
    /// Evaluations of single samples that it takes to know; everyone who uses it is charged them.
    pub(super) evaluations: u64,
}

/// A search that knows what samples are to be like, for those of networks that were tuned from its own.
pub(super) trait HasTarget {
    /// What samples are to be like.
    fn target(&self, of: MomentsOf, settings: &MomentsSettings) -> Result<Rc<Target>>;
}

impl<D: Denoiser> Search<'_, D> {
    /// `plan` with the moments of this denoiser's samples matched: once more, where it was found for another network.
    ///
    /// # Errors
    /// As [`Search::find`].
    pub fn matched(&self, of: MomentsOf, plan: &Plan) -> Result<Plan> {
        let mut candidates = Candidates {
            found: vec![FoundPlan { plan: plan.clone(), path: Vec::new(), error: f64::NAN }],
            ..Candidates::default()
        };
        self.student.relied_on(self.match_moments(of, &self.settings.moments, &mut candidates))?;
        Ok(candidates.found.swap_remove(0).plan)
    }

    /// Fits the last combination of every plan so that mean and covariance of its samples' features, of a network that
    /// nobody trained, are those of the teacher's samples, as they are or moved to training data; the latter also as to how much
    /// of them is black or white.
    pub(super) fn match_moments(
        &self,
        of: MomentsOf,
        settings: &MomentsSettings,
        candidates: &mut Candidates,
    ) -> Result<()> {
        if candidates.found.is_empty() {
            return Ok(());
        }
        let Some(appearance) = self.student.denoiser().appearance() else {
            if of == MomentsOf::Data {
                return Err(Error::NoImages);
            }
            let text = "samples of this denoiser are no images or other grids: moments are left as they are";
            self.observer.event(Event::Note(text));
            return Ok(());
        };
        let before = self.student.evaluations();
        let target = self.target(of, settings)?;
        let reference = Reference::new(&target.features);
        let ends = self.teacher.ends();
        let values = self.student.denoiser().spec().numel() as f64;
        let mut progress = Progress::new(self.observer, "matching moments", "plans", candidates.found.len() as u64, 0);
        for (done, FoundPlan { plan, .. }) in (1..).zip(&mut candidates.found) {
            let near = |samples: &D::Batch, directions: &[D::Batch]| {
                let model = linearised(appearance, &reference, samples, directions)?;
                Ok::<_, Error>(move |q: &[f64]| Ok::<_, Error>(model.distance(q)))
            };
            let denoise = |x: &D::Batch, sigma: f64| self.student.denoised(x, sigma);
            let options = settings.options(of, plan.nfe(), values);
            let refitted = refit_output(plan, ends, &options, near, denoise)?;
            *plan = refitted.plan;
            if let Some(clipping) = &target.clipping {
                let first = refitted.image.part(0, clipping.latents);
                let mut of_first = ClippingHistogram::default();
                of_first.add(appearance.clipping(&first, NEAR).map_err(Error::denoiser)?);
                clipping.reach(plan, of_first, &refitted.image, &ends.image);
            }
            progress.set(done, "");
        }
        candidates.evaluations += self.student.evaluations() - before + target.evaluations;
        Ok(())
    }

    pub(super) fn appearance(&self) -> Result<&dyn Appearance<D::Batch, D::Error>> {
        self.student.denoiser().appearance().ok_or(Error::NoImages)
    }

    /// The moments of the teacher's samples from the search's few latents, their mean moved to where training data's would be. A few
    /// samples miss the mean of many by far more than a sampler's differ from training data, so a plan must not be drawn to the
    /// latter as it is: what another sampler's samples lack to training data is measured on many latents instead, as far as
    /// they can tell it ([`mean_shift`]), and added to the mean of that sampler's on the search's own (a control variate). The
    /// teacher's mean has no part in it: it may differ from both. Covariances are too noisy for that, and distances rose
    /// with them.
    fn moved_to_data(
        &self,
        of_teacher: Gaussian,
        appearance: &dyn Appearance<D::Batch, D::Error>,
        data: &DataMoments,
        settings: &MomentsSettings,
    ) -> Result<Target> {
        let plan = self.control()?;
        let (mut of_plan, of_search) = self.of_control(appearance, &plan, settings)?;
        let shift = mean_shift(&of_plan.features.gaussian()?, &data.features.gaussian()?)?;
        let latents = settings.control.min(self.settings.teacher.samples);
        let mut same = DataMoments::new();
        same.add(appearance, &self.teacher.ends().image.part(0, latents))?;
        let (same, own) = (same.features.gaussian()?, of_search.features.gaussian()?);
        let apart = own.mean.iter().zip(&same.mean).map(|(own, same)| own - same);
        let mean = of_teacher.mean.iter().zip(apart.zip(shift)).map(|(mean, (apart, shift))| mean + apart + shift);
        let mean = mean.collect();
        let clipping = match appearance.is_direct() {
            true => ClippingTarget::new(&data.clipping, &mut of_plan.clipping, &of_search.clipping, latents),
            false => None, // a gain of latents is none of pixels
        };
        let evaluations = (settings.control * plan.nfe()) as u64;
        Ok(Target { features: Gaussian { mean, ..of_teacher }, clipping, evaluations })
    }

    /// A sampler near enough to the teacher to say what that lacks: DPM-Solver++ on rho = 7. It is the same whatever plans are asked
    /// for, so that no plan depends on the others.
    fn control(&self) -> Result<Plan> {
        let levels = &self.student.denoiser().spec().levels;
        let (low, high) = levels.sampling;
        let solver = Solver::DpmPp { order: 3, lower_order_final: true };
        on_schedule(solver, &karras(CONTROL_EVALUATIONS, low, high, 7.0)?.round_grid(levels)?)
    }

    /// The look of the samples that `plan` makes of the control latents; second, of those of the search's own latents, which come
    /// first.
    fn of_control(
        &self,
        appearance: &dyn Appearance<D::Batch, D::Error>,
        plan: &Plan,
        settings: &MomentsSettings,
    ) -> Result<(DataMoments, DataMoments)> {
        let seeds: Vec<u64> = (SEARCH_SEEDS..SEARCH_SEEDS + settings.control as u64).collect();
        let total = settings.control as u64;
        let progress = RefCell::new(Progress::new(self.observer, "control samples", "samples", total, 0));
        let (mut seen, mut of_search) = (DataMoments::new(), DataMoments::new());
        sample(self.student.denoiser(), plan, &seeds, CONTROL_BATCH, self.observer, |start, batch| {
            seen.add(appearance, batch)?;
            let count = batch.samples();
            let of_these = self.settings.teacher.samples.saturating_sub(start).min(count);
            if of_these > 0 {
                of_search.add(appearance, &batch.part(0, of_these))?;
            }
            progress.borrow_mut().set((start + count) as u64, "");
            Ok(())
        })?;
        Ok((seen, of_search))
    }
}

impl<D: Denoiser> HasTarget for Search<'_, D> {
    fn target(&self, of: MomentsOf, settings: &MomentsSettings) -> Result<Rc<Target>> {
        if let Some(untuned) = self.untuned {
            return untuned.target(of, settings); // a tuned network cannot say what its teacher lacks
        }
        if let (MomentsOf::Data, Some(known)) = (of, self.target.get()) {
            return Ok(Rc::clone(known));
        }
        let appearance = self.appearance()?;
        let mut moments = FeatureMoments::new();
        let (rows, dim) = appearance.features(&self.teacher.ends().image).map_err(Error::denoiser)?;
        moments.add(&rows, dim)?;
        let of_teacher = moments.gaussian()?;
        let MomentsOf::Data = of else {
            return Ok(Rc::new(Target { features: of_teacher, clipping: None, evaluations: 0 }));
        };
        let data = self.extras.data.ok_or_else(needs_moments)?;
        let target = Rc::new(self.moved_to_data(of_teacher, appearance, data, settings)?);
        Ok(Rc::clone(self.target.get_or_init(|| target)))
    }
}

/// The distance of `samples` plus so much of each of the `directions`: features are taken to be linear in it.
fn linearised<'a, B: VectorSpace, E: std::error::Error + Send + Sync + 'static>(
    appearance: &dyn Appearance<B, E>,
    reference: &'a Reference,
    samples: &B,
    directions: &[B],
) -> Result<LinearFeatures<'a>> {
    let features = |batch: &B| Ok::<_, Error>(appearance.features(batch).map_err(Error::denoiser)?.0);
    let here = features(samples)?;
    let mut terms = vec![here.clone()];
    for direction in directions {
        let there = features(&B::combine(&[(1.0, samples), (DIFFERENCE, direction)]))?;
        terms.push(there.iter().zip(&here).map(|(there, here)| (there - here) / DIFFERENCE).collect());
    }
    Ok(LinearFeatures::new(reference, &terms)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Beside the teacher's moments the error counts more in longer plans; beside training data a little of it is the unit.
    #[test]
    fn what_the_error_counts() {
        let settings = MomentsSettings { control: 2, ..MomentsSettings::default() };
        let of = |of: MomentsOf, nfe: usize| {
            let options = settings.options(of, nfe, 100.0);
            (options.error_weight, options.hardly_matters)
        };
        assert_eq!([3, 5, 10].map(|nfe| of(MomentsOf::Teacher, nfe)), [(1.0, 0.0), (1.0, 0.0), (2.0, 0.0)]);
        for nfe in [3, 10] {
            let (weight, unit) = of(MomentsOf::Data, nfe);
            assert!(weight == 0.8 && (unit - 100.0 * (6.0f64 / 255.0).powi(2)).abs() < 1e-12, "{weight} {unit}");
        }
    }
}
