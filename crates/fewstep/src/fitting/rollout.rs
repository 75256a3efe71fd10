//! The teacher's trajectories that phase 2 learns from by rollout.

use anyhow::{Result, anyhow, ensure};
use fewstep_core::plan::Plan;
use fewstep_core::search::Teacher;
use fewstep_nn::search::{Network, load_teacher, save_teacher};
use fewstep_nn::tensor::Batch;
use fewstep_nn::train::Trajectories;

use super::Fitter;
use crate::searching::{Cache, fine_levels};
use crate::ui::Progress;

/// Latents of trajectories have seeds from here on: apart from those of searches, of the judge, and of samples.
const TRAJECTORY_SEEDS: u64 = 3 << 40;

impl Fitter<'_> {
    /// Trajectories of the network as it came, at the levels of `plan`; from the cache if they are there.
    pub(super) fn trajectories(&self, plan: &Plan, cache: Option<Cache>) -> Result<Trajectories> {
        let (count, settings) = (self.settings.phase2.trajectories, &self.settings.search.teacher);
        ensure!(count > 0, "--trajectories must be at least 1");
        let seeds: Vec<u64> = (TRAJECTORY_SEEDS..TRAJECTORY_SEEDS + count as u64).collect();
        let fine = fine_levels(self.base, settings)?;
        let (grid, fine) = (Trajectories::levels(plan, &fine)?, Trajectories::fine(plan, &fine)?);
        let key = cache.map(|cache| {
            serde_json::json!({
                "model_sha256": cache.model_sha256,
                "precision": format!("{:?}", self.base.kind()),
                "solver": settings.solver,
                "levels": &grid,
                "teacher_levels": &fine,
                "trajectories": count,
            })
            .to_string()
        });
        let teacher = match (cache, &key) {
            (Some(cache), Some(key)) if cache.path.exists() => load_teacher(key, cache.path, self.base.device())?,
            _ => {
                let network = Network::new(self.base, &seeds, self.settings.batch)?;
                let total = settings.solver.evaluations_per_step() * fine.len() * count;
                let mut progress = Progress::new("trajectories", "evaluations", total as u64, 0);
                let denoise = |x: &Batch, sigma: f64| {
                    let outputs = network.denoised(x, sigma)?;
                    progress.set(network.evaluations(), "");
                    Ok::<_, fewstep_nn::Error>(outputs)
                };
                let latents = network.latents().clone();
                let teacher = Teacher::solve(settings.solver, &fine, &grid, latents, count, denoise)
                    .map_err(|error| anyhow!(error.to_string()))?;
                progress.finish();
                if let (Some(cache), Some(key)) = (cache, &key) {
                    save_teacher(&teacher, key, cache.path)?;
                }
                teacher
            }
        };
        Ok(Trajectories::new(self.base, plan, &teacher, &seeds)?)
    }
}
