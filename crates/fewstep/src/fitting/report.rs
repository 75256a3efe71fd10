//! A fit's report.

use fewstep_core::plan::Source;
use fewstep_core::schedule::karras;
use fewstep_io::RunFolder;
use fewstep_nn::fit::TuneStep;
use fewstep_report::{Axis, Block, Format, LabeledImage, Page, Plot, Section, Series, Style};

use super::interpolate::{INTERPOLATION_TEXT, LEVELS_TEXT};
use super::outcome::{Outcome, cross_plan_table, interpolations, level_interpolations, table};
use super::task::{FitTask, OUTCOMES};
use crate::error::Result;
use crate::figures;
use crate::plans::read_plan;
use crate::reference::ReferenceId;
use crate::runs::read_file;

/// The page of a run folder of `plan`, `tune` or `fit`.
///
/// # Errors
/// If the folder lacks something.
pub fn report(folder: &RunFolder) -> Result<Page> {
    let run = read_file::<FitTask>(folder)?;
    let outcomes: Vec<Outcome> = folder.read_json(OUTCOMES)?;
    let (outcomes, task) = (outcomes.as_slice(), &run.task);
    let mut sections =
        vec![Section::new("Against the number of evaluations", vec![Block::Plots(vec![curves(outcomes)])])];
    for outcome in outcomes {
        let images = outcome.grids.iter().map(|grid| LabeledImage {
            label: grid.label.clone(),
            png: std::fs::read(folder.file(&grid.file.to_string_lossy())).unwrap_or_default(),
            caption: format!("{} evaluations", outcome.steps),
        });
        sections.push(Section::new(
            format!("{} steps, the same seeds", outcome.steps),
            vec![Block::Images(images.collect()), Block::Plots(plots(outcome, folder)?)],
        ));
    }
    if let Some(table) = level_interpolations(outcomes) {
        let blocks = vec![Block::Text(LEVELS_TEXT.to_owned()), Block::Table(table)];
        sections.push(Section::new("Between the first and the learned levels", blocks));
    }
    let tuning = tuning(outcomes);
    if !tuning.is_empty() {
        sections.push(Section::new("Tuning the network", vec![Block::Plots(vec![figures::tuning(&tuning)])]));
    }
    if let Some(table) = interpolations(outcomes) {
        let blocks = vec![Block::Text(INTERPOLATION_TEXT.to_owned()), Block::Table(table)];
        sections.push(Section::new("Between the untuned and the tuned network", blocks));
    }
    if let Some(table) = cross_plan_table(outcomes) {
        let text = "A tuned network is good at what it was tuned for. Under other plans (of the other numbers of steps, if there \
                    are any) it does this much better or worse than the untuned network.";
        let blocks = vec![Block::Text(text.to_owned()), Block::Table(table)];
        sections.push(Section::new("Tuned networks under other plans", blocks));
    }
    let mut facts = run.provenance.facts();
    facts.push(("model".to_owned(), format!("{}, SHA-256 {}", task.model.name, task.model.sha256)));
    if let Some(guidance) = &task.model.guidance {
        facts.push(("guidance".to_owned(), guidance.weight.to_string()));
    }
    facts.push(("method".to_owned(), task.method.to_string()));
    if let Some(data) = &task.data {
        facts.push(("data".to_owned(), format!("{}, SHA-256 {}", data.name, data.sha256)));
    }
    for ReferenceId { features, reference, .. } in &task.references {
        facts.push(("image scores".to_owned(), format!("features {features}; reference {reference}")));
    }
    let settings = serde_json::to_string_pretty(&task.settings)?;
    sections.push(Section::new("How to repeat it", vec![Block::Facts(facts), Block::Code(settings)]));
    Ok(Page {
        title: format!("fewstep {}: {}", task.command(), task.model.name),
        headline: headline(outcomes),
        table: Some(table(outcomes)),
        sections,
        footer: "Rollout error: mean squared difference of a value between the sampler's and a fine teacher's sample of the same \
                 latent, on latents that the fit never saw."
            .to_owned(),
    })
}

/// What was bought, in one sentence.
fn headline(outcomes: &[Outcome]) -> String {
    let part = |outcome: &Outcome| {
        let write = |error: f64| Format::Significant(3).write(error);
        let best = outcome.phases.iter().rev().find(|phase| phase.kept);
        match best.map(|phase| phase.rollout_error) {
            Some(error) if error < outcome.baseline => {
                format!("in {} steps from {} to {}", outcome.steps, write(outcome.baseline), write(error))
            }
            _ => format!("in {} steps {} as before: nothing learned was kept", outcome.steps, write(outcome.baseline)),
        }
    };
    format!("Rollout error {}.", outcomes.iter().map(part).collect::<Vec<_>>().join(", "))
}

/// Held-out error against evaluations: before, and after the last outcome of each phase that was kept.
fn curves(outcomes: &[Outcome]) -> Plot {
    let after = |phase: u8| {
        let point = |outcome: &Outcome| {
            let last = outcome.phases.iter().rev().find(|done| done.phase == phase && done.kept)?;
            Some((outcome.steps as f64, last.rollout_error))
        };
        outcomes.iter().filter_map(point).collect::<Vec<_>>()
    };
    let baseline = outcomes.iter().map(|outcome| (outcome.steps as f64, outcome.baseline)).collect();
    let mut series = vec![Series::new("baseline", baseline, Style::LineMarkers)];
    for (name, points) in [("plan", after(1)), ("plan and tuned network", after(2))] {
        if !points.is_empty() {
            series.push(Series::new(name, points, Style::LineMarkers));
        }
    }
    Plot {
        title: "Rollout error on held-out latents".to_owned(),
        x: Axis::linear("evaluations"),
        y: Axis::log("mean squared difference of a pixel"),
        series,
        ..Plot::default()
    }
}

/// Noise levels and coefficients of the plan.
fn plots(outcome: &Outcome, folder: &RunFolder) -> Result<Vec<Plot>> {
    let plan = read_plan(&folder.path().join(&outcome.plan))?;
    let sigmas = plan.sigmas();
    let mut levels: Vec<(&str, &[f64])> = Vec::new();
    let ends = sigmas.first().zip(sigmas.last()).filter(|(first, last)| first > last);
    let rho_7 = ends.and_then(|(first, last)| karras(sigmas.len(), *last, *first, 7.0).ok());
    if let Some(rho_7) = &rho_7 {
        levels.push(("rho = 7 between the same ends", rho_7.levels()));
    }
    levels.push(("plan", &sigmas));
    let image = plan.unrolled().output;
    let weights = (0..plan.nfe()).map(|k| (k as f64, image.coefficient(Source::Output(k)))).collect();
    Ok(vec![
        figures::schedules(format!("Noise levels, {} steps", outcome.steps), &levels),
        Plot {
            title: format!("Weights of the outputs in the image, {} steps", outcome.steps),
            x: Axis::linear("evaluation"),
            y: Axis::linear("weight (Eq. 8)"),
            series: vec![Series::new("plan", weights, Style::LineMarkers)],
            ..Plot::default()
        },
    ])
}

fn tuning(outcomes: &[Outcome]) -> Vec<(String, &[TuneStep])> {
    let rounds =
        outcomes.iter().flat_map(|outcome| outcome.tuning.iter().enumerate().map(move |round| (outcome, round)));
    rounds
        .map(|(outcome, (round, evaluations))| {
            (format!("{} steps, round {}", outcome.steps, round + 1), evaluations.as_slice())
        })
        .collect()
}
