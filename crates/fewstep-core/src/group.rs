//! Processes that work together: what an algorithm may ask of them.

use std::fmt::Debug;
use std::rc::Rc;

/// Why processes could not go on together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct GroupError {
    /// In a sentence.
    pub reason: String,
    /// The exit code of the process that failed, if it said so.
    pub code: Option<u8>,
}

/// Processes, each with a rank, that run the same program on shares of the same work. A call of [`Group::gather`] is one call of each.
pub trait Group: Debug {
    /// This process's number, from 0.
    fn rank(&self) -> usize;

    /// How many there are.
    fn size(&self) -> usize;

    /// What each of them gives, in the order of their ranks, on all of them. They may give lists of different lengths.
    ///
    /// # Errors
    /// If another process has gone, or does not come.
    fn gather(&self, own: &[f64]) -> Result<Vec<Vec<f64>>, GroupError>;

    /// The same where every process knows how many each of them gives.
    ///
    /// # Errors
    /// As [`Group::gather`].
    fn gather_known(&self, own: &[f64], lengths: &[usize]) -> Result<Vec<Vec<f64>>, GroupError> {
        let _ = lengths;
        self.gather(own)
    }
}

/// One process by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Alone;

impl Group for Alone {
    fn rank(&self) -> usize {
        0
    }

    fn size(&self) -> usize {
        1
    }

    fn gather(&self, own: &[f64]) -> Result<Vec<Vec<f64>>, GroupError> {
        Ok(vec![own.to_vec()])
    }
}

impl<G: Group + ?Sized> Group for Rc<G> {
    fn rank(&self) -> usize {
        (**self).rank()
    }

    fn size(&self) -> usize {
        (**self).size()
    }

    fn gather(&self, own: &[f64]) -> Result<Vec<Vec<f64>>, GroupError> {
        (**self).gather(own)
    }

    fn gather_known(&self, own: &[f64], lengths: &[usize]) -> Result<Vec<Vec<f64>>, GroupError> {
        (**self).gather_known(own, lengths)
    }
}
