//! Feature networks as TorchScript programs.

use std::path::Path;

use fewstep_io::hash;
use fewstep_nn::tch::{self, CModule, Device, IValue, Kind, Tensor};

use super::{Activations, FeatureId, FeatureNetwork, with_channels};
use crate::error::{Error, Result};

/// How a TorchScript network wants its images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InputRange {
    /// f32 `[N, C, H, W]` holding 0 to 255, as NVIDIA's metric networks take them.
    Bytes,
    /// The same divided by 255.
    Unit,
    /// The same from -1 to 1: v / 127.5 - 1.
    Signed,
}

/// How to call a TorchScript network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Range of the input.
    pub range: InputRange,
    /// Channels of the input; grey images are repeated.
    pub channels: i64,
    /// Passes `true` as the second argument, which NVIDIA's metric networks call `return_features`.
    pub return_features: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { range: InputRange::Bytes, channels: 3, return_features: false }
    }
}

/// A TorchScript program that maps f32 images `[N, C, H, W]` to features `[N, d]`.
///
/// This is the one kind of file here that is a program: libtorch's interpreter runs it on the images. Use files that you
/// trust, or the safetensors form of the network.
#[derive(Debug)]
pub struct TorchScript {
    module: CModule,
    options: Options,
    id: FeatureId,
    device: Device,
}

impl TorchScript {
    /// Opens a file that `torch.jit.save` wrote.
    ///
    /// # Errors
    /// If it is not one.
    pub fn load(path: &Path, options: Options, device: Device) -> Result<Self> {
        let sha256 = hash::sha256_file(path)?;
        let mut module = CModule::load_on_device(path, device).map_err(|error| {
            Error::network(path, format!("libtorch cannot open it as TorchScript ({})", first_line(&error.to_string())))
        })?;
        module.f_set_eval()?;
        let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        let range = match options.range {
            InputRange::Bytes => "bytes",
            InputRange::Unit => "unit",
            InputRange::Signed => "signed",
        };
        // one program makes other features where it is called in another way
        let call = if options.return_features { "+return_features" } else { "" };
        let id = FeatureId { name: format!("torchscript/{stem}/{range}{call}"), sha256 };
        Ok(Self { module, options, id, device })
    }

    fn call(&self, x: Tensor) -> std::result::Result<Tensor, String> {
        let mut arguments = vec![IValue::Tensor(x)];
        if self.options.return_features {
            arguments.push(IValue::Bool(true));
        }
        match self.module.forward_is(&arguments) {
            Ok(IValue::Tensor(features)) => Ok(features),
            Ok(_) => Err("its output is not a tensor".to_owned()),
            Err(error) => Err(format!("its program failed: {}", last_line(&error.to_string()))),
        }
    }
}

impl FeatureNetwork for TorchScript {
    fn id(&self) -> &FeatureId {
        &self.id
    }

    fn activations(&self, images: &Tensor) -> Result<Activations> {
        let n = images.size().first().copied().unwrap_or_default();
        let x = with_channels(images, self.options.channels)?.to_device(self.device).to_kind(Kind::Float);
        let x = match self.options.range {
            InputRange::Bytes => x,
            InputRange::Unit => x / 255.0,
            InputRange::Signed => x / 127.5 - 1.0,
        };
        let shape = x.size();
        let fail =
            |reason: String| Error::Input(format!("the TorchScript network {} cannot be used: {reason}", self.id.name));
        let features = tch::no_grad(|| self.call(x)).map_err(fail)?;
        match features.size().as_slice() {
            &[rows, d] if rows == n && d > 0 && features.is_floating_point() => {
                Ok(Activations { features: features.to_kind(Kind::Float).to_device(Device::Cpu), logits: None })
            }
            size => Err(fail(format!(
                "for images {shape:?} its output has shape {size:?}, where floats [{n}, features] are needed"
            ))),
        }
    }
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

/// The interpreter's messages end with the error itself, after the program's own stack.
fn last_line(text: &str) -> &str {
    text.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes a program that is traced from `f` on a 2x3x4x4 batch.
    fn program(path: &Path, f: impl Fn(&Tensor) -> Tensor) {
        let example = Tensor::rand([2, 3, 4, 4], (Kind::Float, Device::Cpu));
        let module =
            CModule::create_by_tracing("net", "forward", &[example], &mut |x: &[Tensor]| vec![f(&x[0])]).unwrap();
        module.save(path).unwrap();
    }

    fn images() -> Tensor {
        Tensor::randint(256, [5, 1, 6, 6], (Kind::Uint8, Device::Cpu))
    }

    #[test]
    fn maps_images_to_features_in_the_asked_range() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mean.pt");
        program(&path, |x| x.mean_dim(&[2i64, 3][..], false, Kind::Float));
        let images = images();
        let mean = images.to_kind(Kind::Float).mean_dim(&[2i64, 3][..], false, Kind::Float).expand([5, 3], false);
        for (range, expected) in [
            (InputRange::Bytes, mean.shallow_clone()),
            (InputRange::Unit, &mean / 255.0),
            (InputRange::Signed, &mean / 127.5 - 1.0),
        ] {
            let net = TorchScript::load(&path, Options { range, ..Options::default() }, Device::Cpu).unwrap();
            let features = net.features(&images).unwrap();
            assert!((features - expected).abs().max().double_value(&[]) < 1e-4);
            assert!(net.id().name.starts_with("torchscript/mean/"));
        }
    }

    #[test]
    fn outputs_of_another_shape_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("same.pt");
        program(&path, |x| x * 2.0);
        let net = TorchScript::load(&path, Options::default(), Device::Cpu).unwrap();
        let error = net.features(&images()).unwrap_err().to_string();
        assert!(error.contains("shape [5, 3, 6, 6]") && error.contains("[5, features]"), "{error}");
    }

    #[test]
    fn what_is_no_torchscript_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.pt");
        std::fs::write(&path, b"no zip").unwrap();
        let error = TorchScript::load(&path, Options::default(), Device::Cpu).unwrap_err().to_string();
        assert!(error.contains("x.pt") && error.contains("TorchScript"), "{error}");
    }
}
