//! `fewstep reproduce`: the paper's experiments on a model and data of one's own.

mod arguments;
mod lab;
mod plots;
mod rows;
mod show;

use anyhow::{Result, ensure};
use fewstep_eval::features::FeatureId;
use fewstep_io::RunFolder;
use fewstep_io::run_folder::RUN_FILE;
use fewstep_nn::data::Images;
use fewstep_report::Page;
use serde::{Deserialize, Serialize};

pub use self::arguments::Args;
use self::lab::{Lab, Subject};
use self::rows::{Cell, Experiment};
use crate::fitting::{FitSettings, Fitter, Phase2Settings};
use crate::forecast::Forecast;
use crate::gallery::{Row, SeedRanges};
use crate::inputs::{Judge, open_model};
use crate::provenance::Provenance;
use crate::searching::{Method, MomentsOf};
use crate::ui::{self, Output};
use crate::{interrupt, runs};

/// `run.json` of a reproduction.
#[derive(Debug, Serialize, Deserialize)]
pub struct Run {
    kind: String,
    provenance: Provenance,
    task: Task,
}

/// What is reproduced. A resumed run may ask for other numbers of steps, rows and experiments, and nothing
/// else; cells that it does not ask for stay in the folder.
#[derive(Debug, Serialize, Deserialize)]
pub struct Task {
    experiment: Experiment,
    steps: Vec<usize>,
    ours: bool,
    /// The rows that were asked for, if not all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    rows: Vec<Cell>,
    subject: Names,
    settings: Settings,
}

/// Files by name and hash.
#[derive(Debug, Serialize, Deserialize)]
struct Names {
    model: String,
    model_sha256: String,
    data: String,
    data_sha256: String,
    features: Option<FeatureId>,
    reference: Option<String>,
    /// None where it is no file, or in a run of an earlier version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reference_sha256: Option<String>,
}

impl Names {
    /// Whether files are the same, whatever they are called. What one of the runs did not look at may be any.
    fn agree(&self, other: &Self) -> bool {
        fn same<T: PartialEq>(a: Option<&T>, b: Option<&T>) -> bool {
            a.zip(b).is_none_or(|(a, b)| a == b)
        }
        let by_hash = self.reference_sha256.as_ref().zip(other.reference_sha256.as_ref());
        self.model_sha256 == other.model_sha256
            && self.data_sha256 == other.data_sha256
            && same(self.features.as_ref(), other.features.as_ref())
            && by_hash.map_or_else(|| same(self.reference.as_ref(), other.reference.as_ref()), |(a, b)| a == b)
    }

    /// With the judge of an earlier run where there is none now.
    fn or_judge_of(self, earlier: Self) -> Self {
        if self.features.is_some() {
            return self;
        }
        let Self { features, reference, reference_sha256, .. } = earlier;
        Self { features, reference, reference_sha256, ..self }
    }
}

/// What every cell depends on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    seeds: SeedRanges,
    precision: String,
    fit: FitSettings,
    /// Our search; runs that do not say so are of a time when there was one.
    #[serde(default = "first_search")]
    search: Method,
    /// Our tuning, where `fit` has the paper's phase 2.
    rollout: Phase2Settings,
}

fn first_search() -> Method {
    Method { moments: Some(MomentsOf::Teacher), ..Method::LEAST_SQUARES }
}

/// Where the cells stand, in the run folder.
pub const ROWS: &str = "reproduce.json";

/// Reproduces.
pub fn run(args: Args, output: Output) -> Result<()> {
    let (device, kind) = args.compute.resolve()?;
    let settings = args.settings()?;
    let chooses_rows = args.ours || !args.rows.is_empty();
    ensure!(
        !chooses_rows || args.experiment.measures(),
        "--rows and --ours are for fig2 and table1, which have a table"
    );
    let steps = args.steps.counts();
    let opened = open_model(&args.model, device, kind)?;
    let dataset = args.data.open()?;
    // the figures of stage 1 look at no images that were made
    let judge = if args.experiment.measures() {
        Some(Judge::open(&opened, args.features.clone(), args.reference.as_ref(), &args.resize, device)?)
    } else {
        None
    };
    let judged = judge.as_ref().map(|judge| judge.named(args.reference.as_ref())).transpose()?;
    let task = Task {
        experiment: args.experiment,
        steps,
        ours: args.ours,
        rows: args.rows.clone(),
        subject: Names {
            model: opened.name.clone(),
            model_sha256: opened.hash.clone(),
            data: dataset.name().to_owned(),
            data_sha256: dataset.fingerprint()?,
            features: judged.as_ref().map(|judge| judge.features.clone()),
            reference: judged.as_ref().map(|judge| judge.reference.clone()),
            reference_sha256: judged.and_then(|judge| judge.reference_sha256),
        },
        settings,
    };
    task.check(dataset.len())?;
    if args.run.repeat.dry_run {
        return forecast(&task)?.print(output);
    }
    let images = Images::for_model(dataset.load_all()?, &opened.model)?;
    interrupt::resumable()?;
    let (folder, run) = open_folder(&args, task)?;
    ui::note(format!("teacher: Heun with 18 noise levels on {} held-out latents", run.task.settings.fit.held_out));
    let fitter = Fitter::new(&opened.model, Some(&images), &run.task.settings.fit)?;
    let subject = Subject { opened: &opened, judge: judge.as_ref() };
    let lab = Lab::new(&subject, &fitter, &run.task, &folder, args.run.resume)?;
    let rows = lab.run()?;
    folder.write_json(ROWS, &rows)?;
    show::save(&rows, &lab, &run, &folder)?;
    output.result(&rows, || show::terminal(&rows, &run, output.colour(), &folder))
}

