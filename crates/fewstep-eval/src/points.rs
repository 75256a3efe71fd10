//! What the distances between sets of feature vectors share: checks and random subsets.

use fewstep_core::noise;
use fewstep_nn::tch::{Device, Kind, Tensor};
use rand::SeedableRng;
use rand::seq::index;
use rand_chacha::ChaCha12Rng;

use crate::error::{Error, Result};

/// Both sets on the CPU, checked to be finite `[n, d]` and `[m, d]`; their type is left as it is, since f64 of all
/// of a large set would not fit everywhere.
pub(crate) fn pair(a: &Tensor, b: &Tensor) -> Result<(Tensor, Tensor)> {
    let (a, b) = (points(a)?, points(b)?);
    same_dimension(&a, &b)?;
    Ok((a, b))
}

/// Refuses sets `[n, d]` of different d.
pub(crate) fn same_dimension(a: &Tensor, b: &Tensor) -> Result<()> {
    let (left, right) = (a.size()[1], b.size()[1]);
    if left != right {
        return Err(Error::Input(format!("one side's features have {left} dimensions, the other's {right}")));
    }
    Ok(())
}

/// A set of vectors `[n, d]` on the CPU, checked to be finite.
pub(crate) fn points(x: &Tensor) -> Result<Tensor> {
    let size = x.size();
    if size.len() != 2 || size.contains(&0) || !x.is_floating_point() {
        return Err(Error::Input(format!(
            "features of shape {size:?} ({:?}) where [N, d] of floats is needed",
            x.kind()
        )));
    }
    let x = x.detach().to_device(Device::Cpu);
    let bad = x.isfinite().logical_not().any_dim(1, false).sum(Kind::Int64).int64_value(&[]);
    if bad > 0 {
        return Err(Error::Input(format!("the features of {bad} image(s) are not finite")));
    }
    Ok(x)
}

/// `amount` different numbers below `n`, the `counter`-th draw of `seed`; all of them in order where `amount` is `n`.
pub(crate) fn subset(seed: u64, counter: u64, n: usize, amount: usize) -> Vec<i64> {
    if amount >= n {
        return (0..n as i64).collect();
    }
    let mut rng = ChaCha12Rng::seed_from_u64(noise::mix(seed, counter));
    index::sample(&mut rng, n, amount).into_iter().map(|i| i as i64).collect()
}
