//! Which metrics, and the choices that they leave open.

use anyhow::{Result, ensure};
use fewstep_eval::kid::KidOptions;
use fewstep_eval::{MeasureOptions, Metric, inception_score};

/// What to measure.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Metrics")]
pub struct MetricArgs {
    /// Any of fid, fid-infinity (extrapolated to infinitely many images), kid, inception-score, precision-recall,
    /// density-coverage, sliced-wasserstein (on pixels); all come from one pass
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "fid")]
    pub metrics: Vec<String>,
    /// Standard error of fid from so many resamples of the images
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub bootstrap: usize,
    /// kid: random subsets whose distances are averaged
    #[arg(long, value_name = "N", default_value_t = KidOptions::default().subsets)]
    pub kid_subsets: usize,
    /// kid: images of each side in a subset
    #[arg(long, value_name = "N", default_value_t = KidOptions::default().subset_size)]
    pub kid_subset_size: usize,
    /// inception-score: parts of the images whose scores are averaged
    #[arg(long, value_name = "N", default_value_t = inception_score::Options::default().splits)]
    pub splits: usize,
    /// precision-recall: neighbours that a ball reaches to
    #[arg(long, value_name = "K", default_value_t = MeasureOptions::default().precision_k)]
    pub precision_k: usize,
    /// density-coverage: neighbours that a ball reaches to
    #[arg(long, value_name = "K", default_value_t = MeasureOptions::default().density_k)]
    pub density_k: usize,
    /// sliced-wasserstein: random directions
    #[arg(long, value_name = "N", default_value_t = MeasureOptions::default().directions)]
    pub directions: usize,
    /// Seed of everything random in the metrics
    #[arg(long, value_name = "SEED", default_value_t = 0)]
    pub metric_seed: u64,
}

impl MetricArgs {
    /// The metrics, in the order in which they were typed.
    pub fn list(&self) -> Result<Vec<Metric>> {
        let mut metrics = Vec::new();
        for name in &self.metrics {
            let metric = Metric::parse(name.trim())?;
            ensure!(!metrics.contains(&metric), "--metrics names {name} twice");
            metrics.push(metric);
        }
        Ok(metrics)
    }

    /// The choices.
    pub fn options(&self) -> MeasureOptions {
        MeasureOptions {
            bootstrap: self.bootstrap,
            kid: KidOptions { subsets: self.kid_subsets, subset_size: self.kid_subset_size, seed: self.metric_seed },
            inception_score: inception_score::Options { splits: self.splits, shuffle: Some(self.metric_seed) },
            precision_k: self.precision_k,
            density_k: self.density_k,
            directions: self.directions,
            seed: self.metric_seed,
            ..MeasureOptions::default()
        }
    }

    /// Checks that `images` (of each range) and the reference's, where their number is known, are enough for every metric, so
    /// that nobody waits for images that cannot be measured.
    pub fn check_counts(&self, metrics: &[Metric], images: usize, reference: Option<usize>) -> Result<()> {
        let fewest = reference.map_or(images, |reference| reference.min(images));
        ensure!(images >= 2, "a distance needs at least 2 images, there is {images}");
        ensure!(self.bootstrap != 1, "--bootstrap needs at least 2 resamples");
        for metric in metrics {
            match metric {
                Metric::Kid => {
                    ensure!(
                        self.kid_subsets > 0 && self.kid_subset_size > 1,
                        "kid needs one subset of 2 images or more"
                    );
                    ensure!(
                        self.kid_subset_size <= fewest,
                        "kid takes subsets of {} images of either side, but one side has {fewest}: set --kid-subset-size",
                        self.kid_subset_size
                    );
                }
                Metric::InceptionScore => ensure!(
                    self.splits > 0 && self.splits <= images,
                    "inception-score takes the images in {} parts, but there are {images}: set --splits",
                    self.splits
                ),
                Metric::PrecisionRecall => neighbours(self.precision_k, fewest, "precision-recall", "--precision-k")?,
                Metric::DensityCoverage => neighbours(self.density_k, fewest, "density-coverage", "--density-k")?,
                Metric::SlicedWasserstein => ensure!(self.directions > 0, "--directions must be at least 1"),
                Metric::FidInfinity => {
                    ensure!(images >= 20, "fid-infinity needs at least 20 images, there are {images}");
                }
                Metric::Fid => {}
            }
        }
        Ok(())
    }
}

fn neighbours(k: usize, fewest: usize, metric: &str, flag: &str) -> Result<()> {
    ensure!(
        k > 0 && k < fewest,
        "{metric} looks for {k} neighbours of every image, but one side has {fewest} images: set {flag}"
    );
    Ok(())
}
