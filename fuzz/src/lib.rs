//! What the fuzz targets share: memory that is counted, inputs that have the form of a file, and files of them.

pub mod arrays;
pub mod memory;
#[cfg(feature = "torch")]
pub mod network;
pub mod pickles;
pub mod places;

use arbitrary::{Arbitrary, Unstructured};

/// A file as it is, or the parts that one is made of.
#[derive(Debug)]
pub enum Input<'a, P> {
    /// The file.
    Bytes(&'a [u8]),
    /// Its parts.
    Parts(P),
}

impl<'a, P: Arbitrary<'a>> Input<'a, P> {
    /// From what the fuzzer gives: a first byte of 0 to 127 says that a file follows, so that files are seeds.
    pub fn of(data: &'a [u8]) -> Option<Self> {
        let (kind, rest) = data.split_first()?;
        match kind {
            0..=127 => Some(Self::Bytes(rest)),
            _ => P::arbitrary_take_rest(Unstructured::new(rest)).ok().map(Self::Parts),
        }
    }
}
