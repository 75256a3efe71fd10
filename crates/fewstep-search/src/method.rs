//! Methods by name: a short way to write a list of stages.

mod error;
mod name;

use std::ops::RangeInclusive;

use fewstep_core::denoiser::Levels;
pub use fewstep_core::schedule::SCHEDULES;
use fewstep_core::schedule::{Family, MOST_LEVELS};
use fewstep_core::solver::Solver;
use serde::{Deserialize, Serialize};

pub use self::error::MethodError;
pub use self::name::parse_solver;
use crate::settings::{
    GaussNewtonSettings, GitsSettings, LeastSquaresSettings, MomentsSettings, NearestSettings, OssSettings,
    RolloutSettings, SearchSettings, SweepSettings,
};

/// Learning rates that plans by a formula bear, in units of those that suit fitted ones.
const UNFITTED: f64 = 5.0;

/// One stage of a search, with its own settings: the first one finds plans, those after it make them better.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "stage", rename_all = "snake_case")]
pub enum Stage {
    /// A schedule by its formula.
    Schedule {
        /// The formula.
        family: Family,
        /// What runs on it.
        solver: Solver,
    },
    /// GITS: dynamic programming over single steps from the teacher's states.
    Gits {
        /// What runs on the levels.
        solver: Solver,
        /// Its teacher, coefficients to choose from, and the cost of a step.
        settings: GitsSettings,
    },
    /// OSS: dynamic programming over the student's own states.
    Oss {
        /// What steps, and runs on the levels.
        solver: Solver,
        /// Beam.
        settings: OssSettings,
    },
    /// The paper's Eq. 12, exactly minimised over a table.
    Bound {
        /// What runs on the levels.
        solver: Solver,
    },
    /// Levels and coefficients together, over the student's own states.
    LeastSquares(LeastSquaresSettings),
    /// Moves of the levels that least squares chose.
    Sweep(SweepSettings),
    /// Gauss-Newton steps on levels and coefficients, from evaluations alone.
    GaussNewton(GaussNewtonSettings),
    /// Steps down the gradient of the rollout error.
    Rollout {
        /// What runs on the levels where they alone move and its coefficients follow; else coefficients move, too.
        solver: Option<Solver>,
        /// Steps and distance.
        settings: RolloutSettings,
    },
    /// The last combination fitted to the moments of the teacher's samples, or of training data.
    MatchMoments {
        /// Whose.
        of: MomentsOf,
        /// Weights.
        settings: MomentsSettings,
    },
    /// Of these plans and those of other methods, the ones whose samples are nearest to training data.
    Nearest {
        /// The methods, and how their plans are compared.
        settings: NearestSettings,
        /// The stages of these methods, each of them with training data's moments matched.
        others: Vec<Vec<Stage>>,
    },
}

impl Stage {
    /// Whether it fits a plan's numbers to the teacher's trajectories.
    pub(crate) fn fits(&self) -> bool {
        matches!(self, Self::LeastSquares(_) | Self::GaussNewton(_) | Self::Rollout { .. })
    }
}

/// Where the moments come from that a plan's samples are matched with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MomentsOf {
    /// The teacher's samples, which the search has anyway.
    Teacher,
    /// Training data: a teacher's samples are a little unlike them, too.
    Data,
}

impl MomentsOf {
    const ALL: [Self; 2] = [Self::Teacher, Self::Data];

    /// Ends the name of a method.
    fn suffix(self) -> &'static str {
        match self {
            Self::Teacher => "+moments",
            Self::Data => "+data-moments",
        }
    }
}

/// How plans are refined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refinement {
    /// Down the gradient of the rollout error.
    Rollout,
    /// The same of the levels alone: the solver's coefficients follow (LD3, Tong et al. 2025).
    Levels,
    /// By Gauss-Newton steps, from evaluations alone.
    GaussNewton,
}

impl Refinement {
    const ALL: [Self; 3] = [Self::Rollout, Self::Levels, Self::GaussNewton];

