//! Mean and covariance of features in one pass, in f64.

use fewstep_nn::tch::{self, Device, Kind, Tensor};

use crate::error::{Error, Result};
use crate::features::FeatureId;
use crate::statistics::Statistics;

/// Rows that are folded in at once.
const BLOCK: i64 = 512;

/// Count, mean and centred second moment of the features seen so far.
///
/// Features are regrouped into blocks of 512 rows before they are folded in, so the result is the same to the last bit
/// however the same sequence was cut into batches (on one machine with one thread count). Blocks are centred on their own
/// mean and joined by the update of Chan, Golub and LeVeque (1983), which has no cancellation between large sums:
/// another order of the images changes the result by rounding in f64 only.
#[derive(Debug)]
pub struct Moments {
    dim: i64,
    count: u64,
    /// `[d]`
    mean: Tensor,
    /// Sum of (f - mean)(f - mean)^T, `[d, d]`.
    scatter: Tensor,
    /// Rows that do not fill a block yet, `[< 512, d]`.
    pending: Tensor,
}

impl Moments {
    /// Moments of no features yet, of `dim` dimensions.
    ///
    /// # Errors
    /// If `dim` is 0.
    pub fn new(dim: usize) -> Result<Self> {
        let dim = i64::try_from(dim).unwrap_or(0);
        if dim == 0 {
            return Err(Error::Input("features need at least one dimension".to_owned()));
        }
        let zeros = |shape: &[i64]| Tensor::f_zeros(shape, (Kind::Double, Device::Cpu));
        Ok(Self { dim, count: 0, mean: zeros(&[dim])?, scatter: zeros(&[dim, dim])?, pending: zeros(&[0, dim])? })
    }

    /// Features seen so far.
    pub fn count(&self) -> u64 {
        self.count + self.pending.size()[0] as u64
    }

    /// Takes `features` `[N, d]`, of any floating-point type.
    ///
    /// # Errors
    /// If they have another shape or hold NaN or infinity; nothing of the batch is taken then.
    pub fn update(&mut self, features: &Tensor) -> Result<()> {
        self.check(features)?;
        let features = features.detach().to_device(Device::Cpu).to_kind(Kind::Double);
        let rows = Tensor::cat(&[&self.pending, &features], 0);
        let total = rows.size()[0];
        let mut start = 0;
        while total - start >= BLOCK {
            self.fold(&rows.narrow(0, start, BLOCK));
            start += BLOCK;
        }
        self.pending = rows.narrow(0, start, total - start).copy();
        Ok(())
    }

    /// Adds everything that `other` has seen.
    ///
    /// # Errors
    /// If the dimensions differ.
    pub fn merge(&mut self, other: &Moments) -> Result<()> {
        if other.dim != self.dim {
            let (left, right) = (self.dim, other.dim);
            return Err(Error::Input(format!("moments of {left} and of {right} dimensions cannot be merged")));
        }
        self.join(other.count, &other.mean, &other.scatter);
        if other.pending.size()[0] > 0 {
            self.update(&other.pending)?;
        }
        Ok(())
    }

    /// Mean and unbiased covariance (divided by n - 1) of what was seen.
    ///
    /// # Errors
    /// If fewer than two features were seen.
    pub fn statistics(&self, features: Option<FeatureId>) -> Result<Statistics> {
        let n = self.count();
        if n < 2 {
            return Err(Error::Input(format!("a covariance needs at least 2 images, there were {n}")));
        }
        let mut whole = self.flushed();
        let scatter = (&whole.scatter + whole.scatter.tr()) * 0.5; // exactly symmetric
        whole.scatter = scatter / (n - 1) as f64;
        Ok(Statistics {
            mu: Vec::<f64>::try_from(&whole.mean)?,
            sigma: Vec::<f64>::try_from(whole.scatter.reshape([-1]))?,
            num_images: Some(n),
            image_shape: None,
            features,
        })
    }

    /// A copy with the pending rows folded in.
    fn flushed(&self) -> Self {
        let mut whole = Self {
            dim: self.dim,
            count: self.count,
            mean: self.mean.copy(),
            scatter: self.scatter.copy(),
            pending: self.pending.narrow(0, 0, 0),
        };
        if self.pending.size()[0] > 0 {
            whole.fold(&self.pending);
        }
        whole
    }

    /// Folds rows `[n, d]` in as one block.
    fn fold(&mut self, rows: &Tensor) {
        let mean = rows.mean_dim(0, false, Kind::Double);
        let centred = rows - &mean;
        self.join(rows.size()[0] as u64, &mean, &centred.tr().matmul(&centred));
    }

