//! FID at infinitely many images, extrapolated (Chong and Forsyth 2020), and the spread of FID over images, by bootstrap.

use fewstep_core::noise;
use fewstep_nn::tch::Tensor;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha12Rng;

use crate::error::{Error, Result};
use crate::frechet::FrechetReference;
use crate::moments::Moments;
use crate::points;
use crate::watch::Watch;

/// Distances of growing subsets and the line through them.
#[derive(Clone, Debug, PartialEq)]
pub struct Extrapolation {
    /// The line's value at 1/N = 0. It is an extrapolation, and to be reported as one.
    pub value: f64,
    /// The line's slope in 1/N.
    pub slope: f64,
    /// Subset sizes, in ascending order, and the distances found.
    pub points: Vec<(usize, f64)>,
    /// Dimensions of the features.
    pub dimensions: usize,
}

impl Extrapolation {
    /// Sentences for the user: that the value is extrapolated, and where it is not to be trusted.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = vec!["extrapolated to infinitely many images, not measured".to_owned()];
        let dimensions = self.dimensions;
        // Up to there a subset's covariance is singular, and its distance follows the next powers of 1/N as well.
        warnings.extend(self.points.first().filter(|(smallest, _)| *smallest <= dimensions).map(|(smallest, _)| {
            format!(
                "the smallest subset has {smallest} images, no more than the features have dimensions ({dimensions}): its \
                 distance is on no line in 1/N, and the extrapolation may be far off; measure more images, so that it has \
                 more than {dimensions}, or the kernel distance (kid), which has no bias"
            )
        }));
        if self.value < 0.0 {
            warnings.push(format!(
                "{:.4} is below 0, as no distance is: the extrapolation is off by this at least",
                self.value
            ));
        }
        warnings
    }
}

/// Fits a line in 1/N to the distances of `points` random subsets of `features` `[n, d]` from `reference`; sizes are evenly
/// spaced from `smallest` to n. The paper takes 15 points from 5,000 on. `watch` counts points.
///
/// # Errors
/// If there are fewer than two points or `smallest` is not between 2 and n - 1.
pub fn extrapolate(
    features: &Tensor,
    reference: &FrechetReference,
    smallest: usize,
    points: usize,
    seed: u64,
    watch: &mut Watch<'_>,
) -> Result<Extrapolation> {
    let [n, dimensions] = [0, 1].map(|i| features.size().get(i).map_or(0, |&size| size as usize));
    if points < 2 || smallest < 2 || smallest >= n {
        return Err(Error::Input(format!(
            "extrapolating to infinitely many images needs at least 2 subset sizes between 2 and the number of images; \
             {points} sizes from {smallest} to {n} were asked for"
        )));
    }
    let mut found = Vec::with_capacity(points);
    for i in 0..points {
        let size = smallest + (n - smallest) * i / (points - 1);
        let rows = points::subset(seed, i as u64, n, size);
        found.push((size, distance(features, &rows, reference)?));
        watch(i as u64 + 1, points as u64);
    }
    let (slope, value) = line(found.iter().map(|&(size, distance)| (1.0 / size as f64, distance)));
    Ok(Extrapolation { value, slope, points: found, dimensions })
}

/// Standard error of the distance of `features` `[n, d]` from `reference`: its standard deviation over `resamples` draws
/// of n images with replacement. `watch` counts resamples.
///
/// The mean over such draws is no better estimate of the distance: repeated images add to its bias.
///
/// # Errors
/// If there are fewer than two resamples or images.
pub fn bootstrap(
    features: &Tensor,
    reference: &FrechetReference,
    resamples: usize,
    seed: u64,
    watch: &mut Watch<'_>,
) -> Result<f64> {
    let n = features.size().first().map_or(0, |&n| n as usize);
    if resamples < 2 || n < 2 {
        return Err(Error::Input(format!(
            "a bootstrap needs at least 2 resamples of 2 images, not {resamples} of {n}"
        )));
    }
    let mut values = Vec::with_capacity(resamples);
    for i in 0..resamples {
        let mut rng = ChaCha12Rng::seed_from_u64(noise::mix(seed, i as u64));
        let rows: Vec<i64> = (0..n).map(|_| rng.random_range(0..n as i64)).collect();
        values.push(distance(features, &rows, reference)?);
        watch(i as u64 + 1, resamples as u64);
    }
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let square: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    Ok((square / (values.len() - 1) as f64).sqrt())
}

