//! Kernel inception distance: an unbiased squared MMD with a cubic kernel (Binkowski et al. 2018).

use fewstep_nn::tch::{Kind, Tensor};

use crate::error::{Error, Result};
use crate::points;
use crate::watch::Watch;

/// How KID is estimated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KidOptions {
    /// Random subsets whose distances are averaged.
    pub subsets: usize,
    /// Vectors of each side in a subset, drawn without replacement.
    pub subset_size: usize,
    /// Fixes the subsets.
    pub seed: u64,
}

impl Default for KidOptions {
    /// What torch-fidelity does.
    fn default() -> Self {
        Self { subsets: 100, subset_size: 1000, seed: 0 }
    }
}

/// An estimate of the distance.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Kid {
    /// Mean over the subsets; slightly negative values mean that the sets are very similar.
    pub value: f64,
    /// Standard deviation over the subsets (divided by their number), which other tools print after "±".
    pub deviation: f64,
    /// Deviation / sqrt(subsets): the standard error as far as subsets of one set are independent.
    pub standard_error: f64,
}

/// KID between feature vectors `a` `[n, d]` and `b` `[m, d]`; `watch` counts subsets.
///
/// # Errors
/// If either set is smaller than a subset, or they do not fit each other.
pub fn kid(a: &Tensor, b: &Tensor, options: &KidOptions, watch: &mut Watch<'_>) -> Result<Kid> {
    let (a, b) = points::pair(a, b)?;
    let KidOptions { subsets, subset_size, seed } = *options;
    let (n, m) = (a.size()[0] as usize, b.size()[0] as usize);
    if subset_size < 2 || subsets == 0 || n.min(m) < subset_size {
        return Err(Error::Input(format!(
            "KID needs at least one subset of 2 to {} images (there are {n} and {m}), {subsets} of {subset_size} were asked \
             for: choose a smaller subset size",
            n.min(m)
        )));
    }
    let values: Vec<f64> = (0..subsets as u64)
        .map(|i| {
            let rows = |x: &Tensor, n, side| {
                let rows = points::subset(seed, 2 * i + side, n, subset_size);
                x.index_select(0, &Tensor::from_slice(&rows)).to_kind(Kind::Double)
            };
            let value = mmd2(&rows(&a, n, 0), &rows(&b, m, 1));
            watch(i + 1, subsets as u64);
            value
        })
        .collect();
    let count = values.len() as f64;
    let value = values.iter().sum::<f64>() / count;
    let deviation = (values.iter().map(|v| (v - value).powi(2)).sum::<f64>() / count).sqrt();
    Ok(Kid { value, deviation, standard_error: deviation / count.sqrt() })
}

/// Unbiased squared MMD with the kernel (x.y / d + 1)^3 between f64 `x` `[n, d]` and `y` `[m, d]`.
fn mmd2(x: &Tensor, y: &Tensor) -> f64 {
    let within = |x: &Tensor| {
        let n = x.size()[0] as f64;
        let k = kernel(x, x);
        ((k.sum(Kind::Double) - k.trace()) / (n * (n - 1.0))).double_value(&[])
    };
    within(x) + within(y) - 2.0 * kernel(x, y).mean(Kind::Double).double_value(&[])
}

/// One side of many distances: what the pairs within it contribute is computed once.
///
/// All vectors count at once in place of subsets drawn at random, which has the same expectation (both are unbiased) and the least
/// variance; of a side of more than [`KidReference::MOST`] the first so many.
#[derive(Debug)]
pub struct KidReference {
    points: Tensor,
    within: f64,
}

impl KidReference {
    /// Vectors of a side that count, at most: memory and time grow with its square.
    pub const MOST: usize = 10_000;

    /// Feature vectors `[n, d]`.
    ///
    /// # Errors
    /// If there are fewer than two, or they are not finite.
    pub fn new(features: &Tensor) -> Result<Self> {
        let points = at_most(&points::points(features)?);
        let within = within(&points)?;
        Ok(Self { points, within })
    }

    /// KID between `features` `[m, d]` and these; slightly negative where both are very similar.
    ///
    /// # Errors
    /// As [`KidReference::new`], or if the dimensions differ.
    pub fn distance(&self, features: &Tensor) -> Result<f64> {
        let (other, _) = points::pair(features, &self.points)?;
        let other = at_most(&other);
        let pairs = (other.size()[0] * self.points.size()[0]) as f64;
        Ok(self.within + within(&other)? - 2.0 * summed(&other, &self.points) / pairs)
    }
}

