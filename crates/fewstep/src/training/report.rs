//! A training's page.

use std::path::{Path, PathBuf};

use fewstep_io::RunFolder;
use fewstep_nn::train::StepStats;
use fewstep_report::{Axis, Block, Format, LabeledImage, Page, Plot, Section, Series, Style};

use super::{GRIDS, LOSSES, STATS, TrainTask};
use crate::data::has_extension;
use crate::error::Result;
use crate::runs::{read_file, read_image};

/// Points of a curve: means over equal parts of the run.
const POINTS: usize = 200;

/// The page of a training's folder, finished or not.
///
/// # Errors
/// If it is not the folder of a training, or a file in it cannot be read.
pub fn report(folder: &RunFolder) -> Result<Page> {
    let run = read_file::<TrainTask>(folder)?;
    let TrainTask { data, precision, settings } = &run.task;
    let stats = stats(folder);
    let seen = stats.last().map_or(0, |last| last.images);
    let images = |value: f64| Format::Integer.write(value);
    let ending = &stats[stats.len().saturating_sub(LOSSES)..];
    let last = ending.iter().map(|step| step.loss).sum::<f64>() / ending.len().max(1) as f64;
    let last = if ending.is_empty() { String::new() } else { format!(", loss {}", Format::Significant(4).write(last)) };
    let mut facts = run.provenance.facts();
    facts.push((
        "data".to_owned(),
        format!("{}, {} images, SHA-256 {}", data.name, images(data.images as f64), data.sha256),
    ));
    facts.push(("precision".to_owned(), precision.clone()));
    Ok(Page {
        title: format!("fewstep train: {}", data.name),
        headline: format!("{} images seen{last}.", images(seen as f64)),
        table: None,
        sections: vec![
            Section::new("Samples on the way, the same seeds", vec![Block::Images(grids(folder)?)]),
            Section::new(
                "Curves",
                vec![Block::Plots(vec![
                    plot("Loss", "loss", curve(&stats, |step| step.loss)),
                    plot("Norm of the gradient", "norm", curve(&stats, |step| step.grad_norm)),
                ])],
            ),
            Section::new(
                "How to repeat it",
                vec![Block::Facts(facts), Block::Code(serde_json::to_string_pretty(settings)?)],
            ),
        ],
        footer: format!(
            "Samples: EDM's sampler, {} evaluations, of the averaged weights.",
            run.task.grid_plan()?.nfe()
        ),
    })
}

/// Every update that the log holds.
fn stats(folder: &RunFolder) -> Vec<StepStats> {
    let text = folder.read(STATS).ok().and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or_default();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// Means over equal parts, against the images seen.
fn curve(stats: &[StepStats], value: impl Fn(&StepStats) -> f64) -> Vec<(f64, f64)> {
    let parts = stats.chunks(stats.len().div_ceil(POINTS).max(1));
    let mean = |part: &[StepStats]| {
        let total: f64 = part.iter().map(&value).sum();
        Some((part.last()?.images as f64, total / part.len() as f64))
    };
    parts.filter_map(mean).collect()
}

fn plot(title: &str, label: &str, points: Vec<(f64, f64)>) -> Plot {
    Plot {
        title: title.to_owned(),
        x: Axis::linear("images seen"),
        y: Axis::log(label),
        series: vec![Series::new(label, points, Style::Line)],
        ..Plot::default()
    }
}

/// Eight of the grids at most, the last among them.
fn grids(folder: &RunFolder) -> Result<Vec<LabeledImage>> {
    let Ok(entries) = folder.file(GRIDS).read_dir() else { return Ok(Vec::new()) };
    let names = entries.flatten().map(|entry| Path::new(GRIDS).join(entry.file_name()));
    let mut paths: Vec<_> = names.filter(|path| has_extension(path, "png")).collect();
    paths.sort();
    let every = paths.len().div_ceil(8).max(1);
    let last = paths.len().saturating_sub(1);
    let shown = paths.iter().enumerate().filter(|(at, _)| (last - at) % every == 0);
    let image = |(_, path): (usize, &PathBuf)| {
        let seen = path.file_stem().and_then(|stem| stem.to_str()?.parse::<u64>().ok()).unwrap_or(0);
        let label = format!("{} images", Format::Integer.write(seen as f64));
        Ok(LabeledImage { label, png: read_image(folder, path)?, caption: String::new() })
    };
    shown.map(image).collect()
}
