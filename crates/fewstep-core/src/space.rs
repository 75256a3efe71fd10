//! The vector space that samplers, objectives and searches work in.

/// What this crate needs of a batch of images: scaled sums and an inner product.
///
/// One value holds a whole batch. All values that meet in one call have the same shape; an implementation may treat
/// anything else as a bug of the caller.
pub trait VectorSpace: Clone {
    /// `sum_k c_k v_k`. `terms` is never empty. Coefficients are `f64`; an implementation of lower precision rounds
    /// once per term, at its own edge.
    fn combine(terms: &[(f64, &Self)]) -> Self;

    /// Inner product over every element, the whole batch.
    fn dot(&self, other: &Self) -> f64;

    /// `<v, v>`: the squared Euclidean norm of the whole batch.
    fn norm_squared(&self) -> f64 {
        self.dot(self)
    }

    /// `self - other`.
    fn difference(&self, other: &Self) -> Self {
        Self::combine(&[(1.0, self), (-1.0, other)])
    }
}

/// Plain vectors; a batch is the concatenation of its samples.
impl VectorSpace for Vec<f64> {
    fn combine(terms: &[(f64, &Self)]) -> Self {
        let len = terms.first().map_or(0, |(_, v)| v.len());
        let mut sum = vec![0.0; len];
        for (c, v) in terms {
            debug_assert_eq!(v.len(), len, "vectors of one sum have one length");
            for (out, value) in sum.iter_mut().zip(v.iter()) {
                *out += c * value;
            }
        }
        sum
    }

    fn dot(&self, other: &Self) -> f64 {
        debug_assert_eq!(self.len(), other.len(), "vectors of one product have one length");
        self.iter().zip(other).map(|(a, b)| a * b).sum()
    }
}

/// A list of vectors is their direct sum: a batch in parts, for batches too large for one network call (map the
/// denoiser over the parts) or to tell samples apart (one part a sample). Lists that meet have one length.
impl<V: VectorSpace> VectorSpace for Vec<V> {
    fn combine(terms: &[(f64, &Self)]) -> Self {
        let parts = terms.first().map_or(0, |(_, v)| v.len());
        debug_assert!(terms.iter().all(|(_, v)| v.len() == parts), "lists of one sum have one length");
        (0..parts).map(|k| V::combine(&terms.iter().map(|(c, v)| (*c, &v[k])).collect::<Vec<_>>())).collect()
    }

    fn dot(&self, other: &Self) -> f64 {
        debug_assert_eq!(self.len(), other.len(), "lists of one product have one length");
        self.iter().zip(other).map(|(a, b)| a.dot(b)).sum()
    }
}

/// A batch whose samples can be told apart, which some costs need: a mean of norms is not a norm.
pub trait Samples: VectorSpace {
    /// Number of samples.
    fn samples(&self) -> usize;

    /// Inner product of each sample with its partner.
    fn sample_dots(&self, other: &Self) -> Vec<f64>;

    /// [`Samples::sample_dots`] with each of several batches.
    fn sample_dots_with<'a>(&self, others: impl IntoIterator<Item = &'a Self>) -> Vec<Vec<f64>>
    where
        Self: 'a,
    {
        others.into_iter().map(|other| self.sample_dots(other)).collect()
    }

    /// Sum of absolute values of each sample.
    fn sample_l1(&self) -> Vec<f64>;

    /// Each sample times a factor of its own; one factor a sample.
    fn scale_samples(&self, factors: &[f64]) -> Self;
}

/// One sample.
impl Samples for Vec<f64> {
    fn samples(&self) -> usize {
        1
    }

    fn sample_dots(&self, other: &Self) -> Vec<f64> {
        vec![self.dot(other)]
    }

    fn sample_l1(&self) -> Vec<f64> {
        vec![self.iter().map(|value| value.abs()).sum()]
    }

    fn scale_samples(&self, factors: &[f64]) -> Self {
        debug_assert_eq!(factors.len(), 1, "a plain vector is one sample");
        self.iter().map(|value| value * factors[0]).collect()
    }
}

/// The samples of all parts, one after the other.
impl<V: Samples> Samples for Vec<V> {
    fn samples(&self) -> usize {
        self.iter().map(V::samples).sum()
    }

