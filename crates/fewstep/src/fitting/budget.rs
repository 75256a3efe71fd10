//! The fit for one number of evaluations: rounds of both phases, each saved when it is finished.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use fewstep_core::objective::BoundTable;
use fewstep_core::observe::Event;
use fewstep_core::plan::Plan;
use fewstep_core::schedule::Schedule;
use fewstep_io::{RunFolder, atomic};
use fewstep_nn::checkpoint::{self, Storage};
use fewstep_nn::fit::TuneStep;
use fewstep_nn::program::DecoderConfig;
use fewstep_nn::{Codec, Network, TorchDenoiser, spread};
use fewstep_search::{Extras, Found, PlanScorer, baseline};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::cross_plan::{cross_plan, others};
use super::interpolate::{Interpolated, InterpolationPoint, comes_nearer};
use super::outcome::{CrossPlan, Grid, IMAGES, Outcome, PhaseOutcome};
use super::settings::PlanSource;
use super::task::FitTask;
use super::{Fitter, FoundPlan, Saved};
use crate::cells::diverged;
use crate::error::{Context, Result};
use crate::models::{OpenModel, load_like};
use crate::plan_scorer::FrechetPlanScorer;
use crate::plans::{euler, read_plan};
use crate::runs::read;
use crate::scorer::{self, ImageScorer};
use crate::teachers::TorchSearch;

/// What phase 2 leaves beside its network.
#[derive(Debug, Serialize, Deserialize)]
struct TunedSummary {
    /// Of the network tuned to the end under the plan that it was tuned for: by it the outcome is kept or not, where no images
    /// are scored.
    #[serde(deserialize_with = "diverged::error")]
    tuned_error: f64,
    /// The same plan, or one whose images' moments were matched for it.
    plan: Plan,
    /// Under that plan.
    #[serde(deserialize_with = "diverged::error")]
    rollout_error: f64,
    evaluations: Vec<TuneStep>,
    /// Weight of the tuned network.
    alpha: f64,
    /// Interpolation points, by whose images the outcome was chosen.
    interpolation: Vec<InterpolationPoint>,
}

/// What serves all numbers of evaluations.
pub(super) struct Shared<'a> {
    pub task: &'a FitTask,
    pub opened: &'a OpenModel,
    pub folder: &'a RunFolder,
    /// Whether outcomes of an earlier run are taken.
    pub resumed: bool,
    /// e(sigma) of the untuned network, where a search needs it.
    pub table: Option<BoundTable>,
    /// The search on the untuned denoiser, where one is needed.
    pub search: Option<TorchSearch<'a>>,
    /// Plans of the first round.
    pub found: Option<Found>,
    /// What scores interpolated levels and networks.
    pub scorer: Option<ImageScorer<'a>>,
    /// What chooses among plans.
    pub plan_scorer: Option<&'a FrechetPlanScorer<'a>>,
}

/// Where the fit for one number of evaluations stands.
struct Standing {
    plan: Plan,
    tuned: Option<Network>,
    /// Weight of the last tuning's network.
    alpha: f64,
    error: f64,
    phases: Vec<PhaseOutcome>,
    tuning: Vec<Vec<TuneStep>>,
    levels: Vec<Vec<InterpolationPoint>>,
    interpolation: Vec<Vec<InterpolationPoint>>,
}

impl Standing {
    /// Tunings that the network has been through.
    fn tunings(&self) -> usize {
        self.phases.iter().filter(|phase| phase.phase == 2 && phase.kept).count()
    }
}

/// The file of the first round's phase 1, in the run folder.
pub(super) fn first_file(steps: usize) -> String {
    format!("{}/round-1-phase-1.json", folder_name(steps))
}

/// The folder of one number of evaluations, in the run folder.
pub(super) fn folder_name(steps: usize) -> String {
    format!("steps-{steps:03}")
}

