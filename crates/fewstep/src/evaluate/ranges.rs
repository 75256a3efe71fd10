//! Evaluation protocols, and ranges of images that are measured one by one.

use std::ops::Range;

use fewstep_eval::Protocol;
use fewstep_eval::features::{FeatureNetwork, inception};
use fewstep_eval::protocol::Aggregate;

use crate::error::{Result, ensure};
use crate::forecast::check_count;

/// How images are divided: by a protocol, or into equal ranges.
#[derive(Clone, Debug, PartialEq)]
pub enum Division {
    /// So many equal ranges; their mean counts.
    Ranges(usize),
    /// As a protocol says.
    Protocol {
        /// The protocol, with the number of images that each range has.
        protocol: Protocol,
        /// Whether that is not the protocol's own number.
        reduced: bool,
    },
}

impl Division {
    /// The protocol of this name, rehearsed with `reduced` images a range if that is asked for.
    ///
    /// # Errors
    /// If there is none, or the images are too few.
    pub fn of_protocol(name: &str, reduced: Option<u64>) -> Result<Self> {
        let mut protocol = Protocol::named(name)?.clone();
        if let Some(images) = reduced {
            ensure!(images >= 2, "a protocol needs at least 2 images a range");
            check_count("reduced", images, 2)?;
            protocol.images = images;
        }
        Ok(Self::Protocol { protocol, reduced: reduced.is_some() })
    }

    /// The protocol.
    pub fn protocol(&self) -> Option<&Protocol> {
        match self {
            Self::Ranges(_) => None,
            Self::Protocol { protocol, .. } => Some(protocol),
        }
    }

    /// The seeds that a protocol asks for, of all ranges.
    pub fn seeds(&self) -> Option<Vec<u64>> {
        self.protocol().map(|protocol| protocol.seed_ranges().flatten().collect())
    }

    /// Divides the images of `place`.
    ///
    /// # Errors
    /// If they are not as many as the protocol needs, or cannot be divided equally.
    pub fn divide(&self, images: usize, place: &str) -> Result<Ranges> {
        let (count, aggregate) = match self {
            Self::Protocol { protocol, .. } => (protocol.ranges as usize, protocol.aggregate),
            Self::Ranges(count) => (*count, Aggregate::Mean),
        };
        if let Some(Protocol { name, images: each, ranges, .. }) = self.protocol() {
            ensure!(
                images as u64 == each * ranges,
                "the protocol {name} measures {} of {each} images each, so it needs {} images, but {place} holds {images}: make \
                 the others, or leave --protocol out",
                if *ranges == 1 { "one range".to_owned() } else { format!("{ranges} ranges") },
                each * ranges
            );
        }
        ensure!(
            count > 0 && images.is_multiple_of(count),
            "{images} images cannot be divided into {count} equal ranges: set another number of ranges"
        );
        let each = images / count;
        Ok(Ranges { parts: (0..count).map(|i| i * each..(i + 1) * each).collect(), each, aggregate })
    }

    /// The protocol in words, as it was followed.
    pub fn title(&self) -> Option<String> {
        match self {
            Self::Ranges(_) => None,
            Self::Protocol { protocol, reduced: false } => Some(protocol.name.to_owned()),
            Self::Protocol { protocol, reduced: true } => {
                Some(format!("{} rehearsed with {} images a range", protocol.name, protocol.images))
            }
        }
    }
}

/// Protocols are defined on Inception's features.
pub(super) fn check_features(protocol: &Protocol, network: &dyn FeatureNetwork) -> Result<()> {
    ensure!(
        network.id().name.starts_with(inception::NAME),
        "the protocol {} is defined on the features of Inception-v3, not on those of {}: give Inception's weights with \
         --features",
        protocol.name,
        network.id().name
    );
    Ok(())
}

/// Parts of the images that are measured one by one.
#[derive(Debug)]
pub struct Ranges {
    /// By place among the images, in order.
    pub parts: Vec<Range<usize>>,
    /// Images of each.
    pub each: usize,
    /// Which of their FIDs is reported.
    pub aggregate: Aggregate,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Its seeds are a list, which has to fit into memory.
    #[test]
    fn a_rehearsal_has_a_largest_number_of_images() {
        assert_eq!(Division::of_protocol("edm", Some(10)).unwrap().seeds().unwrap().len(), 30);
        let error = Division::of_protocol("edm", Some(1_000_000_000_000)).unwrap_err().to_string();
        assert_eq!(error, "the setting reduced must be at most 10000000, not 1000000000000");
    }
}
