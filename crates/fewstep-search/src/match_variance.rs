//! Images stretched about the constant image until they vary as much as the teacher's.

use fewstep_core::plan::{Combination, Source};
use fewstep_core::space::VectorSpace;

/// `k` with `k^2 = |wanted|^2 / |found|^2`, both about the centre; none where there is no such number.
pub(super) fn stretch<V: VectorSpace>(found: &V, wanted: &V) -> Option<f64> {
    let k = (wanted.norm_squared() / found.norm_squared()).sqrt();
    k.is_finite().then_some(k)
}

/// The terms of `m + k (x - m)` from those of `x`, `m` the constant image.
pub(super) fn stretched(terms: Vec<(Source, f64)>, k: f64) -> Vec<(Source, f64)> {
    terms.into_iter().map(|(source, c)| (source, k * c)).chain([(Source::Constant, 1.0 - k)]).collect()
}

/// One term a source, those of 0 left out.
pub(super) fn gathered(terms: Vec<(Source, f64)>) -> Combination {
    let mut sums: Vec<(Source, f64)> = Vec::with_capacity(terms.len());
    for (source, c) in terms {
        match sums.iter_mut().find(|(known, _)| *known == source) {
            Some((_, sum)) => *sum += c,
            None => sums.push((source, c)),
        }
    }
    Combination::new(sums.into_iter().filter(|(_, c)| *c != 0.0).collect())
}
