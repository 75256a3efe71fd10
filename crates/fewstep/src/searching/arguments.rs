//! What can be typed about searches.

use anyhow::{Result, ensure};
use fewstep_core::search::CostMetric;
use fewstep_core::solver::Solver;
use fewstep_nn::train::Distance;

use super::{RolloutSettings, SearchSettings, TeacherSettings, View, parse_solver};

/// Options of the searches that compare a student with a teacher.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Search")]
pub struct SearchArgs {
    /// Latents that searches look at
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub search_samples: usize,
    /// Noise levels that plans choose from (rho = 7 over the network's range)
    #[arg(long, value_name = "N", default_value_t = 21)]
    pub search_grid: usize,
    /// Solver of the searches' teacher
    #[arg(long, value_name = "NAME", default_value = "heun", value_parser = parse_solver)]
    pub search_teacher: Solver,
    /// Steps of that teacher from one level of the grid to the next
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub teacher_parts: usize,
    /// What the local search counts: l1, l2, or the deviation from the line between the teacher's ends (GITS)
    #[arg(long, value_name = "NAME", default_value = "deviation")]
    pub local_metric: MetricName,
    /// Outputs before the newest that a fitted step may use
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub history: usize,
    /// Strength of the ridge that draws fitted coefficients to Euler's step
    #[arg(long, value_name = "R", default_value_t = 1e-6)]
    pub ridge: f64,
    /// States kept at every level and number of steps
    #[arg(long, value_name = "N", default_value_t = 2)]
    pub beam: usize,
    /// What fitted steps make small: differences of pixels, or of the images' gradients, in which fine detail counts
    #[arg(long, value_name = "NAME", default_value = "pixels")]
    pub view: View,
    /// Leave fitted images as smooth as the fit makes them; otherwise they are stretched until their variance is the teacher's
    #[arg(long)]
    pub no_calibration: bool,
    /// Spend the first evaluation on the network instead of a constant image stored with the plan
    #[arg(long)]
    pub no_constant: bool,
    /// Gradient steps of methods that end in +rollout, on three quarters of the latents; the best by the others is kept
    #[arg(long, value_name = "N", default_value_t = 40)]
    pub rollout_steps: usize,
    /// Learning rate of those steps for coefficients; noise levels (in log sigma) move four times as fast, and plans that
    /// were not fitted five times
    #[arg(long, value_name = "RATE", default_value_t = 1e-3)]
    pub rollout_lr: f64,
    /// What those steps make small: squared, or pseudo-huber, in which no few bad images rule
    #[arg(long, value_name = "NAME", default_value = "squared")]
    pub rollout_loss: DistanceName,
}

/// Distances of images from the teacher's, for refinement and phase 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum DistanceName {
    Squared,
    PseudoHuber,
}

impl From<DistanceName> for Distance {
    fn from(name: DistanceName) -> Self {
        match name {
            DistanceName::Squared => Self::Squared,
            DistanceName::PseudoHuber => Self::PseudoHuber,
        }
    }
}

/// What the local search counts. (Documented variants would make every help page that shows them twice as long.)
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum MetricName {
    L1,
    L2,
    Deviation,
}

impl SearchArgs {
    /// The settings, checked; `batch` images at once.
    pub fn settings(&self, batch: usize) -> Result<SearchSettings> {
        ensure!(self.search_samples >= 1, "--search-samples must be at least 1");
        ensure!(self.search_grid >= 2, "--search-grid must be at least 2");
        ensure!(self.teacher_parts >= 1, "--teacher-parts must be at least 1");
        ensure!(self.beam >= 1, "--beam must be at least 1");
        ensure!(self.ridge >= 0.0 && self.ridge.is_finite(), "--ridge must be a finite number that is not negative");
        ensure!(self.rollout_lr > 0.0 && self.rollout_lr.is_finite(), "--rollout-lr must be a finite number above 0");
        Ok(SearchSettings {
            teacher: TeacherSettings {
                samples: self.search_samples,
                grid: self.search_grid,
                solver: self.search_teacher,
                parts: self.teacher_parts,
            },
            metric: match self.local_metric {
                MetricName::L1 => CostMetric::L1,
                MetricName::L2 => CostMetric::L2,
                MetricName::Deviation => CostMetric::Deviation,
            },
            history: self.history,
            ridge: self.ridge,
            beam: self.beam,
            view: self.view,
            calibrated: !self.no_calibration,
            constant: !self.no_constant,
            rollout: RolloutSettings {
                steps: self.rollout_steps,
                learning_rate: self.rollout_lr,
                loss: self.rollout_loss.into(),
            },
            batch,
        })
    }
}
