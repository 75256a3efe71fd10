//! The demo's settings.

use fewstep_core::objective::Objective;
use fewstep_core::schedule::Scale;
use fewstep_nn::fit::{NoiseSharing, TuneConfig, TuneWeights};

use super::Args;
use crate::fitting::{FitSettings, LrSchedule, Phase1Search, Phase1Settings, Phase1Solver, Phase2Settings};
use crate::searching::{SearchSettings, TeacherSettings};

/// Small enough for minutes on two cores; `fewstep fit` has the full scale.
pub fn settings(args: &Args) -> FitSettings {
    FitSettings {
        phase1: Phase1Settings {
            search: Phase1Search::Paper,
            objective: Objective::Bound,
            solver: Phase1Solver::Table,
            noise: NoiseSharing::Independent,
            parameter: Scale::Log,
            iterations: 0,
            batch: 64,
            learning_rate: 0.0,
            check_every: 1,
            patience: 1,
            grid: 49,
            table_images: 64,
            seed: 0,
        },
        search: search_settings(),
        phase2: Phase2Settings {
            weights: TuneWeights::Bound { last: 1.0 },
            trajectories: 0,
            tune: TuneConfig { iterations: args.updates, check_every: args.updates.div_ceil(3).max(1), patience: 3 },
            batch: 32,
            microbatch: 32,
            learning_rate: 1e-4,
            lr_schedule: LrSchedule::Constant,
            ema_images: 500.0,
            xflip: false,
            seed: 0,
        },
        held_out: 48,
        teacher_steps: 18,
        settling_images: 0,
        early_stop: true,
        batch: 50,
    }
}

/// What is searched: small, as everything here.
fn search_settings() -> SearchSettings {
    let usual = SearchSettings::default();
    SearchSettings { teacher: TeacherSettings { samples: 32, ..usual.teacher.clone() }, beam: 1, ..usual }
}
