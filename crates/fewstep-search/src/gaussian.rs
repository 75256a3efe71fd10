//! Gaussians of features: means and covariances, and how far apart they are.

use nalgebra::{DMatrix, DVector};
use serde::{Deserialize, Serialize};

/// Mean and covariance of features.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Gaussian {
    /// `[d]`.
    pub mean: Vec<f64>,
    /// `[d, d]`, row by row.
    pub covariance: Vec<f64>,
    /// Samples that they are of.
    pub samples: u64,
}

/// Features that are no Gaussian.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum GaussianError {
    /// Too few to know a covariance.
    #[error(
        "the moments of {features} features cannot be told from {samples} samples: it takes more samples than that"
    )]
    TooFew {
        /// Dimension of the features.
        features: usize,
        /// Samples there are.
        samples: u64,
    },
    /// Of other dimensions.
    #[error("features of {found} dimensions cannot be compared with features of {expected}")]
    Dimension {
        /// Dimension there is.
        found: usize,
        /// Dimension there should be.
        expected: usize,
    },
    /// Numbers that are not so many features of each of some samples.
    #[error(
        "{numbers} numbers are not the features of whole samples at {dim} a sample: give as many for each, at least one"
    )]
    Rows {
        /// Numbers there are.
        numbers: usize,
        /// Features of a sample.
        dim: usize,
    },
    /// Infinite or NaN.
    #[error("the features of the images are not finite; the denoiser's answers are not, or its weights are damaged")]
    NotFinite,
}

/// Moments gathered from batches of features.
#[derive(Clone, Debug, Default)]
pub struct FeatureMoments {
    /// What every row is taken relative to, so that sums do not cancel: the first row.
    origin: Vec<f64>,
    sum: DVector<f64>,
    products: DMatrix<f64>,
    samples: u64,
}

impl FeatureMoments {
    /// Of nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Samples so far.
    pub fn samples(&self) -> u64 {
        self.samples
    }

    /// Dimension of their features; 0 without samples.
    pub fn dim(&self) -> usize {
        self.origin.len()
    }

    /// Adds `rows` `[n, dim]`, row by row.
    ///
    /// # Errors
    /// If they are no whole rows, or of another dimension than those before.
    pub fn add(&mut self, rows: &[f64], dim: usize) -> Result<(), GaussianError> {
        if rows.is_empty() {
            return Ok(());
        }
        if !rows.len().is_multiple_of(dim) {
            return Err(GaussianError::Rows { numbers: rows.len(), dim });
        }
        if self.samples == 0 {
            self.origin = rows[..dim].to_vec();
            self.sum = DVector::zeros(dim);
            self.products = DMatrix::zeros(dim, dim);
        }
        if dim != self.origin.len() {
            return Err(GaussianError::Dimension { found: dim, expected: self.origin.len() });
        }
        let n = rows.len() / dim;
        let relative = DMatrix::from_fn(n, dim, |row, column| rows[row * dim + column] - self.origin[column]);
        self.sum += relative.row_sum_tr();
        self.products += relative.tr_mul(&relative);
        self.samples += n as u64;
        Ok(())
    }

    /// Mean and covariance (by n - 1).
    ///
    /// # Errors
    /// If there are fewer than two samples, or one is not finite.
    pub fn gaussian(&self) -> Result<Gaussian, GaussianError> {
        let dim = self.origin.len();
        if self.samples < 2 {
            return Err(GaussianError::TooFew { features: dim, samples: self.samples });
        }
        let n = self.samples as f64;
        let mean = &self.sum / n;
        let covariance = (&self.products - &mean * mean.transpose() * n) / (n - 1.0);
        if !covariance.iter().chain(mean.iter()).all(|value| value.is_finite()) {
            return Err(GaussianError::NotFinite);
        }
        let mean = mean.iter().zip(&self.origin).map(|(relative, origin)| relative + origin).collect();
        Ok(Gaussian { mean, covariance: rows_of(&covariance), samples: self.samples })
    }
}

fn rows_of(matrix: &DMatrix<f64>) -> Vec<f64> {
    matrix.transpose().iter().copied().collect()
}

impl Gaussian {
    /// Dimension of the features.
    pub fn dim(&self) -> usize {
        self.mean.len()
    }

    fn matrix(&self) -> DMatrix<f64> {
        DMatrix::from_row_slice(self.dim(), self.dim(), &self.covariance)
    }
}

/// A pivot of a Cholesky factorisation below this share of the largest variance means a singular covariance.
const SMALLEST_PIVOT: f64 = 1e-10;

/// Eigenvalues below this share of the largest count as 0: a root's slope is infinite there.
const SMALLEST_EIGENVALUE: f64 = 1e-12;

