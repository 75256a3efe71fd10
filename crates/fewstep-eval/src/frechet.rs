//! The Frechet distance between Gaussians, which on Inception features is FID (Heusel et al. 2017).

use fewstep_nn::tch::{Kind, Tensor};

use crate::error::{Error, Result};
use crate::features::FeatureId;
use crate::statistics::Statistics;

/// |mu_a - mu_b|^2 + tr(A + B - 2 (A B)^(1/2)) for the Gaussians N(mu_a, A) and N(mu_b, B); never negative.
///
/// # Errors
/// If the dimensions differ, either side is not a valid Gaussian, or both sides name their features and the names or
/// hashes differ.
pub fn frechet_distance(a: &Statistics, b: &Statistics) -> Result<f64> {
    FrechetReference::new(b)?.distance(a)
}

/// One side of many distances, its eigendecomposition done.
///
/// tr (A B)^(1/2) is the sum of the square roots of the eigenvalues of A^(1/2) B A^(1/2), so two symmetric
/// eigendecompositions in f64 suffice and singular covariances (fewer images than dimensions) need no special case.
#[derive(Debug)]
pub struct FrechetReference {
    mu: Tensor,
    /// Eigenvalues of the covariance beyond rounding, `[rank]`.
    eigenvalues: Tensor,
    /// H `[d, rank]` with covariance = H H^T.
    half: Tensor,
    trace: f64,
    features: Option<FeatureId>,
}

impl FrechetReference {
    /// Prepares `statistics`.
    ///
    /// # Errors
    /// If they are not those of a Gaussian.
    pub fn new(statistics: &Statistics) -> Result<Self> {
        statistics.validate("the reference statistics")?;
        let sigma = statistics.sigma_tensor()?;
        let (values, vectors) = sigma.f_linalg_eigh("L")?;
        // Only the range contributes; leaving the null space out also keeps the rounding in it out. Eigenvalues ascend.
        let rank = values.gt(noise(&values)).sum(Kind::Int64).int64_value(&[]);
        let first = values.size()[0] - rank;
        let eigenvalues = values.narrow(0, first, rank);
        Ok(Self {
            mu: statistics.mu_tensor(),
            half: vectors.narrow(1, first, rank) * eigenvalues.sqrt(),
            eigenvalues,
            trace: sigma.trace().double_value(&[]),
            features: statistics.features.clone(),
        })
    }

    /// The distance of `other` from this.
    ///
    /// # Errors
    /// As [`frechet_distance`].
    pub fn distance(&self, other: &Statistics) -> Result<f64> {
        FeatureId::check_same(other.features.as_ref(), self.features.as_ref())?;
        let (ours, theirs) = (self.mu.size()[0], other.dim());
        if ours != theirs as i64 {
            return Err(Error::Input(format!(
                "the reference's features have {ours} dimensions, these have {theirs}: they come from different networks"
            )));
        }
        other.validate("the statistics")?;
        let sigma = other.sigma_tensor()?;
        let delta = other.mu_tensor() - &self.mu;
        let squared = delta.dot(&delta).double_value(&[]);
        let distance =
            squared + self.trace + sigma.trace().double_value(&[]) - 2.0 * self.trace_sqrt_product(&sigma)?;
        // Equal Gaussians come out at rounding's distance from zero, on either side of it.
        Ok(distance.max(0.0))
    }

    /// tr (A B)^(1/2) of this covariance A and `b`, `[d, d]`.
    fn trace_sqrt_product(&self, b: &Tensor) -> Result<f64> {
        if self.eigenvalues.numel() == 0 {
            return Ok(0.0);
        }
        let product = self.half.tr().matmul(b).matmul(&self.half);
        let values = ((&product + product.tr()) * 0.5).f_linalg_eigvalsh("L")?;
        let kept = values.where_self(&values.gt(noise(&values)), &values.zeros_like());
        Ok(kept.sqrt().sum(Kind::Double).double_value(&[]))
    }

    /// How far above zero the distance of `n` images comes out that are drawn from this very Gaussian, to first order in 1/n.
    ///
    /// The mean's part is tr(A) / n. The covariance's follows from the second-order expansion of the Bures metric,
    /// d^2(A, A + E) = 1/2 sum_ij E_ij^2 / (l_i + l_j), and the Wishart variance of E_ij, (l_i l_j + [i = j] l_i^2) / n:
    /// together (5/4 tr(A) + 1/2 sum_ij l_i l_j / (l_i + l_j)) / n. Real features are not Gaussian, so this is an estimate.
    pub fn expected_bias(&self, n: u64) -> f64 {
        let l = &self.eigenvalues;
        let products = l.outer(l) / (l.unsqueeze(1) + l);
        (1.25 * self.trace + 0.5 * products.sum(Kind::Double).double_value(&[])) / n.max(1) as f64
    }

