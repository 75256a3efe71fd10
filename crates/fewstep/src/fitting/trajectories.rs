//! The teacher's trajectories that phase 2 learns from.

use std::path::Path;

use fewstep_core::denoiser::Spec;
use fewstep_core::plan::Plan;
use fewstep_core::schedule::Schedule;
use fewstep_nn::train::{CacheEntry, Trajectories};
use fewstep_search::fine_levels;
use fewstep_search::settings::TeacherSettings;

use super::Fitter;
use crate::error::{Context, Error, Result};

/// Latents of trajectories have seeds from here on: apart from those of searches, of the held-out error, and of samples.
pub const TRAJECTORY_SEEDS: u64 = 3 << 40;

/// The levels that the teacher of trajectories for a plan evaluates at: the search's, and those of the plan.
///
/// # Errors
/// If the settings leave none.
pub(super) fn fine_schedule(spec: &Spec, plan: &Plan, settings: &TeacherSettings) -> Result<Schedule> {
    Ok(Trajectories::fine(plan, &fine_levels(&spec.levels, settings)?)?)
}

impl Fitter<'_> {
    /// Trajectories of the untuned denoiser at the levels of `plan`; from the file `path` if they are there. Of several processes the first
    /// writes them, and all read its file.
    pub(super) fn trajectories(&self, plan: &Plan, path: &Path) -> Result<Trajectories> {
        let settings = &self.settings.search.teacher;
        let count = self.settings.tune.trajectories;
        let seeds: Vec<u64> = (TRAJECTORY_SEEDS..TRAJECTORY_SEEDS + count as u64).collect();
        let spec = self.base.spec();
        let fine = fine_schedule(spec, plan, settings)?;
        let (solver, _) = settings.steps_on(&spec.levels);
        let key = serde_json::json!({
            "denoiser": spec.identity,
            "guidance": spec.guidance,
            "solver": solver,
            "levels": plan.sigmas(),
            "teacher_levels": &fine,
            "trajectories": count,
        })
        .to_string();
        // the others' folders are their own
        let (path, is_there) =
            self.base.ranks().from_first(|| Ok::<_, Error>((std::path::absolute(path)?, path.exists())))?;
        let kept = CacheEntry { path: &path, key: &key };
        if is_there {
            return Ok(Trajectories::open(self.base, plan, &seeds, kept)?);
        }
        Ok(Trajectories::solve(self.base, plan, (solver, &fine), &seeds, kept, self.observer)?)
    }

    /// The same in a temporary file, which has no name any more when this returns: nothing of it stays, whatever ends the process.
    pub(super) fn unsaved_trajectories(&self, plan: &Plan) -> Result<Trajectories> {
        let folder = tempfile::tempdir().context("cannot make a temporary folder")?;
        let trajectories = self.trajectories(plan, &folder.path().join("trajectories.safetensors"))?;
        self.base.ranks().wait()?; // until all have opened the first one's
        if cfg!(not(unix)) {
            let _ = folder.keep(); // files that are open keep their names there
        }
        Ok(trajectories)
    }
}
