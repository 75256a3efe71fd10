//! Settings of searches, stage by stage: what a settings file may say, with its defaults.

mod gits;
mod moments;
mod nearest;
mod teacher_solver;

use serde::{Deserialize, Serialize};

pub use self::gits::GitsSettings;
pub use self::moments::MomentsSettings;
pub use self::nearest::NearestSettings;
pub use self::teacher_solver::TeacherSolver;
use crate::documented;
use crate::error::{Error, Result};
use crate::method::{Method, Source};

documented! {
    /// How plans are searched. Every stage has settings of its own; a method uses those of its stages ([`Method::uses`](crate::Method::uses)).
    ///
    /// Defaults and domains stand at each struct. Latents and samples are counted, levels and coefficients have no unit but that of the
    /// denoiser's own values. [`SearchSettings::validate`] refuses what is outside a domain, and every search calls it.
    ///
    /// ```
    /// use fewstep_search::SearchSettings;
    /// use fewstep_search::settings::{LeastSquaresSettings, TeacherSettings};
    ///
    /// let settings = SearchSettings {
    ///     teacher: TeacherSettings { samples: 256, grid: 33, ..TeacherSettings::default() },
    ///     least_squares: LeastSquaresSettings { samples: 256, ..LeastSquaresSettings::default() },
    ///     ..SearchSettings::default()
    /// };
    /// settings.validate()?;
    /// # Ok::<(), fewstep_search::Error>(())
    /// ```
    #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    pub struct SearchSettings {
        /// The teacher, a fine solve that all searches but GITS share.
        pub teacher: TeacherSettings,
        /// GITS: single steps from the states of a teacher of its own.
        pub gits: GitsSettings,
        /// OSS: a solver's steps from the student's own states.
        pub oss: OssSettings,
        /// Levels and coefficients together, fitted to the teacher.
        pub least_squares: LeastSquaresSettings,
        /// Moves of the levels that least squares chose.
        pub sweep: SweepSettings,
        /// Gauss-Newton refinement of levels and coefficients.
        pub gauss_newton: GaussNewtonSettings,
        /// Refinement down the gradient of the rollout error.
        pub rollout: RolloutSettings,
        /// Matching of moments.
        pub moments: MomentsSettings,
        /// Choice among plans by training data.
        pub nearest: NearestSettings,
    }

    /// The teacher: everything that its trajectories depend on beside the denoiser.
    ///
    /// ```
    /// # use fewstep_search::settings::{TeacherSettings, TeacherSolver};
    /// let defaults = TeacherSettings {
    ///     samples: 64,                 // latents, at least 1; 2 with +gauss-newton or moments, 4 with +rollout
    ///     grid: 21,                    // noise levels, from 2 to 1,000
    ///     solver: TeacherSolver::Auto, // or any
    ///     substeps: 1,                 // steps, from 1 to 1,000
    /// };
    /// # assert_eq!(defaults, TeacherSettings::default());
    /// ```
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    pub struct TeacherSettings {
        /// Latents that it is solved from, and all searches compare on.
        pub samples: usize,
        /// Noise levels that plans (but GITS's) choose from, all of them at most: rho = 7 over the denoiser's range.
        pub grid: usize,
        /// The solver; auto: heun, or where levels span more than five decades dpmpp2m with twice the substeps.
        pub solver: TeacherSolver,
        /// Its steps from one level of the grid to the next.
        pub substeps: usize,
    }

    /// OSS (Pei et al. 2025).
    ///
    /// ```
    /// # use fewstep_search::settings::OssSettings;
    /// let defaults = OssSettings { beam: 2 }; // states, from 1 to 1,000: evaluations grow with them
    /// # assert_eq!(defaults, OssSettings::default());
    /// ```
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    pub struct OssSettings {
        /// States kept at every level and number of steps.
        pub beam: usize,
    }
}

/// How errors are compared: as they are, as differences of neighbours with a tenth of the sample, or both at full weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorSpace {
    /// Samples as they are.
    Samples,
    /// Differences of neighbours, and a tenth of the sample.
    Gradients,
    /// Both at full weight.
    Both,
}