fn at_most(points: &Tensor) -> Tensor {
    points.narrow(0, 0, points.size()[0].min(KidReference::MOST as i64))
}

/// Mean kernel of two different vectors of a side.
fn within(points: &Tensor) -> Result<f64> {
    let n = points.size()[0] as f64;
    if n < 2.0 {
        return Err(Error::Input("KID needs 2 images of either side, and there is 1".to_owned()));
    }
    let squares = points.to_kind(Kind::Double).square().sum_dim_intlist(1, false, Kind::Double);
    let diagonal = (squares / points.size()[1] as f64 + 1.0).pow_tensor_scalar(3).sum(Kind::Double).double_value(&[]);
    Ok((summed(points, points) - diagonal) / (n * (n - 1.0)))
}

/// Sum of the kernel over all pairs, some rows at once.
fn summed(x: &Tensor, y: &Tensor) -> f64 {
    const ROWS: i64 = 1000;
    let y = y.to_kind(Kind::Double);
    x.split(ROWS, 0).iter().map(|x| kernel(&x.to_kind(Kind::Double), &y).sum(Kind::Double).double_value(&[])).sum()
}

fn kernel(x: &Tensor, y: &Tensor) -> Tensor {
    (x.matmul(&y.tr()) / x.size()[1] as f64 + 1.0).pow_tensor_scalar(3)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watch::unwatched;
    use fewstep_nn::tch::{self, Device};

    #[test]
    fn two_points_a_side_by_hand() {
        let x = Tensor::from_slice(&[1.0, 0.0, 0.0, 1.0]).view([2, 2]);
        let y = Tensor::from_slice(&[2.0, 0.0, 0.0, 2.0]).view([2, 2]);
        // k(x1, x2) = k(y1, y2) = 1, k(xi, yi) = (2/2 + 1)^3 = 8, k(xi, yj) = 1: 1 + 1 - 2 * 18 / 4.
        let options = KidOptions { subsets: 1, subset_size: 2, seed: 0 };
        assert!((kid(&x, &y, &options, &mut unwatched).unwrap().value + 7.0).abs() < 1e-12);
    }

    #[test]
    fn all_at_once_is_one_subset_of_all() {
        tch::manual_seed(2);
        let draw = |n: i64| Tensor::randn([n, 5], (Kind::Float, Device::Cpu));
        let (x, y) = (draw(1200), draw(1200) + 0.3);
        let options = KidOptions { subsets: 1, subset_size: 1200, seed: 0 };
        let wanted = kid(&x, &y, &options, &mut unwatched).unwrap().value;
        let found = KidReference::new(&y).unwrap().distance(&x).unwrap();
        assert!((found - wanted).abs() < 1e-10 * wanted, "{found} {wanted}");
        assert!(KidReference::new(&x.narrow(0, 0, 1)).is_err());
        assert!(KidReference::new(&y).unwrap().distance(&x.narrow(1, 0, 4)).is_err());
    }

    #[test]
    fn is_unbiased_between_equal_distributions() {
        tch::manual_seed(4);
        let draw = |shift: f64| Tensor::randn([600, 8], (Kind::Double, Device::Cpu)) + shift;
        let options = KidOptions { subsets: 50, subset_size: 100, seed: 1 };
        let same = kid(&draw(0.0), &draw(0.0), &options, &mut unwatched).unwrap();
        let other = kid(&draw(0.0), &draw(0.5), &options, &mut unwatched).unwrap();
        assert!(same.value.abs() < 0.03, "{same:?}");
        assert!(other.value > 0.3 && other.deviation > other.standard_error, "{other:?}");
        assert_eq!(kid(&draw(0.0).zeros_like(), &draw(0.0).zeros_like(), &options, &mut unwatched).unwrap().value, 0.0);
    }

    #[test]
    fn sets_smaller_than_a_subset_are_refused() {
        let x = Tensor::zeros([50, 3], (Kind::Float, Device::Cpu));
        let error = kid(&x, &x, &KidOptions::default(), &mut unwatched).unwrap_err().to_string();
        assert!(error.contains("2 to 50") && error.contains("smaller subset size"), "{error}");
        assert!(kid(&x, &x.narrow(1, 0, 2), &KidOptions::default(), &mut unwatched).is_err());
        assert!(
            kid(&(&x + f64::NAN), &x, &KidOptions::default(), &mut unwatched)
                .unwrap_err()
                .to_string()
                .contains("not finite")
        );
    }
}
