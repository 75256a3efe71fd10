//! A teacher's trajectories as training data: where it is at every state of a plan.

use std::cell::{Cell, RefCell};
use std::path::Path;

use fewstep_core::observe::{Observer, Progress};
use fewstep_core::plan::{Combination, Plan};
use fewstep_core::schedule::Schedule;
use fewstep_core::solver::{Solver, SolverOptions};
use fewstep_io::{Dtype, rows};
use fewstep_search::{Seeded, Teacher};
use tch::{Device, Tensor};

use super::RolloutLoss;
use crate::checkpoint::{tensor_data, tensor_from};
use crate::constant;
use crate::data::Images;
use crate::denoiser::{Labels, TorchDenoiser};
use crate::distance::{FeatureMap, Measure};
use crate::error::{Error, Result};
use crate::tensor::Batch;

/// A teacher's trajectories, and what a loss may need beside them.
#[derive(Clone, Copy, Debug)]
pub struct TrajectoryDataset<'a> {
    /// Where the teacher goes.
    pub trajectories: &'a Trajectories,
    /// Clean images, for [`RolloutLoss::data`] and [`CriticOf::Data`](super::CriticOf::Data).
    pub images: Option<&'a Images>,
    /// A feature network, for [`Distance::Features`](crate::distance::Distance::Features).
    pub features: Option<&'a dyn FeatureMap>,
}

impl<'a> From<&'a Trajectories> for TrajectoryDataset<'a> {
    fn from(trajectories: &'a Trajectories) -> Self {
        Self { trajectories, images: None, features: None }
    }
}

impl<'a> TrajectoryDataset<'a> {
    /// The images that `loss` takes, if it takes any.
    pub(super) fn images_for(&self, loss: RolloutLoss) -> Result<Option<&'a Images>> {
        match self.images {
            _ if !loss.needs_images() => Ok(None),
            None => Err(Error::Input("a loss that takes data needs images beside the trajectories".to_owned())),
            images => Ok(images),
        }
    }
}

/// Where a teacher is at every state of a plan, for many latents: in memory, or in a file of which an update reads what it needs.
#[derive(Debug)]
pub struct Trajectories {
    plan: Plan,
    count: usize,
    class_labels: Option<Tensor>,
    store: Store,
}

/// Latents (unit normal noise) and targets: after each stage the teacher's state, at the next stage's level, last the image. All
/// `[M, C, H, W]`.
#[derive(Debug)]
enum Store {
    Memory { latents: Tensor, targets: Vec<Tensor> },
    File(rows::Reader),
}

/// What trajectories depend on, and where they are kept.
#[derive(Clone, Copy, Debug)]
pub struct CacheEntry<'a> {
    /// The file.
    pub path: &'a Path,
    /// What is said of the network and of the teacher in it: a file that says anything else is not taken.
    pub key: &'a str,
}

impl Trajectories {
    /// The levels at which a teacher must keep its states for `plan`: the plan's own, and the ends of the `fine` schedule.
    pub fn levels(plan: &Plan, fine: &Schedule) -> Result<Schedule> {
        let mut levels: Vec<f64> = plan.sigmas();
        levels.extend([fine.sigma_max(), fine.sigma_min()]);
        merged(levels, &[])
    }

    /// `fine` with the plan's levels among its own, for a teacher that visits them all.
    pub fn fine(plan: &Plan, fine: &Schedule) -> Result<Schedule> {
        merged(plan.sigmas(), fine.levels())
    }

    /// Trajectories of `teacher` from the latents of `seeds`, which keeps its states at [`Trajectories::levels`], in memory. `denoiser`
    /// knows the seeds' conditions.
    ///
    /// # Errors
    /// If the teacher was run on other latents, or kept no state at a level of the plan.
    pub fn new(denoiser: &dyn TorchDenoiser, plan: &Plan, teacher: &Teacher<Batch>, seeds: &[u64]) -> Result<Self> {
        let latents = teacher.ends().latent.0.shallow_clone();
        if latents.size()[0] != seeds.len() as i64 {
            return Err(Error::Input("the teacher was run on other latents".to_owned()));
        }
        let store = Store::Memory { latents, targets: targets(plan, teacher)? };
        Self::of(denoiser, plan, seeds, store)
    }

