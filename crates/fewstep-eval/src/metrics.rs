//! The metrics by name, and what each needs.

use crate::collect::Keep;
use crate::error::{Error, Result};
use crate::inception_score;
use crate::kid::KidOptions;

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

    /// The name that users type.
    pub fn name(self) -> &'static str {
        METRICS.iter().find(|(_, metric)| *metric == self).map_or("", |(name, _)| name)
    }

    /// Whether it compares features: with pixels alone no feature network has a say.
    pub fn compares_features(self) -> bool {
        !matches!(self, Self::SlicedWasserstein | Self::InceptionScore)
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

/// What all of `metrics` together, and the bootstrap if there is one, need of the generated images and of the reference's.
pub fn keep(metrics: &[Metric], options: &MeasureOptions) -> (Keep, Keep) {
    let start = (Keep { features: options.bootstrap > 0, ..Keep::default() }, Keep::default());
    metrics.iter().fold(start, |(a, b), metric| {
        let (c, d) = metric.keep();
        (a.and(c), b.and(d))
    })
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
        let both = keep(&[Metric::Kid, Metric::InceptionScore], &MeasureOptions::default());
        assert_eq!(both.0, Keep { features: true, logits: true, images: false });
        assert_eq!(both.1, Keep { features: true, ..Keep::default() });
        assert!(keep(&[Metric::Fid], &MeasureOptions { bootstrap: 3, ..MeasureOptions::default() }).0.features);
    }
}