    /// Latents that it needs: to fit, and to decide.
    fn least_latents(self) -> usize {
        match self {
            Self::Rollout | Self::Levels => 4,
            Self::GaussNewton => 2,
        }
    }

    /// Ends the name of a method.
    fn suffix(self) -> &'static str {
        match self {
            Self::Rollout => "+rollout",
            Self::Levels => "+levels",
            Self::GaussNewton => "+gauss-newton",
        }
    }
}

/// Where noise levels come from.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// A schedule by its formula.
    Fixed(&'static str, Family),
    /// GITS; without a coefficient, the one whose plan has the least rollout error on the search's own latents.
    Gits(Option<f64>),
    /// OSS.
    Oss,
    /// The paper's Eq. 12.
    Bound,
    /// Least squares.
    LeastSquares,
}

/// How plans are found, by a name: `SOURCE/SOLVER`, then how the plans are refined, then what moments are matched with.
///
/// ```text
/// method   = source ["/" solver] ["+gauss-newton" | "+rollout" | "+levels"] ["+moments" | "+data-moments" ["+nearest"]]
/// source   = schedule | "gits" ["@" coefficient] | "oss" | "bound" | "least-squares"
/// schedule = a name in SCHEDULES
/// ```
///
/// | part | what it does | needs |
/// |---|---|---|
/// | a schedule ([`SCHEDULES`]) | noise levels by a formula; any number of evaluations | |
/// | `gits` | levels of a grid of its own by single steps from its teacher's states; with `@1.15`, that coefficient | a teacher of its own; without a coefficient the searches', too |
/// | `oss` | levels of the grid by the solver's own states | a teacher |
/// | `bound` | levels that minimise the paper's Eq. 12 over a table; at least 2 | [`Extras::table`](crate::Extras) |
/// | `least-squares` | levels and coefficients together; it has no solver | a teacher |
/// | `/` solver | what runs on the levels: any of [`Solver::all`]; `euler` where none is named | |
/// | `+gauss-newton` | moves levels and coefficients to less rollout error, by evaluations alone | 2 latents |
/// | `+rollout` | the same down the gradient | 4 latents, [`Denoiser::differentiable`](fewstep_core::Denoiser::differentiable) |
/// | `+levels` | the same of the levels alone, which the solver's coefficients follow: LD3 | the same; a solver; levels that are not discrete |
/// | `+moments` | the last combination fitted to mean and covariance of features of the teacher's samples | 2 latents; images ([`Denoiser::appearance`](fewstep_core::Denoiser::appearance)), or it is left out with a note |
/// | `+data-moments` | the same, of training data | images, [`Extras::data`](crate::Extras) |
/// | `+nearest` | where samples of [other methods](NearestSettings)' plans are nearer to training data, their plans | the same |
///
/// ```
/// use fewstep_search::{Method, SCHEDULES};
///
/// let flows = ["time_uniform", "timestep_uniform", "flow_uniform", "flow_trailing"];
/// let others = ["karras", "log_snr", "vp", "ve", "iddpm", "cosine"];
/// assert_eq!(SCHEDULES.map(|(name, _)| name).as_slice(), [&others[..], &flows].concat());
///
/// for name in ["karras/ipndm4", "gits@1.15/euler", "oss/dpmpp2m_nolof+gauss-newton", "least-squares+gauss-newton+moments"] {
///     assert_eq!(name.parse::<Method>()?.to_string(), name);
/// }
/// assert_eq!("least-squares+gauss-newton+moments".parse(), Ok(Method::BEST));
/// assert_eq!("log_snr".parse::<Method>()?.to_string(), "log_snr/euler");
/// # Ok::<(), fewstep_search::MethodError>(())
/// ```
///
/// A solver of two evaluations a step (`heun`, `dpm2`) makes odd numbers of evaluations alone: [`Method::possible`]. `local` and
/// `reachable` are older names of `gits` and `oss`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Method {
    /// Where the levels come from.
    pub source: Source,
    /// What runs on them; least squares fits its own.
    pub solver: Option<Solver>,
    /// How the plans are refined, if they are.
    pub refinement: Option<Refinement>,
    /// What moments are matched with in the end, if they are.
    pub moments: Option<MomentsOf>,
    /// Whether other methods' plans take the place of its own where their samples are nearer to training data.
    pub nearest: bool,
}