documented! {
    /// Fits of levels and coefficients.
    ///
    /// ```
    /// # use fewstep_search::settings::{ErrorSpace, LeastSquaresSettings};
    /// let defaults = LeastSquaresSettings {
    ///     samples: 64,                   // latents, at least 1; all of the teacher's where it has fewer
    ///     history: 3,                    // outputs, from 0
    ///     ridge: 1e-6,                   // at least 0, in units of the mean square of the outputs in use
    ///     beam: 2,                       // states, from 1 to 1,000: evaluations grow with them
    ///     least_gain: 0.1,               // a share of the error, below 1: evaluations grow where it falls
    ///     error_space: ErrorSpace::Both, // samples that are no grids are compared as they are
    ///     match_variance: true,
    ///     fit_state_coefficient: true,
    ///     robust: false,
    ///     constant: true,
    /// };
    /// # assert_eq!(defaults, LeastSquaresSettings::default());
    /// ```
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    pub struct LeastSquaresSettings {
        /// Latents that are fitted: the first of the teacher's, all where it has fewer.
        pub samples: usize,
        /// Outputs before the newest that a step may use.
        pub history: usize,
        /// Strength of the ridge that draws coefficients to Euler's step.
        pub ridge: f64,
        /// States kept at every level and number of steps.
        pub beam: usize,
        /// Share of the error below which a further evaluation gains too little for states after it to be gone on from.
        pub least_gain: f64,
        /// How errors are compared: as samples, as gradients (differences of neighbours and a tenth of the sample), or both.
        pub error_space: ErrorSpace,
        /// Stretch final samples until their variance is the teacher's.
        pub match_variance: bool,
        /// Fit the coefficient of the state, too.
        pub fit_state_coefficient: bool,
        /// Fit by the pseudo-Huber distance, in which no few latents rule.
        pub robust: bool,
        /// Let plans hold the mean output at the first level in place of an evaluation.
        pub constant: bool,
    }

    /// Moves of the levels that least squares chose.
    ///
    /// ```
    /// # use fewstep_search::settings::SweepSettings;
    /// let defaults = SweepSettings {
    ///     sweeps: 1,   // from 0 to 1,000
    ///     from: 7,     // evaluations, at least 1
    ///     beyond: 2,   // evaluations, from 0 to 1,000
    ///     samples: 16, // latents, at least 1; all of those that are fitted where they are fewer
    /// };
    /// # assert_eq!(defaults, SweepSettings::default());
    /// ```
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    pub struct SweepSettings {
        /// Sweeps over a plan's levels, at most; 0 for none.
        pub sweeps: usize,
        /// Fewest evaluations of plans that are swept.
        pub from: usize,
        /// Evaluations beyond the most asked for, up to which all plans are found and swept, as long paths leave better short ones.
        pub beyond: usize,
        /// Latents that propose moves; all that are fitted decide.
        pub samples: usize,
    }

    /// Gauss-Newton refinement.
    ///
    /// ```
    /// # use fewstep_search::settings::{ErrorSpace, GaussNewtonSettings};
    /// let defaults = GaussNewtonSettings {
    ///     rounds: 1,                     // from 0 to 1,000
    ///     up_to: 10,                     // evaluations
    ///     samples: 32,                   // latents of either set, at least 1; never more than half of the teacher's
    ///     least_gain: 0.01,              // a share of the error, below 1
    ///     error_space: ErrorSpace::Both, // samples that are no grids are compared as they are
    ///     match_variance: true,
    ///     robust: false,
    ///     first_state: true,             // false for tools that hand their noise to the network as it is
    /// };
    /// # assert_eq!(defaults, GaussNewtonSettings::default());
    /// ```
    ///
    /// A plan is fitted to the first `samples` of the teacher's latents, half as many if it has more than 4 evaluations. Each step that
    /// the fit proposes is tried on the last `samples` latents, half as many beyond 6 evaluations, and taken if it helps there.
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    pub struct GaussNewtonSettings {
        /// Rounds at most.
        pub rounds: usize,
        /// Most evaluations of plans that are refined.
        pub up_to: usize,
        /// Latents to fit steps to, and as many others to decide on them; longer plans take half as many.
        pub samples: usize,
        /// A step is taken if it takes at least this part of the deciding latents' error away.
        pub least_gain: f64,
        /// How errors are compared: as samples, as gradients (differences of neighbours and a tenth of the sample), or both.
        pub error_space: ErrorSpace,
        /// Stretch final samples of plans with a constant until their variance is the teacher's.
        pub match_variance: bool,
        /// Refine by the pseudo-Huber distance.
        pub robust: bool,
        /// Whether the first state moves, too: its level, and how much noise it has.
        pub first_state: bool,
    }
}