    /// Trajectories of the denoiser `teacher` by `solver` on the levels of `fine` ([`Trajectories::fine`]) from the latents of `seeds`
    /// into a file of f32 `[M, ...]`: memory does not grow with their number. Processes solve parts of them, the first of them writes,
    /// and all read its file.
    ///
    /// # Errors
    /// If a state is not finite, the file cannot be written or not be seen by all, or the observer asks for the end.
    pub fn solve(
        teacher: &dyn TorchDenoiser,
        plan: &Plan,
        (solver, fine): (Solver, &Schedule),
        seeds: &[u64],
        kept: CacheEntry,
        observer: &dyn Observer,
    ) -> Result<Self> {
        let grid = Self::levels(plan, fine)?;
        let shape = [&[seeds.len()], teacher.spec().shape.as_slice()].concat();
        let names = std::iter::once(LATENT.to_owned()).chain((0..plan.nfe()).map(target_name));
        let tensors = names.map(|name| (name, (Dtype::F32, shape.clone()))).collect();
        let metadata = [(KEY.to_owned(), kept.key.to_owned())].into();
        let ranks = teacher.ranks();
        let mut writer = match ranks.is_first() {
            true => Some(rows::Writer::create(kept.path, &tensors, &metadata)?),
            false => None,
        };
        let of_each = solver.plan(fine, &SolverOptions::default()).map_err(|error| Error::Input(error.to_string()))?;
        let each = of_each.nfe() as u64;
        let total = each * seeds.len() as u64;
        let progress = RefCell::new(Progress::new(observer, "teacher's trajectories", "evaluations", total, 0));
        let written = Cell::new(0);
        let solve = |seeds: &[u64]| {
            let seeded = Seeded::new(&teacher, seeds, observer)?;
            let latents = seeded.latents().clone();
            let denoise = |x: &Batch, sigma: f64| {
                let outputs = seeded.denoised(x, sigma)?;
                progress.borrow_mut().set(written.get() as u64 * each + seeded.evaluations(), "");
                Ok::<_, fewstep_search::Error>(outputs)
            };
            let solved = Teacher::solve(solver, fine, &grid, latents, seeds.len(), denoise);
            let solved = solved.map_err(fewstep_search::Error::from)?;
            let mut parts = vec![solved.ends().latent.0.shallow_clone()];
            parts.extend(targets(plan, &solved)?);
            Ok::<_, Error>(parts)
        };
        let write = |parts: Vec<Tensor>| {
            let names = std::iter::once(LATENT.to_owned()).chain((0..plan.nfe()).map(target_name));
            for (name, part) in names.zip(&parts) {
                if let Some(writer) = &mut writer {
                    writer.write(&name, written.get(), &tensor_data(part)?)?;
                }
            }
            written.set(written.get() + parts.first().map_or(0, |latents| latents.size()[0]) as usize);
            progress.borrow_mut().set(written.get() as u64 * each, "");
            Ok(())
        };
        ranks.in_order(seeds.chunks(AT_ONCE), solve, write)?;
        if let Some(writer) = writer {
            writer.finish()?;
        }
        ranks.wait()?;
        Self::open(teacher, plan, seeds, kept)
    }

    /// Opens what [`Trajectories::solve`] wrote.
    ///
    /// # Errors
    /// If the file is none of ours, or holds trajectories of another model, plan or teacher, or of other latents.
    pub fn open(teacher: &dyn TorchDenoiser, plan: &Plan, seeds: &[u64], kept: CacheEntry) -> Result<Self> {
        let reader = rows::Reader::open(kept.path)?;
        let fail =
            |reason: &str| Error::Checkpoint { path: kept.path.display().to_string(), reason: reason.to_owned() };
        match reader.metadata().get(KEY) {
            Some(key) if key == kept.key => {}
            Some(_) => {
                return Err(fail(
                    "holds the trajectories of another model, or made with other settings; remove it to make them anew",
                ));
            }
            None => return Err(fail("holds no trajectories of this version; remove it to make them anew")),
        }
        let all = std::iter::once(LATENT.to_owned()).chain((0..plan.nfe()).map(target_name));
        let shape = [&[seeds.len()], teacher.spec().shape.as_slice()].concat();
        if !all.into_iter().all(|name| reader.shape(&name) == Some(&shape)) {
            return Err(fail("has trajectories of other shapes; remove it to make them anew"));
        }
        Self::of(teacher, plan, seeds, Store::File(reader))
    }

