//! What a search leaves, and why it may leave nothing.

use std::convert::Infallible;

use fewstep_core::execute::ExecuteError;
use fewstep_core::plan::Plan;
use fewstep_core::solver::SolverError;

/// A plan that a search found.
#[derive(Clone, Debug, PartialEq)]
pub struct FoundPlan {
    /// The sampler; its metadata says how it was found.
    pub plan: Plan,
    /// Indices into the grid that was searched (the teacher's, or GITS's own) of the levels that it evaluates at, rising.
    pub path: Vec<usize>,
    /// What the search minimised, on the latents that it saw: for `gits` the weighted sum of its costs, for the
    /// others the squared distance to the teacher's end per sample.
    pub error: f64,
}

/// The plans of one pass of a search.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// The plan of `n + 1` steps at index `n`, which are as many evaluations (only `gits` plans may be made with a
    /// solver that takes two a step); fewer than asked for where the grid has too few levels.
    pub plans: Vec<FoundPlan>,
    /// Evaluations of the denoiser, each of the teacher's whole batch, beyond the teacher's own.
    pub evaluations: usize,
}

impl Outcome {
    /// Plans whose metadata say what all of them took together.
    pub(super) fn counted(mut plans: Vec<FoundPlan>, evaluations: usize) -> Self {
        for found in &mut plans {
            found.plan.metadata.found_by.insert("evaluations".into(), evaluations.into());
        }
        Self { plans, evaluations }
    }
}

/// Why a search leaves no plans.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum SearchError<E> {
    /// The network failed.
    #[error("the network failed during the search: {0}")]
    Denoiser(E),
    /// A grid that does not fit the teacher.
    #[error("the search grid {0}")]
    Grid(&'static str),
    /// A teacher without samples.
    #[error("a teacher needs at least one latent")]
    NoSamples,
    /// Numbers that cannot be compared.
    #[error("{what} is not finite; the network diverges on this noise range, or its weights are damaged")]
    NotFinite {
        /// Where.
        what: &'static str,
    },
    /// An option outside its domain.
    #[error("the search option `{name}` must be {rule}, but it is {value}")]
    Option {
        /// The option.
        name: &'static str,
        /// What it must be.
        rule: &'static str,
        /// What it is.
        value: f64,
    },
    /// A solver that a search over the student's own states cannot step with.
    #[error(
        "the search `oss` cannot step with {solver}: it needs one evaluation a step and steps that do not depend \
         on how many follow (try dpmpp3m_nolof, ipndm4 or euler)"
    )]
    Solver {
        /// Its name.
        solver: String,
    },
    /// A schedule that the solver leaves no plan for.
    #[error(transparent)]
    Plan(#[from] SolverError),
    /// A run that lacks something.
    #[error(transparent)]
    Execute(ExecuteError<Infallible>),
}

impl<E> From<ExecuteError<E>> for SearchError<E> {
    fn from(error: ExecuteError<E>) -> Self {
        match error.into_denoiser() {
            Ok(error) => Self::Denoiser(error),
            Err(ExecuteError::Plan(error)) => Self::Plan(error.into()),
            Err(other) => Self::Execute(other),
        }
    }
}
