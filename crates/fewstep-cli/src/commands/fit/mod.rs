//! `fewstep fit`: the two phases of the paper, for every number of steps asked for.

mod arguments;
mod features;
mod names;
mod one;
mod outcome;
mod page;

use anyhow::{Result, ensure};
use fewstep_eval::features::FeatureId;
use fewstep_io::dataset::Dataset;
use fewstep_io::run_folder::RUN_FILE;
use fewstep_io::{RunFolder, atomic};
use fewstep_nn::data::Images;
use fewstep_nn::fit::TuneWeights;
use fewstep_report::{Cell, Column, Format, Page, Table};
use serde::{Deserialize, Serialize};

pub use self::arguments::Args;
pub use self::one::AS_IT_CAME;
use self::one::First;
use self::outcome::{IMAGES, Outcome};
use crate::fitting::{FitSettings, Fitter, Phase1Search, Phase1Solver, settling_table};
use crate::forecast::Forecast;
use crate::inputs::{JudgeId, OpenModel, open_data, open_model};
use crate::provenance::Provenance;
use crate::runs::REPORT;
use crate::searching::{Cache, Searcher};
use crate::studio::Studio;
use crate::ui::{self, Output};
use crate::{interrupt, runs};

/// Where the outcomes stand, in the run folder.
pub const OUTCOMES: &str = "fit.json";

/// `run.json` of a fit.
#[derive(Debug, Serialize, Deserialize)]
struct Run {
    kind: String,
    provenance: Provenance,
    task: Task,
}

/// What is fitted: a resumed run must ask for the same.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Task {
    model: String,
    model_sha256: String,
    data: Option<String>,
    data_sha256: Option<String>,
    /// The feature network of distances of features.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    features: Option<FeatureId>,
    /// What networks on the way to a tuned one are judged by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    judge: Option<JudgeId>,
    precision: String,
    steps: Vec<usize>,
    phases: Vec<u8>,
    rounds: usize,
    settings: FitSettings,
}

/// Fits and prints what it bought.
pub fn run(args: Args, output: Output) -> Result<()> {
    let (device, kind) = args.compute.resolve()?;
    let settings = args.settings()?;
    let opened = open_model(&args.model, device, kind)?;
    let dataset = args.data.as_ref().map(|path| open_data(path, args.pad_to, args.max_images)).transpose()?;
    let data = dataset.as_ref().map(|data| Ok::<_, anyhow::Error>((data.name().to_owned(), data.fingerprint()?)));
    let (data, data_sha256) = data.transpose()?.unzip();
    let features = args.feature_network(&opened.model)?;
    let judge = args.judge(&opened)?;
    let settling_images = if judge.is_some() { settings.settling_images } else { 0 };
    let settings = FitSettings { settling_images, ..settings };
    let task = Task {
        judge: judge.as_ref().map(|judge| judge.named(args.reference.as_ref())).transpose()?,
        features: features.as_ref().map(|network| network.id().clone()),
        model: opened.name.clone(),
        model_sha256: opened.hash.clone(),
        data,
        data_sha256,
        precision: args.compute.precision.clone(),
        steps: args.steps.counts(),
        phases: args.phases.clone(),
        rounds: args.rounds,
        settings: settings.clone(),
    };
    ensure!(
        dataset.is_some() || !settings.needs_images(&args.phases),
        "phase 2 (but for --weights rollout without --data-weight and --critic-of data) and the searches paper, bound and any that \
         ends in +data-moments need training images: name them with --data, or leave phase 2 out with --phases 1"
    );
    let count = dataset.as_ref().map(Dataset::len);
    if args.phases.contains(&1) {
        count.map_or(Ok(()), |count| settings.phase1.check(count))?;
    }
    if args.phases.contains(&2) {
        settings.phase2.check(count, &task.steps, "batch")?;
    }
    if args.run.repeat.dry_run {
        return forecast(&task)?.print(output);
    }
    let images = dataset.map(|data| Ok::<_, anyhow::Error>(Images::for_model(data.load_all()?, &opened.model)?));
    let images = images.transpose()?;
    interrupt::resumable()?;
    let folder = open_folder(&args, task)?;
    ui::note(format!(
        "teacher: Heun with {} noise levels on {} held-out latents",
        settings.teacher_steps, settings.held_out
    ));
    let fitter = Fitter::new(&opened.model, images.as_ref(), &settings)?.seen_by(features.as_deref());
    let studio =
        judge.as_ref().map(|judge| Studio::new(&*judge.features, &judge.reference, settings.batch)).transpose()?;
    let first = First { studio, ..first(&args, &fitter, &opened, &folder)? };
    let mut outcomes = Vec::new();
    for steps in args.steps.counts() {
        outcomes.push(one::fit(&args, &fitter, &opened, &folder, &first, steps)?);
        folder.write_json(OUTCOMES, &outcomes)?;
    }
    for index in 0..outcomes.len() {
        outcomes[index].elsewhere = one::elsewhere(&fitter, &outcomes, index)?;
    }
    folder.write_json(OUTCOMES, &outcomes)?;
    let page = report(&folder)?;
    atomic::write_bytes(folder.file(REPORT), page.to_html().as_bytes())?;
    print(&outcomes, &opened, &folder, output)
}