fn distance(features: &Tensor, rows: &[i64], reference: &FrechetReference) -> Result<f64> {
    let rows = features.f_index_select(0, &Tensor::from_slice(rows))?;
    let dim = rows.size().get(1).map_or(0, |&d| d as usize);
    let mut moments = Moments::new(dim)?;
    moments.update(&rows)?;
    reference.distance(&moments.statistics(None)?)
}

/// Slope and intercept of the least-squares line.
fn line(points: impl Iterator<Item = (f64, f64)> + Clone) -> (f64, f64) {
    let n = points.clone().count() as f64;
    let (sx, sy) = points.clone().fold((0.0, 0.0), |(sx, sy), (x, y)| (sx + x, sy + y));
    let (mx, my) = (sx / n, sy / n);
    let (xy, xx) = points.fold((0.0, 0.0), |(xy, xx), (x, y)| (xy + (x - mx) * (y - my), xx + (x - mx).powi(2)));
    let slope = if xx > 0.0 { xy / xx } else { 0.0 };
    (slope, my - slope * mx)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statistics::Statistics;
    use crate::watch::unwatched;
    use fewstep_nn::tch::{self, Device, Kind};

    fn setting() -> (Tensor, FrechetReference) {
        tch::manual_seed(6);
        let d = 10;
        let sigma = Vec::try_from(Tensor::eye(d, (Kind::Double, Device::Cpu)).reshape([-1])).unwrap();
        let reference =
            Statistics { mu: vec![0.0; d as usize], sigma, num_images: None, image_shape: None, features: None };
        let features = Tensor::randn([4000, d], (Kind::Double, Device::Cpu)) + 0.1; // true distance 10 * 0.01
        (features, FrechetReference::new(&reference).unwrap())
    }

    #[test]
    fn extrapolation_takes_most_of_the_bias_away() {
        let (features, reference) = setting();
        let found = extrapolate(&features, &reference, 200, 15, 0, &mut unwatched).unwrap();
        let (last, biased) = found.points[14];
        assert_eq!((found.points[0].0, last), (200, 4000));
        assert!(found.slope > 0.0 && found.value < biased, "{found:?}");
        assert!((found.value - 0.1).abs() < 0.02, "{found:?}");
        assert!(extrapolate(&features, &reference, 4000, 15, 0, &mut unwatched).is_err());
    }

    #[test]
    fn subsets_of_few_images_and_values_below_zero_are_warned_of() {
        let of = |smallest, value| {
            let points = vec![(smallest, 3.0), (400, 1.0)];
            Extrapolation { value, slope: 1.0, points, dimensions: 40 }.warnings()
        };
        let enough = of(41, 0.0);
        assert!(enough.len() == 1 && enough[0].contains("extrapolated"), "{enough:?}");
        let few = of(40, 0.0);
        assert!(few.len() == 2 && few[1].contains("has 40 images") && few[1].contains("more than 40"), "{few:?}");
        let negative = of(41, -0.25);
        assert!(negative.len() == 2 && negative[1].contains("-0.2500 is below 0"), "{negative:?}");
    }

    #[test]
    fn the_bootstrap_gives_the_spread_over_fresh_sets() {
        let (features, reference) = setting();
        let fresh: Vec<f64> = features
            .split(500, 0)
            .iter()
            .map(|x| distance(x, &points::subset(0, 0, 500, 500), &reference).unwrap())
            .collect();
        let mean = fresh.iter().sum::<f64>() / 8.0;
        let spread = (fresh.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / 7.0).sqrt();
        let error = bootstrap(&features.narrow(0, 0, 500), &reference, 50, 3, &mut unwatched).unwrap();
        assert!(error > spread / 3.0 && error < spread * 3.0, "{error} {spread}");
        assert!(bootstrap(&features, &reference, 1, 0, &mut unwatched).is_err());
    }

    #[test]
    fn the_line_goes_through_points_on_one() {
        let (slope, intercept) = line([0.0, 1.0, 3.0].into_iter().map(|x| (x, 2.0 * x - 1.0)));
        assert!((slope - 2.0).abs() < 1e-12 && (intercept + 1.0).abs() < 1e-12);
    }
}