/// One side of many Frechet distances, its covariance factorised.
#[derive(Clone, Debug)]
pub(crate) struct Reference {
    mean: DVector<f64>,
    /// H with H H^T the covariance, `[d, rank]`.
    half: DMatrix<f64>,
    trace: f64,
}

impl Reference {
    pub fn new(gaussian: &Gaussian) -> Self {
        let covariance = gaussian.matrix();
        let largest = covariance.diagonal().max();
        let cholesky = covariance.clone().cholesky().map(|cholesky| cholesky.l());
        let regular =
            |factor: &DMatrix<f64>| factor.diagonal().iter().all(|pivot| pivot * pivot > SMALLEST_PIVOT * largest);
        let half = cholesky.filter(regular).unwrap_or_else(|| {
            let eigen = covariance.clone().symmetric_eigen();
            // as large as the most negative eigenvalue is, one can be through rounding alone
            let noise = eigen.eigenvalues.iter().fold(0.0_f64, |noise, value| noise.max(-value));
            let kept: Vec<usize> = (0..eigen.eigenvalues.len()).filter(|&k| eigen.eigenvalues[k] > noise).collect();
            let column = |row: usize, k: usize| eigen.eigenvectors[(row, kept[k])] * eigen.eigenvalues[kept[k]].sqrt();
            DMatrix::from_fn(gaussian.dim(), kept.len(), column)
        });
        Self { mean: DVector::from_column_slice(&gaussian.mean), half, trace: covariance.trace() }
    }

    pub fn dim(&self) -> usize {
        self.mean.len()
    }
}

impl Reference {
    /// The Frechet distance of features `[n, d]`, row by row, from it.
    pub fn distance(&self, rows: &[f64]) -> Result<f64, GaussianError> {
        Ok(LinearFeatures::new(self, &[rows])?.distance(&[]).0)
    }
}

/// The Frechet distance of features that are linear in some coordinates from a [`Reference`]: with `X(q) = X_0 + sum_j q_j X_j`,
/// exactly the distance of the sample's moments.
///
/// `tr (C^(1/2) S C^(1/2))^(1/2)` is the sum of the singular values of `X_c H / sqrt(n - 1)`, `S = H H^T`, whose slope is that of the
/// nuclear norm, `U V^T`.
pub(crate) struct LinearFeatures<'a> {
    reference: &'a Reference,
    samples: f64,
    /// Means of each term, `[d]`.
    means: Vec<DVector<f64>>,
    /// Centred terms times H, `[n, rank]`.
    halves: Vec<DMatrix<f64>>,
    /// Inner products of centred terms over n - 1.
    traces: DMatrix<f64>,
}

impl<'a> LinearFeatures<'a> {
    /// `terms`: `[n, d]` row by row each, the constant one first.
    pub fn new<R: AsRef<[f64]>>(reference: &'a Reference, terms: &[R]) -> Result<Self, GaussianError> {
        let dim = reference.dim();
        let mut means = Vec::with_capacity(terms.len());
        let mut centred = Vec::with_capacity(terms.len());
        for rows in terms.iter().map(AsRef::as_ref) {
            if !rows.iter().all(|value| value.is_finite()) {
                return Err(GaussianError::NotFinite);
            }
            if !rows.len().is_multiple_of(dim) {
                return Err(GaussianError::Dimension { found: rows.len(), expected: dim });
            }
            let matrix = DMatrix::from_row_slice(rows.len() / dim, dim, rows);
            let mean = matrix.row_mean();
            means.push(mean.transpose());
            centred.push(DMatrix::from_fn(matrix.nrows(), dim, |row, column| matrix[(row, column)] - mean[column]));
        }
        let samples = centred.first().map_or(0, DMatrix::nrows) as f64;
        let by = (samples - 1.0).max(1.0);
        let traces = DMatrix::from_fn(terms.len(), terms.len(), |i, j| centred[i].dot(&centred[j]) / by);
        let halves = centred.iter().map(|centred| centred * &reference.half).collect();
        Ok(Self { reference, samples, means, halves, traces })
    }

    /// The distance at `q`, and its gradient.
    pub fn distance(&self, q: &[f64]) -> (f64, Vec<f64>) {
        let weights: Vec<f64> = std::iter::once(1.0).chain(q.iter().copied()).collect();
        let mut off = -self.reference.mean.clone();
        let mut half = DMatrix::zeros(self.halves[0].nrows(), self.halves[0].ncols());
        for ((mean, part), weight) in self.means.iter().zip(&self.halves).zip(&weights) {
            off.axpy(*weight, mean, 1.0);
            half += part * *weight;
        }
        let weights = DVector::from_vec(weights);
        let slopes = &self.traces * &weights;
        let (norm, polar) = nuclear(&half);
        let scale = 2.0 / (self.samples - 1.0).max(1.0).sqrt();
        let value = off.norm_squared() + weights.dot(&slopes) + self.reference.trace - scale * norm;
        let slope = |j: usize| 2.0 * off.dot(&self.means[j]) + 2.0 * slopes[j] - scale * polar.dot(&self.halves[j]);
        (value.max(0.0), (1..weights.len()).map(slope).collect())
    }
}

