//! A vector that counts how many of its kind are alive, for tests of memory.

use std::rc::Rc;

use fewstep_core::VectorSpace;

#[derive(Clone)]
pub(crate) struct Counted(pub f64, pub Rc<()>);

impl VectorSpace for Counted {
    fn combine(terms: &[(f64, &Self)]) -> Self {
        Self(terms.iter().map(|(c, v)| c * v.0).sum(), terms[0].1.1.clone())
    }

    fn dot(&self, other: &Self) -> f64 {
        self.0 * other.0
    }
}