    fn sample_dots(&self, other: &Self) -> Vec<f64> {
        self.iter().zip(other).flat_map(|(a, b)| a.sample_dots(b)).collect()
    }

    fn sample_l1(&self) -> Vec<f64> {
        self.iter().flat_map(V::sample_l1).collect()
    }

    fn scale_samples(&self, factors: &[f64]) -> Self {
        let mut rest = factors;
        let scaled = self.iter().map(|part| {
            let (own, others) = rest.split_at(part.samples());
            rest = others;
            part.scale_samples(own)
        });
        scaled.collect()
    }
}

/// A batch whose samples can be taken apart; where they are images or other grids, also differences of neighbours.
pub trait Batch: Samples {
    /// The samples from `start` on, so many.
    fn part(&self, start: usize, count: usize) -> Self;

    /// The sum over the samples, value by value.
    fn sum_of_samples(&self) -> Vec<f64>;

    /// The mean over the samples, as single numbers.
    fn mean_sample(&self) -> Vec<f32> {
        let samples = self.samples() as f64;
        self.sum_of_samples().into_iter().map(|sum| (sum / samples) as f32).collect()
    }

    /// How many numbers a sample has that has not `numel` of them; none where all have, or a batch cannot tell. Searches check what a
    /// denoiser gives by it.
    fn other_size(&self, numel: usize) -> Option<usize> {
        let _ = numel;
        None
    }

    /// The batch times `weight` and, beside it, the differences of neighbouring values along every axis of a grid: in the norm of the
    /// differences every octave of a natural image counts about the same, where in the image's own the coarsest rule. None where
    /// samples are no grids.
    fn with_gradients(&self, weight: f64) -> Option<Self>;
}

/// A batch as a list of samples, each a vector of as many numbers as its shape says, the last axis fastest: no grids.
impl Batch for Vec<Vec<f64>> {
    fn part(&self, start: usize, count: usize) -> Self {
        self.iter().skip(start).take(count).cloned().collect()
    }

    fn sum_of_samples(&self) -> Vec<f64> {
        let dim = self.first().map_or(0, Vec::len);
        (0..dim).map(|i| self.iter().map(|sample| sample[i]).sum()).collect()
    }

    fn other_size(&self, numel: usize) -> Option<usize> {
        self.iter().map(Vec::len).find(|len| *len != numel)
    }

    fn with_gradients(&self, _: f64) -> Option<Self> {
        None
    }
}

/// A vector that counts how many of its kind are alive, for tests of memory.
#[cfg(test)]
#[derive(Clone)]
pub(crate) struct Counted(pub f64, pub std::rc::Rc<()>);

#[cfg(test)]
impl VectorSpace for Counted {
    fn combine(terms: &[(f64, &Self)]) -> Self {
        Self(terms.iter().map(|(c, v)| c * v.0).sum(), terms[0].1.1.clone())
    }

    fn dot(&self, other: &Self) -> f64 {
        self.0 * other.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn combine_scales_and_adds() {
        let (a, b) = (vec![1.0, 2.0], vec![-3.0, 0.5]);
        assert_eq!(Vec::combine(&[(2.0, &a), (-1.0, &b)]), vec![5.0, 3.5]);
        assert_eq!(a.difference(&b), vec![4.0, 1.5]);
        assert_eq!(a.dot(&b), -2.0);
        assert_eq!(b.norm_squared(), 9.25);
    }

    #[test]
    fn lists_are_direct_sums_and_their_samples_stay_apart() {
        let (a, b) = (vec![vec![1.0, 2.0], vec![3.0, -1.0]], vec![vec![0.5, 0.0], vec![-1.0, 1.0]]);
        assert_eq!(Vec::combine(&[(2.0, &a), (-2.0, &b)]), [[1.0, 4.0], [8.0, -4.0]]);
        assert_eq!((a.dot(&b), a.sample_dots(&b)), (-3.5, vec![0.5, -4.0]));
        assert_eq!(a.sample_l1(), [3.0, 4.0]);
        assert_eq!(a.scale_samples(&[2.0, -1.0]), [[2.0, 4.0], [-3.0, 1.0]]);
        let nested = vec![a.clone(), b.clone()];
        assert_eq!(nested.scale_samples(&[1.0, 0.0, 0.0, 3.0])[1], [[0.0, 0.0], [-3.0, 3.0]]);
    }
}