    fn of(denoiser: &dyn TorchDenoiser, plan: &Plan, seeds: &[u64], store: Store) -> Result<Self> {
        let Labels(class_labels) = denoiser.conditions(seeds)?;
        Ok(Self { plan: plan.clone(), count: seeds.len(), class_labels, store })
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Network evaluations of one.
    pub fn steps(&self) -> usize {
        self.plan.nfe()
    }

    /// The latents at `indices` and their targets, on `device`.
    fn pick(&self, indices: &[i64], device: Device) -> Result<(Tensor, Vec<Tensor>)> {
        match &self.store {
            Store::Memory { latents, targets } => {
                let pick = |tensor: &Tensor| picked(tensor, indices, device);
                Ok((pick(latents), targets.iter().map(pick).collect()))
            }
            Store::File(reader) => {
                let rows: Vec<usize> = indices.iter().map(|&index| index as usize).collect();
                let read = |name: &str| Ok::<_, Error>(tensor_from(&reader.read(name, &rows)?)?.to_device(device));
                let targets = (0..self.steps()).map(|k| read(&target_name(k)));
                Ok((read(LATENT)?, targets.collect::<Result<_>>()?))
            }
        }
    }
}

/// Latents solved at once, at least.
const AT_ONCE: usize = 512;

const KEY: &str = "trajectories";
const LATENT: &str = "latent";

/// Where the teacher is after stage `k`.
fn target_name(k: usize) -> String {
    format!("after.{k}")
}

/// The teacher's states after each stage.
fn targets(plan: &Plan, teacher: &Teacher<Batch>) -> Result<Vec<Tensor>> {
    let place = |sigma: f64| teacher.grid().levels().iter().position(|level| *level == sigma);
    let states = teacher.states();
    let at = |sigma: f64| {
        let state = place(sigma).and_then(|place| states.get(place));
        let missing = || Error::Input(format!("the teacher has no state at the plan's noise level {sigma}"));
        Ok(state.ok_or_else(missing)?.0.shallow_clone())
    };
    let mut targets = plan.sigmas().iter().skip(1).map(|sigma| at(*sigma)).collect::<Result<Vec<_>>>()?;
    targets.push(teacher.ends().image.0.shallow_clone());
    Ok(targets)
}

/// The rows at `indices`, on `device`.
fn picked(tensor: &Tensor, indices: &[i64], device: Device) -> Tensor {
    tensor.index_select(0, &Tensor::from_slice(indices).to_device(tensor.device())).to_device(device)
}

fn merged(mut levels: Vec<f64>, more: &[f64]) -> Result<Schedule> {
    levels.extend_from_slice(more);
    levels.sort_by(|a, b| b.total_cmp(a));
    levels.dedup();
    Schedule::new(levels).map_err(|error| Error::Input(error.to_string()))
}

/// Some trajectories, on the network's device.
pub(super) struct TrajectoryMinibatch<'a> {
    /// What the student runs.
    pub plan: &'a Plan,
    /// `[N, C, H, W]`.
    pub latent: Tensor,
    /// The plan's constant image for each, if it holds one.
    pub constant: Option<Tensor>,
    /// `[N, label_dim]`.
    pub class_labels: Option<Tensor>,
    targets: Vec<Tensor>,
}

impl<'a> TrajectoryMinibatch<'a> {
    /// The trajectories at `indices`.
    pub fn new(trajectories: &'a Trajectories, indices: &[i64], device: Device) -> Result<Self> {
        let plan = &trajectories.plan;
        let (latent, targets) = trajectories.pick(indices, device)?;
        let class_labels = trajectories.class_labels.as_ref().map(|labels| picked(labels, indices, device));
        let repeated = |image| constant::repeated(image, &latent, class_labels.as_ref());
        let constant = plan.constant.as_ref().map(repeated).transpose()?.map(|Batch(samples)| samples);
        Ok(Self { plan, latent, constant, class_labels, targets })
    }

    /// How state `k` is made: the input of stage `k`, or the image where `k` is the plan's NFE.
    pub fn terms(&self, k: usize) -> &'a Combination {
        self.plan.stages.get(k).map_or(&self.plan.output, |stage| &stage.input)
    }

    /// The noise level of state `k`; 0 for the image.
    pub fn level(&self, k: usize) -> f64 {
        self.plan.stages.get(k).map_or(0.0, |stage| stage.sigma)
    }

    /// How far `state`, which is state `k` (not the first, where all is noise), is from the teacher's: `weight` times the
    /// distance, divided by the number of states.
    pub fn distance(&self, measure: &Measure, weight: f64, k: usize, state: &Tensor) -> Result<Tensor> {
        let target = &self.targets[k - 1];
        let distance = match self.plan.stages.get(k) {
            Some(_) => measure.of_states(state, target),
            None => measure.of_images(state, target)?,
        };
        Ok(distance * (weight / self.plan.nfe() as f64))
    }
}
