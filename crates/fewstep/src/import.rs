//! Checkpoints and feature networks of other programs, as safetensors files of ours.

use std::path::Path;

use fewstep_eval::features::inception;
use fewstep_io::atomic::OutFile;
use fewstep_io::{FileKind, hash, safetensors};
use fewstep_nn::checkpoint::{self, Storage};
use fewstep_nn::tch::Device;

use crate::data::has_extension;
use crate::describe::{Description, of_model};
use crate::error::{Result, ensure};

/// What a file to import is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A denoiser with its parameterisation.
    EdmSnapshot,
    /// The feature network of FID.
    Inception,
}

impl Kind {
    fn of(path: &Path) -> Result<Self> {
        ensure!(path.exists(), "{} does not exist: check the path to the checkpoint", path.display());
        let kind = FileKind::of_file(path)?;
        let unmarked = matches!(kind, FileKind::Unknown | FileKind::Text);
        if matches!(kind, FileKind::Pickle | FileKind::TorchSave { network: true })
            || has_extension(path, "pkl") && kind != FileKind::Safetensors
        {
            return Ok(Self::EdmSnapshot);
        }
        if kind == FileKind::Safetensors || has_extension(path, "safetensors") && unmarked {
            let header = safetensors::read_header(path)?;
            let format = header.metadata.get("format").filter(|format| format.starts_with("fewstep "));
            ensure!(format.is_none(), "{} is a file of fewstep, which needs no import", path.display());
            return Ok(Self::Inception);
        }
        ensure!(
            !unmarked || has_extension(path, "pth") || has_extension(path, "pt"),
            "{} is neither a snapshot of the EDM or EDM2 code (.pkl) nor Inception's weights (.pth, .pt or .safetensors)",
            path.display()
        );
        Ok(Self::Inception)
    }
}

/// Imports a snapshot of the EDM or EDM2 code, or Inception's weights, into the safetensors file `out`, and says what it found; `storage`
/// is of a model's weights. Nothing in the file is executed.
///
/// # Errors
/// If it is neither, or damaged, or `out` cannot be written.
pub fn import(input: &Path, out: &OutFile, storage: Storage) -> Result<Description> {
    let kind = Kind::of(input)?;
    ensure!(
        storage == Storage::F32 || kind == Kind::EdmSnapshot,
        "--half is for models: features are compared with f32 features of others"
    );
    let description = match kind {
        Kind::EdmSnapshot => model(input, out, storage)?,
        Kind::Inception => {
            let weights = inception::import(input, out.clone())?;
            Description::new("weights of Inception-v3 (2015-12-05)")
                .fact("dimensions", inception::DIM)
                .fact("sha256", weights.sha256()?)
        }
    };
    Ok(description.fact("written to", out.path().display().to_string()))
}

fn model(input: &Path, out: &OutFile, storage: Storage) -> Result<Description> {
    let mut found = match checkpoint::load(input, Device::Cpu) {
        Err(_) if is_metric_network(input) => return Err(inception::nvidia_pickle(input).into()),
        found => found?,
    };
    let origin = [
        ("imported_from", input.file_name().unwrap_or_default().to_string_lossy().into_owned()),
        ("imported_sha256", hash::sha256_file(input)?),
    ];
    found.notes.extend(origin.map(|(key, value)| (key.to_owned(), value)));
    checkpoint::save(out.clone(), &found.model, storage, &found.notes)?;
    let description = of_model("snapshot of the EDM or EDM2 code", &found.model, &found.notes);
    Ok(description.fact("stored as", if storage == Storage::F16 { "f16" } else { "f32" }))
}

/// Whether a pickle that is no snapshot is one of NVIDIA's metric networks, which name themselves.
fn is_metric_network(path: &Path) -> bool {
    let named = |text: &[u8]| text.windows(9).any(|window| window.eq_ignore_ascii_case(b"inception"));
    path.file_name().is_some_and(|name| named(name.as_encoded_bytes()))
        || std::fs::read(path).is_ok_and(|file| named(&file))
}
