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
}
