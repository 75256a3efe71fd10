//! What can go wrong with feature networks, statistics and distances.

use std::path::Path;

/// Shorthand for this crate's results.
pub type Result<T> = std::result::Result<T, Error>;

/// What can go wrong with feature networks, statistics and distances.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Images, features or options that do not fit what was asked for.
    #[error("{0}")]
    Input(String),
    /// A file that is not a usable feature network.
    #[error("{path} cannot be used as a feature network: {reason}")]
    Network {
        /// The file.
        path: String,
        /// What is wrong with it and what to use instead.
        reason: String,
    },
    /// Means and covariances that cannot be those of features.
    #[error("{place} are not usable statistics: {reason}")]
    Statistics {
        /// The file, or what else the statistics are of.
        place: String,
        /// What is wrong with them.
        reason: String,
    },
    /// Two sets of features from different networks.
    #[error(
        "the two sides were measured with different features ({left}; {right}), and such numbers mean nothing side by \
         side: compute both with the same feature network"
    )]
    FeaturesDiffer {
        /// Name and hash of one side's network.
        left: String,
        /// Name and hash of the other's.
        right: String,
    },
    /// Someone asked for the end.
    #[error("stopped as asked")]
    Stopped,
    /// A file could not be read or written.
    #[error(transparent)]
    Io(#[from] fewstep_io::Error),
    /// A tensor of a file could not be used.
    #[error(transparent)]
    Nn(#[from] fewstep_nn::Error),
    /// libtorch refused an operation.
    #[error("libtorch: {}", fewstep_nn::error::torch_message(.0))]
    Torch(fewstep_nn::tch::TchError),
}

impl From<fewstep_nn::tch::TchError> for Error {
    fn from(error: fewstep_nn::tch::TchError) -> Self {
        Self::Torch(error)
    }
}

impl Error {
    pub(crate) fn network(path: &Path, reason: impl Into<String>) -> Self {
        Error::Network { path: path.display().to_string(), reason: reason.into() }
    }

    pub(crate) fn statistics(place: &str, reason: impl Into<String>) -> Self {
        Error::Statistics { place: place.to_owned(), reason: reason.into() }
    }
}
