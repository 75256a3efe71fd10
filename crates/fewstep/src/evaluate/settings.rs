//! What is measured, and the choices that the metrics leave open.

use fewstep_eval::kid::KidOptions;
use fewstep_eval::{MeasureOptions, Metric, inception_score};
use serde::{Deserialize, Serialize};

use crate::error::{Result, ensure};

/// The choices that metrics leave open; the defaults are those of the papers and of torch-fidelity.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MetricSettings {
    /// fid: resamples of the images for its standard error; 0 for none.
    pub bootstrap: usize,
    /// fid-infinity: subset sizes, evenly spaced from a tenth of the images to all.
    pub infinity_points: usize,
    /// kid: random subsets whose distances are averaged.
    pub kid_subsets: usize,
    /// kid: images of each side in a subset.
    pub kid_subset_size: usize,
    /// inception-score: parts of the images whose scores are averaged.
    pub splits: usize,
    /// precision-recall: neighbours that a ball reaches to.
    pub precision_k: usize,
    /// density-coverage: neighbours that a ball reaches to.
    pub density_k: usize,
    /// sliced-wasserstein: random directions.
    pub directions: usize,
    /// Seed of everything random.
    pub seed: u64,
}

impl Default for MetricSettings {
    fn default() -> Self {
        let MeasureOptions {
            bootstrap,
            kid,
            inception_score,
            precision_k,
            density_k,
            infinity_points,
            directions,
            seed,
        } = MeasureOptions::default();
        Self {
            bootstrap,
            infinity_points,
            kid_subsets: kid.subsets,
            kid_subset_size: kid.subset_size,
            splits: inception_score.splits,
            precision_k,
            density_k,
            directions,
            seed,
        }
    }
}

impl MetricSettings {
    /// As the metrics take them.
    pub fn options(&self) -> MeasureOptions {
        MeasureOptions {
            bootstrap: self.bootstrap,
            kid: KidOptions { subsets: self.kid_subsets, subset_size: self.kid_subset_size, seed: self.seed },
            inception_score: inception_score::Options { splits: self.splits, shuffle: Some(self.seed) },
            precision_k: self.precision_k,
            density_k: self.density_k,
            infinity_points: self.infinity_points,
            directions: self.directions,
            seed: self.seed,
        }
    }

    /// Checks that `images` (of each range) and the reference's, where their number is known, are enough for every metric, so
    /// that nobody waits for images that cannot be measured.
    ///
    /// # Errors
    /// If they are not.
    pub fn check_counts(&self, metrics: &[Metric], images: usize, reference: Option<usize>) -> Result<()> {
        let fewest = reference.map_or(images, |reference| reference.min(images));
        ensure!(images >= 2, "a distance needs at least 2 images, there is {images}");
        ensure!(self.bootstrap != 1, "the bootstrap needs at least 2 resamples");
        for metric in metrics {
            match metric {
                Metric::Kid => {
                    ensure!(
                        self.kid_subsets > 0 && self.kid_subset_size > 1,
                        "kid needs one subset of 2 images or more"
                    );
                    ensure!(
                        self.kid_subset_size <= fewest,
                        "kid takes subsets of {} images of either side, but one side has {fewest}: set kid_subset_size",
                        self.kid_subset_size
                    );
                }
                Metric::InceptionScore => ensure!(
                    self.splits > 0 && self.splits <= images,
                    "inception-score takes the images in {} parts, but there are {images}: set splits",
                    self.splits
                ),
                Metric::PrecisionRecall => neighbours(self.precision_k, fewest, "precision-recall", "precision_k")?,
                Metric::DensityCoverage => neighbours(self.density_k, fewest, "density-coverage", "density_k")?,
                Metric::SlicedWasserstein => ensure!(self.directions > 0, "directions must be at least 1"),
                Metric::FidInfinity => {
                    ensure!(images >= 20, "fid-infinity needs at least 20 images, there are {images}");
                }
                Metric::Fid => {}
            }
        }
        Ok(())
    }
}

fn neighbours(k: usize, fewest: usize, metric: &str, setting: &str) -> Result<()> {
    ensure!(
        k > 0 && k < fewest,
        "{metric} looks for {k} neighbours of every image, but one side has {fewest} images: set {setting}"
    );
    Ok(())
}
