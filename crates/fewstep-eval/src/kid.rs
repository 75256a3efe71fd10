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
    /// How far the subsets lie apart; `None` where all hold the same vectors, and so say nothing of it.
    pub spread: Option<Spread>,
}

/// How far the distances of subsets lie apart.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
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
    let mut values = Vec::with_capacity(subsets);
    let (mut first, mut differ) = (None, false);
    for i in 0..subsets as u64 {
        let mut rows = [points::subset(seed, 2 * i, n, subset_size), points::subset(seed, 2 * i + 1, m, subset_size)];
        let [x, y] = [(&a, &rows[0]), (&b, &rows[1])].map(|(of, rows)| of.index_select(0, &Tensor::from_slice(rows)));
        values.push(mmd2(&x, within(&x)?, &y, within(&y)?));
        rows.iter_mut().for_each(|side| side.sort_unstable()); // the same vectors in another order are the same subset
        differ |= first.get_or_insert_with(|| rows.clone()) != &rows;
        watch(i + 1, subsets as u64);
    }
    let count = values.len() as f64;
    let value = values.iter().sum::<f64>() / count;
    let deviation = (values.iter().map(|v| (v - value).powi(2)).sum::<f64>() / count).sqrt();
    Ok(Kid { value, spread: differ.then_some(Spread { deviation, standard_error: deviation / count.sqrt() }) })
}

/// Unbiased squared MMD with the kernel (x.y / d + 1)^3 between `x` `[n, d]` and `y` `[m, d]`, by what the pairs [`within`] either
/// contribute.
fn mmd2(x: &Tensor, within_x: f64, y: &Tensor, within_y: f64) -> f64 {
    let pairs = (x.size()[0] * y.size()[0]) as f64;
    within_x + within_y - 2.0 * summed(x, y) / pairs
}

/// One side of many distances: what the pairs within it contribute is computed once.
///
/// All vectors count at once in place of subsets drawn at random, which has the same expectation (both are unbiased) and
/// the least variance; of a side of more than [`KidSide::MOST`] so many drawn at random, the same every time.
#[derive(Debug)]
pub struct KidSide {
    points: Tensor,
    within: f64,
}

impl KidSide {
    /// Vectors of a side that count, at most: memory and time grow with its square.
    pub const MOST: usize = 10_000;

    /// Feature vectors `[n, d]` of what is compared with.
    ///
    /// # Errors
    /// If there are fewer than two, or they are not finite.
    pub fn reference(features: &Tensor) -> Result<Self> {
        Self::new(features, 0)
    }

    /// Feature vectors `[n, d]` of what is compared.
    ///
    /// # Errors
    /// As [`KidSide::reference`].
    pub fn compared(features: &Tensor) -> Result<Self> {
        Self::new(features, 1)
    }

    fn new(features: &Tensor, side: u64) -> Result<Self> {
        let points = at_most(&points::points(features)?, side);
        let within = within(&points)?;
        Ok(Self { points, within })
    }

    /// KID between both sides; slightly negative where they are very similar.
    ///
    /// # Errors
    /// If their dimensions differ.
    pub fn distance(&self, other: &Self) -> Result<f64> {
        points::same_dimension(&self.points, &other.points)?;
        Ok(mmd2(&other.points, other.within, &self.points, self.within))
    }
}

/// Fixes which vectors count of a large side.
const SEED: u64 = 0;

/// At most [`KidSide::MOST`] vectors of a side, 0 or 1. They are drawn at random, as the first of a data set that is
/// sorted by class are of some classes only, and by side, so that equal sets are not compared vector by vector.
fn at_most(points: &Tensor, side: u64) -> Tensor {
    let n = points.size()[0] as usize;
    if n <= KidSide::MOST {
        return points.shallow_clone();
    }
    points.index_select(0, &Tensor::from_slice(&points::subset(SEED, side, n, KidSide::MOST)))
}

/// Mean kernel of two different vectors of a side.
fn within(points: &Tensor) -> Result<f64> {
    let n = points.size()[0] as f64;
    if n < 2.0 {
        return Err(Error::Input("KID needs 2 images of either side, and there is 1".to_owned()));
    }
    let squares = points.to_kind(Kind::Double).square().sum_dim_intlist(1, false, Kind::Double);
    let diagonal = (squares / points.size()[1] as f64 + 1.0).pow_tensor_scalar(3).sum(Kind::Double).double_value(&[]);
    Ok((summed_within(points) - diagonal) / (n * (n - 1.0)))
}

/// Rows of a side at once.
const ROWS: i64 = 1000;

