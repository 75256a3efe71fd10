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
use crate::runs::{read_file, read_image};

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
        let images = outcome.grids.iter().map(|grid| {
            let caption = format!("{} evaluations", outcome.steps);
            Ok(LabeledImage { label: grid.label.clone(), png: read_image(folder, &grid.file)?, caption })
        });
        let images = images.collect::<Result<Vec<_>>>()?;
        sections.push(Section::new(
            format!("{} steps, the same seeds", outcome.steps),
            vec![Block::Images(images), Block::Plots(plots(outcome, folder)?)],
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
                 latent, on latents that nothing was fitted to. What is kept may be chosen by it (early_stop), so that it is not \
                 quite the error on further latents."
            .to_owned(),
    })
}

/// What was bought, in one sentence.
fn headline(outcomes: &[Outcome]) -> String {
    let part = |outcome: &Outcome| {
        let write = |error: f64| Format::Significant(3).write(error);
        // kept is kept, though the error rose: images may have chosen, or nothing
        match outcome.phases.iter().rev().find(|phase| phase.kept) {
            Some(kept) => {
                let (before, after) = (write(outcome.baseline), write(kept.rollout_error));
                format!("in {} steps from {before} to {after}", outcome.steps)
            }
            None => {
                format!("in {} steps {} as before: nothing learned was kept", outcome.steps, write(outcome.baseline))
            }
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
    let plan = read_plan(&folder.inside(&outcome.plan)?)?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fitting::PhaseOutcome;

    fn outcome(steps: usize, phases: &[(f64, bool)]) -> Outcome {
        let value = serde_json::json!({
            "steps": steps, "calls": steps, "baseline": 0.1, "baseline_name": "rho = 7", "phases": [], "sigmas": [],
            "plan": "plan.json", "model": null,
        });
        let phase = |(at, &(rollout_error, kept)): (usize, &(f64, bool))| PhaseOutcome {
            round: 1,
            phase: at as u8 + 1,
            rollout_error,
            kept,
        };
        let phases = phases.iter().enumerate().map(phase).collect();
        Outcome { phases, ..serde_json::from_value(value).unwrap() }
    }

    /// With `early_stop = false`, and where images choose, what is kept may have a larger error.
    #[test]
    fn the_headline_is_of_what_was_kept_whichever_way_its_error_went() {
        let outcomes = [
            outcome(3, &[(0.05, true), (0.2, true)]),
            outcome(4, &[(0.05, true), (0.01, false)]),
            outcome(5, &[(0.3, false)]),
        ];
        assert_eq!(
            headline(&outcomes),
            "Rollout error in 3 steps from 0.100 to 0.200, in 4 steps from 0.100 to 0.0500, in 5 steps 0.100 as before: nothing \
             learned was kept."
        );
    }

    #[test]
    fn what_diverged_is_read_back() {
        let outcome = Outcome { baseline: f64::INFINITY, ..outcome(3, &[(f64::INFINITY, false)]) };
        let read: Outcome = serde_json::from_str(&serde_json::to_string(&outcome).unwrap()).unwrap();
        assert_eq!((read.baseline, read.phases[0].rollout_error), (f64::INFINITY, f64::INFINITY));
        assert_eq!(headline(&[read]), "Rollout error in 3 steps inf as before: nothing learned was kept.");
    }
}