/// The report of a fit's folder.
pub fn report(folder: &RunFolder) -> Result<Page> {
    let run: Run = folder.read_json(RUN_FILE)?;
    let outcomes: Vec<Outcome> = folder.read_json(OUTCOMES)?;
    page::build(&run, &outcomes, folder)
}

fn open_folder(args: &Args, task: Task) -> Result<RunFolder> {
    let out = &args.run.out;
    if !args.run.resume {
        return runs::create(out, &Run { kind: "fit".to_owned(), provenance: Provenance::now(), task });
    }
    let (folder, run) = runs::reopen::<Run>(out, "fit")?;
    ensure!(
        run.task == task,
        "the run in {} was started with another model, data set or other options; repeat those, or choose a new --out",
        out.display()
    );
    Ok(folder)
}

/// What the fit costs, at most: early stopping may end phases sooner.
fn forecast(task: &Task) -> Result<Forecast> {
    let FitSettings { phase1, phase2, search, .. } = &task.settings;
    let held = task.settings.held_out as u64;
    let rounds = task.rounds as u64;
    let steps: u64 = task.steps.iter().map(|&steps| steps as u64).sum();
    let numbers = task.steps.len() as u64;
    let looks = |updates: u64, every: u64| updates.div_ceil(every.max(1)) + 1;
    let mut cost = Forecast::new(task)?
        .part("teacher on held-out latents", held * (2 * task.settings.teacher_steps as u64 - 1))
        .part("baseline on held-out latents", held * steps);
    if task.phases.contains(&1) {
        let table = (phase1.grid * phase1.table_images) as u64;
        cost = match &phase1.search {
            Phase1Search::Paper if phase1.solver == Phase1Solver::Table => {
                cost.part("table of e(sigma)", rounds * table)
            }
            Phase1Search::Paper => cost
                .training("phase 1", rounds * phase1.iterations * phase1.batch as u64 * steps)
                .part("looks of phase 1", rounds * looks(phase1.iterations, phase1.check_every) * held * steps),
            Phase1Search::Method(method) => cost
                .part("table of e(sigma)", if phase1.needs_table() { (1 + (rounds - 1) * numbers) * table } else { 0 })
                .part("the search's teacher", search.teacher_evaluations())
                .part(format!("search {method}"), {
                    // one for all numbers of steps, then one each for its own tuned network
                    let each: u64 = task.steps.iter().map(|&steps| search.evaluations(method, &[steps])).sum();
                    search.evaluations(method, &task.steps) + (rounds - 1) * each
                }),
        };
        cost = cost.part("plans on held-out latents", rounds * held * steps);
    }
    if task.phases.contains(&2) {
        let each = |&steps: &usize| match phase2.weights {
            TuneWeights::Rollout(_) => search.trajectory_evaluations(phase2.trajectories, steps),
            _ => 0,
        };
        let trajectories: u64 = task.steps.iter().map(each).sum();
        cost = cost
            .part("teacher's trajectories", rounds * trajectories)
            .training("images of phase 2 beside trajectories", {
                let beside = matches!(phase2.weights, TuneWeights::Rollout(loss) if loss.data > 0.0);
                let each = |&steps: &usize| phase2.parts(steps).batch as u64;
                if beside { rounds * phase2.tune.iterations * task.steps.iter().map(each).sum::<u64>() } else { 0 }
            })
            .part(
                "runs of phase 2 before their gradients",
                rounds * task.steps.iter().map(|&steps| phase2.repeated_evaluations(steps)).sum::<u64>(),
            )
            .training(
                "what phase 2's critic sees",
                rounds * task.steps.iter().map(|&steps| phase2.criticised_images(steps)).sum::<u64>(),
            )
            .training(
                "phase 2",
                rounds * task.steps.iter().map(|&steps| phase2.evaluations_with_gradient(steps)).sum::<u64>(),
            )
            .part("looks of phase 2", rounds * looks(phase2.tune.iterations, phase2.tune.check_every) * held * steps)
            .part("settling on the way to the tuned network", {
                let of = phase1.moments().filter(|_| task.phases.contains(&1));
                rounds * task.steps.iter().map(|&steps| task.settings.settling_evaluations(of, steps)).sum::<u64>()
            })
            .part("tuned networks under other plans", {
                // one alone is tried under a plan of twice as many evaluations
                let plans = if numbers == 1 { 2 } else { numbers - 1 };
                2 * plans * held * steps
            });
    }
    Ok(cost.part("images of the report", IMAGES * (1 + task.phases.len() as u64) * steps))
}

