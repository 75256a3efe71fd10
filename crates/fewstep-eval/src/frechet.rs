//! The Frechet distance between Gaussians, which on Inception features is FID (Heusel et al. 2017).

use fewstep_nn::tch::{Kind, Tensor};

use crate::error::{Error, Result};
use crate::features::FeatureId;
use crate::statistics::Statistics;

/// |mu_a - mu_b|^2 + tr(A + B - 2 (A B)^(1/2)) for the Gaussians N(mu_a, A) and N(mu_b, B); never negative.
///
/// tr (A B)^(1/2) is the sum of the square roots of the eigenvalues of A^(1/2) B A^(1/2), so two symmetric
/// eigendecompositions in f64 suffice and singular covariances (fewer images than dimensions) need no special case.
///
/// # Errors
/// If the dimensions differ, either side is not a valid Gaussian, or both sides name their features and the names or
/// hashes differ.
pub fn frechet_distance(a: &Statistics, b: &Statistics) -> Result<f64> {
    FeatureId::check_same(a.features.as_ref(), b.features.as_ref())?;
    if a.dim() != b.dim() {
        return Err(Error::Input(format!(
            "one side's features have {} dimensions, the other's {}: they come from different networks",
            a.dim(),
            b.dim()
        )));
    }
    a.validate("the first statistics")?;
    b.validate("the second statistics")?;
    let delta = a.mu_tensor() - b.mu_tensor();
    let (sigma_a, sigma_b) = (a.sigma_tensor()?, b.sigma_tensor()?);
    let root = trace_sqrt_product(&sigma_a, &sigma_b)?;
    let distance = delta.dot(&delta) + sigma_a.trace() + sigma_b.trace() - 2.0 * root;
    // Equal Gaussians come out at rounding's distance from zero, on either side of it.
    Ok(distance.double_value(&[]).max(0.0))
}

/// tr (A B)^(1/2) of symmetric positive semidefinite matrices `[d, d]` in f64.
fn trace_sqrt_product(a: &Tensor, b: &Tensor) -> Result<f64> {
    let (values, vectors) = a.f_linalg_eigh("L")?;
    let rank = values.gt(noise(&values)).sum(Kind::Int64).int64_value(&[]);
    if rank == 0 {
        return Ok(0.0);
    }
    // Only the range of A contributes; leaving its null space out also keeps the rounding in it out. Eigenvalues ascend.
    let first = values.size()[0] - rank;
    let half = vectors.narrow(1, first, rank) * values.narrow(0, first, rank).sqrt(); // [d, rank], A = half half^T
    let product = half.tr().matmul(b).matmul(&half);
    let values = ((&product + product.tr()) * 0.5).f_linalg_eigvalsh("L")?;
    let kept = values.where_self(&values.gt(noise(&values)), &values.zeros_like());
    Ok(kept.sqrt().sum(Kind::Double).double_value(&[]))
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
