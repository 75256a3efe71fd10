//! A training's page.

use std::path::{Path, PathBuf};

use fewstep_io::RunFolder;
use fewstep_report::{Axis, Block, Format, LabeledImage, Page, Plot, Section, Series, Style};

use super::curve::Thinned;
use super::{GRIDS, STATS, TrainTask};
use crate::data::has_extension;
use crate::error::Result;
use crate::runs::{read_file, read_image};

/// The page of a training's folder, finished or not.
///
/// # Errors
/// If it is not the folder of a training, or a file in it cannot be read.
pub fn report(folder: &RunFolder) -> Result<Page> {
    let run = read_file::<TrainTask>(folder)?;
    let TrainTask { data, precision, settings } = &run.task;
    let mut log = Thinned::default();
    folder.each_line(STATS, |step| log.push(&step))?;
    let images = |value: f64| Format::Integer.write(value);
    let last =
        log.last_loss().map_or_else(String::new, |loss| format!(", loss {}", Format::Significant(4).write(loss)));
    let mut facts = run.provenance.facts();
    facts.push((
        "data".to_owned(),
        format!("{}, {} images, SHA-256 {}", data.name, images(data.images as f64), data.sha256),
    ));
    facts.push(("precision".to_owned(), precision.clone()));
    Ok(Page {
        title: format!("fewstep train: {}", data.name),
        headline: format!("{} images seen{last}.", images(log.images_seen() as f64)),
        table: None,
        sections: vec![
            Section::new("Samples on the way, the same seeds", vec![Block::Images(grids(folder)?)]),
            Section::new(
                "Curves",
                vec![Block::Plots(vec![
                    plot("Loss", "loss", log.losses()),
                    plot("Norm of the gradient", "norm", log.grad_norms()),
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