/// The report of a reproduction's folder.
pub fn report(folder: &RunFolder) -> Result<Page> {
    let run: Run = folder.read_json(RUN_FILE)?;
    let rows: Vec<Row> = folder.read_json(ROWS)?;
    show::page(&rows, &run, folder)
}

fn open_folder(args: &Args, task: Task) -> Result<(RunFolder, Run)> {
    let out = &args.run.out;
    let mut run = Run { kind: "reproduce".to_owned(), provenance: Provenance::now(), task };
    if !args.run.resume {
        return Ok((runs::create(out, &run)?, run));
    }
    let (folder, earlier) = runs::reopen::<Run>(out, "reproduce")?;
    ensure!(
        earlier.task.settings == run.task.settings && earlier.task.subject.agree(&run.task.subject),
        "the run in {} was started with another model, data set or judge, or other settings; repeat those (steps, --ours and \
         --rows may be others; a run of an earlier version has --search {}, --settling-images 0 and --rollout-critic 0), or \
         choose a new --out",
        out.display(),
        first_search()
    );
    run.task.subject = run.task.subject.or_judge_of(earlier.task.subject);
    folder.write_json(RUN_FILE, &run)?;
    Ok((folder, run))
}

/// What the experiment costs, at most.
fn forecast(task: &Task) -> Result<Forecast> {
    let Settings { seeds, fit, .. } = &task.settings;
    let steps: u64 = task.steps.iter().map(|&steps| steps as u64).sum();
    let held = fit.held_out as u64;
    let teacher = 2 * fit.teacher_steps as u64 - 1;
    let looks = |updates: u64, every: u64| (updates.div_ceil(every.max(1)) + 1) * held * steps;
    let descents = if task.experiment == Experiment::Objectives { 4 } else { 1 };
    let mut cost = Forecast::new(task)?.part("teacher on held-out latents", held * teacher);
    if task.learns_levels() {
        cost = cost
            .training("stage 1", descents * fit.phase1.iterations * fit.phase1.batch as u64 * steps)
            .part("looks of stage 1", descents * looks(fit.phase1.iterations, fit.phase1.check_every));
    }
    if !task.experiment.measures() {
        return Ok(cost);
    }
    let cells = task.cells();
    let tunings = |ours: bool| {
        let of = cells.iter().filter(move |cell| (**cell == Cell::OursTuned) == ours);
        of.filter_map(|cell| cell.tuning(&task.settings)).collect::<Vec<Phase2Settings>>()
    };
    let gradients = |tunings: &[Phase2Settings]| {
        let of_all = |settings: &Phase2Settings| {
            task.steps.iter().map(|&steps| settings.evaluations_with_gradient(steps)).sum::<u64>()
        };
        tunings.iter().map(of_all).sum::<u64>()
    };
    let looked = |tunings: &[Phase2Settings]| {
        tunings.iter().map(|Phase2Settings { tune, .. }| looks(tune.iterations, tune.check_every)).sum::<u64>()
    };
    let (paper, ours) = (tunings(false), tunings(true));
    let images = seeds.images * seeds.ranges;
    cost = cost.part("the teacher's images", (images + held) * teacher);
    if !paper.is_empty() {
        cost = cost.training("stage 2", gradients(&paper)).part("looks of stage 2", looked(&paper));
    }
    if cells.iter().any(|cell| matches!(cell, Cell::Ours | Cell::OursTuned)) {
        let found = fit.search.teacher_evaluations() + fit.search.evaluations(&task.settings.search, &task.steps);
        cost = cost.part("our search with its teacher", found);
    }
    if cells.contains(&Cell::OursTuned) {
        let of_all = |each: &dyn Fn(usize) -> u64| task.steps.iter().map(|&steps| each(steps)).sum::<u64>();
        let trajectories = task.settings.rollout.trajectories;
        cost = cost
            .part("teacher's trajectories", of_all(&|n| fit.search.trajectory_evaluations(trajectories, n)))
            .part(
                "runs of our tuning before their gradients",
                of_all(&|n| task.settings.rollout.repeated_evaluations(n)),
            )
            .training("what its critic sees", of_all(&|n| task.settings.rollout.criticised_images(n)))
            .training("our tuning", gradients(&ours))
            .part("looks of our tuning", looked(&ours))
            .part(
                "settling on the way to the tuned network",
                of_all(&|n| fit.settling_evaluations(task.settings.search.moments, n)),
            );
    }
    Ok(cost.part(format!("images of {} methods", cells.len()), cells.len() as u64 * (images + held) * steps))
}