    /// Joins the moments of two sets (Chan, Golub and LeVeque 1983, Eq. 2.1).
    fn join(&mut self, count: u64, mean: &Tensor, scatter: &Tensor) {
        if count == 0 {
            return;
        }
        let (n_a, n_b) = (self.count as f64, count as f64);
        let n = n_a + n_b;
        let delta = mean - &self.mean;
        tch::no_grad(|| {
            self.scatter = &self.scatter + scatter + delta.outer(&delta) * (n_a * n_b / n);
            self.mean = &self.mean + &delta * (n_b / n);
        });
        self.count += count;
    }

    fn check(&self, features: &Tensor) -> Result<()> {
        let size = features.size();
        if size.len() != 2 || size[1] != self.dim || !features.is_floating_point() {
            let (kind, dim) = (features.kind(), self.dim);
            return Err(Error::Input(format!(
                "features of shape {size:?} ({kind:?}) where [N, {dim}] of floats is needed"
            )));
        }
        let bad = features.isfinite().all_dim(1, false).logical_not();
        let count = bad.sum(Kind::Int64).int64_value(&[]);
        if count > 0 {
            let first = self.count() as i64 + bad.to_kind(Kind::Int64).argmax(0, false).int64_value(&[]);
            return Err(Error::Input(format!(
                "the features of {count} image(s) are not finite (the first is image {first} in this order): the images or \
                 the feature network are damaged"
            )));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(n: i64, dim: i64) -> Tensor {
        tch::manual_seed(3);
        // Far from zero, where a difference of raw sums would lose half the digits.
        Tensor::randn([n, dim], (Kind::Double, Device::Cpu)) * 0.01 + 1000.0
    }

    fn of(parts: &[Tensor]) -> Statistics {
        let mut moments = Moments::new(parts[0].size()[1] as usize).unwrap();
        for part in parts {
            moments.update(part).unwrap();
        }
        moments.statistics(None).unwrap()
    }

    fn close(a: &[f64], b: &[f64], tolerance: f64) -> bool {
        a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() <= tolerance)
    }

    #[test]
    fn agrees_with_the_definition_in_two_passes() {
        let x = rows(1300, 5);
        let mu = x.mean_dim(0, false, Kind::Double);
        let centred = &x - &mu;
        let sigma = centred.tr().matmul(&centred) / 1299.0;
        let ours = of(&[x]);
        assert_eq!(ours.num_images, Some(1300));
        assert!(close(&ours.mu, &Vec::<f64>::try_from(&mu).unwrap(), 1e-10));
        assert!(close(&ours.sigma, &Vec::<f64>::try_from(sigma.reshape([-1])).unwrap(), 1e-15));
    }

    #[test]
    fn batches_of_any_size_give_the_same_bits() {
        let x = rows(1300, 7);
        let whole = of(&[x.shallow_clone()]);
        for size in [1, 50, 511, 512, 513] {
            let parts: Vec<Tensor> = x.split(size, 0);
            assert_eq!(of(&parts), whole, "batches of {size}");
        }
    }

    #[test]
    fn order_and_merging_change_rounding_only() {
        let x = rows(1300, 4);
        let whole = of(&[x.shallow_clone()]);
        let reversed = of(&[x.flip([0])]);
        let (mut left, mut right) = (Moments::new(4).unwrap(), Moments::new(4).unwrap());
        left.update(&x.narrow(0, 0, 700)).unwrap();
        right.update(&x.narrow(0, 700, 600)).unwrap();
        left.merge(&right).unwrap();
        assert_eq!(left.count(), 1300);
        for other in [reversed, left.statistics(None).unwrap()] {
            assert!(close(&other.mu, &whole.mu, 1e-10));
            assert!(close(&other.sigma, &whole.sigma, 1e-15));
        }
    }

    #[test]
    fn bad_features_are_named_and_not_taken() {
        let mut moments = Moments::new(3).unwrap();
        moments.update(&rows(4, 3)).unwrap();
        let bad = rows(3, 3);
        let _ = bad.get(1).fill_(f64::NAN);
        let error = moments.update(&bad).unwrap_err().to_string();
        assert!(error.contains("1 image(s)") && error.contains("image 5"), "{error}");
        assert!(moments.update(&rows(2, 4)).is_err());
        assert!(moments.merge(&Moments::new(2).unwrap()).is_err());
        assert_eq!(moments.count(), 4);
        let one = Moments::new(3).unwrap();
        assert!(one.statistics(None).unwrap_err().to_string().contains("at least 2"));
    }
}
