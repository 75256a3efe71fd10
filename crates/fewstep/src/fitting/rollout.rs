//! The teacher's trajectories that phase 2 learns from by rollout.

use anyhow::{Context, Result, ensure};
use fewstep_core::plan::Plan;
use fewstep_nn::train::{Kept, Trajectories};

use super::Fitter;
use crate::searching::{Cache, fine_levels};
use crate::ui::Progress;

/// Latents of trajectories have seeds from here on: apart from those of searches, of the judge, and of samples.
const TRAJECTORY_SEEDS: u64 = 3 << 40;

impl Fitter<'_> {
    /// `count` trajectories of the network as it came, at the levels of `plan`; from the cache if they are there.
    pub(super) fn trajectories(&self, plan: &Plan, count: usize, cache: Option<Cache>) -> Result<Trajectories> {
        let settings = &self.settings.search.teacher;
        ensure!(count > 0, "--trajectories must be at least 1");
        let Cache { path, model_sha256 } = cache.context("trajectories need a file to be kept in")?;
        let seeds: Vec<u64> = (TRAJECTORY_SEEDS..TRAJECTORY_SEEDS + count as u64).collect();
        let fine = Trajectories::fine(plan, &fine_levels(self.base, settings)?)?;
        let key = serde_json::json!({
            "model_sha256": model_sha256,
            "precision": format!("{:?}", self.base.kind()),
            "solver": settings.solver,
            "levels": plan.sigmas(),
            "teacher_levels": &fine,
            "trajectories": count,
        })
        .to_string();
        let kept = Kept { path, key: &key };
        if path.exists() {
            return Ok(Trajectories::open(self.base, plan, &seeds, kept)?);
        }
        let total = settings.solver.evaluations_per_step() * fine.len() * count;
        let mut progress = Progress::new("teacher's trajectories", "evaluations", total as u64, 0);
        let teacher = (settings.solver, &fine);
        let observe = |evaluations| progress.set(evaluations, "");
        let solved = Trajectories::solve(self.base, plan, teacher, (&seeds, self.settings.batch), kept, observe)?;
        progress.finish();
        Ok(solved)
    }
}
