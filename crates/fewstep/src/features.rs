//! Feature networks: a file, or the one that comes with the library.

use std::path::PathBuf;

use fewstep_core::denoiser::Shared;
use fewstep_core::space::{Samples, VectorSpace};
use fewstep_eval::Statistics;
use fewstep_eval::features::torchscript::{self, InputRange};
use fewstep_eval::features::{self, Convention, Differentiable, FeatureId, FeatureNetwork, OpenOptions};
use fewstep_nn::distance::{Distance, Measure};
use fewstep_nn::tch::{Device, Kind, Tensor};
use fewstep_nn::tensor::Batch;
use fewstep_search::SampleLoss;

use crate::error::{Result, bail, ensure};
use crate::{assets, pixels};

/// How the name of a program ends, and the pixels that it then takes.
const RANGES: [(&str, InputRange); 3] =
    [("@bytes", InputRange::Bytes), ("@unit", InputRange::Unit), ("@signed", InputRange::Signed)];

/// What follows where a program is called with `return_features`.
const RETURN_FEATURES: &str = "+return_features";

/// Which feature network, and how its images are prepared.
#[derive(Clone, Debug)]
pub struct FeatureOptions {
    /// Its file; the built-in one for Fashion-MNIST where there is none.
    pub file: Option<PathBuf>,
    /// How Inception's images are resized.
    pub convention: Convention,
    /// Runs the file as a TorchScript program, called in this way: only for files that are trusted.
    pub torchscript: Option<torchscript::Options>,
}

impl FeatureOptions {
    /// A file, read as data and not run; without one, the built-in network.
    pub fn file(file: Option<PathBuf>) -> Self {
        Self { file, convention: Convention::Tf1, torchscript: None }
    }

    /// Whether this name is one of a TorchScript program that is run.
    pub fn is_program(name: &str) -> bool {
        Self::named(name, Convention::default()).torchscript.is_some()
    }

    /// As it is named on a command line: a file, or `FILE@bytes`, `FILE@unit` or `FILE@signed`, which runs the file as a TorchScript
    /// program on pixels of this range: only for files that are trusted. `FILE@bytes+return_features` (and so on) calls the program with
    /// `return_features`, as NVIDIA's need.
    pub fn named(name: &str, convention: Convention) -> Self {
        let (call, return_features) = match name.strip_suffix(RETURN_FEATURES) {
            Some(call) => (call, true),
            None => (name, false),
        };
        let program = RANGES.into_iter().find_map(|(end, range)| Some((call.strip_suffix(end)?, range)));
        let (file, range) = program.map_or((name, None), |(file, range)| (file, Some(range)));
        let torchscript = range.map(|range| torchscript::Options { range, return_features, ..Default::default() });
        Self { file: Some(PathBuf::from(file)), convention, torchscript }
    }

    /// Opens the network for images of these channels, height and width.
    ///
    /// # Errors
    /// If there is no such file, it is no feature network, or the built-in one is for other images.
    pub fn open(&self, shape: [usize; 3], device: Device) -> Result<Box<dyn FeatureNetwork>> {
        let Some(path) = &self.file else {
            if shape != assets::IMAGE_SHAPE {
                bail!(
                    "the built-in features are for images of {} (Fashion-MNIST padded), but these are {}: name a feature network with \
                     --features (`fewstep features` trains one on your images)",
                    pixels::words(assets::IMAGE_SHAPE),
                    pixels::words(shape)
                );
            }
            return assets::features(device);
        };
        if !path.exists() {
            // a name that was meant for a program, and is none as it was written
            let program = path.display().to_string().contains('@');
            let how =
                ", or write a program as PROGRAM@bytes, @unit or @signed, then +return_features where it needs that";
            bail!(
                "the feature network {} does not exist: check the path{}",
                path.display(),
                if program { how } else { "" }
            );
        }
        let options = OpenOptions { convention: self.convention, torchscript: self.torchscript };
        Ok(features::open(path, &options, device)?)
    }
}

