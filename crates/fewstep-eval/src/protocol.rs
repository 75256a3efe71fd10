//! Evaluation protocols by name: how many images, from which seeds, and which of several numbers is reported.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::features::inception::Convention;

/// Which of the numbers of several seed ranges is the protocol's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Aggregate {
    /// The least.
    Least,
    /// The mean.
    Mean,
}

impl Aggregate {
    /// The one of `values` or the number between them; infinity of none.
    pub fn of(self, values: &[f64]) -> f64 {
        match self {
            Self::Least => values.iter().copied().fold(f64::INFINITY, f64::min),
            Self::Mean => values.iter().sum::<f64>() / values.len().max(1) as f64,
        }
    }
}

/// What is measured, so that two people measure the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Protocol {
    /// The name that users type.
    pub name: &'static str,
    /// One sentence for `--help` and reports.
    pub description: &'static str,
    /// Images of each range; the i-th image is made from the i-th seed.
    pub images: u64,
    /// How many ranges of seeds follow one another, from 0 on.
    pub ranges: u64,
    /// Which of their numbers counts.
    pub aggregate: Aggregate,
    /// How images get into Inception.
    pub convention: Convention,
}

/// All protocols.
pub const PROTOCOLS: [Protocol; 3] = [
    Protocol {
        name: "edm",
        description: "Karras et al. 2022: 50,000 images of uint8, TensorFlow-1 resize, the least FID of seeds 0-49999, \
                      50000-99999 and 100000-149999",
        images: 50_000,
        ranges: 3,
        aggregate: Aggregate::Least,
        convention: Convention::Tf1,
    },
    Protocol {
        name: "edm-once",
        description: "as edm, with seeds 0-49999 only (diff-sampler, most few-step papers)",
        images: 50_000,
        ranges: 1,
        aggregate: Aggregate::Least,
        convention: Convention::Tf1,
    },
    Protocol {
        name: "pytorch-fid",
        description: "50,000 images of uint8, PyTorch's bilinear resize, seeds 0-49999",
        images: 50_000,
        ranges: 1,
        aggregate: Aggregate::Least,
        convention: Convention::PytorchFid,
    },
];

impl Protocol {
    /// The protocol of this name.
    ///
    /// # Errors
    /// If there is none; the message lists them.
    pub fn named(name: &str) -> Result<&'static Protocol> {
        PROTOCOLS.iter().find(|protocol| protocol.name == name).ok_or_else(|| {
            let names: Vec<&str> = PROTOCOLS.iter().map(|protocol| protocol.name).collect();
            Error::Input(format!("'{name}' is no evaluation protocol; there are {}", names.join(", ")))
        })
    }

    /// The seeds of each range.
    pub fn seed_ranges(&self) -> impl Iterator<Item = Range<u64>> + '_ {
        (0..self.ranges).map(|i| i * self.images..(i + 1) * self.images)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edm_is_the_least_of_three_ranges_of_fifty_thousand() {
        let edm = Protocol::named("edm").unwrap();
        let ranges: Vec<_> = edm.seed_ranges().collect();
        assert_eq!(ranges, [0..50_000, 50_000..100_000, 100_000..150_000]);
        assert_eq!(edm.aggregate.of(&[2.0, 1.5, 1.75]), 1.5);
        assert_eq!(Aggregate::Mean.of(&[2.0, 1.5, 1.75]), 1.75);
        assert!(Protocol::named("adm").unwrap_err().to_string().contains("edm, edm-once, pytorch-fid"));
    }
}