/// What refinement by gradient makes small.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Distance {
    /// Squared differences.
    Squared,
    /// `sqrt(|d|^2 + c^2) - c` of each sample: no few bad samples rule.
    PseudoHuber,
    /// The relative squared error of samples plus that of a network's features of them.
    Features,
}

documented! {
    /// Refinement down the gradient of the rollout error.
    ///
    /// ```
    /// # use fewstep_search::settings::{Distance, RolloutSettings};
    /// let defaults = RolloutSettings {
    ///     steps: 40,           // from 0
    ///     learning_rate: 1e-3, // above 0, of coefficients
    ///     loss: Distance::Squared,
    /// };
    /// # assert_eq!(defaults, RolloutSettings::default());
    /// ```
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    pub struct RolloutSettings {
        /// Gradient steps, on three quarters of the latents.
        pub steps: usize,
        /// Learning rate of a fitted plan's coefficients; levels move four times as fast, unfitted plans five times.
        pub learning_rate: f64,
        /// What is made small: squared, pseudo_huber, or features.
        pub loss: Distance,
    }
}

impl Default for TeacherSettings {
    fn default() -> Self {
        Self { samples: 64, grid: 21, solver: TeacherSolver::Auto, substeps: 1 }
    }
}

impl Default for OssSettings {
    fn default() -> Self {
        Self { beam: 2 }
    }
}

impl Default for LeastSquaresSettings {
    fn default() -> Self {
        Self {
            samples: 64,
            history: 3,
            ridge: 1e-6,
            beam: 2,
            least_gain: 0.1,
            error_space: ErrorSpace::Both,
            match_variance: true,
            fit_state_coefficient: true,
            robust: false,
            constant: true,
        }
    }
}

impl Default for SweepSettings {
    fn default() -> Self {
        Self { sweeps: 1, from: 7, beyond: 2, samples: 16 }
    }
}

impl Default for GaussNewtonSettings {
    fn default() -> Self {
        Self {
            rounds: 1,
            up_to: 10,
            samples: 32,
            least_gain: 0.01,
            error_space: ErrorSpace::Both,
            match_variance: true,
            robust: false,
            first_state: true,
        }
    }
}

impl Default for RolloutSettings {
    fn default() -> Self {
        Self { steps: 40, learning_rate: 1e-3, loss: Distance::Squared }
    }
}

/// Latents of a search, and whatever it counts of levels, states or rounds, at most: what a slip of the hand asks for beyond them would
/// end in an allocation that fails, or in a search that never ends.
const MOST_LATENTS: usize = 1_000_000;
const MOST: usize = 1000;

impl SearchSettings {
    /// The setting that says how many levels the plans of a method choose from, and its value; none where they choose from no grid.
    pub fn grid_of(&self, method: &Method) -> Option<(&'static str, usize)> {
        let grid = if let Source::Gits(_) = method.source { self.gits.grid } else { self.teacher.grid };
        method.grid_setting().map(|name| (name, grid))
    }

