//! The fit for one number of steps: rounds of both phases, each saved when it is finished.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use fewstep_core::objective::BoundTable;
use fewstep_core::plan::Plan;
use fewstep_core::schedule::Schedule;
use fewstep_core::solver::{Solver, SolverOptions};
use fewstep_io::{RunFolder, atomic, json};
use fewstep_nn::checkpoint::Storage;
use fewstep_nn::fit::TuneStep;
use fewstep_nn::sample::Seeded;
use fewstep_nn::{Model, checkpoint};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::Args;
use super::outcome::{Elsewhere, Grid, IMAGES, Outcome, Stage};
use crate::fitting::{
    Between, Fitter, Learned, Phase1Search, Phase1Solver, Saved, Settled, comes_nearer, euler, percent,
};
use crate::inputs::{OpenModel, read_plan};
use crate::searching::{Cache, Found, Searcher};
use crate::studio::{self, Studio};

/// What phase 2 leaves beside its network.
#[derive(Debug, Serialize, Deserialize)]
struct TunedSummary {
    /// Of the network tuned to the end under the plan that it was tuned for: by it the outcome is kept or not, where no images
    /// are judged.
    tuned_error: f64,
    /// The same plan, or one whose images' moments were matched for it.
    plan: Plan,
    /// Under that plan.
    rollout_error: f64,
    looks: Vec<TuneStep>,
    /// How much of the way to the tuned network was gone.
    #[serde(default = "all_of_it")]
    share: f64,
    /// Networks on the way, by whose images the outcome was chosen.
    #[serde(default)]
    between: Vec<Between>,
}

fn all_of_it() -> f64 {
    1.0
}

/// What the base network is worth for all numbers of steps at once.
#[derive(Default)]
pub struct First<'a> {
    /// e(sigma), where a search needs it.
    pub table: Option<BoundTable>,
    /// The teacher, where a search needs one.
    pub searcher: Option<Searcher<'a>>,
    /// Plans of the first round.
    pub found: Option<Found>,
    /// What judges networks on the way to a tuned one.
    pub studio: Option<Studio<'a>>,
}

/// Where the fit for one number of steps stands.
struct Standing {
    plan: Plan,
    tuned: Option<Model>,
    /// How much of the way of its last tuning that is.
    share: f64,
    error: f64,
    stages: Vec<Stage>,
    tuning: Vec<Vec<TuneStep>>,
    between: Vec<Vec<Between>>,
}

impl Standing {
    /// Tunings that the network has been through.
    fn tunings(&self) -> usize {
        self.stages.iter().filter(|stage| stage.phase == 2 && stage.kept).count()
    }
}

/// Where the outcome of the first round's phase 1 is kept, in the run folder.
pub fn first_file(steps: usize) -> String {
    format!("{}/round-1-phase-1.json", folder_name(steps))
}

/// The folder of one number of steps, in the run folder.
pub fn folder_name(steps: usize) -> String {
    format!("steps-{steps:03}")
}

/// Fits `steps` levels, or what of it an earlier run left undone.
pub fn fit(
    args: &Args,
    fitter: &Fitter,
    opened: &OpenModel,
    run: &RunFolder,
    first: &First,
    steps: usize,
) -> Result<Outcome> {
    let folder = run.subfolder(&folder_name(steps))?;
    let plan = euler(&fitter.baseline(steps)?)?;
    let baseline = fitter.judge.rollout_error(fitter.base, &plan)?;
    let mut now = Standing {
        plan: plan.clone(),
        tuned: None,
        share: 1.0,
        error: baseline,
        stages: Vec::new(),
        tuning: Vec::new(),
        between: Vec::new(),
    };
    let rho_7 = plan;
    for round in 1..=args.rounds {
        if args.phases.contains(&1) {
            learn(args, fitter, &folder, &mut now, first, round, steps)?;
        }
        if args.phases.contains(&2) {
            tune(args, fitter, opened, &folder, &mut now, first, round)?;
        }
    }
    let plan = write_plan(args, opened, &folder, &now, baseline)?;
    let grids = draw(fitter, &now, &rho_7, &folder, &folder_name(steps))?;
    let model = match &now.tuned {
        Some(tuned) => {
            Some(write_model(opened, &folder.join("model.safetensors"), tuned, steps, now.share, now.tunings())?)
        }
        None => None,
    };
    let sigmas = now.plan.sigmas();
    Ok(Outcome {
        steps,
        baseline,
        stages: now.stages,
        sigmas,
        plan,
        model,
        grids,
        tuning: now.tuning,
        between: now.between,
        elsewhere: Vec::new(),
    })
}

