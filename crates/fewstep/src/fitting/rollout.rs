//! The teacher's trajectories that phase 2 learns from by rollout.

use anyhow::{Result, ensure};
use fewstep_core::plan::Plan;
use fewstep_nn::search::Network;
use fewstep_nn::train::Trajectories;

use super::Fitter;
use crate::searching::{Cache, cached, fine_levels};

/// Latents of trajectories have seeds from here on: apart from those of searches, of the judge, and of samples.
const TRAJECTORY_SEEDS: u64 = 3 << 40;

impl Fitter<'_> {
    /// `count` trajectories of the network as it came, at the levels of `plan`; from the cache if they are there.
    pub(super) fn trajectories(&self, plan: &Plan, count: usize, cache: Option<Cache>) -> Result<Trajectories> {
        let settings = &self.settings.search.teacher;
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
        let network = Network::new(self.base, &seeds, self.settings.batch)?;
        let teacher = cached(&network, settings.solver, &fine, &grid, cache.zip(key))?;
        Ok(Trajectories::new(self.base, plan, &teacher, &seeds)?)
    }
}
