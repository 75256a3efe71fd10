//! Evaluation protocols, and ranges of images that are measured one by one.

use std::ops::Range;

use anyhow::{Result, ensure};
use fewstep_eval::Protocol;
use fewstep_eval::features::{FeatureNetwork, inception};
use fewstep_eval::protocol::Aggregate;

/// How many images, and in how many ranges.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Protocol")]
pub struct ProtocolArgs {
    /// edm (50,000 images of uint8, the least FID of seeds 0-49999, 50000-99999 and 100000-149999, all three shown), edm-once
    /// (seeds 0-49999 only) or pytorch-fid (50,000 images, its resize)
    #[arg(long, value_name = "NAME", conflicts_with_all = ["seeds", "latents", "class", "resize", "ranges", "max_images"])]
    pub protocol: Option<String>,
    /// Rehearse the protocol with so many images a range; the result says so
    #[arg(long, value_name = "N", requires = "protocol")]
    pub reduced: Option<usize>,
    /// Measure so many equal ranges of the images one by one: their mean and its spread
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub ranges: usize,
}

impl ProtocolArgs {
    /// The protocol that was named, with its number of images as asked for.
    pub fn resolve(&self) -> Result<Option<Protocol>> {
        let Some(name) = &self.protocol else { return Ok(None) };
        let mut protocol = Protocol::named(name)?.clone();
        if let Some(images) = self.reduced {
            ensure!(images >= 2, "--reduced needs at least 2 images a range");
            protocol.images = images as u64;
        }
        Ok(Some(protocol))
    }

    /// Divides the images of `place`.
    pub fn divide(&self, protocol: Option<&Protocol>, images: usize, place: &str) -> Result<Ranges> {
        let (count, aggregate) = match protocol {
            Some(protocol) => (protocol.ranges as usize, protocol.aggregate),
            None => (self.ranges, Aggregate::Mean),
        };
        if let Some(Protocol { name, images: each, ranges, .. }) = protocol {
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
            "{images} images cannot be divided into {count} equal ranges: choose another --ranges"
        );
        let each = images / count;
        let title = protocol.map(|protocol| match self.reduced {
            Some(images) => format!("{} rehearsed with {images} images a range", protocol.name),
            None => protocol.name.to_owned(),
        });
        Ok(Ranges { parts: (0..count).map(|i| i * each..(i + 1) * each).collect(), each, aggregate, title })
    }
}

/// Protocols are defined on Inception's features.
pub fn check_features(protocol: &Protocol, network: &dyn FeatureNetwork) -> Result<()> {
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
    /// The protocol, in words.
    pub title: Option<String>,
}
