//! How far apart the means of two samples are, less what sampling alone makes of it.

use fewstep_nn::tch::{Kind, Tensor};

use crate::error::{Error, Result};
use crate::features::FeatureId;
use crate::statistics::Statistics;

/// `mu_to - mu_from`, estimated from the means `m` of `n` features each: in every direction in which these err independently
/// (the eigenvectors of `S_to / n_to + S_from / n_from`), the share `1 - v / d^2` of the difference `d` is kept, none where it is
/// below the variance `v` of its own error (Breiman's garrote, 1995). Directions in which the samples are too small to tell
/// say nothing, and those that are far apart in units of their error stay as they are. `[d]`.
///
/// Statistics that do not say how many images they are of are taken to be exact.
///
/// # Errors
/// If the dimensions or features differ, if a side is not a valid Gaussian, or if it is of too few images to know its own
/// error: no more than dimensions.
pub fn mean_shift(from: &Statistics, to: &Statistics) -> Result<Vec<f64>> {
    FeatureId::check_same(from.features.as_ref(), to.features.as_ref())?;
    if from.dim() != to.dim() {
        return Err(Error::Input(format!("features of {} and of {} dimensions have no shift", from.dim(), to.dim())));
    }
    from.validate("the statistics shifted from")?;
    to.validate("the statistics shifted to")?;
    let error = |side: &Statistics| match side.num_images {
        Some(images) if images <= side.dim() as u64 => Err(Error::Input(format!(
            "{images} images do not tell how far {} features spread: it takes more images than features",
            side.dim()
        ))),
        Some(images) => Ok(side.sigma_tensor()? / images as f64),
        None => Ok(side.sigma_tensor()? * 0.0),
    };
    let (variances, directions) = (error(from)? + error(to)?).f_linalg_eigh("L")?;
    let difference = directions.tr().f_mv(&(to.mu_tensor() - from.mu_tensor()))?;
    let square = difference.square();
    let share = (&square - variances.clamp_min(0.0)).clamp_min(0.0) / square.clamp_min(f64::MIN_POSITIVE);
    let kept: Tensor = directions.f_mv(&(share * difference))?;
    Ok(Vec::<f64>::try_from(kept.to_kind(Kind::Double))?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::moments::Moments;
    use fewstep_core::noise;
    use fewstep_nn::tch::{Device, Tensor};

    const DIM: usize = 12;

    /// Features of unequal, correlated spread about a mean of zeros but for the last two, which are at `shift`.
    fn sample(seed: u64, count: usize, shift: f64) -> Statistics {
        let mut values = vec![0f32; count * DIM];
        noise::normal(seed, 0, &mut values);
        for row in values.chunks_mut(DIM) {
            let common = row[0];
            for (j, value) in row.iter_mut().enumerate() {
                *value = (*value + common) * 0.7f32.powi(j as i32);
            }
            row[DIM - 2] += shift as f32;
            row[DIM - 1] += shift as f32;
        }
        let mut moments = Moments::new(DIM).unwrap();
        moments.update(&Tensor::from_slice(&values).view([count as i64, DIM as i64]).to_device(Device::Cpu)).unwrap();
        moments.statistics(None).unwrap()
    }

    /// Mean squared errors of the plain difference of means and of the shift in the dimensions from `first` on, over many pairs
    /// of samples.
    fn errors(count: usize, shift: f64, first: usize) -> (f64, f64) {
        let truth = |j: usize| if j + 2 >= DIM { shift } else { 0.0 };
        let error =
            |found: &[f64]| found.iter().enumerate().skip(first).map(|(j, v)| (v - truth(j)).powi(2)).sum::<f64>();
        let (mut plain, mut kept) = (0.0, 0.0);
        for seed in 0..40 {
            let (from, to) = (sample(2 * seed, count, 0.0), sample(2 * seed + 1, count, shift));
            let difference: Vec<f64> = to.mu.iter().zip(&from.mu).map(|(to, from)| to - from).collect();
            plain += error(&difference) / 40.0;
            kept += error(&mean_shift(&from, &to).unwrap()) / 40.0;
        }
        (plain, kept)
    }

    #[test]
    fn what_samples_cannot_tell_is_left_out() {
        let (plain, kept) = errors(100, 0.0, 0);
        assert!(kept < 0.5 * plain, "{kept} of {plain}");
        // a shift where the samples hardly err is found, though smaller than the errors elsewhere
        let shift = 0.05f64;
        let (plain, kept) = errors(100, shift, 0);
        assert!(kept < 0.6 * plain && shift < 0.3 * plain.sqrt(), "{kept} of {plain}");
        let (_, kept) = errors(100, shift, DIM - 2);
        assert!(kept < 0.2 * 2.0 * shift.powi(2), "{kept}: the shift was not found");
    }

    #[test]
    fn what_is_certain_stays() {
        let exact = |shift: f64| Statistics { num_images: None, ..sample(1, 50, shift) };
        let (from, to) = (exact(0.0), exact(0.3));
        let shift = mean_shift(&from, &to).unwrap();
        for (j, found) in shift.iter().enumerate() {
            assert!((found - (to.mu[j] - from.mu[j])).abs() < 1e-12, "{shift:?}");
        }
        assert!(mean_shift(&from, &from).unwrap().iter().all(|value| *value == 0.0));
    }

    #[test]
    fn other_features_have_no_shift() {
        let mut other = sample(1, 50, 0.0);
        let id = |name: &str| Some(FeatureId { name: name.to_owned(), sha256: "00".repeat(32) });
        other.features = id("a");
        assert!(mean_shift(&other, &Statistics { features: id("b"), ..other.clone() }).is_err());
        let short = Statistics { mu: vec![0.0], sigma: vec![1.0], ..other.clone() };
        assert!(mean_shift(&short, &other).unwrap_err().to_string().contains("dimensions"));
        let error = mean_shift(&sample(1, DIM, 0.0), &sample(2, 50, 0.0)).unwrap_err();
        assert!(error.to_string().contains("more images than features"), "{error}");
    }
}