impl Shared<'_> {
    /// Fits a plan of `steps` evaluations, or what of it an earlier run left undone; `given` is the plan to tune for.
    pub fn fit(&self, fitter: &Fitter, given: Option<&Plan>, steps: usize) -> Result<Outcome> {
        let folder = self.folder.subfolder(&folder_name(steps))?;
        let (plan, baseline_name) = match given {
            Some(plan) => (plan.clone(), "the plan given"),
            None => (euler(&baseline(&fitter.base.spec().levels, steps)?)?, "rho = 7"),
        };
        let baseline = fitter.rollout_error(fitter.base, &plan)?;
        let mut now = Standing {
            plan: plan.clone(),
            tuned: None,
            alpha: 1.0,
            error: baseline,
            phases: Vec::new(),
            tuning: Vec::new(),
            levels: Vec::new(),
            interpolation: Vec::new(),
        };
        for round in 1..=self.task.rounds {
            let fitter = &fitter.in_round(round);
            if self.task.finds() {
                self.find(fitter, &folder, &mut now, round, steps)?;
            }
            if self.task.tunes() {
                self.tune(fitter, &folder, &mut now, round)?;
            }
        }
        let inside = |path: &Path| path.strip_prefix(self.folder.path()).unwrap_or(path).to_owned();
        let plan_file = self.write_plan(&folder, &now, baseline)?;
        let grids = self.draw(fitter, &now, (baseline_name, &plan), &folder, &folder_name(steps))?;
        let model = match &now.tuned {
            Some(tuned) => {
                let path = folder.join("model.safetensors");
                self.write_model(&path, tuned, steps, now.alpha, now.tunings())?;
                write_decoder(&path, tuned.codec())?;
                Some(inside(&path))
            }
            None => None,
        };
        Ok(Outcome {
            steps,
            calls: steps * fitter.base.spec().calls,
            baseline,
            baseline_name: baseline_name.to_owned(),
            phases: now.phases,
            sigmas: now.plan.sigmas(),
            plan: inside(&plan_file),
            model,
            grids,
            tuning: now.tuning,
            levels: now.levels,
            interpolation: now.interpolation,
            cross_plan: Vec::new(),
        })
    }

    /// The tuned network of `outcomes[index]` under the plans of the others, or where there are none under one of twice as many
    /// evaluations that anybody might sample with.
    pub fn cross_plans(&self, fitter: &Fitter, outcomes: &[Outcome], index: usize) -> Result<Vec<CrossPlan>> {
        let Some((path, network)) = outcomes[index].model.as_ref().zip(fitter.network) else { return Ok(Vec::new()) };
        let tuned = load_like(&self.folder.path().join(path), network)?;
        let plans = outcomes.iter().map(|outcome| read_plan(&self.folder.path().join(&outcome.plan)));
        let plans = plans.collect::<Result<Vec<_>>>()?;
        let others = others(&fitter.base.spec().levels, &plans, index)?;
        others.iter().map(|other| cross_plan(fitter, &tuned, other)).collect()
    }

    /// The same seeds by the baseline, by the plan and by the plan on the tuned network; none where samples are no images, and without
    /// those whose pixels are not finite.
    fn draw(
        &self,
        fitter: &Fitter,
        now: &Standing,
        (name, start): (&str, &Plan),
        folder: &Path,
        inside: &str,
    ) -> Result<Vec<Grid>> {
        if fitter.base.pixel_shape().is_none() {
            return Ok(Vec::new());
        }
        let mut samplers = vec![(name, "baseline.png", fitter.base, start)];
        if now.plan.stages != start.stages {
            samplers.push(("plan", "plan.png", fitter.base, &now.plan));
        }
        if let Some(tuned) = &now.tuned {
            samplers.push(("plan and tuned network", "tuned.png", tuned, &now.plan));
        }
        let seeds: Vec<u64> = (0..IMAGES).collect();
        let draw = |(label, file, denoiser, plan): (&str, &str, &dyn TorchDenoiser, &Plan)| {
            let images = scorer::images(denoiser, plan, &seeds, fitter.settings.batch, fitter.observer)?;
            let Some(images) = images else {
                let what = format!("no images of {label} in {inside}: they would hold values that are not finite");
                fitter.observer.event(Event::Note(&what));
                return Ok(None);
            };
            atomic::write_bytes(folder.join(file), &scorer::grid(&[images])?)?;
            Ok(Some(Grid { label: label.to_owned(), file: Path::new(inside).join(file) }))
        };
        samplers.into_iter().filter_map(|sampler| draw(sampler).transpose()).collect()
    }

    fn find(&self, fitter: &Fitter, folder: &Path, now: &mut Standing, round: usize, steps: usize) -> Result<()> {
        let [file, state] = [".json", "-state.json"].map(|end| folder.join(format!("round-{round}-phase-1{end}")));
        let found = match self.finished::<FoundPlan>(&file)? {
            Some(found) => found,
            None => {
                let found = self.found(fitter, now, round, steps, &state)?;
                atomic::write_json(&file, &found)?;
                found
            }
        };
        fitter.remove_learning(&state, self.scorer.is_some())?; // an earlier run may have ended before it did
        let kept = !fitter.settings.early_stop || found.is_better(now.error);
        now.levels.push(found.interpolation);
        now.phases.push(PhaseOutcome { round, phase: 1, rollout_error: found.rollout_error, kept });
        if kept {
            (now.plan, now.error) = (found.plan, found.rollout_error);
        }
        Ok(())
    }

    fn found(&self, fitter: &Fitter, now: &Standing, round: usize, steps: usize, state: &Path) -> Result<FoundPlan> {
        let denoiser = now.tuned.as_ref().map_or(fitter.base, |tuned| tuned as &dyn TorchDenoiser);
        // later rounds tabulate the tuned network
        let later = match round > 1 && fitter.settings.needs_table(&self.task.method) {
            true => Some(fitter.table(denoiser)?),
            false => None,
        };
        let table = later.as_ref().or(self.table.as_ref());
        match (&self.task.method, table) {
            (PlanSource::Paper, table) => {
                let (start, scorer) = (Schedule::new(now.plan.sigmas())?, self.scorer.as_ref());
                match table {
                    Some(table) => {
                        let found = fitter.find_by_table(denoiser, table, steps)?;
                        let by = fitter.settings.paper.learned_by();
                        fitter.chosen_levels(denoiser, &start, vec![(by, found)], scorer)
                    }
                    None => fitter.learn_levels(denoiser, &start, state, scorer),
                }
            }
            (PlanSource::Method(method), table) => match (round, &self.found) {
                (1, Some(found)) => fitter.found(denoiser, method, found, steps),
                _ => {
                    let search = self.search.as_ref().context("there is no search to go on with")?;
                    let spread = spread(denoiser);
                    let of_tuned = search.for_tuned(&spread)?;
                    let plan_scorer = self.plan_scorer.map(|plan_scorer| plan_scorer.of(denoiser));
                    let plan_scorer = plan_scorer.as_ref().map(|plan_scorer| plan_scorer as &dyn PlanScorer);
                    let extras = Extras { table, plan_scorer, ..search.extras() };
                    let found = of_tuned.with(extras).find(method, &[steps])?;
                    fitter.found(denoiser, method, &found, steps)
                }
            },
        }
    }

    fn tune(&self, fitter: &Fitter, folder: &Path, now: &mut Standing, round: usize) -> Result<()> {
        let network = self.opened.tunable()?;
        let file = |what: &str| folder.join(format!("round-{round}-phase-2{what}"));
        let (summary_file, model_file, state) = (file(".json"), file(".safetensors"), file("-state.safetensors"));
        let trajectories = file("-trajectories.safetensors");
        let saved = Saved { state: &state, trajectories: &trajectories, resume: self.resumed };
        let (tuned, summary) = match self.finished::<TunedSummary>(&summary_file)? {
            Some(summary) => (load_like(&model_file, network)?, summary),
            None => {
                let untuned = now.tuned.as_ref().unwrap_or(network);
                let tuned = fitter.tune(untuned, &now.plan, Some(saved), self.scorer.is_some())?;
                let moments = self.search.as_ref().zip(self.task.moments());
                let (tuned_error, evaluations) = (tuned.rollout_error, tuned.evaluations.clone());
                let chosen = fitter.interpolate(untuned, tuned, &now.plan, moments, self.scorer.as_ref())?;
                let Interpolated { model, plan, alpha, rollout_error, points: interpolation } = chosen;
                self.write_model(&model_file, &model, now.plan.nfe(), alpha, now.tunings() + 1)?;
                let summary = TunedSummary { tuned_error, plan, rollout_error, evaluations, alpha, interpolation };
                atomic::write_json(&summary_file, &summary)?; // last: it says that the phase is finished
                (load_like(&model_file, network)?, summary)
            }
        };
        saved.remove(fitter.settings)?; // an earlier run may have ended before it did
        now.tuning.push(summary.evaluations);
        let better = comes_nearer(&summary.interpolation).unwrap_or(summary.tuned_error < now.error); // equal: nothing moved
        let kept = !fitter.settings.early_stop || better;
        now.interpolation.push(summary.interpolation);
        now.phases.push(PhaseOutcome { round, phase: 2, rollout_error: summary.rollout_error, kept });
        if kept {
            (now.tuned, now.alpha) = (Some(tuned), summary.alpha);
            (now.plan, now.error) = (summary.plan, summary.rollout_error);
        }
        Ok(())
    }

    fn finished<T: serde::de::DeserializeOwned>(&self, path: &Path) -> Result<Option<T>> {
        if self.resumed { read(path) } else { Ok(None) }
    }

    fn write_plan(&self, folder: &Path, now: &Standing, baseline: f64) -> Result<PathBuf> {
        let mut plan = now.plan.clone();
        plan.metadata.model = Some(self.opened.origin().to_owned());
        plan.found_for(self.opened.spec());
        let fit = json!({
            "command": self.task.command(),
            "rounds": self.task.rounds,
            "network": if now.tuned.is_some() { "model.safetensors beside this file" } else { UNTUNED },
        });
        plan.metadata.found_by.insert("fit".to_owned(), fit);
        plan.metadata.scores.insert("rollout_error".to_owned(), now.error);
        plan.metadata.scores.insert("rollout_error_baseline".to_owned(), baseline);
        let path = folder.join("plan.json");
        atomic::write_bytes(&path, plan.to_json()?.as_bytes())?;
        Ok(path)
    }

    fn write_model(&self, path: &Path, model: &Network, steps: usize, alpha: f64, tunings: usize) -> Result<()> {
        let mut notes: BTreeMap<String, String> = self.opened.notes.clone();
        let hash = self.opened.origin();
        let how = match tunings {
            0 | 1 => format!("alpha {alpha}, from the network with SHA-256 {hash}"),
            _ => format!("in {tunings} rounds, the last with alpha {alpha}, from the network with SHA-256 {hash}"),
        };
        notes.insert("tuned".to_owned(), format!("by fewstep for {steps} steps, {how}"));
        Ok(checkpoint::save(path, model.model(), Storage::F32, &notes)?)
    }
}

/// Names a network's decoder beside its file, so that its samples become images wherever it is opened.
fn write_decoder(network: &Path, codec: &Codec) -> Result<()> {
    let Some(decoder) = codec.decoder() else { return Ok(()) };
    let file = &decoder.config().path;
    let path = file.canonicalize().with_context(|| format!("cannot find the decoder {}", file.display()))?;
    let described = DecoderConfig { path, ..decoder.config().clone() };
    Ok(atomic::write_json(network.with_extension("json"), &json!({ "decoder": described }))?)
}

/// What a plan says of its network where that is not a tuned one.
pub const UNTUNED: &str = "untuned";