    /// Checks every setting.
    ///
    /// # Errors
    /// The first one outside its domain.
    pub fn validate(&self) -> Result<()> {
        let within = |name: &'static str, value: usize, range: std::ops::RangeInclusive<usize>, rule: &'static str| {
            if range.contains(&value) { Ok(()) } else { Err(Error::Setting { name, rule, value: value.to_string() }) }
        };
        let least = |name: &'static str, value: usize, least: usize, rule: &'static str| {
            within(name, value, least..=usize::MAX, rule)
        };
        let latents = |name: &'static str, value: usize, fewest: usize, rule: &'static str| {
            within(name, value, fewest..=MOST_LATENTS, rule)
        };
        let number = |name: &'static str, value: f64, holds: bool, rule: &'static str| {
            if holds && value.is_finite() {
                Ok(())
            } else {
                Err(Error::Setting { name, rule, value: value.to_string() })
            }
        };
        const TO_MOST: &str = "from 1 to 1,000";
        const AT_MOST: &str = "from 0 to 1,000";
        const LATENTS: &str = "from 1 to a million";
        const POSITIVE: &str = "a finite number above 0";
        const NOT_NEGATIVE: &str = "a finite number of at least 0";
        latents("teacher.samples", self.teacher.samples, 1, LATENTS)?;
        within("teacher.grid", self.teacher.grid, 2..=MOST, "from 2 to 1,000")?;
        within("teacher.substeps", self.teacher.substeps, 1..=MOST, TO_MOST)?;
        least("gits.coefficients", self.gits.coefficients.len(), 1, "a list of at least one number")?;
        for &coefficient in &self.gits.coefficients {
            number("gits.coefficients", coefficient, coefficient > 0.0, "finite numbers above 0")?;
        }
        latents("gits.samples", self.gits.samples, 1, LATENTS)?;
        within("gits.grid", self.gits.grid, 2..=MOST, "from 2 to 1,000")?;
        within("oss.beam", self.oss.beam, 1..=MOST, TO_MOST)?;
        latents("least_squares.samples", self.least_squares.samples, 1, LATENTS)?;
        within("least_squares.beam", self.least_squares.beam, 1..=MOST, TO_MOST)?;
        let gain = self.least_squares.least_gain;
        number("least_squares.least_gain", gain, gain < 1.0, "a finite number below 1")?;
        let ridge = self.least_squares.ridge;
        number("least_squares.ridge", ridge, ridge >= 0.0, NOT_NEGATIVE)?;
        within("sweep.sweeps", self.sweep.sweeps, 0..=MOST, AT_MOST)?;
        within("sweep.beyond", self.sweep.beyond, 0..=MOST, AT_MOST)?;
        least("sweep.from", self.sweep.from, 1, "at least 1")?;
        latents("sweep.samples", self.sweep.samples, 1, LATENTS)?;
        within("gauss_newton.rounds", self.gauss_newton.rounds, 0..=MOST, AT_MOST)?;
        latents("gauss_newton.samples", self.gauss_newton.samples, 1, LATENTS)?;
        let gain = self.gauss_newton.least_gain;
        number("gauss_newton.least_gain", gain, gain < 1.0, "a finite number below 1")?;
        number("rollout.learning_rate", self.rollout.learning_rate, self.rollout.learning_rate > 0.0, POSITIVE)?;
        let MomentsSettings { error_weight, data_error_weight, control, negligible_error } = self.moments;
        number("moments.error_weight", error_weight, error_weight >= 0.0, NOT_NEGATIVE)?;
        number("moments.data_error_weight", data_error_weight, data_error_weight >= 0.0, NOT_NEGATIVE)?;
        number("moments.negligible_error", negligible_error, negligible_error >= 0.0, NOT_NEGATIVE)?;
        latents(
            "moments.control",
            control,
            2,
            "at least 2, as a mean of one sample says nothing, and at most a million",
        )?;
        let NearestSettings { methods: _, samples, least_gain, dropped_beyond } = self.nearest;
        number("nearest.least_gain", least_gain, least_gain < 1.0, "a finite number below 1")?;
        latents(
            "nearest.samples",
            samples,
            8,
            "at least 8, as a quarter of them is compared first, and at most a million",
        )?;
        number("nearest.dropped_beyond", dropped_beyond, dropped_beyond >= 1.0, "a finite number of at least 1")
    }
}