impl Method {
    /// `least-squares+gauss-newton`: our search, refined.
    pub const LEAST_SQUARES: Self = Self {
        source: Source::LeastSquares,
        solver: None,
        refinement: Some(Refinement::GaussNewton),
        moments: None,
        nearest: false,
    };

    /// `least-squares+gauss-newton+moments`: of the searches that need no data, the one that wins our comparisons
    /// (docs/experiments). Its last stage takes images, pixels or decoded ones. For a denoiser of other samples, whose
    /// [`appearance`](fewstep_core::Denoiser::appearance) is none, that stage is left out, which a note says to the observer: the plans
    /// are then those of [`Method::LEAST_SQUARES`].
    pub const BEST: Self = Self { moments: Some(MomentsOf::Teacher), ..Self::LEAST_SQUARES };

    /// Whether the settings of a section of [`SearchSettings`], such as `gits`, change its plans.
    pub fn uses(&self, section: &str) -> bool {
        match section {
            "teacher" => self.needs_teacher(),
            "gits" => matches!(self.source, Source::Gits(_)),
            "oss" => self.source == Source::Oss,
            "least_squares" | "sweep" => self.source == Source::LeastSquares,
            "gauss_newton" => self.refinement == Some(Refinement::GaussNewton),
            "rollout" => self.follows_gradients(),
            "moments" => self.moments.is_some(),
            "nearest" => self.nearest,
            _ => true,
        }
    }

    /// The stages that the name stands for, with these settings.
    pub fn stages(&self, settings: &SearchSettings) -> Vec<Stage> {
        let solver = self.solver.unwrap_or(Solver::Euler);
        let mut stages = match &self.source {
            Source::Fixed(_, family) => vec![Stage::Schedule { family: family.clone(), solver }],
            Source::Gits(None) => vec![Stage::Gits { solver, settings: settings.gits.clone() }],
            Source::Gits(Some(coefficient)) => {
                let settings = GitsSettings { coefficients: vec![*coefficient], ..settings.gits.clone() };
                vec![Stage::Gits { solver, settings }]
            }
            Source::Oss => vec![Stage::Oss { solver, settings: settings.oss.clone() }],
            Source::Bound => vec![Stage::Bound { solver }],
            Source::LeastSquares => {
                let fit = Stage::LeastSquares(settings.least_squares.clone());
                let sweep = (settings.sweep.sweeps > 0).then(|| Stage::Sweep(settings.sweep.clone()));
                std::iter::once(fit).chain(sweep).collect()
            }
        };
        stages.extend(self.refinement.map(|refinement| match refinement {
            Refinement::GaussNewton => Stage::GaussNewton(settings.gauss_newton.clone()),
            Refinement::Rollout | Refinement::Levels => {
                // what was fitted is near its optimum
                let scale = if self.source == Source::LeastSquares { 1.0 } else { UNFITTED };
                let learning_rate = scale * settings.rollout.learning_rate;
                Stage::Rollout {
                    solver: (refinement == Refinement::Levels).then_some(solver),
                    settings: RolloutSettings { learning_rate, ..settings.rollout.clone() },
                }
            }
        }));
        stages.extend(self.moments.map(|of| Stage::MatchMoments { of, settings: settings.moments.clone() }));
        stages.extend(self.nearest.then(|| Stage::Nearest {
            settings: settings.nearest.clone(),
            others: Self::others(&settings.nearest).map(|other| other.stages(settings)).collect(),
        }));
        stages
    }

    /// Whether it takes the network's derivative.
    pub fn follows_gradients(&self) -> bool {
        matches!(self.refinement, Some(Refinement::Rollout | Refinement::Levels))
    }

