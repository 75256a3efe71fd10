//! The held-out evaluator: how far a sampler's samples are from a fine teacher's, from latents that no search saw.

use fewstep_core::denoiser::Denoiser;
use fewstep_core::observe::{Observer, Progress};
use fewstep_core::plan::Plan;
use fewstep_core::space::VectorSpace;

use crate::error::Result;
use crate::run::held_out_teacher;
use crate::seeded::Seeded;
use crate::settings::TeacherSettings;

/// Latents that nothing else sees, and what a teacher makes of them.
#[derive(Clone, Debug)]
pub struct HeldOut<B> {
    seeds: Vec<u64>,
    teacher: B,
    values: usize,
}

impl<B: VectorSpace> HeldOut<B> {
    /// Solves from the latents of `seeds` as the searches' teacher does.
    ///
    /// # Errors
    /// If the denoiser fails or answers what is not finite, or the settings leave no teacher.
    pub fn new<D: Denoiser<Batch = B>>(
        denoiser: &D,
        settings: &TeacherSettings,
        seeds: &[u64],
        observer: &dyn Observer,
    ) -> Result<Self> {
        Self::by(denoiser, &held_out_teacher(&denoiser.spec().levels, settings)?, seeds, observer)
    }

    /// Solves from the latents of `seeds` by the plan `teacher`.
    ///
    /// # Errors
    /// If the denoiser fails or answers what is not finite.
    pub fn by<D: Denoiser<Batch = B>>(
        denoiser: &D,
        teacher: &Plan,
        seeds: &[u64],
        observer: &dyn Observer,
    ) -> Result<Self> {
        let total = (teacher.nfe() * seeds.len()) as u64;
        let _progress = Progress::new(observer, "teacher on held-out latents", "evaluations", total, 0);
        let made = Seeded::new(denoiser, seeds, observer)?.teach(teacher)?;
        Ok(Self { seeds: seeds.to_vec(), teacher: made, values: denoiser.spec().numel() * seeds.len() })
    }

    /// The teacher's samples.
    pub fn teacher(&self) -> &B {
        &self.teacher
    }

    /// The rollout error `E|x_0 - x_0*|^2 / dim` of `plan` on `denoiser`: the mean squared difference of a value.
    ///
    /// # Errors
    /// If the plan does not fit the denoiser, or the denoiser fails.
    pub fn rollout_error<D: Denoiser<Batch = B>>(
        &self,
        denoiser: &D,
        plan: &Plan,
        observer: &dyn Observer,
    ) -> Result<f64> {
        let seeded = Seeded::new(denoiser, &self.seeds, observer)?;
        let error = seeded.run(plan)?.difference(&self.teacher).norm_squared();
        seeded.relied_on(Ok(error / self.values.max(1) as f64))
    }
}
