//! A fit's report.

use anyhow::Result;
use fewstep_core::plan::Source;
use fewstep_core::schedule::karras;
use fewstep_io::RunFolder;
use fewstep_nn::fit::TuneStep;
use fewstep_report::{Axis, Block, Format, LabeledImage, Page, Plot, Section, Series, Style};

use super::one::folder_name;
use super::outcome::Outcome;
use super::{Run, between, elsewhere, table};
use crate::figures;
use crate::fitting::SETTLING_TEXT;
use crate::inputs::{JudgeId, read_plan};

/// The page of these outcomes, whose plans and images are in `folder`.
pub fn build(run: &Run, outcomes: &[Outcome], folder: &RunFolder) -> Result<Page> {
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
    let tuning = tuning(outcomes);
    if !tuning.is_empty() {
        sections.push(Section::new("Tuning the network", vec![Block::Plots(vec![figures::tuning(&tuning)])]));
    }
    if let Some(table) = between(outcomes) {
        let blocks = vec![Block::Text(SETTLING_TEXT.to_owned()), Block::Table(table)];
        sections.push(Section::new("On the way to the tuned network", blocks));
    }
    if let Some(table) = elsewhere(outcomes) {
        let text = "A tuned network is good at what it was tuned for. Under other plans (of the other numbers of steps, if there \
                    are any) it does this much better or worse than the network as it came.";
        let blocks = vec![Block::Text(text.to_owned()), Block::Table(table)];
        sections.push(Section::new("Tuned networks under other plans", blocks));
    }
    let mut facts = run.provenance.facts();
    facts.push(("model".to_owned(), format!("{}, SHA-256 {}", run.task.model, run.task.model_sha256)));
    if let (Some(data), Some(hash)) = (&run.task.data, &run.task.data_sha256) {
        facts.push(("data".to_owned(), format!("{data}, SHA-256 {hash}")));
    }
    if let Some(JudgeId { features, reference, .. }) = &run.task.judge {
        facts.push(("judge".to_owned(), format!("features {features}; reference {reference}")));
    }
    let settings = serde_json::to_string_pretty(&run.task.settings)?;
    sections.push(Section::new("How to repeat it", vec![Block::Facts(facts), Block::Code(settings)]));
    Ok(Page {
        title: format!("fewstep fit: {}", run.task.model),
        headline: headline(outcomes),
        table: Some(table(outcomes)),
        sections,
        footer: "Rollout error: mean squared difference of a pixel between the sampler's and a fine teacher's image of the same \
                 latent, on latents that the fit never saw."
            .to_owned(),
    })
}

/// What was bought, in one sentence.
fn headline(outcomes: &[Outcome]) -> String {
    let part = |outcome: &Outcome| {
        let write = |error: f64| Format::Significant(3).write(error);
        let best = outcome.stages.iter().rev().find(|stage| stage.kept);
        match best.map(|stage| stage.rollout_error) {
            Some(error) if error < outcome.baseline => {
                format!("in {} steps from {} to {}", outcome.steps, write(outcome.baseline), write(error))
            }
            _ => format!("in {} steps nothing beats {}", outcome.steps, write(outcome.baseline)),
        }
    };
    format!("Rollout error {}.", outcomes.iter().map(part).collect::<Vec<_>>().join(", "))
}

/// Held-out error against evaluations: before, and after the last outcome of each phase that was kept.
fn curves(outcomes: &[Outcome]) -> Plot {
    let after = |phase: u8| {
        let point = |outcome: &Outcome| {
            let stage = outcome.stages.iter().rev().find(|stage| stage.phase == phase && stage.kept)?;
            Some((outcome.steps as f64, stage.rollout_error))
        };
        outcomes.iter().filter_map(point).collect::<Vec<_>>()
    };
    let baseline = outcomes.iter().map(|outcome| (outcome.steps as f64, outcome.baseline)).collect();
    let mut series = vec![Series::new("rho = 7", baseline, Style::LineMarkers)];
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
    let path = folder.file(&format!("{}/plan.json", folder_name(outcome.steps)));
    let plan = read_plan(&path)?;
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
        .map(|(outcome, (round, looks))| (format!("{} steps, round {}", outcome.steps, round + 1), looks.as_slice()))
        .collect()
}
