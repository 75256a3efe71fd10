//! A sample that a sampler knows before its first evaluation.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

/// What the network says at a high noise level, on average over latents: one sample for all, or one a class.
///
/// Where noise drowns the image, `D(x; sigma)` hardly depends on `x`. A plan that holds its mean leaves `sigma` by a
/// combination of the latent and this image and saves the evaluation. [`super::Source::Constant`] refers to it.
#[derive(Clone, Debug, PartialEq)]
pub struct Constant {
    /// The noise level that it stands for, where the latent enters.
    pub sigma: f64,
    /// Shape of a sample: channels, height and width of an image.
    pub shape: Vec<usize>,
    /// The samples, each as many values as the shape says, the last axis fastest; one, or as many as there are classes.
    pub samples: Vec<Vec<f32>>,
}

/// What is wrong with a constant image.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ConstantError {
    /// A noise level that is none.
    #[error("stands for the noise level {0}, which is not a positive finite number")]
    Sigma(f64),
    /// No image at all.
    #[error("has no image")]
    Empty,
    /// Another number of values than its shape says.
    #[error("has {found} values in image {index}, where its shape says {expected}")]
    Size {
        /// The image, counting from 0.
        index: usize,
        /// Values there are.
        found: usize,
        /// Values there should be.
        expected: usize,
    },
    /// Infinite or NaN.
    #[error("has a value in image {0} that is not finite")]
    NotFinite(usize),
}

impl Constant {
    /// Checks level, sizes and values.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn validate(&self) -> Result<(), ConstantError> {
        if !(self.sigma.is_finite() && self.sigma > 0.0) {
            return Err(ConstantError::Sigma(self.sigma));
        }
        if self.samples.is_empty() {
            return Err(ConstantError::Empty);
        }
        let expected = self.shape.iter().try_fold(1usize, |size, side| size.checked_mul(*side));
        for (index, image) in self.samples.iter().enumerate() {
            if Some(image.len()) != expected {
                let expected = expected.unwrap_or(usize::MAX);
                return Err(ConstantError::Size { index, found: image.len(), expected });
            }
            if !image.iter().all(|value| value.is_finite()) {
                return Err(ConstantError::NotFinite(index));
            }
        }
        Ok(())
    }
}

/// The file form: values as little-endian f32 in base64, one string an image.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    sigma: f64,
    shape: Vec<usize>,
    f32_base64: Vec<String>,
}

impl Serialize for Constant {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let text =
            |image: &Vec<f32>| STANDARD.encode(image.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>());
        let f32_base64 = self.samples.iter().map(text).collect();
        File { sigma: self.sigma, shape: self.shape.clone(), f32_base64 }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Constant {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error as _;
        let File { sigma, shape, f32_base64 } = File::deserialize(deserializer)?;
        let image = |text: &String| {
            let bytes = STANDARD.decode(text).map_err(|error| format!("no base64: {error}"))?;
            let (values, rest) = bytes.as_chunks::<4>();
            if !rest.is_empty() {
                return Err(format!("{} bytes, which is not a whole number of f32 values", bytes.len()));
            }
            Ok(values.iter().map(|value| f32::from_le_bytes(*value)).collect())
        };
        let samples: Result<Vec<Vec<f32>>, String> = f32_base64.iter().map(image).collect();
        let samples = samples.map_err(|reason| D::Error::custom(format!("the constant image is {reason}")))?;
        Ok(Self { sigma, shape, samples })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Constant {
        Constant {
            sigma: 80.0,
            shape: vec![1, 1, 3],
            samples: vec![vec![0.1, -0.5, 1.0], vec![0.0, f32::MIN_POSITIVE, -1.0]],
        }
    }

    #[test]
    fn json_round_trip_is_exact() {
        let text = serde_json::to_string(&example()).unwrap();
        assert_eq!(serde_json::from_str::<Constant>(&text).unwrap(), example());
    }

    #[test]
    fn faults_are_named() {
        let fault = |edit: &dyn Fn(&mut Constant)| {
            let mut constant = example();
            edit(&mut constant);
            constant.validate().unwrap_err()
        };
        assert!(example().validate().is_ok());
        assert_eq!(fault(&|c| c.sigma = 0.0), ConstantError::Sigma(0.0));
        assert_eq!(fault(&|c| c.samples.clear()), ConstantError::Empty);
        assert_eq!(fault(&|c| c.samples[1].truncate(2)), ConstantError::Size { index: 1, found: 2, expected: 3 });
        assert_eq!(fault(&|c| c.samples[0][2] = f32::NAN), ConstantError::NotFinite(0));
        assert!(matches!(fault(&|c| c.shape = vec![usize::MAX, 2, 1]), ConstantError::Size { .. }));
        let read = |text: &str| serde_json::from_str::<Constant>(text).unwrap_err().to_string();
        assert!(read(r#"{"sigma": 80, "shape": [1,1,1], "f32_base64": ["AAA="]}"#).contains("2 bytes"));
        assert!(read(r#"{"sigma": 80, "shape": [1,1,1], "f32_base64": ["?"]}"#).contains("base64"));
    }
}
