//! The Frechet distance between Gaussians, which on Inception features is FID (Heusel et al. 2017).

use std::cell::OnceCell;

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

/// A pivot of a Cholesky factorisation below this share of the largest variance means a singular covariance.
const SMALLEST_PIVOT: f64 = 1e-10;

/// One side of many distances, its covariance factorised.
///
/// tr (A B)^(1/2) is the sum of the square roots of the eigenvalues of A^(1/2) B A^(1/2), which are those of H^T B H for any
/// H with A = H H^T: everything is symmetric and in f64. H is a Cholesky factor, or, where A is singular (fewer images than
/// dimensions), comes from its eigenvectors, which leave the null space and the rounding in it out.
#[derive(Debug)]
pub struct FrechetReference {
    mu: Tensor,
    sigma: Tensor,
    /// Eigenvalues of the covariance beyond rounding, `[rank]`, once they are needed.
    eigenvalues: OnceCell<Tensor>,
    /// H `[d, rank]`.
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
        let (half, eigenvalues) = match cholesky_factor(&sigma)? {
            Some(half) => (half, OnceCell::new()),
            None => {
                let (values, vectors) = sigma.f_linalg_eigh("L")?;
                let values_kept = beyond_rounding(&values);
                let rank = values_kept.size()[0];
                let half = vectors.narrow(1, values.size()[0] - rank, rank) * values_kept.sqrt();
                (half, OnceCell::from(values_kept))
            }
        };
        Ok(Self {
            mu: statistics.mu_tensor(),
            half,
            eigenvalues,
            trace: sigma.trace().double_value(&[]),
            sigma,
            features: statistics.features.clone(),
        })
    }

    fn eigenvalues(&self) -> Result<&Tensor> {
        if let Some(known) = self.eigenvalues.get() {
            return Ok(known);
        }
        let values = beyond_rounding(&self.sigma.f_linalg_eigvalsh("L")?);
        Ok(self.eigenvalues.get_or_init(|| values))
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
        if self.half.numel() == 0 {
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
    ///
    /// # Errors
    /// If the eigenvalues cannot be computed.
    pub fn expected_bias(&self, n: u64) -> Result<f64> {
        let l = self.eigenvalues()?;
        let products = l.outer(l) / (l.unsqueeze(1) + l);
        Ok((1.25 * self.trace + 0.5 * products.sum(Kind::Double).double_value(&[])) / n.max(1) as f64)
    }

    /// A sentence for the user if the bias of `n` images is more than 2 % of the `distance` they gave.
    ///
    /// It gives the bias where the estimate may hold: with more images than the covariance has rank, and less bias than
    /// distance, as nothing is a part of a distance that is larger than it.
    ///
    /// # Errors
    /// As [`FrechetReference::expected_bias`].
    pub fn bias_warning(&self, distance: f64, n: u64) -> Result<Option<String>> {
        let bias = self.expected_bias(n)?;
        if bias <= 0.02 * distance {
            return Ok(None);
        }
        let rank = self.eigenvalues()?.size()[0];
        let why = if n <= rank.unsigned_abs() {
            // The rank itself is not shown: rounding makes it somewhat too large.
            format!(
                "no more than the directions in which the reference's features vary: how much of this distance of \
                 {distance:.2} comes from their number alone cannot be estimated"
            )
        } else if bias < distance {
            format!("about {bias:.2} of this distance of {distance:.2} comes from their number alone")
        } else {
            format!(
                "as many drawn from the reference's own distribution would be expected at about {bias:.2}, no nearer \
                 than these at {distance:.2}"
            )
        };
        Ok(Some(format!("{n} images are few: {why}, so compare it only with distances of equally many images")))
    }
}

/// The Cholesky factor of a covariance `[d, d]` that is clearly not singular.
fn cholesky_factor(sigma: &Tensor) -> Result<Option<Tensor>> {
    let (factor, info) = sigma.f_linalg_cholesky_ex(false, false)?;
    if info.int64_value(&[]) != 0 {
        return Ok(None);
    }
    let smallest = factor.diagonal(0, 0, 1).min().double_value(&[]).powi(2);
    let largest = sigma.diagonal(0, 0, 1).max().double_value(&[]);
    Ok((smallest > SMALLEST_PIVOT * largest).then_some(factor))
}

/// The eigenvalues that rounding cannot have made, of all in ascending order.
fn beyond_rounding(values: &Tensor) -> Tensor {
    let rank = values.gt(noise(values)).sum(Kind::Int64).int64_value(&[]);
    values.narrow(0, values.size()[0] - rank, rank)
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
        Statistics { mu: mu.to_vec(), sigma: sigma.to_vec(), num_images: None, image_shape: None, features: None }
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
    fn both_factorisations_give_the_same_distance() {
        let (a, b) = (random(200, 50, 1), random(300, 50, 2));
        let by_factor = FrechetReference::new(&b).unwrap();
        assert!(by_factor.eigenvalues.get().is_none(), "a full covariance needs no eigenvectors");
        let (values, vectors) = b.sigma_tensor().unwrap().linalg_eigh("L");
        let by_vectors = FrechetReference { half: vectors * values.sqrt(), ..FrechetReference::new(&b).unwrap() };
        let [one, other] = [by_factor, by_vectors].map(|reference| reference.distance(&a).unwrap());
        assert!((one - other).abs() < 1e-10 * one, "{one} {other}");
        let singular = FrechetReference::new(&random(20, 50, 3)).unwrap();
        let rank = singular.half.size()[1];
        assert!(rank < 25, "20 images span 19 dimensions, {rank} were found");
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
        let (mean, expected) = (total / f64::from(draws), reference.expected_bias(300).unwrap());
        assert!((mean / expected - 1.0).abs() < 0.06, "{mean} {expected}");
        let warning = |distance, n| reference.bias_warning(distance, n).unwrap().unwrap();
        let part = format!("300 images are few: about {expected:.2} of this distance");
        assert!(warning(10.0 * expected, 300).contains(&part), "{}", warning(10.0 * expected, 300));
        // Neither more than the whole distance, nor a number where the expansion does not hold.
        let all = warning(0.5 * expected, 300);
        assert!(all.contains("300 images are few") && !all.contains("of this distance"), "{all}");
        let few = warning(10.0, 5);
        assert!(few.contains("5 images are few") && few.contains("cannot be estimated"), "{few}");
        assert!(!few.contains("about"), "{few}");
        assert!(reference.bias_warning(100.0 * expected, 300).unwrap().is_none());
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
