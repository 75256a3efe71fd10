//! Why no plan could be found.

use std::convert::Infallible;

use fewstep_core::objective::TableError;
use fewstep_core::plan::PlanError;
use fewstep_core::schedule::ScheduleError;
use fewstep_core::solver::SolverError;

use crate::method::MethodError;
use crate::refine::RefineError;
use crate::{GaussianError, SearchError};

/// Shorthand for this crate's results.
pub type Result<T> = std::result::Result<T, Error>;

/// Why no plan could be found.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The denoiser failed; its own error is the source.
    #[error("{0}")]
    Denoiser(Box<dyn std::error::Error + Send + Sync>),
    /// A teacher that cannot go on.
    #[error(
        "the model's answer at sigma {sigma}, where the teacher is on its way, holds values that are not finite: in half precision values overflow that f32 holds, and outside the levels that it was trained on a network may answer anything"
    )]
    AnswerNotFinite {
        /// The noise level.
        sigma: f64,
    },
    /// The observer asked for the end.
    #[error("stopped as asked during the search")]
    Cancelled,
    /// A name that means no method.
    #[error(transparent)]
    Method(#[from] MethodError),
    /// A setting outside its domain.
    #[error("the setting {name} must be {rule}, but it is {value}")]
    Setting {
        /// Its place in the settings, such as `teacher.samples`.
        name: &'static str,
        /// What it must be.
        rule: &'static str,
        /// What it is.
        value: String,
    },
    /// A number of evaluations that a method has no plan for.
    #[error("{method} has no plan of {nfe} evaluations; leave that number out of the steps, or choose another method")]
    NoPlan {
        /// The method.
        method: String,
        /// Network evaluations a sample.
        nfe: usize,
    },
    /// A method that needs training data where none are given.
    #[error("{method} needs training data{}: give them, or choose a method that does without", hint)]
    NeedsData {
        /// The method.
        method: String,
        /// What else would do.
        hint: &'static str,
    },
    /// A stage that needs a derivative which the denoiser does not have.
    #[error(
        "rollout refinement needs the denoiser's derivative, and this one has none; use gauss-newton, which does without"
    )]
    NotDifferentiable,
    /// A loss that the caller did not bring.
    #[error("rollout refinement by a distance of features needs a feature network")]
    NoFeatures,
    /// A stage that compares images, for samples that are none.
    #[error(
        "matching moments needs samples that are images or can be decoded into some, and this denoiser's are neither"
    )]
    NoImages,
    /// Levels that are no schedule.
    #[error(transparent)]
    Schedule(#[from] ScheduleError),
    /// A solver without a plan for these levels.
    #[error(transparent)]
    Solver(#[from] SolverError),
    /// A plan that cannot be executed.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// A search that came to nothing.
    #[error(transparent)]
    Search(SearchError<Infallible>),
    /// A refinement that came to nothing.
    #[error(transparent)]
    Refine(RefineError<Infallible>),
    /// A table that cannot be searched.
    #[error(transparent)]
    Table(#[from] TableError),
    /// Moments that cannot be compared.
    #[error(transparent)]
    Gaussian(#[from] GaussianError),
    /// Settings that cannot be written down.
    #[error("the settings cannot be written as JSON: {0}")]
    Json(#[from] serde_json::Error),
}

impl Error {
    /// The error of a denoiser.
    pub(crate) fn denoiser(error: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::Denoiser(Box::new(error))
    }

    /// The denoiser's own error, if that is what it is.
    pub fn into_denoiser<E: std::error::Error + 'static>(self) -> std::result::Result<E, Self> {
        match self {
            Self::Denoiser(inner) => match inner.downcast::<E>() {
                Ok(error) => Ok(*error),
                Err(inner) => Err(Self::Denoiser(inner)),
            },
            other => Err(other),
        }
    }
}

/// Searches whose denoiser fails with an error of ours.
impl From<SearchError<Error>> for Error {
    fn from(error: SearchError<Error>) -> Self {
        match error {
            SearchError::Denoiser(error) => error,
            SearchError::Grid(what) => Self::Search(SearchError::Grid(what)),
            SearchError::NoSamples => Self::Search(SearchError::NoSamples),
            SearchError::NotFinite { what } => Self::Search(SearchError::NotFinite { what }),
            SearchError::Option { name, rule, value } => Self::Search(SearchError::Option { name, rule, value }),
            SearchError::Solver { solver } => Self::Search(SearchError::Solver { solver }),
            SearchError::Plan(error) => Self::Solver(error),
        }
    }
}

impl From<SearchError<Infallible>> for Error {
    fn from(error: SearchError<Infallible>) -> Self {
        Self::Search(error)
    }
}

impl From<RefineError<Error>> for Error {
    fn from(error: RefineError<Error>) -> Self {
        match error {
            RefineError::Denoiser(error) => error,
            RefineError::Adam(error) => Self::Refine(RefineError::Adam(error)),
            RefineError::Plan(error) => Self::Plan(error),
            RefineError::NoBatches => Self::Refine(RefineError::NoBatches),
        }
    }
}
