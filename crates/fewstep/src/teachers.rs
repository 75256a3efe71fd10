//! Searches whose teacher is kept in the run folder: solved once, read afterwards.

use std::path::{Path, PathBuf};

use fewstep_core::Denoiser;
use fewstep_core::denoiser::{Shared, Spread};
use fewstep_core::observe::Observer;
use fewstep_io::hash;
use fewstep_nn::TorchDenoiser;
use fewstep_nn::teachers::{load_teacher, save_teacher};
use fewstep_nn::tensor::Batch;
use fewstep_search::{Search, SearchSettings, Teacher, search_seeds, solve_teacher, teacher_key};

use crate::error::Result;

/// Any denoiser of libtorch, its samples shared out among its processes.
pub type SpreadDenoiser<'a> = Spread<&'a dyn TorchDenoiser>;

/// A search on one.
pub type TorchSearch<'a> = Search<'a, SpreadDenoiser<'a>>;

/// The file of a teacher's trajectories in a folder: its name has the hash of all that they depend on.
pub fn teacher_file(folder: &Path, denoiser: &dyn TorchDenoiser, settings: &SearchSettings) -> PathBuf {
    let key = teacher_key(denoiser.spec(), &settings.teacher).to_string();
    folder.join(format!("teacher-{}.safetensors", &hash::sha256_bytes(key.as_bytes())[..12]))
}

/// The teacher's trajectories from `folder`, or solved and kept there. Second, the evaluations of single samples that they took now.
///
/// # Errors
/// If the denoiser fails, or the file cannot be used.
pub fn teacher_in(
    folder: &Path,
    denoiser: &SpreadDenoiser,
    settings: &SearchSettings,
    observer: &dyn Observer,
) -> Result<(Teacher<Shared<Batch>>, u64)> {
    let path = teacher_file(folder, *denoiser.inner(), settings);
    let key = teacher_key(denoiser.spec(), &settings.teacher).to_string();
    if path.exists() {
        return Ok((load_teacher(&key, &path, denoiser, &search_seeds(settings))?, 0));
    }
    settings.validate()?;
    let (teacher, evaluations) = solve_teacher(denoiser, settings, observer)?;
    save_teacher(&teacher, &key, evaluations, &path, &denoiser.inner().ranks())?;
    Ok((teacher, evaluations))
}
