//! D(x; sigma) of given arrays: how an import is checked.

use std::collections::BTreeMap;
use std::path::Path;

use fewstep_core::observe::{Observer, Progress};
use fewstep_io::atomic::OutFile;
use fewstep_io::npz;
use fewstep_io::tensors::TensorMap;
use fewstep_nn::checkpoint::tensor_data;
use fewstep_nn::tch::{Device, Tensor};
use fewstep_nn::tensor::Batch;
use fewstep_nn::{Labels, TorchDenoiser};
use fewstep_search::Seeded;

use crate::arrays::Arrays;
use crate::error::{Result, bail};

/// Denoises the arrays of an npz file, `x` `[N, ...]`, `sigma` `[N]` and, if there is one, `class_labels` `[N, classes]`, so many
/// samples at once, into the array `denoised` of the npz file `out`. Returns how many samples there are.
///
/// # Errors
/// If the arrays do not fit the denoiser, it fails or answers what is not finite, or `out` cannot be written.
pub fn denoise_file(
    denoiser: &dyn TorchDenoiser,
    input: &Path,
    out: OutFile,
    batch: usize,
    observer: &dyn Observer,
) -> Result<usize> {
    let file = Arrays::read(input)?;
    let x = file.samples("x", denoiser.spec())?;
    let count = x.size().first().map_or(0, |count| *count as usize);
    let sigmas = Vec::<f32>::try_from(file.sigmas("sigma", count)?.contiguous())?;
    let labels = Labels(file.class_labels(denoiser.spec(), count)?);
    let denoised = denoise(denoiser, &x, &sigmas, &labels, batch, observer)?;
    npz::write(out, &TensorMap::from([("denoised".to_owned(), tensor_data(&denoised)?)]))?;
    Ok(count)
}

/// D(x; sigma) `[N, ...]`, f32 on the CPU; `sigmas`: a positive level for each sample. Samples at one level go together, so many at
/// once.
///
/// # Errors
/// If the denoiser fails or answers what is not finite, or the observer asks for the end.
pub fn denoise(
    denoiser: &dyn TorchDenoiser,
    x: &Tensor,
    sigmas: &[f32],
    labels: &Labels,
    batch: usize,
    observer: &dyn Observer,
) -> Result<Tensor> {
    let mut at_level: BTreeMap<u32, Vec<i64>> = BTreeMap::new(); // bits of positive numbers are in order
    for (index, sigma) in sigmas.iter().enumerate() {
        at_level.entry(sigma.to_bits()).or_default().push(index as i64);
    }
    let mut progress = Progress::new(observer, "denoise", "samples", sigmas.len() as u64, 0);
    let (mut parts, mut order) = (Vec::new(), Vec::<i64>::new());
    let mut damaged = Vec::new(); // the level of each sample that is not finite, lowest first
    for (bits, indices) in &at_level {
        let sigma = f32::from_bits(*bits);
        for rows in indices.chunks(batch.max(1)) {
            let picked = |tensor: &Tensor| -> Result<Tensor> {
                Ok(tensor.f_index_select(0, &Tensor::from_slice(rows))?.f_to_device(denoiser.device())?)
            };
            let labels = Labels(labels.0.as_ref().map(picked).transpose()?);
            let x = Batch(picked(x)?);
            let seeded = Seeded::from_latents(&denoiser, x.clone(), labels, observer);
            let denoised = seeded.denoised(&x, f64::from(sigma))?.0.f_to_device(Device::Cpu)?;
            let finite = denoised.f_isfinite()?.f_flatten(1, -1)?.f_all_dim(1, false)?;
            damaged.extend(Vec::<bool>::try_from(finite)?.into_iter().filter(|finite| !finite).map(|_| sigma));
            parts.push(denoised);
            order.extend(rows);
            progress.set(order.len() as u64, "");
        }
    }
    if let (Some(lowest), Some(highest)) = (damaged.first(), damaged.last()) {
        let levels = if lowest == highest { format!("{lowest}") } else { format!("{lowest} to {highest}") };
        bail!(
            "{} of {} denoised samples have values that are not finite, at sigma {levels}: check the model, or try \
             --precision f32",
            damaged.len(),
            sigmas.len()
        );
    }
    Ok(Tensor::f_cat(&parts, 0)?.f_index_select(0, &Tensor::from_slice(&order).f_argsort(0, false)?)?)
}
