//! What can be typed about searches.

use anyhow::{Result, ensure};
use fewstep_core::search::CostMetric;
use fewstep_core::solver::Solver;
use fewstep_nn::distance::Distance;

use super::{
    GaussNewtonSettings, MomentsSettings, RolloutSettings, SearchSettings, TeacherSettings, View, parse_solver,
};

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
    /// Latents that least-squares fits, the first of the search's
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub fit_samples: usize,
    /// Outputs before the newest that a fitted step may use
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub history: usize,
    /// Strength of the ridge that draws fitted coefficients to Euler's step
    #[arg(long, value_name = "R", default_value_t = 1e-6)]
    pub ridge: f64,
    /// States kept at every level and number of steps
    #[arg(long, value_name = "N", default_value_t = 2)]
    pub beam: usize,
    /// Sweeps over the levels of plans that least-squares found: in each, every level moves one place up or down on the grid if
    /// that brings the images nearer (fewer sweeps once one gains less than 2 per cent); 0 leaves levels as its dynamic
    /// program chose them
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub sweeps: usize,
    /// Fewest evaluations of the plans that are swept
    #[arg(long, value_name = "N", default_value_t = 7)]
    pub sweeps_from: usize,
    /// Latents, the first of --fit-samples, that say where levels might move; coefficients are then fitted on all of them, which
    /// also say whether it is worth it
    #[arg(long, value_name = "N", default_value_t = 16)]
    pub sweep_samples: usize,
    /// What fitted steps make small: differences of pixels, of the images' gradients, in which fine detail counts, or both
    #[arg(long, value_name = "NAME", default_value = "both")]
    pub view: View,
    /// Leave fitted images as smooth as the fit makes them; otherwise they are stretched until their variance is the teacher's
    #[arg(long)]
    pub no_calibration: bool,
    /// Keep as much of the state as the next level has of its noise, instead of fitting that coefficient, too
    #[arg(long)]
    pub no_free_state: bool,
    /// Fit by the pseudo-Huber distance, in which no few latents rule, and choose states by it (refinements are judged by the
    /// squared error all the same)
    #[arg(long)]
    pub robust: bool,
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
    /// What those steps make small: squared, pseudo-huber, in which no few bad images rule, or features (half in pixels, half
    /// in a network's features)
    #[arg(long, value_name = "NAME", default_value = "squared")]
    pub rollout_loss: DistanceName,
    /// Rounds of methods that end in +gauss-newton
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub gauss_newton_rounds: usize,
    /// Most evaluations of the plans that these refine, at a price that grows with their square
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub gauss_newton_most: usize,
    /// Latents that they look at, and as many that judge: at most all of the search's together, and half as many for plans of
    /// more than 4 evaluations, of whose outputs only the last ones' coefficients move
    #[arg(long, value_name = "N", default_value_t = 32)]
    pub gauss_newton_samples: usize,
    /// What the rollout error counts beside the look of the images in methods that end in +moments or +data-moments, each in
    /// units of what it was before: beside the teacher's images in proportion more for plans of more than 5 evaluations; beside
    /// training images an error below three grey levels (root mean square) is in units of these [default: 0.15, and 0.8 beside
    /// training images]
    #[arg(long, value_name = "W")]
    pub moments_weight: Option<f64>,
    /// Latents of the images that are compared with training images, in methods that end in +data-moments
    #[arg(long, value_name = "N", default_value_t = 1024)]
    pub moments_control: usize,
}

/// Distances of images from the teacher's, for refinement and phase 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum DistanceName {
    Squared,
    PseudoHuber,
    Features,
}

impl From<DistanceName> for Distance {
    fn from(name: DistanceName) -> Self {
        match name {
            DistanceName::Squared => Self::Squared,
            DistanceName::PseudoHuber => Self::PseudoHuber,
            DistanceName::Features => Self::Features,
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
        ensure!(self.fit_samples >= 1, "--fit-samples must be at least 1");
        ensure!(self.sweeps_from >= 1, "--sweeps-from must be at least 1");
        ensure!(self.sweep_samples >= 1, "--sweep-samples must be at least 1");
        ensure!(self.gauss_newton_samples >= 1, "--gauss-newton-samples must be at least 1");
        ensure!(self.moments_control >= 2, "--moments-control must be at least 2: a mean of one image says nothing");
        ensure!(self.beam >= 1, "--beam must be at least 1");
        ensure!(self.ridge >= 0.0 && self.ridge.is_finite(), "--ridge must be a finite number that is not negative");
        ensure!(self.rollout_lr > 0.0 && self.rollout_lr.is_finite(), "--rollout-lr must be a finite number above 0");
        ensure!(
            self.moments_weight.is_none_or(|weight| weight >= 0.0 && weight.is_finite()),
            "--moments-weight must be a finite number that is not negative"
        );
        let defaults = SearchSettings::default().moments;
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
            fit_samples: self.fit_samples,
            history: self.history,
            ridge: self.ridge,
            beam: self.beam,
            sweeps: self.sweeps,
            sweeps_from: self.sweeps_from,
            sweep_samples: self.sweep_samples,
            view: self.view,
            calibrated: !self.no_calibration,
            free: !self.no_free_state,
            robust: self.robust,
            constant: !self.no_constant,
            rollout: RolloutSettings {
                steps: self.rollout_steps,
                learning_rate: self.rollout_lr,
                loss: self.rollout_loss.into(),
            },
            gauss_newton: GaussNewtonSettings {
                rounds: self.gauss_newton_rounds,
                most: self.gauss_newton_most,
                samples: self.gauss_newton_samples,
            },
            moments: MomentsSettings {
                error_weight: self.moments_weight.unwrap_or(defaults.error_weight),
                data_error_weight: self.moments_weight.unwrap_or(defaults.data_error_weight),
                control: self.moments_control,
                hardly_matters: defaults.hardly_matters,
            },
            batch,
        })
    }
}
