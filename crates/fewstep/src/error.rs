//! What can go wrong in a run.

use std::path::PathBuf;

use fewstep_core::denoiser::SpreadError;

/// Shorthand for this crate's results.
pub type Result<T> = std::result::Result<T, Error>;

/// What can go wrong in a run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Something asked for that cannot be, in a sentence that says what to do.
    #[error("{0}")]
    Input(String),
    /// What was being done when something else went wrong.
    #[error("{what}")]
    Context {
        /// What was being done.
        what: String,
        /// What went wrong.
        #[source]
        source: Box<Error>,
    },
    /// The observer asked for the end; everything so far is saved.
    #[error("stopped as asked, {place}; everything so far is saved: the same command with --resume goes on from there")]
    Stopped {
        /// Where the work stands.
        place: String,
    },
    /// A file that another process works in.
    #[error("another run is going on in {}: wait for it, or choose another folder", path.display())]
    Locked {
        /// The folder.
        path: PathBuf,
    },
    /// A search came to nothing.
    #[error(transparent)]
    Search(fewstep_search::Error),
    /// A network or its training failed.
    #[error(transparent)]
    Network(fewstep_nn::Error),
    /// Images could not be measured.
    #[error(transparent)]
    Evaluation(fewstep_eval::Error),
    /// A file of a known format could not be read or written.
    #[error(transparent)]
    File(#[from] fewstep_io::Error),
    /// A file or folder could not be used.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// JSON that could not be made or understood.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    /// A plan that cannot be used.
    #[error(transparent)]
    Plan(#[from] fewstep_core::plan::PlanError),
    /// Levels that are no schedule.
    #[error(transparent)]
    Schedule(#[from] fewstep_core::schedule::ScheduleError),
    /// A solver without a plan for these levels.
    #[error(transparent)]
    Solver(#[from] fewstep_core::solver::SolverError),
    /// Guidance that does not fit.
    #[error(transparent)]
    Guidance(#[from] fewstep_core::denoiser::GuidanceError),
    /// libtorch refused an operation.
    #[error("libtorch: {}", fewstep_nn::error::torch_message(.0))]
    Torch(fewstep_nn::tch::TchError),
}

impl Error {
    /// The error and what caused it in one sentence, each once.
    pub fn sentence(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(inner) = cause {
            let said = inner.to_string();
            if !text.contains(&said) {
                text = format!("{text}: {said}");
            }
            cause = inner.source();
        }
        text
    }

    /// Whether the observer asked for the end.
    pub fn is_cancelled(&self) -> bool {
        matches!(self, Self::Stopped { .. } | Self::Search(fewstep_search::Error::Cancelled))
    }
}

impl From<fewstep_nn::tch::TchError> for Error {
    fn from(error: fewstep_nn::tch::TchError) -> Self {
        Self::Torch(error)
    }
}

/// What another process failed of is that process's failure, wherever it was heard of.
impl From<fewstep_search::Error> for Error {
    fn from(error: fewstep_search::Error) -> Self {
        let boxed = |error: fewstep_nn::Error| match error {
            gone @ fewstep_nn::Error::Process { .. } => Self::Network(gone),
            other => Self::Search(fewstep_search::Error::Denoiser(Box::new(other))),
        };
        match error.into_denoiser::<SpreadError<fewstep_nn::Error>>() {
            Ok(error) => boxed(error.into()),
            Err(error) => match error.into_denoiser::<fewstep_nn::Error>() {
                Ok(error) => boxed(error),
                Err(error) => Self::Search(error),
            },
        }
    }
}

impl From<fewstep_nn::Error> for Error {
    fn from(error: fewstep_nn::Error) -> Self {
        match error {
            fewstep_nn::Error::Search(error) => (*error).into(),
            error => Self::Network(error),
        }
    }
}

impl From<fewstep_eval::Error> for Error {
    fn from(error: fewstep_eval::Error) -> Self {
        match error {
            fewstep_eval::Error::Stopped => Self::Search(fewstep_search::Error::Cancelled),
            error => Self::Evaluation(error),
        }
    }
}

/// A name that means no method.
impl From<fewstep_search::MethodError> for Error {
    fn from(error: fewstep_search::MethodError) -> Self {
        Self::Search(error.into())
    }
}

/// Says what was being done when something went wrong.
pub trait Context<T> {
    /// Fails with `what`, and why.
    ///
    /// # Errors
    /// If this is one.
    fn context(self, what: impl Into<String>) -> Result<T>;

    /// As [`Context::context`], with a sentence that is made when it is needed.
    ///
    /// # Errors
    /// If this is one.
    fn with_context<S: Into<String>>(self, what: impl FnOnce() -> S) -> Result<T>;
}

impl<T, E: Into<Error>> Context<T> for std::result::Result<T, E> {
    fn context(self, what: impl Into<String>) -> Result<T> {
        self.with_context(|| what)
    }

    fn with_context<S: Into<String>>(self, what: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|error| Error::Context { what: what().into(), source: Box::new(error.into()) })
    }
}

impl<T> Context<T> for Option<T> {
    fn context(self, what: impl Into<String>) -> Result<T> {
        self.with_context(|| what)
    }

    fn with_context<S: Into<String>>(self, what: impl FnOnce() -> S) -> Result<T> {
        self.ok_or_else(|| Error::Input(what().into()))
    }
}

macro_rules! bail {
    ($($argument:tt)*) => {
        return Err($crate::Error::Input(format!($($argument)*)))
    };
}

macro_rules! ensure {
    ($condition:expr, $($argument:tt)*) => {
        if !$condition {
            $crate::error::bail!($($argument)*);
        }
    };
}

pub(crate) use {bail, ensure};