    /// A sentence for the user if the bias of `n` images is more than 2 % of the `distance` they gave.
    pub fn bias_warning(&self, distance: f64, n: u64) -> Option<String> {
        let bias = self.expected_bias(n);
        (bias > 0.02 * distance).then(|| {
            format!(
                "{n} images are few: about {bias:.2} of this distance of {distance:.2} comes from their number alone, so \
                 compare it only with distances of equally many images"
            )
        })
    }
}

/// How large an eigenvalue of a semidefinite matrix can be through rounding alone: as large as the most negative one is
/// in size. Square roots would turn 1e-16 of noise into 1e-8 each.
fn noise(eigenvalues: &Tensor) -> f64 {
    (-eigenvalues.min().double_value(&[])).max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use fewstep_nn::tch::{self, Device};

    fn gaussian(mu: &[f64], sigma: &[f64]) -> Statistics {
        Statistics { mu: mu.to_vec(), sigma: sigma.to_vec(), num_images: None, features: None }
    }

    fn random(n: i64, dim: i64, seed: i64) -> Statistics {
        tch::manual_seed(seed);
        let mut moments = crate::moments::Moments::new(dim as usize).unwrap();
        moments.update(&Tensor::randn([n, dim], (Kind::Double, Device::Cpu))).unwrap();
        moments.statistics(None).unwrap()
    }

    #[test]
    fn diagonal_gaussians_have_a_closed_form() {
        let a = gaussian(&[0.0, 1.0], &[4.0, 0.0, 0.0, 9.0]);
        let b = gaussian(&[1.0, 3.0], &[1.0, 0.0, 0.0, 16.0]);
        // 1 + 4 + (2 - 1)^2 + (3 - 4)^2
        assert!((frechet_distance(&a, &b).unwrap() - 7.0).abs() < 1e-12);
    }

    #[test]
    fn is_zero_on_itself_and_symmetric_also_without_full_rank() {
        for n in [200, 20] {
            let (a, b) = (random(n, 50, 1), random(n, 50, 2));
            assert!(frechet_distance(&a, &a).unwrap() < 1e-6);
            let (ab, ba) = (frechet_distance(&a, &b).unwrap(), frechet_distance(&b, &a).unwrap());
            assert!(ab > 1.0 && (ab - ba).abs() < 1e-6 * ab, "{ab} {ba}");
        }
    }

    #[test]
    fn rank_one_covariances_have_a_closed_form() {
        // A = 4 u u^T, B = 9 v v^T: tr (A B)^(1/2) = 6 |u . v|, here with u . v = 0.6.
        let a = gaussian(&[0.0; 3], &[4.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
        let v = [0.6, 0.8, 0.0];
        let b: Vec<f64> = (0..9).map(|i| 9.0 * v[i / 3] * v[i % 3]).collect();
        let distance = frechet_distance(&a, &gaussian(&[0.0; 3], &b)).unwrap();
        assert!((distance - (13.0 - 2.0 * 3.6)).abs() < 1e-7, "{distance}");
    }

    #[test]
    fn the_expected_bias_is_the_mean_distance_of_samples_from_the_reference() {
        let scales = Tensor::from_slice(&[3.0, 2.0, 1.0, 0.5, 0.1]);
        let sigma: Vec<f64> = Vec::try_from(scales.square().diag(0).reshape([-1])).unwrap();
        let reference = FrechetReference::new(&gaussian(&[0.0; 5], &sigma)).unwrap();
        tch::manual_seed(11);
        let draws = 400;
        let total: f64 = (0..draws)
            .map(|_| {
                let mut moments = crate::moments::Moments::new(5).unwrap();
                moments.update(&(Tensor::randn([300, 5], (Kind::Double, Device::Cpu)) * &scales)).unwrap();
                reference.distance(&moments.statistics(None).unwrap()).unwrap()
            })
            .sum();
        let (mean, expected) = (total / f64::from(draws), reference.expected_bias(300));
        assert!((mean / expected - 1.0).abs() < 0.06, "{mean} {expected}");
        assert!(reference.bias_warning(expected, 300).unwrap().contains("300 images are few"));
        assert!(reference.bias_warning(100.0 * expected, 300).is_none());
    }

    #[test]
    fn different_features_are_refused() {
        let id = |name: &str| Some(FeatureId { name: name.into(), sha256: "00".into() });
        let a = Statistics { features: id("inception"), ..gaussian(&[0.0], &[1.0]) };
        let b = Statistics { features: id("small-cnn"), ..a.clone() };
        let error = frechet_distance(&a, &b).unwrap_err().to_string();
        assert!(error.contains("inception") && error.contains("small-cnn"), "{error}");
        assert!(frechet_distance(&a, &gaussian(&[0.0, 0.0], &[1.0, 0.0, 0.0, 1.0])).is_err());
        assert!(frechet_distance(&a, &gaussian(&[0.0], &[1.0])).is_ok());
    }
}
