//! A number with everything that it depends on.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::features::FeatureId;

/// One measured number, as it stands in `run.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measurement {
    /// `fid`, `kid`, `inception-score`, `precision` ...
    pub metric: String,
    /// The number.
    pub value: f64,
    /// Its standard error or deviation, where one was computed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uncertainty: Option<Uncertainty>,
    /// Images it was measured on.
    pub num_images: u64,
    /// The feature network; metrics on pixels have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub features: Option<FeatureId>,
    /// What the images were compared with, where they were compared: a data set's or a reference file's fingerprint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// What a reader must know to compare the number.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// How far a number is off, and in which sense.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Uncertainty {
    /// In the number's own unit.
    pub value: f64,
    /// Where it comes from: `bootstrap`, `seed ranges`, `subsets`, `splits`.
    pub source: String,
}

impl Measurement {
    /// Checks that `self < other` means something: same metric, features, reference and number of images.
    ///
    /// # Errors
    /// If one of them differs; the message says which.
    pub fn check_comparable(&self, other: &Measurement) -> Result<()> {
        if self.metric != other.metric {
            return Err(Error::Input(format!("{} cannot be compared with {}", self.metric, other.metric)));
        }
        FeatureId::check_same(self.features.as_ref(), other.features.as_ref())?;
        if self.reference != other.reference {
            let name = |m: &Measurement| m.reference.clone().unwrap_or_else(|| "none".to_owned());
            let (metric, ours, theirs) = (&self.metric, name(self), name(other));
            return Err(Error::Input(format!("the two {metric} values have different references ({ours}; {theirs})")));
        }
        if self.num_images != other.num_images {
            return Err(Error::Input(format!(
                "the two {} values are of {} and of {} images, and their bias depends on that number",
                self.metric, self.num_images, other.num_images
            )));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fid() -> Measurement {
        Measurement {
            metric: "fid".into(),
            value: 6.5,
            uncertainty: None,
            num_images: 1000,
            features: Some(FeatureId { name: "small-cnn".into(), sha256: "ab".into() }),
            reference: Some("cd".into()),
            warnings: Vec::new(),
        }
    }

    #[test]
    fn only_like_is_compared_with_like() {
        assert!(fid().check_comparable(&Measurement { value: 7.0, ..fid() }).is_ok());
        let other = |m: Measurement| fid().check_comparable(&m).unwrap_err().to_string();
        assert!(other(Measurement { metric: "kid".into(), ..fid() }).contains("kid"));
        assert!(other(Measurement { num_images: 5, ..fid() }).contains("1000 and of 5"));
        assert!(other(Measurement { reference: None, ..fid() }).contains("different references"));
        let features = Some(FeatureId { name: "inception".into(), sha256: "ab".into() });
        assert!(other(Measurement { features, ..fid() }).contains("inception"));
    }

    #[test]
    fn json_reads_back() {
        let uncertainty = Some(Uncertainty { value: 0.1, source: "bootstrap".into() });
        let written = Measurement { uncertainty, ..fid() };
        let json = serde_json::to_string(&written).unwrap();
        assert!(!json.contains("warnings"), "{json}");
        assert_eq!(serde_json::from_str::<Measurement>(&json).unwrap(), written);
    }
}
