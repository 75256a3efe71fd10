//! Any of the metrics, from one pass over either side.

use fewstep_nn::tch::Tensor;

use crate::collect::Collected;
use crate::error::{Error, Result};
use crate::features::{FeatureId, inception};
use crate::inception_score::inception_score;
use crate::infinity::{bootstrap, extrapolate};
use crate::kid::{KidOptions, kid};
use crate::measurement::{Measurement, Uncertainty};
use crate::metrics::{MeasureOptions, Metric};
use crate::neighbours::{density_coverage, precision_recall};
use crate::reference::Reference;
use crate::sliced_wasserstein::sliced_wasserstein;

/// Measures `generated` against `reference`. Metrics of two numbers give two measurements. `watch` is told the name of what is
/// being computed, the units of it done, and their total.
///
/// # Errors
/// If the two sides' features differ, or something that a metric needs was not kept or is missing from the reference.
pub fn measure(
    metrics: &[Metric],
    generated: &Collected,
    reference: &Reference,
    options: &MeasureOptions,
    watch: &mut dyn FnMut(&str, u64, u64),
) -> Result<Vec<Measurement>> {
    FeatureId::check_same(generated.statistics.features.as_ref(), reference.statistics.features.as_ref())?;
    let run = Run { generated, reference, options };
    let mut found = Vec::new();
    for metric in metrics {
        found.extend(run.measure(*metric, watch)?);
    }
    Ok(found)
}

struct Run<'a> {
    generated: &'a Collected,
    reference: &'a Reference,
    options: &'a MeasureOptions,
}

impl Run<'_> {
    fn measure(&self, metric: Metric, watch: &mut dyn FnMut(&str, u64, u64)) -> Result<Vec<Measurement>> {
        let options = self.options;
        let distance = if self.on_inception() { "fid" } else { "frechet-distance" };
        Ok(match metric {
            Metric::Fid => vec![self.fid(distance, watch)?],
            Metric::FidInfinity => {
                let frechet = self.reference.frechet()?;
                let features = self.generated_features()?;
                let smallest = (features.size()[0] as usize / 10).max(2);
                let name = format!("{distance}-infinity");
                let mut watch = |done, total| watch(&name, done, total);
                let line = extrapolate(features, frechet, smallest, options.infinity_points, options.seed, &mut watch)?;
                vec![Measurement { warnings: line.warnings(), ..self.measured(&name, line.value) }]
            }
            Metric::Kid => {
                let (a, b) = self.features()?;
                let name = if self.on_inception() { "kid" } else { "kernel-distance" };
                let subsets = KidOptions { seed: options.seed, ..options.kid };
                let kid = kid(a, b, &subsets, &mut |done, total| watch(name, done, total))?;
                vec![self.uncertain(name, kid.value, kid.spread.map(|spread| spread.standard_error), "subsets")]
            }
            Metric::InceptionScore => {
                let logits = kept(&self.generated.logits, "class scores", "generated images")?;
                let score = inception_score(logits, &options.inception_score)?;
                let name = if self.on_inception() { "inception-score" } else { "class-score" };
                let deviation = (options.inception_score.splits > 1).then_some(score.deviation); // of one there is none
                let found = self.uncertain(name, score.value, deviation, "splits");
                vec![Measurement { reference: None, ..found }]
            }
            Metric::PrecisionRecall => {
                let (a, b) = self.features()?;
                let mut watch = |done, total| watch("precision and recall", done, total);
                let found = precision_recall(a, b, options.precision_k, &mut watch)?;
                vec![self.measured("precision", found.precision), self.measured("recall", found.recall)]
            }
            Metric::DensityCoverage => {
                let (a, b) = self.features()?;
                let mut watch = |done, total| watch("density and coverage", done, total);
                let found = density_coverage(a, b, options.density_k, &mut watch)?;
                vec![self.measured("density", found.density), self.measured("coverage", found.coverage)]
            }
            Metric::SlicedWasserstein => {
                let a = kept(&self.generated.images, "pixels", "generated images")?;
                let b = kept(&self.reference.images, "pixels", "reference")?;
                let distance = sliced_wasserstein(a, b, options.directions, options.seed)?;
                vec![Measurement { features: None, ..self.measured("sliced-wasserstein", distance) }]
            }
        })
    }

    fn fid(&self, name: &str, watch: &mut dyn FnMut(&str, u64, u64)) -> Result<Measurement> {
        let frechet = self.reference.frechet()?;
        let distance = frechet.distance(&self.generated.statistics)?;
        let mut found = self.measured(name, distance);
        found.warnings.extend(frechet.bias_warning(distance, found.num_images)?);
        if self.options.bootstrap > 0 {
            let MeasureOptions { bootstrap: resamples, seed, .. } = *self.options;
            let mut watch = |done, total| watch("bootstrap", done, total);
            let value = bootstrap(self.generated_features()?, frechet, resamples, seed, &mut watch)?;
            found.uncertainty = Some(Uncertainty { value, source: "bootstrap".to_owned() });
        }
        Ok(found)
    }

    /// Published names belong to Inception's features alone.
    fn on_inception(&self) -> bool {
        self.generated.statistics.features.as_ref().is_some_and(|id| id.name.starts_with(inception::NAME))
    }

    fn generated_features(&self) -> Result<&Tensor> {
        kept(&self.generated.features, "features", "generated images")
    }

    fn features(&self) -> Result<(&Tensor, &Tensor)> {
        Ok((self.generated_features()?, kept(&self.reference.features, "features", "reference")?))
    }

    fn measured(&self, metric: &str, value: f64) -> Measurement {
        Measurement {
            metric: metric.to_owned(),
            value,
            uncertainty: None,
            num_images: self.generated.statistics.num_images.unwrap_or_default(),
            features: self.generated.statistics.features.clone(),
            reference: Some(self.reference.name.clone()),
            warnings: Vec::new(),
        }
    }

    fn uncertain(&self, metric: &str, value: f64, uncertainty: Option<f64>, source: &str) -> Measurement {
        let uncertainty = uncertainty.map(|value| Uncertainty { value, source: source.to_owned() });
        Measurement { uncertainty, ..self.measured(metric, value) }
    }
}