/// Judges the tuned network of `outcomes[index]` under the plans of the others, or where there are none under one of twice as many
/// evaluations that anybody might sample with.
pub fn elsewhere(fitter: &Fitter, outcomes: &[Outcome], index: usize) -> Result<Vec<Elsewhere>> {
    let Some(path) = &outcomes[index].model else { return Ok(Vec::new()) };
    let tuned = checkpoint::load(path, fitter.base.device())?.model.with_kind(fitter.base.kind());
    let judge = |plan: &Plan, solver: Option<String>| {
        let untuned = fitter.judge.rollout_error(fitter.base, plan)?;
        let tuned = fitter.judge.rollout_error(&tuned, plan)?;
        Ok(Elsewhere { steps: plan.nfe(), solver, untuned, tuned })
    };
    if outcomes.len() == 1 {
        let solver = Solver::DpmPp { order: 3, lower_order_final: true };
        // a network of discrete levels may not know so many
        let Ok(levels) = fitter.baseline(2 * outcomes[index].steps) else { return Ok(Vec::new()) };
        let plan = solver.plan(&levels, &SolverOptions::default())?;
        return Ok(vec![judge(&plan, Some(format!("{solver} on rho = 7")))?]);
    }
    let others = outcomes.iter().enumerate().filter(|(other, _)| *other != index);
    others.map(|(_, other)| judge(&read_plan(&other.plan)?, None)).collect()
}

/// The same seeds by the baseline, by the plan and by the plan on the tuned network.
fn draw(fitter: &Fitter, now: &Standing, rho_7: &Plan, folder: &Path, name: &str) -> Result<Vec<Grid>> {
    let mut samplers = vec![("rho = 7", "rho-7.png", fitter.base, rho_7)];
    if now.plan.stages != rho_7.stages {
        samplers.push(("plan", "plan.png", fitter.base, &now.plan));
    }
    if let Some(tuned) = &now.tuned {
        samplers.push(("plan and tuned network", "tuned.png", tuned, &now.plan));
    }
    let seeds: Vec<u64> = (0..IMAGES).collect();
    let draw = |(label, file, model, plan): (&str, &str, &Model, &Plan)| {
        let images = Seeded { seeds: &seeds, class: None, batch: fitter.settings.batch }.collect(model, plan)?;
        atomic::write_bytes(folder.join(file), &studio::grid(&[images])?)?;
        Ok(Grid { label: label.to_owned(), file: Path::new(name).join(file) })
    };
    samplers.into_iter().map(draw).collect()
}

fn learn(
    args: &Args,
    fitter: &Fitter,
    folder: &Path,
    now: &mut Standing,
    first: &First,
    round: usize,
    steps: usize,
) -> Result<()> {
    let [file, state] = [".json", "-state.json"].map(|end| folder.join(format!("round-{round}-phase-1{end}")));
    let model = now.tuned.as_ref().unwrap_or(fitter.base);
    let learned = match read_finished::<Learned>(&file, args.run.resume)? {
        Some(learned) => learned,
        None => {
            // later rounds tabulate the tuned network
            let later = match &fitter.settings.phase1.search {
                Phase1Search::Method(_) if round > 1 && fitter.settings.phase1.needs_table() => {
                    Some(fitter.table(model)?)
                }
                _ => None,
            };
            let table = first.table.as_ref().filter(|_| round == 1).or(later.as_ref());
            let learned = match (&fitter.settings.phase1.search, fitter.settings.phase1.solver, table) {
                (Phase1Search::Method(method), ..) => {
                    let searcher = first.searcher.as_ref().context("a search without a teacher")?;
                    match (round, &first.found) {
                        (1, Some(found)) => fitter.searched(model, method, found, steps)?,
                        _ => {
                            let found = searcher.for_network(model)?.find(method, &[steps], table)?;
                            fitter.searched(model, method, &found, steps)?
                        }
                    }
                }
                (Phase1Search::Paper, Phase1Solver::Adam, _) => {
                    let initial = Schedule::new(now.plan.sigmas())?;
                    fitter.phase1_by_adam(model, &initial, &fitter.settings.phase1, &state)?
                }
                (Phase1Search::Paper, Phase1Solver::Table, Some(table)) => {
                    fitter.phase1_from_table(model, table, steps)?
                }
                (Phase1Search::Paper, Phase1Solver::Table, None) => {
                    fitter.phase1_from_table(model, &fitter.table(model)?, steps)?
                }
            };
            atomic::write_json(&file, &learned)?;
            let _ = std::fs::remove_file(&state);
            learned
        }
    };
    let kept = !fitter.settings.early_stop || learned.rollout_error <= now.error;
    now.stages.push(Stage { round, phase: 1, rollout_error: learned.rollout_error, kept });
    if kept {
        (now.plan, now.error) = (learned.plan, learned.rollout_error);
    }
    Ok(())
}

