//! `fewstep import`: checkpoints and feature networks of other programs as safetensors files of ours.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use fewstep_eval::features::inception;
use fewstep_io::{FileKind, hash, safetensors};
use fewstep_nn::checkpoint::{self, Storage};
use fewstep_nn::tch::Device;

use super::info::{Info, describe_model};
use crate::inputs::{check_extension, check_new_file, has_extension};
use crate::ui::Output;

/// Arguments of `fewstep import`
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  fewstep import edm-cifar10-32x32-uncond-vp.pkl --out cifar10.safetensors\n  fewstep import pt_inception-2015-12-05-6726825d.pth --out inception.safetensors"
)]
pub struct Args {
    /// Snapshot of the EDM code (.pkl), or Inception's weights: .pth of pytorch-fid or torch-fidelity, TorchScript .pt,
    /// .safetensors; any is read as data, nothing in it is executed
    #[arg(value_name = "FILE")]
    pub input: PathBuf,
    /// Where to [default: beside it, ending in .safetensors]
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Store the weights as f16: half the size
    #[arg(long)]
    pub half: bool,
    /// Replace the file if it exists
    #[arg(long)]
    pub overwrite: bool,
}

/// What a file to import is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A denoiser with its preconditioning.
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
            "{} is neither a snapshot of the EDM code (.pkl) nor Inception's weights (.pth, .pt or .safetensors)",
            path.display()
        );
        Ok(Self::Inception)
    }
}

/// Imports the file and says what it found.
pub fn run(args: Args, output: Output) -> Result<()> {
    let kind = Kind::of(&args.input)?;
    ensure!(
        !args.half || kind == Kind::EdmSnapshot,
        "--half is for models: features are compared with f32 features of others"
    );
    let out = args.out.clone().unwrap_or_else(|| args.input.with_extension("safetensors"));
    ensure!(out != args.input, "{} has the name that the result would get: name another with --out", out.display());
    check_extension(&out, "safetensors")?;
    check_new_file(&out, args.overwrite)?;
    let info = match kind {
        Kind::EdmSnapshot => import_model(&args.input, &out, args.half)?,
        Kind::Inception => {
            let weights = inception::import(&args.input, &out)?;
            Info::new("weights of Inception-v3 (2015-12-05)")
                .fact("dimensions", inception::DIM)
                .fact("sha256", weights.sha256()?)
        }
    };
    let info = info.fact("written to", out.display().to_string());
    output.result(&info.to_json(&args.input), || info.to_text(&args.input, output.colour()))
}

fn import_model(input: &Path, out: &Path, half: bool) -> Result<Info> {
    let mut found = match checkpoint::load(input, Device::Cpu) {
        Err(_) if is_metric_network(input) => return Err(inception::nvidia_pickle(input).into()),
        found => found?,
    };
    let origin = [
        ("imported_from", input.file_name().unwrap_or_default().to_string_lossy().into_owned()),
        ("imported_sha256", hash::sha256_file(input)?),
    ];
    found.notes.extend(origin.map(|(key, value)| (key.to_owned(), value)).into_iter().collect::<BTreeMap<_, _>>());
    let storage = if half { Storage::F16 } else { Storage::F32 };
    checkpoint::save(out, &found.model, storage, &found.notes)?;
    Ok(describe_model("snapshot of the EDM code", &found).fact("stored as", if half { "f16" } else { "f32" }))
}

/// Whether a pickle that is no snapshot is one of NVIDIA's metric networks, which name themselves.
fn is_metric_network(path: &Path) -> bool {
    let named = |text: &[u8]| text.windows(9).any(|window| window.eq_ignore_ascii_case(b"inception"));
    path.file_name().is_some_and(|name| named(name.as_encoded_bytes()))
        || std::fs::read(path).is_ok_and(|file| named(&file))
}
