//! Methods by name: a short way to write a list of stages.

mod name;

use fewstep_core::parameterisation::Alphas;
use fewstep_core::schedule::{Family, IddpmLevels};
use fewstep_core::solver::{Solver, SolverError};
use serde::{Deserialize, Serialize};

pub use self::name::parse_solver;
use crate::settings::{
    GaussNewtonSettings, GitsSettings, LeastSquaresSettings, MomentsSettings, OssSettings, RolloutSettings,
    SearchSettings, SweepSettings,
};

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
        /// Coefficients to choose from and cost of a step.
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
    Rollout(RolloutSettings),
    /// The last combination fitted to the moments of the teacher's samples, or of training data.
    MatchMoments {
        /// Whose.
        of: MomentsOf,
        /// Weights.
        settings: MomentsSettings,
    },
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
    /// By Gauss-Newton steps, from evaluations alone.
    GaussNewton,
}

impl Refinement {
    const ALL: [Self; 2] = [Self::Rollout, Self::GaussNewton];

    /// Latents that it needs: to fit, and to decide.
    fn least_latents(self) -> usize {
        match self {
            Self::Rollout => 4,
            Self::GaussNewton => 2,
        }
    }

    /// Ends the name of a method.
    fn suffix(self) -> &'static str {
        match self {
            Self::Rollout => "+rollout",
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

/// A method by name: `karras/ipndm4`, `gits@1.15/euler`, `oss/euler`, `bound/euler`, `least-squares`; `+rollout` or `+gauss-newton`
/// after it refines what was found, and `+moments` or `+data-moments` at the end matches moments. `local` and `reachable` are older
/// names of `gits` and `oss`.
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
}

/// A name that means no method.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum MethodError {
    /// Unknown, with a known name nearby.
    #[error("there is no {what} named '{name}'; did you mean '{near}'?")]
    DidYouMean {
        /// A method or a solver.
        what: &'static str,
        /// As it was given.
        name: String,
        /// The nearest known name.
        near: String,
    },
    /// Unknown.
    #[error(
        "there is no method '{0}'; write SOURCE/SOLVER, such as karras/ipndm4, gits/euler (gits@1.15/euler with a coefficient of \
         your own), oss/euler or bound/euler, or least-squares, and +rollout or +gauss-newton after any of them to refine what it \
         finds, and +moments or +data-moments at the end"
    )]
    Unknown(String),
    /// An unknown solver.
    #[error(transparent)]
    Solver(#[from] SolverError),
    /// A coefficient that is no number.
    #[error("'{coefficient}' in {method} is no finite number above 0")]
    Coefficient {
        /// As it was given.
        coefficient: String,
        /// Where.
        method: String,
    },
    /// A coefficient where none belongs.
    #[error("'{source_name}' in {method} takes no coefficient")]
    NoCoefficient {
        /// The part of the name.
        source_name: String,
        /// The whole.
        method: String,
    },
    /// A solver where none belongs.
    #[error("least-squares fits a solver of its own: write it without '/'")]
    OwnSolver,
    /// A number of evaluations that the solver cannot make.
    #[error("{method}: {solver} makes odd numbers of evaluations, and the steps ask for {nfe}")]
    Odd {
        /// The method.
        method: String,
        /// The solver.
        solver: String,
        /// The number.
        nfe: usize,
    },
}

/// Schedules that need no network.
pub const SCHEDULES: [(&str, Family); 9] = [
    ("karras", Family::Karras { rho: 7.0 }),
    ("log_snr", Family::LogSnr),
    ("vp", Family::Vp { epsilon_s: 1e-3 }),
    ("ve", Family::Ve),
    ("iddpm", Family::Iddpm(IddpmLevels::DEFAULT)),
    ("cosine", Family::Cosine),
    ("time_uniform", Family::TimeUniform { rho: 1.0 }),
    ("timestep_uniform", Family::TimestepUniform { alphas: Alphas::STABLE_DIFFUSION }),
    ("flow_uniform", Family::FlowUniform { shift: 1.0 }),
];

impl Method {
    /// Our search, refined.
    pub const LEAST_SQUARES: Self =
        Self { source: Source::LeastSquares, solver: None, refinement: Some(Refinement::GaussNewton), moments: None };

    /// The search that wins our comparisons of those that need no data (docs/experiments).
    pub const BEST: Self = Self { moments: Some(MomentsOf::Teacher), ..Self::LEAST_SQUARES };

    /// Whether the settings of a section of [`SearchSettings`], such as `gits`, change its plans.
    pub fn uses(&self, section: &str) -> bool {
        match section {
            "teacher" => self.needs_teacher(),
            "gits" => matches!(self.source, Source::Gits(_)),
            "oss" => self.source == Source::Oss,
            "least_squares" | "sweep" => self.source == Source::LeastSquares,
            "gauss_newton" => self.refinement == Some(Refinement::GaussNewton),
            "rollout" => self.refinement == Some(Refinement::Rollout),
            "moments" => self.moments.is_some(),
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
            Refinement::Rollout => {
                // what was fitted is near its optimum
                let scale = if self.source == Source::LeastSquares { 1.0 } else { 5.0 };
                let learning_rate = scale * settings.rollout.learning_rate;
                Stage::Rollout(RolloutSettings { learning_rate, ..settings.rollout.clone() })
            }
        }));
        stages.extend(self.moments.map(|of| Stage::MatchMoments { of, settings: settings.moments.clone() }));
        stages
    }

    /// Whether it needs training data.
    pub fn needs_data(&self) -> bool {
        self.source == Source::Bound || self.moments == Some(MomentsOf::Data)
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

    /// Those of these numbers of evaluations that its solver can make.
    pub fn possible(&self, steps: &[usize]) -> Vec<usize> {
        steps.iter().copied().filter(|&nfe| self.check_evaluations(&[nfe]).is_ok()).collect()
    }

    /// Refuses numbers of evaluations that its solver cannot make: one of two evaluations a step makes 2 n - 1.
    ///
    /// # Errors
    /// The first such number.
    pub fn check_evaluations(&self, steps: &[usize]) -> Result<(), MethodError> {
        let Some(solver) = self.solver.filter(|solver| solver.evaluations_per_step() == 2) else { return Ok(()) };
        match steps.iter().find(|nfe| *nfe % 2 == 0) {
            Some(&nfe) => Err(MethodError::Odd { method: self.to_string(), solver: solver.to_string(), nfe }),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