fn kept<'a>(tensor: &'a Option<Tensor>, what: &str, of: &str) -> Result<&'a Tensor> {
    tensor.as_ref().ok_or_else(|| {
        Error::Input(format!(
            "this metric needs the {what} of the {of}, of which only the statistics are at hand: give the images themselves"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::METRICS;
    use crate::moments::Moments;
    use fewstep_nn::tch::{self, Device, Kind};

    fn collected(shift: f64) -> Collected {
        with_dimensions(4, shift)
    }

    fn with_dimensions(dimensions: i64, shift: f64) -> Collected {
        let features = Tensor::randn([300, dimensions], (Kind::Float, Device::Cpu)) + shift;
        let mut moments = Moments::new(dimensions as usize).unwrap();
        moments.update(&features).unwrap();
        let id = FeatureId { name: "small-cnn".into(), sha256: "0".into() };
        Collected {
            statistics: moments.statistics(Some(id)).unwrap(),
            logits: Some(features.shallow_clone()),
            images: Some(Tensor::randint(256, [300, 1, 2, 2], (Kind::Uint8, Device::Cpu))),
            features: Some(features),
        }
    }

    fn names(found: &[Measurement]) -> Vec<&str> {
        found.iter().map(|m| m.metric.as_str()).collect()
    }

    #[test]
    fn all_metrics_come_from_one_pass_with_honest_names() {
        tch::manual_seed(5);
        let (generated, reference) = (collected(1.0), Reference::from_collected("data", collected(0.0)));
        let kid = KidOptions { subsets: 10, subset_size: 50, seed: 0 };
        let options = MeasureOptions { bootstrap: 5, kid, directions: 20, ..MeasureOptions::default() };
        let all = METRICS.map(|(_, metric)| metric);
        let mut seen = Vec::new();
        let mut watch = |name: &str, done, total| seen.push((name.to_owned(), done, total));
        let found = measure(&all, &generated, &reference, &options, &mut watch).unwrap();
        for part in [("bootstrap", 5, 5), ("frechet-distance-infinity", 15, 15), ("kernel-distance", 10, 10)] {
            assert!(seen.contains(&(part.0.to_owned(), part.1, part.2)), "{part:?} {seen:?}");
        }
        assert!(seen.contains(&("precision and recall".to_owned(), 4, 4)), "{seen:?}");
        let expected = [
            "frechet-distance",
            "frechet-distance-infinity",
            "kernel-distance",
            "class-score",
            "precision",
            "recall",
            "density",
            "coverage",
            "sliced-wasserstein",
        ];
        assert_eq!(names(&found), expected);
        assert!((found[0].value - 4.0).abs() < 1.0, "{:?}", found[0]);
        assert!(found[0].uncertainty.as_ref().is_some_and(|u| u.value > 0.0 && u.source == "bootstrap"));
        assert!(found[1].warnings[0].contains("extrapolated"));
        assert!(found.iter().all(|m| m.num_images == 300 && m.value.is_finite()));
        assert!(found[3].reference.is_none() && found[8].features.is_none());
    }

    #[test]
    fn an_extrapolation_from_fewer_images_than_dimensions_says_so() {
        let options = MeasureOptions::default();
        for (dimensions, warnings) in [(29, 1), (30, 2)] {
            tch::manual_seed(3);
            let [generated, data] = [0.5, 0.0].map(|shift| with_dimensions(dimensions, shift));
            let reference = Reference::from_collected("data", data);
            let found = measure(&[Metric::FidInfinity], &generated, &reference, &options, &mut |_, _, _| ()).unwrap();
            let about_few = found[0].warnings.iter().filter(|warning| warning.contains("has 30 images, no more than"));
            assert_eq!(about_few.count() + 1, warnings, "{found:?}");
        }
    }

    #[test]
    fn a_kernel_distance_of_all_images_has_no_uncertainty() {
        let (generated, reference) = (collected(1.0), Reference::from_collected("data", collected(0.0)));
        for (subset_size, uncertain) in [(299, true), (300, false)] {
            let kid = KidOptions { subsets: 3, subset_size, seed: 0 };
            let options = MeasureOptions { kid, ..MeasureOptions::default() };
            let found = measure(&[Metric::Kid], &generated, &reference, &options, &mut |_, _, _| ()).unwrap();
            assert_eq!(found[0].uncertainty.is_some(), uncertain, "{found:?}");
        }
    }

    #[test]
    fn statistics_alone_give_a_frechet_distance_and_say_what_others_need() {
        let generated = collected(0.0);
        let mut reference = Reference::from_collected("file", collected(0.0));
        (reference.features, reference.images) = (None, None);
        let options = MeasureOptions::default();
        let mut quiet = |_: &str, _, _| ();
        let found = measure(&[Metric::Fid], &generated, &reference, &options, &mut quiet).unwrap();
        assert!(found[0].warnings[0].contains("300 images are few"), "{found:?}");
        for metric in [Metric::Kid, Metric::PrecisionRecall, Metric::SlicedWasserstein] {
            let error = measure(&[metric], &generated, &reference, &options, &mut quiet).unwrap_err().to_string();
            assert!(error.contains("of the reference") && error.contains("images themselves"), "{error}");
        }
        reference.statistics.features = Some(FeatureId { name: "inception".into(), sha256: "1".into() });
        assert!(matches!(
            measure(&[Metric::Fid], &generated, &reference, &options, &mut quiet),
            Err(Error::FeaturesDiffer { .. })
        ));
    }
}
