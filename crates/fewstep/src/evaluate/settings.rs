//! What is measured, and the choices that the metrics leave open.

use fewstep_eval::features::Convention;
use fewstep_eval::kid::KidOptions;
use fewstep_eval::{MeasureOptions, Metric, inception_score};
use fewstep_search::documented;
use serde::{Deserialize, Serialize};

use crate::error::{Result, ensure};
use crate::forecast::check_count;
use crate::plans::SamplerSettings;

documented! {
    /// How images are measured, and made where a model makes them.
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    pub struct EvalSettings {
        /// Equal ranges of the images that are measured one by one: their mean and its spread are reported.
        pub ranges: usize,
        /// Images a range of a rehearsed protocol, and the result says so; 0 for the protocol's own number.
        pub reduced: u64,
        /// How Inception's images are resized: tf1 (EDM, torch-fidelity) or pytorch-fid.
        pub resize: Convention,
        /// Images of data sets.
        pub data: EvalData,
        /// The sampler of a model without a plan.
        pub sampler: SamplerSettings,
        /// The metrics.
        pub metrics: MetricSettings,
    }

    /// How images of data sets are read.
    #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    pub struct EvalData {
        /// Squares of this size that images of data sets are padded to with zeros, on both sides; 0 for none.
        pub pad_to: usize,
        /// Stored images that are measured, at most; 0 for all.
        pub max_images: usize,
    }

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
}

impl Default for EvalSettings {
    fn default() -> Self {
        Self {
            ranges: 1,
            reduced: 0,
            resize: Convention::default(),
            data: EvalData::default(),
            sampler: SamplerSettings::default(),
            metrics: MetricSettings::default(),
        }
    }
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

    /// Refuses settings of metrics that were asked for by name and change nothing where these metrics are measured.
    ///
    /// # Errors
    /// With the first of `names` that does.
    pub fn refuse_idle<'a>(metrics: &[Metric], names: impl IntoIterator<Item = &'a str>) -> Result<()> {
        for name in names {
            let of = match name {
                "metrics.bootstrap" => Metric::Fid,
                "metrics.infinity_points" => Metric::FidInfinity,
                "metrics.kid_subsets" | "metrics.kid_subset_size" => Metric::Kid,
                "metrics.splits" => Metric::InceptionScore,
                "metrics.precision_k" => Metric::PrecisionRecall,
                "metrics.density_k" => Metric::DensityCoverage,
                "metrics.directions" => Metric::SlicedWasserstein,
                _ => continue,
            };
            ensure!(
                metrics.contains(&of),
                "the setting {name} is for the metric {}: it changes nothing where --metrics does not name that",
                of.name()
            );
        }
        Ok(())
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
        for (name, value, least) in [
            ("metrics.bootstrap", self.bootstrap, 0),
            ("metrics.infinity_points", self.infinity_points, 2),
            ("metrics.kid_subsets", self.kid_subsets, 0),
            ("metrics.directions", self.directions, 0),
        ] {
            check_count(name, value as u64, least)?;
        }
        for metric in metrics {
            match metric {
                Metric::Kid => {
                    ensure!(
                        self.kid_subsets > 0 && self.kid_subset_size > 1,
                        "kid needs one subset of 2 images or more"
                    );
                    ensure!(
                        self.kid_subset_size <= fewest,
                        "kid takes subsets of {} images of either side, but one side has {fewest}: set metrics.kid_subset_size",
                        self.kid_subset_size
                    );
                }
                Metric::InceptionScore => ensure!(
                    self.splits > 0 && self.splits <= images,
                    "inception-score takes the images in {} parts, but there are {images}: set metrics.splits",
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
        "{metric} looks for {k} neighbours of every image, but one side has {fewest} images: set metrics.{setting}"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_of_other_metrics_are_refused() {
        let refused = |metrics: &[Metric], name| MetricSettings::refuse_idle(metrics, [name]).is_err();
        for (metric, name) in [
            (Metric::Fid, "metrics.bootstrap"),
            (Metric::FidInfinity, "metrics.infinity_points"),
            (Metric::Kid, "metrics.kid_subsets"),
            (Metric::Kid, "metrics.kid_subset_size"),
            (Metric::InceptionScore, "metrics.splits"),
            (Metric::PrecisionRecall, "metrics.precision_k"),
            (Metric::DensityCoverage, "metrics.density_k"),
            (Metric::SlicedWasserstein, "metrics.directions"),
        ] {
            let other = if metric == Metric::Fid { Metric::Kid } else { Metric::Fid };
            assert!(refused(&[other], name) && !refused(&[other, metric], name), "{name}");
        }
        assert!(!refused(&[Metric::Fid], "metrics.seed") && !refused(&[Metric::Fid], "ranges"));
    }

    #[test]
    fn metrics_that_cannot_be_computed_are_refused_before_there_are_images() {
        let error = |change: fn(&mut MetricSettings)| {
            let mut settings = MetricSettings::default();
            change(&mut settings);
            settings.check_counts(&[Metric::Fid], 5000, None).unwrap_err().to_string()
        };
        assert!(MetricSettings::default().check_counts(&[Metric::Fid], 5000, None).is_ok());
        assert!(error(|s| s.bootstrap = 1 << 59).contains("metrics.bootstrap must be at most 10000000"));
        assert!(error(|s| s.bootstrap = 1 << 62).contains("metrics.bootstrap must be at most 10000000"));
        assert!(error(|s| s.infinity_points = 1).contains("metrics.infinity_points must be at least 2, not 1"));
        assert!(error(|s| s.infinity_points = usize::MAX).contains("metrics.infinity_points must be at most"));
        assert!(error(|s| s.kid_subsets = usize::MAX).contains("metrics.kid_subsets must be at most"));
        assert!(error(|s| s.directions = usize::MAX).contains("metrics.directions must be at most"));
    }
}
