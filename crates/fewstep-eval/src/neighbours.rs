//! Metrics on nearest-neighbour balls: improved precision and recall (Kynkaanniemi et al. 2019), density and coverage
//! (Naeem et al. 2020).

use fewstep_nn::tch::{Kind, Tensor};

use crate::error::{Error, Result};
use crate::points;
use crate::watch::Watch;

/// Rows of the distance matrix that are in memory at once.
const BLOCK: i64 = 512;

/// Fidelity and variety of generated images, each from 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PrecisionRecall {
    /// Share of the generated inside a ball around a real one.
    pub precision: f64,
    /// Share of the real inside a ball around a generated one.
    pub recall: f64,
}

impl PrecisionRecall {
    /// Harmonic mean of the two.
    pub fn f_score(&self) -> f64 {
        2.0 * self.precision * self.recall / (self.precision + self.recall).max(1e-5)
    }
}

/// Precision and recall of `generated` `[n, d]` against `real` `[m, d]`; a ball's radius is the distance of its centre to
/// its `k`-th nearest neighbour in its own set (3 in the paper). `watch` counts blocks of the distance matrices.
///
/// # Errors
/// If a set has `k` vectors or fewer, or they do not fit each other.
pub fn precision_recall(generated: &Tensor, real: &Tensor, k: usize, watch: &mut Watch<'_>) -> Result<PrecisionRecall> {
    let (generated, real) = checked(generated, real, k)?;
    let mut tick = ticker(2 * (block_count(&generated) + block_count(&real)), watch);
    let mut share = |queries: &Tensor, centres: &Tensor| {
        let radii = squared_radii(centres, k, &mut tick);
        let inside = blocks(queries, centres, &mut tick, |distances| {
            distances.le_tensor(&radii).any_dim(1, false).to_kind(Kind::Double)
        });
        inside.mean(Kind::Double).double_value(&[])
    };
    Ok(PrecisionRecall { precision: share(&generated, &real), recall: share(&real, &generated) })
}

/// Precision and recall made robust to outliers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DensityCoverage {
    /// Balls around real images that a generated one lies in, on average, divided by `k`; can exceed 1.
    pub density: f64,
    /// Share of the real images whose ball holds a generated one.
    pub coverage: f64,
}

/// Density and coverage of `generated` `[n, d]` against `real` `[m, d]` (`k` = 5 in the paper). `watch` counts blocks of the
/// distance matrices.
///
/// # Errors
/// If a set has `k` vectors or fewer, or they do not fit each other.
pub fn density_coverage(generated: &Tensor, real: &Tensor, k: usize, watch: &mut Watch<'_>) -> Result<DensityCoverage> {
    let (generated, real) = checked(generated, real, k)?;
    let mut tick = ticker(block_count(&generated) + 2 * block_count(&real), watch);
    let radii = squared_radii(&real, k, &mut tick);
    let counts = blocks(&generated, &real, &mut tick, |distances| {
        distances.lt_tensor(&radii).sum_dim_intlist(1, false, Kind::Double)
    });
    let nearest = blocks(&real, &generated, &mut tick, |distances| distances.min_dim(1, false).0);
    Ok(DensityCoverage {
        density: counts.mean(Kind::Double).double_value(&[]) / k as f64,
        coverage: nearest.lt_tensor(&radii).to_kind(Kind::Double).mean(Kind::Double).double_value(&[]),
    })
}

fn checked(generated: &Tensor, real: &Tensor, k: usize) -> Result<(Tensor, Tensor)> {
    let (generated, real) = points::pair(generated, real)?;
    let (generated, real) = (generated.to_kind(Kind::Double), real.to_kind(Kind::Double));
    let fewest = generated.size()[0].min(real.size()[0]);
    if k == 0 || fewest <= k as i64 {
        return Err(Error::Input(format!(
            "neighbourhoods of {k} need more than {k} images on each side, there are {fewest}"
        )));
    }
    Ok((generated, real))
}

/// Squared distance of each of `x` `[n, d]` to its `k`-th nearest other: `[n]`.
fn squared_radii(x: &Tensor, k: usize, tick: &mut dyn FnMut()) -> Tensor {
    // The nearest is the vector itself, at distance 0.
    blocks(x, x, tick, |distances| distances.kthvalue(k as i64 + 1, 1, false).0)
}

/// `f` of the squared distances `[<= 512, m]` of some of `a` `[n, d]` to all of `b` `[m, d]`, for all of `a`.
fn blocks(a: &Tensor, b: &Tensor, tick: &mut dyn FnMut(), f: impl Fn(&Tensor) -> Tensor) -> Tensor {
    let square = |x: &Tensor| (x * x).sum_dim_intlist(1, false, Kind::Double);
    let b_square = square(b);
    let part = |rows: Tensor| {
        let found = f(&(square(&rows).unsqueeze(1) + &b_square - rows.matmul(&b.tr()) * 2.0).clamp_min(0.0));
        tick();
        found
    };
    Tensor::cat(&a.split(BLOCK, 0).into_iter().map(part).collect::<Vec<_>>(), 0)
}

fn block_count(x: &Tensor) -> u64 {
    (x.size()[0] as u64).div_ceil(BLOCK as u64)
}

/// Tells `watch` of one more of `total` blocks whenever it is called.
fn ticker(total: u64, watch: &mut Watch<'_>) -> impl FnMut() {
    let mut done = 0;
    move || {
        done += 1;
        watch(done, total);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watch::unwatched;
    use fewstep_nn::tch::{self, Device};

    fn line(positions: &[f64]) -> Tensor {
        Tensor::from_slice(positions).view([-1, 1])
    }

    #[test]
    fn points_on_a_line_by_hand() {
        let real = line(&[0.0, 1.0, 2.0, 10.0]); // radii to the nearest: 1, 1, 1, 8
        let fake = line(&[0.5, 5.0, 20.0]); // radii: 4.5, 4.5, 15
        let found = precision_recall(&fake, &real, 1, &mut unwatched).unwrap();
        // 0.5 and 5 (in the ball of 10) are inside; 20 is not. All real ones are inside some ball of a fake.
        assert_eq!(found, PrecisionRecall { precision: 2.0 / 3.0, recall: 1.0 });
        assert!((found.f_score() - 0.8).abs() < 1e-12);
        let found = density_coverage(&fake, &real, 1, &mut unwatched).unwrap();
        // 0.5 lies in two balls, 5 in one, 20 in none; the balls of 0, 1 and 10 hold a fake, that of 2 does not.
        assert!((found.density - 1.0).abs() < 1e-12 && (found.coverage - 0.75).abs() < 1e-12, "{found:?}");
    }

    #[test]
    fn equal_sets_are_perfect_and_distant_ones_share_nothing() {
        tch::manual_seed(2);
        let x = Tensor::randn([1100, 6], (Kind::Float, Device::Cpu));
        assert_eq!(
            precision_recall(&x, &x, 3, &mut unwatched).unwrap(),
            PrecisionRecall { precision: 1.0, recall: 1.0 }
        );
        assert_eq!(density_coverage(&x, &x, 5, &mut unwatched).unwrap().coverage, 1.0);
        let far = &x + 100.0;
        assert_eq!(precision_recall(&x, &far, 3, &mut unwatched).unwrap().f_score(), 0.0);
        assert_eq!(
            density_coverage(&x, &far, 5, &mut unwatched).unwrap(),
            DensityCoverage { density: 0.0, coverage: 0.0 }
        );
        assert!(
            precision_recall(&x.narrow(0, 0, 3), &x, 3, &mut unwatched)
                .unwrap_err()
                .to_string()
                .contains("more than 3 images")
        );
    }
}
