//! The metrics by name, what each needs, and what it is measured against.

use fewstep_nn::tch::Tensor;

use crate::collect::{Collected, Keep};
use crate::error::{Error, Result};
use crate::kid::KidOptions;
use crate::{inception_score, statistics::Statistics};

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metric {
    /// Frechet distance; FID on Inception's features.
    Fid,
    /// The same extrapolated to infinitely many images.
    FidInfinity,
    /// Kernel distance; KID on Inception's features.
    Kid,
    /// Inception score.
    InceptionScore,
    /// Precision and recall.
    PrecisionRecall,
    /// Density and coverage.
    DensityCoverage,
    /// Sliced Wasserstein distance on pixels.
    SlicedWasserstein,
}

/// Every metric with the name that users type.
pub const METRICS: [(&str, Metric); 7] = [
    ("fid", Metric::Fid),
    ("fid-infinity", Metric::FidInfinity),
    ("kid", Metric::Kid),
    ("inception-score", Metric::InceptionScore),
    ("precision-recall", Metric::PrecisionRecall),
    ("density-coverage", Metric::DensityCoverage),
    ("sliced-wasserstein", Metric::SlicedWasserstein),
];

impl Metric {
    /// The metric of this name.
    ///
    /// # Errors
    /// If there is none; the message lists them.
    pub fn parse(name: &str) -> Result<Self> {
        METRICS.iter().find(|(known, _)| *known == name).map(|&(_, metric)| metric).ok_or_else(|| {
            let names = METRICS.map(|(name, _)| name).join(", ");
            Error::Input(format!("'{name}' is no metric; there are {names}"))
        })
    }

    /// What has to be kept of the generated images, and of the reference's, to compute it.
    pub fn keep(self) -> (Keep, Keep) {
        let features = Keep { features: true, ..Keep::default() };
        let images = Keep { images: true, ..Keep::default() };
        match self {
            Self::Fid => (Keep::default(), Keep::default()),
            Self::FidInfinity => (features, Keep::default()),
            Self::Kid | Self::PrecisionRecall | Self::DensityCoverage => (features, features),
            Self::InceptionScore => (Keep { logits: true, ..Keep::default() }, Keep::default()),
            Self::SlicedWasserstein => (images, images),
        }
    }
}

/// What generated images are compared with.
#[derive(Debug)]
pub struct Reference {
    /// Names it in the results: a data set's fingerprint or a file's hash.
    pub name: String,
    /// Mean and covariance of its features.
    pub statistics: Statistics,
    /// Its features `[M, d]`, where the images themselves are at hand.
    pub features: Option<Tensor>,
    /// Its images, u8 `[M, C, H, W]`, likewise.
    pub images: Option<Tensor>,
}

impl Reference {
    /// A data set of which everything needed was collected.
    pub fn from_collected(name: &str, collected: Collected) -> Self {
        let Collected { statistics, features, images, .. } = collected;
        Self { name: name.to_owned(), statistics, features, images }
    }
}

/// Choices that the metrics leave open; the defaults are those of the papers and of torch-fidelity.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MeasureOptions {
    /// Resamples for the standard error of the Frechet distance; 0 for none. Needs the features.
    pub bootstrap: usize,
    /// Subsets of the kernel distance.
    pub kid: KidOptions,
    /// Parts of the inception score.
    pub inception_score: inception_score::Options,
    /// Neighbours for precision and recall.
    pub precision_k: usize,
    /// Neighbours for density and coverage.
    pub density_k: usize,
    /// Subset sizes of the extrapolation, evenly spaced from a tenth of the images to all.
    pub infinity_points: usize,
    /// Directions of the sliced Wasserstein distance.
    pub directions: usize,
    /// Seed of everything random.
    pub seed: u64,
}

impl Default for MeasureOptions {
    fn default() -> Self {
        Self {
            bootstrap: 0,
            kid: KidOptions::default(),
            inception_score: inception_score::Options::default(),
            precision_k: 3,
            density_k: 5,
            infinity_points: 15,
            directions: 1000,
            seed: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_parse_and_say_what_to_keep() {
        for (name, metric) in METRICS {
            assert_eq!(Metric::parse(name).unwrap(), metric);
        }
        assert!(Metric::parse("fdd").unwrap_err().to_string().contains("fid-infinity, kid"));
        assert_eq!(Metric::Fid.keep(), (Keep::default(), Keep::default()));
        assert!(Metric::Kid.keep().1.features && Metric::SlicedWasserstein.keep().0.images);
    }
}
