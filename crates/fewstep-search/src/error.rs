//! Why no plan could be found.

use std::convert::Infallible;

use fewstep_core::execute::ExecuteError;
use fewstep_core::objective::TableError;
use fewstep_core::plan::PlanError;
use fewstep_core::schedule::ScheduleError;
use fewstep_core::solver::SolverError;

use crate::method::MethodError;
use crate::refine::RefineError;
use crate::{GaussianError, SearchError};

/// Shorthand for this crate's results.
pub type Result<T> = std::result::Result<T, Error>;

/// Why no plan could be found, or none be run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The denoiser failed; [`Error::into_denoiser`] gives its own error back.
    #[error("{0}")]
    Denoiser(Box<dyn std::error::Error + Send + Sync>),
    /// Something of the caller's failed, such as the function that [`sample`](crate::sample) gives batches to; see [`Error::caller`].
    #[error(transparent)]
    Caller(Box<dyn std::error::Error + Send + Sync>),
    /// A batch of the denoiser's with more or fewer samples than there have to be.
    #[error("{what} must be {expected} samples, and the denoiser gave {found}")]
    Samples {
        /// What it is of.
        what: &'static str,
        /// Samples that it has.
        found: usize,
        /// Samples that were asked for.
        expected: usize,
    },
    /// A batch of the denoiser's whose samples are of another size than it says.
    #[error("{what} must have {} numbers a sample, as the denoiser's spec has the shape {shape:?}, and one has {found}", shape.iter().product::<usize>())]
    SampleSize {
        /// What it is of.
        what: &'static str,
        /// Numbers of one of its samples.
        found: usize,
        /// [`Spec::shape`](fewstep_core::denoiser::Spec::shape).
        shape: Vec<usize>,
    },
    /// A teacher of more or fewer latents than the settings of a search say.
    #[error(
        "the teacher holds the samples of {found} latents, and the setting teacher.samples is {expected}: solve the teacher with \
         the settings of the search, or set teacher.samples to {found}"
    )]
    TeacherSamples {
        /// Latents that it was solved from.
        found: usize,
        /// [`TeacherSettings::samples`](crate::settings::TeacherSettings::samples).
        expected: usize,
    },
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
    /// Numbers of evaluations that a method has no plan for.
    #[error("{method} has no plan of {} evaluations: {why}", listed(nfe))]
    NoPlan {
        /// The method.
        method: String,
        /// Network evaluations a sample.
        nfe: Vec<usize>,
        /// Why, and what would allow for them.
        why: String,
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
    /// Levels that would have to move to where the denoiser answers nothing.
    #[error(
        "+levels moves noise levels, and this denoiser knows {known} of them and nothing between: use +rollout or +gauss-newton, which \
         move coefficients alone then"
    )]
    DiscreteLevels {
        /// Levels that it knows.
        known: usize,
    },
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
    /// A run of a plan that lacks something.
    #[error(transparent)]
    Execute(ExecuteError<Infallible>),
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

    /// An error of the caller's own, for functions that searches and [`sample`](crate::sample) call:
    /// `std::fs::write(path, bytes).map_err(Error::caller)?`.
    pub fn caller(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Caller(error.into())
    }

    /// The denoiser's own error.
    ///
    /// # Errors
    /// If it is none, or one of another type: this error as it was.
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
            SearchError::Execute(error) => error.into(),
        }
    }
}

impl From<SearchError<Infallible>> for Error {
    fn from(error: SearchError<Infallible>) -> Self {
        Self::Search(error)
    }
}

impl From<ExecuteError<Infallible>> for Error {
    fn from(error: ExecuteError<Infallible>) -> Self {
        match error {
            ExecuteError::Plan(error) => Self::Plan(error),
            other => Self::Execute(other),
        }
    }
}

/// Runs whose denoiser fails with an error of ours.
impl From<ExecuteError<Error>> for Error {
    fn from(error: ExecuteError<Error>) -> Self {
        error.into_denoiser().unwrap_or_else(Self::from)
    }
}

impl From<RefineError<Error>> for Error {
    fn from(error: RefineError<Error>) -> Self {
        match error {
            RefineError::Denoiser(error) => error,
            RefineError::Adam(error) => Self::Refine(RefineError::Adam(error)),
            RefineError::Plan(error) => Self::Plan(error),
            RefineError::Solver(error) => Self::Refine(RefineError::Solver(error)),
            RefineError::Schedule(error) => Self::Refine(RefineError::Schedule(error)),
            RefineError::NoSchedule(solver) => Self::Refine(RefineError::NoSchedule(solver)),
            RefineError::Execute(error) => error.into(),
            RefineError::NoBatches => Self::Refine(RefineError::NoBatches),
        }
    }
}

/// `3`, `3 and 4`, `3, 4 and 5`.
fn listed(numbers: &[usize]) -> String {
    let text: Vec<String> = numbers.iter().map(usize::to_string).collect();
    match text.split_last() {
        Some((last, others)) if !others.is_empty() => format!("{} and {last}", others.join(", ")),
        _ => text.concat(),
    }
}