fn tune(
    args: &Args,
    fitter: &Fitter,
    opened: &OpenModel,
    folder: &Path,
    now: &mut Standing,
    first: &First,
    round: usize,
) -> Result<()> {
    let file = |what: &str| folder.join(format!("round-{round}-phase-2{what}"));
    let (summary_file, model_file, state_file) = (file(".json"), file(".safetensors"), file("-state.safetensors"));
    let (tuned, summary) = match read_finished::<TunedSummary>(&summary_file, args.run.resume)? {
        Some(summary) => {
            (checkpoint::load(&model_file, fitter.base.device())?.model.with_kind(fitter.base.kind()), summary)
        }
        None => {
            let trajectories = file("-trajectories.safetensors");
            let cache = Cache { path: &trajectories, model_sha256: &opened.hash };
            let saved = Saved { path: &state_file, trajectories: cache, resume: args.run.resume };
            let base = now.tuned.as_ref().unwrap_or(fitter.base);
            let tuned = fitter.phase2(base, &now.plan, &fitter.settings.phase2, Some(saved), first.studio.is_some())?;
            let moments = first.searcher.as_ref().zip(fitter.settings.phase1.moments());
            let settled = fitter.settle(base, tuned.model, &now.plan, moments, first.studio.as_ref())?;
            let Settled { model, plan, share, rollout_error, looks: between } = settled;
            write_model(opened, &model_file, &model, now.plan.nfe(), share, now.tunings() + 1)?;
            // Written last: it says that the phase is finished.
            let (tuned_error, looks) = (tuned.rollout_error, tuned.looks);
            let summary = TunedSummary { tuned_error, plan, share, rollout_error, looks, between };
            atomic::write_json(&summary_file, &summary)?;
            let _ = std::fs::remove_file(&state_file);
            let _ = std::fs::remove_file(&trajectories);
            (model, summary)
        }
    };
    now.tuning.push(summary.looks);
    let better = comes_nearer(&summary.between).unwrap_or(summary.tuned_error < now.error); // equal is the network as it came
    let kept = !fitter.settings.early_stop || better;
    now.between.push(summary.between);
    now.stages.push(Stage { round, phase: 2, rollout_error: summary.rollout_error, kept });
    if kept {
        (now.tuned, now.share) = (Some(tuned), summary.share);
        (now.plan, now.error) = (summary.plan, summary.rollout_error);
    }
    Ok(())
}

fn read_finished<T: serde::de::DeserializeOwned>(path: &Path, resume: bool) -> Result<Option<T>> {
    if !resume || !path.exists() {
        return Ok(None);
    }
    let text = json::read_text(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(Some(
        serde_json::from_str(&text)
            .with_context(|| format!("{} is damaged; remove it to redo that phase", path.display()))?,
    ))
}

/// What a plan says of its network where that is not a tuned one.
pub const AS_IT_CAME: &str = "as it came";

fn write_plan(args: &Args, opened: &OpenModel, folder: &Path, now: &Standing, baseline: f64) -> Result<PathBuf> {
    let mut plan = now.plan.clone();
    plan.metadata.model = Some(opened.hash.clone());
    plan.metadata.image_shape = Some(opened.model.image_shape().map(|size| size as usize));
    let fit = json!({
        "phases": args.phases,
        "rounds": args.rounds,
        "network": if now.tuned.is_some() { "model.safetensors beside this file" } else { AS_IT_CAME },
    });
    plan.metadata.found_by.insert("fit".to_owned(), fit);
    plan.metadata.scores.insert("rollout_error".to_owned(), now.error);
    plan.metadata.scores.insert("rollout_error_rho_7".to_owned(), baseline);
    let path = folder.join("plan.json");
    atomic::write_bytes(&path, plan.to_json()?.as_bytes())?;
    Ok(path)
}

/// `share` is how much of the way the last of so many tunings went.
fn write_model(
    opened: &OpenModel,
    path: &Path,
    model: &Model,
    steps: usize,
    share: f64,
    tunings: usize,
) -> Result<PathBuf> {
    let mut notes: BTreeMap<String, String> = opened.notes.clone();
    let (share, hash) = (percent(share), &opened.hash);
    let how = match tunings {
        0 | 1 => format!("{share} of the way from the network with SHA-256 {hash}"),
        _ => format!("in {tunings} rounds, in the last {share} of the way, from the network with SHA-256 {hash}"),
    };
    notes.insert("tuned".to_owned(), format!("by fewstep fit for {steps} steps, {how}"));
    checkpoint::save(path, model, Storage::F32, &notes)?;
    Ok(path.to_path_buf())
}