    /// The other methods whose plans `+nearest` compares with, each with training data's moments matched.
    pub(crate) fn others(settings: &NearestSettings) -> impl Iterator<Item = Self> {
        settings.methods.iter().map(|method| Self { moments: Some(MomentsOf::Data), nearest: false, ..method.clone() })
    }

    /// Whether it may be of use on a denoiser with these levels: schedules of flows are for flows.
    pub(crate) fn suits(&self, levels: &Levels) -> bool {
        let for_flows = |family: &Family| family.is_for_flows();
        let of_flow = levels.own.as_ref().is_some_and(for_flows);
        of_flow || !matches!(&self.source, Source::Fixed(_, family) if for_flows(family))
    }

    /// Whether it needs training data.
    pub fn needs_data(&self) -> bool {
        self.source == Source::Bound || self.matches_data()
    }

    /// Whether it matches the moments of training data.
    pub fn matches_data(&self) -> bool {
        self.moments == Some(MomentsOf::Data)
    }

    /// Whether it compares plans by the nearness of their samples to training data.
    pub fn takes_nearest(&self) -> bool {
        self.nearest
    }

    /// Whether it compares with a teacher's trajectories.
    pub fn needs_teacher(&self) -> bool {
        let plain = matches!(self.source, Source::Fixed(..) | Source::Bound);
        !plain || self.refinement.is_some() || self.moments.is_some()
    }

    /// Latents that it needs.
    pub fn least_latents(&self) -> usize {
        // one sample has no covariance
        self.refinement.map_or(1, Refinement::least_latents).max(if self.moments.is_some() { 2 } else { 1 })
    }

    /// Those of these numbers of evaluations that its solver can make. For those that there are enough noise levels for, too, ask
    /// [`Search::possible`](crate::Search::possible).
    pub fn possible(&self, steps: &[usize]) -> Vec<usize> {
        steps.iter().copied().filter(|&nfe| self.check_evaluations(&[nfe]).is_ok()).collect()
    }

    /// Refuses numbers of evaluations that its solver cannot make: one of two evaluations a step makes 2 n - 1.
    ///
    /// # Errors
    /// The first such number.
    pub fn check_evaluations(&self, steps: &[usize]) -> Result<(), MethodError> {
        let method = || self.to_string();
        if steps.contains(&0) {
            return Err(MethodError::NoEvaluations { method: method() });
        }
        let Some(solver) = self.solver else { return Ok(()) };
        let per_step = solver.evaluations_per_step();
        match steps.iter().find(|nfe| (*nfe - 1) % per_step != 0) {
            Some(&nfe) => Err(MethodError::Evaluations { method: method(), solver: solver.to_string(), per_step, nfe }),
            None => Ok(()),
        }
    }

    /// The setting that says how many levels its plans choose from; none where they choose from no teacher's grid.
    pub(crate) fn grid_setting(&self) -> Option<&'static str> {
        match self.source {
            Source::Gits(_) => Some("gits.grid"),
            Source::Oss | Source::LeastSquares => Some("teacher.grid"),
            Source::Fixed(..) | Source::Bound => None,
        }
    }

    /// Numbers of evaluations, from the least to the most, of plans whose levels it chooses from `grid` ones.
    pub(crate) fn range(&self, grid: usize) -> RangeInclusive<usize> {
        let per_step = self.solver.map_or(1, |solver| solver.evaluations_per_step());
        let evaluations = |levels: usize| levels.saturating_sub(1).saturating_mul(per_step).saturating_add(1);
        match self.source {
            Source::Fixed(..) => 1..=evaluations(MOST_LEVELS),
            // ends at both ends of the table
            Source::Bound => evaluations(2)..=evaluations(grid),
            Source::Gits(_) | Source::Oss | Source::LeastSquares => 1..=evaluations(grid),
        }
    }
}

#[cfg(test)]
mod tests;
