//! An experiment's report.

use fewstep_io::RunFolder;
use fewstep_report::{Block, LabeledImage, Page, Section};

use super::figures::{FIGURES, Figures, LEVELS, plots};
use super::{ReproduceTask, RowKind, tables};
use crate::cells::Row;
use crate::error::Result;
use crate::fitting::{INTERPOLATION_TEXT, LEVELS_TEXT, interpolation_table};
use crate::runs::{RunFile, read_image};

/// The page of these rows, whose images and figures are in `folder`.
pub(super) fn page(rows: &[Row], run: &RunFile<ReproduceTask>, folder: &RunFolder) -> Result<Page> {
    let (drawn, task): (Figures, _) = (folder.read_json(FIGURES)?, &run.task);
    let mut sections = Vec::new();
    for &steps in &task.steps {
        let shown = rows.iter().filter(|row| row.nfe == steps || row.method == "teacher");
        let images = shown.filter_map(|row| {
            let grid = row.grid.as_ref()?;
            Some(read_image(folder, grid).map(|png| LabeledImage {
                label: format!("{}, {} evaluations", row.method, row.nfe),
                png,
                caption: row.frechet_caption(),
            }))
        });
        let images = images.collect::<Result<Vec<LabeledImage>>>()?;
        if !images.is_empty() {
            sections.push(Section::new(format!("{steps} steps, the same seeds"), vec![Block::Images(images)]));
        }
    }
    let figures = plots(rows, task, &drawn)?.into_iter().map(|(_, plot)| plot).collect();
    sections.push(Section::new("Figures", vec![Block::Plots(figures)]));
    let methods = [LEVELS].into_iter().chain(task.rows().into_iter().map(RowKind::name));
    for method in methods {
        let of_method = drawn.interpolations.iter().filter(|found| found.method == method);
        let points = of_method.map(|found| (found.steps, 1, found.points.as_slice()));
        let Some(table) = interpolation_table(points) else { continue };
        let (title, text) = match method {
            LEVELS => ("Between rho = 7 and the learned levels".to_owned(), LEVELS_TEXT),
            row => (format!("Between the untuned and the tuned network: {row}"), INTERPOLATION_TEXT),
        };
        sections.push(Section::new(title, vec![Block::Text(text.to_owned()), Block::Table(table)]));
    }
    let mut facts = run.provenance.facts();
    facts.extend(tables::facts(task));
    let settings = serde_json::to_string_pretty(&task.settings)?;
    sections.push(Section::new("How to repeat it", vec![Block::Facts(facts), Block::Code(settings)]));
    Ok(Page {
        title: format!("fewstep reproduce {}: {}", task.experiment, task.model.name),
        headline: tables::headline(rows, task),
        table: (!rows.is_empty()).then(|| tables::table(rows, task)),
        sections,
        footer:
            "Phase 1 minimises Eq. 11 and gamma times Eq. 12 by gradient, phase 2 Eq. 12's weighted denoising loss."
                .to_owned(),
    })
}