/// Sum of the kernel over all pairs, some rows at once.
fn summed(x: &Tensor, y: &Tensor) -> f64 {
    let y = y.to_kind(Kind::Double);
    x.split(ROWS, 0).iter().map(|x| total(&kernel(&x.to_kind(Kind::Double), &y))).sum()
}

/// [`summed`] over all pairs of one side, of which those of different rows are computed once for both orders.
fn summed_within(x: &Tensor) -> f64 {
    let x = x.to_kind(Kind::Double);
    let n = x.size()[0];
    let part = |start: i64| {
        let rows = ROWS.min(n - start);
        let pairs = kernel(&x.narrow(0, start, rows), &x.narrow(0, start, n - start));
        2.0 * total(&pairs) - total(&pairs.narrow(1, 0, rows))
    };
    (0..n).step_by(ROWS as usize).map(part).sum()
}

fn total(x: &Tensor) -> f64 {
    x.sum(Kind::Double).double_value(&[])
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
    fn a_spread_needs_subsets_that_differ() {
        tch::manual_seed(3);
        let draw = |n: i64| Tensor::randn([n, 5], (Kind::Double, Device::Cpu));
        let spread = |n, m, subsets, subset_size| {
            kid(&draw(n), &draw(m), &KidOptions { subsets, subset_size, seed: 0 }, &mut unwatched).unwrap().spread
        };
        assert_eq!(spread(40, 40, 5, 40), None, "all subsets are everything");
        assert_eq!(spread(50, 40, 1, 20), None, "one subset");
        for (n, m) in [(50, 40), (40, 50), (50, 50)] {
            assert!(spread(n, m, 5, 40).is_some_and(|spread| spread.deviation > 0.0), "{n} {m}");
        }
    }

    #[test]
    fn of_a_large_side_vectors_of_all_of_it_count() {
        let n = 4 * KidSide::MOST as i64;
        let sorted = Tensor::arange(n, (Kind::Double, Device::Cpu)).unsqueeze(1);
        let found = at_most(&sorted, 0);
        assert_eq!(found.size(), [KidSide::MOST as i64, 1]);
        let share = found.lt((n / 2) as f64).to_kind(Kind::Double).mean(Kind::Double).double_value(&[]);
        assert!((share - 0.5).abs() < 0.05, "{share} of the vectors are of the first half");
        assert!(found == at_most(&sorted, 0) && found != at_most(&sorted, 1));
        let few = sorted.narrow(0, 0, 10);
        assert!(at_most(&few, 0) == few, "all of a small side count, in order");
    }

    #[test]
    fn all_at_once_is_one_subset_of_all() {
        tch::manual_seed(2);
        let draw = |n: i64| Tensor::randn([n, 5], (Kind::Float, Device::Cpu));
        let (x, y) = (draw(1200), draw(1200) + 0.3);
        let options = KidOptions { subsets: 1, subset_size: 1200, seed: 0 };
        let wanted = kid(&x, &y, &options, &mut unwatched).unwrap().value;
        let reference = KidSide::reference(&y).unwrap();
        let found = reference.distance(&KidSide::compared(&x).unwrap()).unwrap();
        assert!((found - wanted).abs() < 1e-10 * wanted, "{found} {wanted}");
        assert!(KidSide::reference(&x.narrow(0, 0, 1)).is_err());
        assert!(reference.distance(&KidSide::compared(&x.narrow(1, 0, 4)).unwrap()).is_err());
    }

    #[test]
    fn pairs_of_one_side_are_those_of_it_with_itself() {
        tch::manual_seed(5);
        for n in [1, ROWS - 1, ROWS, 2 * ROWS + 7] {
            let x = Tensor::randn([n, 3], (Kind::Double, Device::Cpu));
            let (found, wanted) = (summed_within(&x), summed(&x, &x));
            assert!((found - wanted).abs() < 1e-12 * wanted, "{n}: {found} {wanted}");
        }
    }

    #[test]
    fn is_unbiased_between_equal_distributions() {
        tch::manual_seed(4);
        let draw = |shift: f64| Tensor::randn([600, 8], (Kind::Double, Device::Cpu)) + shift;
        let options = KidOptions { subsets: 50, subset_size: 100, seed: 1 };
        let same = kid(&draw(0.0), &draw(0.0), &options, &mut unwatched).unwrap();
        let other = kid(&draw(0.0), &draw(0.5), &options, &mut unwatched).unwrap();
        assert!(same.value.abs() < 0.03, "{same:?}");
        assert!(other.value > 0.3, "{other:?}");
        assert!(other.spread.is_some_and(|spread| spread.deviation > spread.standard_error), "{other:?}");
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