/// What serves every number of steps of the first round: the base network's table, its teacher, the plans of a search.
fn first<'a>(args: &Args, fitter: &Fitter<'a>, opened: &'a OpenModel, folder: &RunFolder) -> Result<First<'a>> {
    let mut first = First::default();
    if !args.phases.contains(&1) {
        return Ok(first);
    }
    let phase1 = &fitter.settings.phase1;
    if phase1.needs_table() {
        first.table = Some(fitter.table(fitter.base)?);
    }
    if let Phase1Search::Method(method) = &phase1.search {
        let path = folder.file("teacher.safetensors");
        let cache = Cache { path: &path, model_sha256: &opened.hash };
        let searcher = Searcher::new(&opened.model, &fitter.settings.search, Some(cache))?
            .seen_by(fitter.features)
            .looking_at(fitter.images);
        let done = |&steps: &usize| args.run.resume && folder.file(&one::first_file(steps)).exists();
        let steps = args.steps.counts();
        if !steps.iter().all(done) {
            let found = searcher.find(method, &steps, first.table.as_ref())?;
            let (evaluations, seconds) = searcher.teacher_cost;
            ui::note(format!(
                "{method}: {} evaluations in {:.1} s for all numbers of steps, after the teacher's {evaluations} in {seconds:.1} s",
                found.evaluations, found.seconds
            ));
            for &steps in &steps {
                found.plan(method, steps)?;
            }
            first.found = Some(found);
        }
        first.searcher = Some(searcher);
    }
    Ok(first)
}

fn print(outcomes: &[Outcome], opened: &OpenModel, folder: &RunFolder, output: Output) -> Result<()> {
    output.result(&outcomes, || {
        let tables = [Some(table(outcomes)), between(outcomes), elsewhere(outcomes)].into_iter().flatten();
        let tables: Vec<String> = tables.map(|table| table.to_terminal(output.colour())).collect();
        format!(
            "{}\nmodel {}; all files, {REPORT} among them, are in {}",
            tables.join("\n"),
            opened.name,
            folder.path().display()
        )
    })
}

/// Networks on the way to the tuned ones; none where none were looked at.
fn between(outcomes: &[Outcome]) -> Option<Table> {
    settling_table(outcomes.iter().flat_map(|outcome| {
        outcome.between.iter().enumerate().map(|(round, looks)| (outcome.steps, round + 1, looks.as_slice()))
    }))
}

/// How far the tuned networks keep working under other plans; none where there is nothing to say.
fn elsewhere(outcomes: &[Outcome]) -> Option<Table> {
    let mut table = Table::new(vec![
        Column::number("network tuned for", Format::Integer),
        Column::text("under the plan of"),
        Column::number("rollout error", Format::Significant(4)),
        Column::number("as it came", Format::Significant(4)),
        Column::number("ratio", Format::Significant(3)),
    ]);
    for outcome in outcomes.iter().filter(|outcome| !outcome.elsewhere.is_empty()) {
        table.start_group();
        for other in &outcome.elsewhere {
            let solver = other.solver.as_ref().map_or_else(String::new, |solver| format!(", {solver}"));
            let under = format!("{} evaluations{solver}", other.steps);
            let errors = [other.tuned, other.untuned, other.tuned / other.untuned].map(Cell::from);
            table.push([(outcome.steps as f64).into(), under.into()].into_iter().chain(errors).collect());
        }
    }
    outcomes.iter().any(|outcome| !outcome.elsewhere.is_empty()).then_some(table)
}

/// What every phase bought, a group for each number of steps.
fn table(outcomes: &[Outcome]) -> Table {
    let mut table = Table::new(vec![
        Column::number("steps", Format::Integer),
        Column::text("after"),
        Column::number("rollout error", Format::Significant(4)).lowest(),
    ]);
    for outcome in outcomes {
        table.start_group();
        let steps = || Cell::from(outcome.steps as f64);
        table.push(vec![steps(), "rho = 7 (baseline)".into(), outcome.baseline.into()]);
        for stage in &outcome.stages {
            let kept = if stage.kept { "" } else { " (no better: not kept)" };
            let what = format!("round {}, phase {}{kept}", stage.round, stage.phase);
            table.push(vec![steps(), what.into(), stage.rollout_error.into()]);
        }
    }
    table
}