/// Refuses statistics that are not of this network's features of images of this shape (channels, height, width), tried on a black
/// image: what does not fit shows before any work is done. `place` names the statistics.
///
/// # Errors
/// If they are not.
pub fn check_features(
    network: &dyn FeatureNetwork,
    shape: [usize; 3],
    statistics: &Statistics,
    place: &str,
) -> Result<()> {
    FeatureId::check_same(Some(network.id()), statistics.features.as_ref())?;
    if let Some(of) = statistics.image_shape.filter(|&of| of != shape) {
        bail!(
            "the statistics {place} are of {} images and these are {}: both sides must have one size and one number of channels; make the \
             statistics again from images of this size (`fewstep data --size`, `fewstep ref`)",
            pixels::words(of),
            pixels::words(shape)
        );
    }
    let (found, dim) = (dimension(network, shape)?, statistics.dim());
    ensure!(
        dim == found,
        "the statistics {place} are of {dim} features, but {} has {found}: they come from different networks",
        network.id().name
    );
    Ok(())
}

/// How many features the network has of an image of this shape (channels, height, width), tried on a black one.
///
/// # Errors
/// If such images do not fit the network.
pub fn dimension(network: &dyn FeatureNetwork, shape: [usize; 3]) -> Result<usize> {
    let [channels, height, width] = shape.map(|size| size as i64);
    let black = Tensor::f_zeros([1, channels, height, width], (Kind::Uint8, Device::Cpu))?;
    Ok(network.features(&black)?.size().get(1).copied().unwrap_or_default() as usize)
}

/// The relative squared error of images plus that of a network's features of them, for searches whose samples are images.
#[derive(Clone, Copy, Debug)]
pub struct FeatureLoss<'a>(Differentiable<'a>);

impl<'a> FeatureLoss<'a> {
    /// By the features of this network.
    pub fn new(features: &'a dyn FeatureNetwork) -> Self {
        Self(Differentiable(features))
    }

    fn differentiated(&self, samples: &Batch, targets: &Batch) -> fewstep_nn::Result<(f64, Batch)> {
        let images = samples.0.detach().copy().set_requires_grad(true);
        let distance = Measure::new(Distance::Features, Some(&self.0))?.of_images(&images, &targets.0)?;
        let slope = Tensor::f_run_backward(&[&distance], &[&images], false, false)?;
        Ok((distance.double_value(&[]), Batch(slope[0].shallow_clone())))
    }
}

/// The mean of every process's loss of its own samples, each as much as it has samples.
impl SampleLoss<Shared<Batch>> for FeatureLoss<'_> {
    fn loss(
        &self,
        samples: &Shared<Batch>,
        targets: &Shared<Batch>,
    ) -> std::result::Result<(f64, Shared<Batch>), Box<dyn std::error::Error + Send + Sync>> {
        let (own, all) = (samples.own().samples(), samples.samples());
        let (loss, slope) = match own {
            0 => (0.0, samples.own().clone()),
            _ => self.differentiated(samples.own(), targets.own())?,
        };
        let share = own as f64 / all.max(1) as f64;
        let loss = samples.sum_over_processes(share * loss);
        Ok((loss, samples.with(Batch::combine(&[(share, &slope)]))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_how_a_program_is_called() {
        let named = |name: &str| {
            let options = FeatureOptions::named(name, Convention::default());
            let call = options.torchscript.map(|call| (call.range, call.return_features));
            (options.file.unwrap().display().to_string(), call)
        };
        let is = |file: &str, call| (file.to_owned(), call);
        assert_eq!(named("a.pt@bytes"), is("a.pt", Some((InputRange::Bytes, false))));
        assert_eq!(named("a.pt@unit+return_features"), is("a.pt", Some((InputRange::Unit, true))));
        assert_eq!(named("a@b.pt@signed+return_features"), is("a@b.pt", Some((InputRange::Signed, true))));
        // nothing is run that is not named as a program
        for file in ["a.pt", "a.pt+return_features", "a.pt@bytes+return", "a.pt@bytes.pt"] {
            assert_eq!(named(file), is(file, None));
            assert!(!FeatureOptions::is_program(file));
        }
        assert!(FeatureOptions::is_program("a.pt@bytes+return_features"));
    }

    #[test]
    fn a_misspelt_program_is_told_how_programs_are_written() {
        let error = |name: &str| {
            let options = FeatureOptions::named(name, Convention::default());
            options.open([3, 8, 8], Device::Cpu).err().unwrap().to_string()
        };
        assert!(error("none.pt@bytes+return-features").contains("write a program as PROGRAM@bytes"));
        assert!(error("none.pt").ends_with("does not exist: check the path"));
    }
}
