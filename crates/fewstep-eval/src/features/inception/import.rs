//! Inception's weights from the files that users have.

use std::path::Path;

use fewstep_io::{FileKind, atomic, safetensors, torch_zip};

use super::{NAME, Weights};
use crate::error::{Error, Result};
use crate::features::file;

/// Where a usable file is usually found.
const SOURCES: &str = "use pytorch-fid's pt_inception-2015-12-05-6726825d.pth (github.com/mseitzer/pytorch-fid, release \
    fid_weights; often already in ~/.cache/torch/hub/checkpoints) or torch-fidelity's \
    weights-inception-2015-12-05-6726825d.pth (github.com/toshas/torch-fidelity, release v0.2.0)";

/// Reads the weights from a state dictionary of pytorch-fid or torch-fidelity (`.pth`, zip or legacy), a TorchScript
/// archive of the same network (`.pt`) or a `.safetensors` file, ours or another program's with the same names. Nothing
/// in the file is executed.
///
/// # Errors
/// If it is none of these; the message says which file to use instead.
pub fn read(path: &Path) -> Result<Weights> {
    match FileKind::of_file(path)? {
        FileKind::Safetensors => {
            let contents = safetensors::read(path)?;
            if file::is_ours(&contents.metadata) {
                file::expect(path, &contents, NAME)?;
            }
            Weights::from_tensors(&contents.tensors).map_err(|reason| Error::network(path, reason.to_string()))
        }
        FileKind::Pickle => Err(nvidia_pickle(path)),
        FileKind::TorchSave { network: true } => {
            Err(Error::network(path, "it is a network of the EDM code, not a feature network: give it as the model"))
        }
        found @ (FileKind::TorchSave { .. } | FileKind::TorchScript | FileKind::CutZip | FileKind::Unknown) => {
            let tensors = torch_zip::read(path).map_err(|error| match error {
                fewstep_io::Error::Missing { .. } => Error::Io(error),
                error => Error::network(path, format!("{error}; {SOURCES}")),
            })?;
            // EDM's networks keep theirs under `model.`.
            let denoiser = tensors.keys().any(|name| name.starts_with("model."));
            if denoiser && matches!(found, FileKind::TorchSave { .. }) {
                let reason = "it is a PyTorch file of tensors, of a denoiser by their names, and they alone do not say of which \
                    network they are: in Python, load them into the network that the EDM code builds and save it whole, \
                    pickle.dump({'ema': net}, file)";
                return Err(Error::network(path, reason));
            }
            let described = if found == FileKind::TorchScript { "" } else { &format!("it is {found}, and ") };
            Weights::from_tensors(&tensors).map_err(|reason| {
                // NVIDIA's TorchScript gives its layers other names.
                Error::network(
                    path,
                    format!(
                        "{described}{reason}; {SOURCES}; a TorchScript program is run where it is named FILE@bytes"
                    ),
                )
            })
        }
        found => {
            let advice = match found.advice() {
                "" => SOURCES.to_owned(),
                advice => format!("{advice}; {SOURCES}"),
            };
            Err(Error::network(path, format!("it is {found}, not a network in .safetensors, .pth or .pt: {advice}")))
        }
    }
}

/// What is wrong with a metric network of NVIDIA's (`inception-2015-12-05.pkl` and its like) as a source of weights.
pub fn nvidia_pickle(path: &Path) -> Error {
    Error::network(
        path,
        format!("NVIDIA's pickles of metric networks hold a program, which is never run here; {SOURCES}"),
    )
}

/// Writes the weights of any readable file as one safetensors file, whose hash is the network's.
///
/// # Errors
/// As [`read`], or if the file cannot be written.
pub fn import<'a>(from: &Path, to: impl Into<atomic::OutFile<'a>>) -> Result<Weights> {
    let weights = read(from)?;
    // Building the network once shows that every tensor is there and fits.
    super::Inception::new(&weights, super::Convention::Tf1, fewstep_nn::tch::Device::Cpu)?;
    atomic::write_bytes(to, &weights.to_bytes()?)?;
    Ok(weights)
}
