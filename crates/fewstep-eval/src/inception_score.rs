//! Inception score: exp E KL(p(y|x) || p(y)) (Salimans et al. 2016).

use fewstep_nn::random;
use fewstep_nn::tch::{Kind, Tensor};

use crate::error::{Error, Result};
use crate::points;

/// How the score is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Parts of the images whose scores are averaged.
    pub splits: usize,
    /// Shuffles the images first with this seed; images sorted by class would otherwise land in different parts.
    pub shuffle: Option<u64>,
}

impl Default for Options {
    fn default() -> Self {
        Self { splits: 10, shuffle: Some(0) }
    }
}

/// The score and its spread.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct InceptionScore {
    /// Mean over the parts.
    pub value: f64,
    /// Standard deviation over the parts (divided by their number).
    pub deviation: f64,
}

/// The score of class scores `logits` `[N, classes]`, for Inception those without their bias.
///
/// # Errors
/// If there are fewer images than parts.
pub fn inception_score(logits: &Tensor, options: &Options) -> Result<InceptionScore> {
    let mut logits = points::points(logits)?.to_kind(Kind::Double);
    let n = logits.size()[0];
    let splits = options.splits as i64;
    if splits < 1 || n < splits {
        return Err(Error::Input(format!(
            "an inception score over {splits} parts needs at least as many images, there are {n}"
        )));
    }
    if let Some(seed) = options.shuffle {
        logits = logits.index_select(0, &Tensor::from_slice(&random::permutation(seed, 0, n as usize)));
    }
    let scores: Vec<f64> = (0..splits)
        .map(|i| {
            let (start, end) = (i * n / splits, (i + 1) * n / splits);
            let log_p = logits.narrow(0, start, end - start).log_softmax(1, Kind::Double);
            let p = log_p.exp();
            // Logarithms of p, not p itself: a class that is 0 in f64 in all of the part has a finite log_p (a difference
            // of logits) and needs a finite logarithm of its mean, so that 0 times their difference is 0, as it should be.
            let log_marginal = log_p.logsumexp([0i64], true) - ((end - start) as f64).ln();
            let kl = (&p * (log_p - log_marginal)).sum_dim_intlist(1, false, Kind::Double);
            kl.mean(Kind::Double).exp().double_value(&[])
        })
        .collect();
    let count = scores.len() as f64;
    let value = scores.iter().sum::<f64>() / count;
    let deviation = (scores.iter().map(|s| (s - value).powi(2)).sum::<f64>() / count).sqrt();
    Ok(InceptionScore { value, deviation })
}

#[cfg(test)]
mod tests {
    use super::*;
    use fewstep_nn::tch::Device;

    #[test]
    fn sure_and_even_predictions_score_the_number_of_classes() {
        let logits = Tensor::eye(4, (Kind::Float, Device::Cpu)).repeat([5, 1]) * 200.0;
        let options = Options { splits: 5, shuffle: None };
        let score = inception_score(&logits, &options).unwrap();
        assert!((score.value - 4.0).abs() < 1e-9 && score.deviation < 1e-9, "{score:?}");
        let unsure = inception_score(&logits.zeros_like(), &options).unwrap();
        assert!((unsure.value - 1.0).abs() < 1e-12);
    }

    #[test]
    fn a_class_that_no_image_may_be_of_counts_for_nothing() {
        let of_four = Tensor::eye(4, (Kind::Float, Device::Cpu)).repeat([5, 1]) * 200.0;
        let never = Tensor::full([20, 1], -1000.0, (Kind::Float, Device::Cpu)); // exp(-1000) is 0 in f64
        let options = Options { splits: 5, shuffle: None };
        let score = inception_score(&Tensor::cat(&[of_four, never], 1), &options).unwrap();
        assert!((score.value - 4.0).abs() < 1e-9 && score.deviation < 1e-9, "{score:?}");
    }

    #[test]
    fn shuffling_undoes_an_order_by_class() {
        let logits = Tensor::eye(4, (Kind::Float, Device::Cpu)).repeat_interleave_self_int(50, 0, None) * 20.0;
        let sorted = inception_score(&logits, &Options { splits: 4, shuffle: None }).unwrap();
        let shuffled = inception_score(&logits, &Options { splits: 4, shuffle: Some(1) }).unwrap();
        assert!(sorted.value < 1.001 && shuffled.value > 3.5, "{sorted:?} {shuffled:?}");
        assert!(inception_score(&logits.narrow(0, 0, 3), &Options::default()).is_err());
    }
}