/// The sum of the singular values of `y = U S V^T`, and `U V^T`; directions in which it does not vary are left out.
fn nuclear(y: &DMatrix<f64>) -> (f64, DMatrix<f64>) {
    let wide = y.nrows() <= y.ncols();
    let gram = if wide { y * y.transpose() } else { y.tr_mul(y) };
    if gram.is_empty() {
        return (0.0, y.clone());
    }
    let eigen = gram.symmetric_eigen();
    let largest = eigen.eigenvalues.max();
    let kept = |value: f64| value > SMALLEST_EIGENVALUE * largest;
    let norm = eigen.eigenvalues.iter().filter(|value| kept(**value)).map(|value| value.sqrt()).sum();
    // gram^(-1/2) on what is kept
    let scaled = DMatrix::from_fn(eigen.eigenvectors.nrows(), eigen.eigenvectors.ncols(), |row, column| {
        let value = eigen.eigenvalues[column];
        if kept(value) { eigen.eigenvectors[(row, column)] / value.sqrt() } else { 0.0 }
    });
    let inverse_root = scaled * eigen.eigenvectors.transpose();
    (norm, if wide { inverse_root * y } else { y * inverse_root })
}

/// `mean(to) - mean(from)`, less what sampling alone makes of it: in every direction in which the means err independently (the
/// eigenvectors of `S_to / n_to + S_from / n_from`), the share `1 - v / d^2` of the difference `d` is kept, none where it is below the
/// variance `v` of its own error (Breiman's garrote, 1995). Directions in which the samples are too small to tell say nothing.
///
/// # Errors
/// If the dimensions differ, or a side has no more samples than dimensions and so does not know its own error.
pub fn mean_shift(from: &Gaussian, to: &Gaussian) -> Result<Vec<f64>, GaussianError> {
    if from.dim() != to.dim() {
        return Err(GaussianError::Dimension { found: from.dim(), expected: to.dim() });
    }
    let error = |side: &Gaussian| match side.samples {
        samples if samples <= side.dim() as u64 => Err(GaussianError::TooFew { features: side.dim(), samples }),
        samples => Ok(side.matrix() / samples as f64),
    };
    let eigen = (error(from)? + error(to)?).symmetric_eigen();
    let difference = DVector::from_iterator(from.dim(), to.mean.iter().zip(&from.mean).map(|(to, from)| to - from));
    let along = eigen.eigenvectors.tr_mul(&difference);
    let kept = DVector::from_fn(along.len(), |k, _| {
        let square = along[k] * along[k];
        let share = (square - eigen.eigenvalues[k].max(0.0)).max(0.0) / square.max(f64::MIN_POSITIVE);
        share * along[k]
    });
    Ok((&eigen.eigenvectors * kept).iter().copied().collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use fewstep_core::noise;

    fn normals(seed: u64, n: usize, dim: usize) -> Vec<f64> {
        let mut values = vec![0f32; n * dim];
        noise::normal(seed, 0, &mut values);
        values.into_iter().map(f64::from).collect()
    }

    fn moments(rows: &[f64], dim: usize) -> Gaussian {
        let mut moments = FeatureMoments::new();
        for part in rows.chunks(7 * dim) {
            moments.add(part, dim).unwrap();
        }
        moments.gaussian().unwrap()
    }

    #[test]
    fn moments_are_those_of_the_rows() {
        let rows = [1.0, 2.0, 3.0, -1.0, 0.5, 4.0];
        let gaussian = moments(&rows, 2);
        assert!((gaussian.mean[0] - 1.5).abs() < 1e-12 && (gaussian.mean[1] - 5.0 / 3.0).abs() < 1e-12);
        // by hand: the covariance of (1, 3, .5) and (2, -1, 4)
        for (found, expected) in gaussian.covariance.iter().zip([1.75, -3.25, -3.25, 6.333333333333333]) {
            assert!((found - expected).abs() < 1e-12, "{gaussian:?}");
        }
        assert!(matches!(FeatureMoments::new().gaussian(), Err(GaussianError::TooFew { .. })));
        // no rows at all, rows longer than what there is, and half a row
        for dim in [0, 7, 4] {
            let mut moments = FeatureMoments::new();
            assert_eq!(moments.add(&rows, dim), Err(GaussianError::Rows { numbers: 6, dim }));
            moments.add(&rows, 3).unwrap();
            assert!(moments.add(&rows, dim).is_err());
            assert!(matches!(moments.add(&rows, 2), Err(GaussianError::Dimension { found: 2, expected: 3 })));
            assert_eq!((moments.samples(), moments.dim()), (2, 3));
        }
    }

    #[test]
    fn diagonal_gaussians_have_a_closed_form() {
        let reference = Gaussian { mean: vec![1.0, 3.0], covariance: vec![1.0, 0.0, 0.0, 16.0], samples: 100 };
        // a sample of exactly this mean and covariance: (0, 1), diag(4, 9)
        let rows: Vec<f64> = [[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]]
            .iter()
            .flat_map(|[a, b]| [a * 3f64.sqrt(), 1.0 + b * (27.0f64 / 4.0).sqrt()])
            .collect();
        let reference = Reference::new(&reference);
        let features = LinearFeatures::new(&reference, &[rows]).unwrap();
        // 1 + 4 + (2 - 1)^2 + (3 - 4)^2
        assert!((features.distance(&[]).0 - 7.0).abs() < 1e-9, "{}", features.distance(&[]).0);
    }

    /// With more samples than features and with fewer, and where a covariance is singular.
    #[test]
    fn gradients_match_differences() {
        for (n, dim) in [(40, 6), (5, 9), (9, 9)] {
            let mut target = normals(1, 50, dim);
            target.iter_mut().skip(dim - 1).step_by(dim).for_each(|value| *value = 0.25);
            let reference = Reference::new(&moments(&target, dim));
            let terms: Vec<Vec<f64>> = (2..5).map(|seed| normals(seed, n, dim)).collect();
            let features = LinearFeatures::new(&reference, &terms).unwrap();
            let q = [0.3, -0.2];
            let (_, slope) = features.distance(&q);
            for j in 0..q.len() {
                let at = |h: f64| {
                    let mut q = q;
                    q[j] += h;
                    features.distance(&q).0
                };
                let difference = (at(1e-5) - at(-1e-5)) / 2e-5;
                assert!(
                    (slope[j] - difference).abs() < 1e-5 * (1.0 + difference.abs()),
                    "{n} {dim}: {slope:?} {difference}"
                );
            }
        }
    }

    #[test]
    fn a_distance_from_itself_is_zero() {
        let rows = normals(3, 60, 8);
        let reference = Reference::new(&moments(&rows, 8));
        let distance = LinearFeatures::new(&reference, &[rows]).unwrap().distance(&[]).0;
        assert!(distance < 1e-10, "{distance}");
    }

    const DIM: usize = 12;

    /// Features of unequal, correlated spread about a mean of zeros but for the last two, which are at `shift`.
    fn sample(seed: u64, count: usize, shift: f64) -> Gaussian {
        let mut values = normals(seed, count, DIM);
        for row in values.chunks_mut(DIM) {
            let common = row[0];
            for (j, value) in row.iter_mut().enumerate() {
                *value = (*value + common) * 0.7f64.powi(j as i32);
            }
            row[DIM - 2] += shift;
            row[DIM - 1] += shift;
        }
        moments(&values, DIM)
    }

    #[test]
    fn a_shift_is_what_sampling_does_not_explain() {
        let truth = |j: usize, shift: f64| if j + 2 >= DIM { shift } else { 0.0 };
        let errors = |count: usize, shift: f64| {
            let (mut plain, mut kept) = (0.0, 0.0);
            for seed in 0..40 {
                let (from, to) = (sample(2 * seed, count, 0.0), sample(2 * seed + 1, count, shift));
                let error = |found: &[f64]| -> f64 {
                    found.iter().enumerate().map(|(j, v)| (v - truth(j, shift)).powi(2)).sum()
                };
                plain += error(&to.mean.iter().zip(&from.mean).map(|(to, from)| to - from).collect::<Vec<_>>());
                kept += error(&mean_shift(&from, &to).unwrap());
            }
            (plain, kept)
        };
        let (plain, kept) = errors(30, 0.0);
        assert!(kept < 0.7 * plain, "{plain} {kept}");
        let from = sample(0, 200, 0.0);
        let far = Gaussian { mean: from.mean.iter().map(|m| m + 100.0).collect(), ..from.clone() };
        assert!(mean_shift(&from, &far).unwrap().iter().all(|shift| (shift - 100.0).abs() < 0.1));
        assert!(matches!(mean_shift(&sample(0, 12, 0.0), &from), Err(GaussianError::TooFew { .. })));
        let other = moments(&normals(0, 20, 3), 3);
        assert!(matches!(mean_shift(&from, &other), Err(GaussianError::Dimension { .. })));
    }
}
