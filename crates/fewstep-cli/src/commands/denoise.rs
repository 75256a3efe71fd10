//! `fewstep denoise`: the denoiser on given arrays, which is how an import is checked.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use fewstep_io::npz;
use fewstep_io::tensors::TensorMap;
use fewstep_nn::Model;
use fewstep_nn::checkpoint::tensor_data;
use fewstep_nn::tch::{self, Device, Tensor};
use fewstep_nn::unet::Conditions;
use serde::Serialize;

use crate::inputs::{Arrays, BUILT_IN, Compute, check_extension, check_new_file, open_model};
use crate::ui::{Output, Progress};

/// Arguments of `fewstep denoise`
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  fewstep denoise arrays.npz --model edm-cifar10.pkl --out denoised.npz")]
pub struct Args {
    /// npz file with x [N, C, H, W], sigma [N] and, if the model knows classes, class_labels [N, classes]
    #[arg(value_name = "FILE")]
    pub input: PathBuf,
    /// Model: a file, or the name of the built-in one
    #[arg(long, value_name = "MODEL", default_value = BUILT_IN)]
    pub model: String,
    /// Where to: an npz file with the array denoised [N, C, H, W]
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// Replace the file if it exists
    #[arg(long)]
    pub overwrite: bool,
    /// Images at once
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub batch: usize,
    #[command(flatten)]
    pub compute: Compute,
}

/// What a run prints.
#[derive(Debug, Serialize)]
struct Outcome {
    out: String,
    images: i64,
    model: String,
    model_sha256: String,
}

/// Computes D(x; sigma).
pub fn run(args: Args, output: Output) -> Result<()> {
    let (device, kind) = args.compute.resolve()?;
    ensure!(args.batch > 0, "--batch must be at least 1");
    check_extension(&args.out, "npz")?;
    check_new_file(&args.out, args.overwrite)?;
    let opened = open_model(&args.model, device, kind)?;
    let file = Arrays::read(&args.input)?;
    let x = file.images("x", &opened.model)?;
    let count = x.size()[0];
    let sigma = file.sigmas("sigma", count as usize)?;
    let class_labels = file.class_labels(&opened.model, count as usize)?;
    let denoised = denoise(&opened.model, &x, &sigma, class_labels.as_ref(), args.batch as i64);
    npz::write(&args.out, &TensorMap::from([("denoised".to_owned(), tensor_data(&denoised)?)]))?;
    let outcome =
        Outcome { out: args.out.display().to_string(), images: count, model: opened.name, model_sha256: opened.hash };
    output.result(&outcome, || format!("{}: {count} images denoised by {}", outcome.out, outcome.model))
}

/// D(x; sigma) `[N, C, H, W]`, f32 on the CPU, in batches.
fn denoise(model: &Model, x: &Tensor, sigma: &Tensor, class_labels: Option<&Tensor>, batch: i64) -> Tensor {
    let count = x.size()[0];
    let mut progress = Progress::new("denoise", "img", count as u64, 0);
    let mut parts = Vec::new();
    for start in (0..count).step_by(batch as usize) {
        let length = batch.min(count - start);
        let part = |tensor: &Tensor| tensor.narrow(0, start, length).to_device(model.device());
        let labels = class_labels.map(part);
        let conditions = Conditions { class_labels: labels.as_ref(), ..Conditions::default() };
        parts.push(tch::no_grad(|| model.denoise(&part(x), &part(sigma), &conditions)).to_device(Device::Cpu));
        progress.set((start + length) as u64, "");
    }
    progress.finish();
    Tensor::cat(&parts, 0)
}
