//! The report of a comparison.

use fewstep_io::RunFolder;
use fewstep_report::{Axis, Block, LabeledImage, Page, Plot, Reference, Section, Series, Style};

use super::tables::{Distance, Measure, evaluations, headline, measures, of, table};
use super::{CompareTask, SubjectId};
use crate::cells::{Row, mean};
use crate::error::Result;
use crate::reference::ReferenceId;
use crate::runs::{RunFile, read_image};

/// The report of these cells, whose images are in `folder`.
pub(super) fn page(rows: &[Row], run: &RunFile<CompareTask>, folder: &RunFolder) -> Result<Page> {
    let task = &run.task;
    let names = || task.models.iter().map(|subject| &subject.model.name);
    let mut sections = Vec::new();
    for name in names() {
        let heading = |what: String| if task.models.len() == 1 { what } else { format!("{name}: {what}") };
        for Section { heading: what, blocks } in sections_of(rows, task, name, folder)? {
            sections.push(Section::new(heading(what), blocks));
        }
    }
    let facts = task.models.iter().map(|subject| (subject.model.name.clone(), facts(subject)));
    sections.push(Section::new(
        "How to repeat it",
        vec![
            Block::Facts(run.provenance.facts().into_iter().chain(facts).collect()),
            Block::Code(serde_json::to_string_pretty(&task.settings)?),
        ],
    ));
    Ok(Page {
        title: "fewstep compare".to_owned(),
        headline: names().map(|name| headline(rows, name)).collect::<Vec<_>>().join(" "),
        table: None,
        sections,
        footer: "Distances of different feature networks cannot be compared with each other.".to_owned(),
    })
}

/// What one model was and was scored by.
fn facts(subject: &SubjectId) -> String {
    let guidance = subject.model.guidance.as_ref();
    let guidance = guidance
        .map_or(String::new(), |guidance| format!("; guidance {} from {}", guidance.weight, guidance.reference));
    let of = |reference: &ReferenceId| format!("; features {}; reference {}", reference.features, reference.reference);
    let references = match subject.references.as_slice() {
        [] => "; no images".to_owned(),
        references => references.iter().map(of).collect(),
    };
    format!("SHA-256 {}{guidance}{references}", subject.model.sha256)
}

fn sections_of(rows: &[Row], task: &CompareTask, model: &str, folder: &RunFolder) -> Result<Vec<Section>> {
    let measures = measures(rows, model);
    let tables = measures.into_iter().map(|measure| Block::Table(table(rows, task, model, measure))).collect();
    let mut sections = vec![
        Section::new("Distances", tables),
        Section::new("Against the number of evaluations", vec![Block::Plots(curves(rows, task, model))]),
        Section::new("Plans", vec![Block::Plots(plans(rows, task, model))]),
    ];
    for nfe in task.columns() {
        let with_images = of(rows, model).filter(|row| row.nfe == nfe || row.method == "teacher");
        let images = with_images.filter_map(|row| image(row, folder).transpose()).collect::<Result<Vec<_>>>()?;
        if images.len() > 1 {
            let heading = format!("{nfe} evaluations, the same seeds");
            sections.push(Section::new(heading, vec![Block::Images(images)]));
        }
    }
    Ok(sections)
}

fn image(row: &Row, folder: &RunFolder) -> Result<Option<LabeledImage>> {
    let Some(grid) = &row.grid else { return Ok(None) };
    Ok(Some(LabeledImage {
        label: format!("{}, {}", row.method, evaluations(row)),
        png: read_image(folder, grid)?,
        caption: row.frechet_caption(),
    }))
}

fn curves(rows: &[Row], task: &CompareTask, model: &str) -> Vec<Plot> {
    let series = |value: &dyn Fn(&Row) -> f64| -> Vec<Series> {
        let lines = task.row_names().into_iter().map(|name| {
            let points = of(rows, model).filter(|row| row.method == name).map(|row| (row.nfe as f64, value(row)));
            Series::new(name.clone(), points.collect(), Style::LineMarkers)
        });
        lines.collect()
    };
    let teacher = of(rows, model).find(|row| row.method == "teacher");
    let distances = measures(rows, model).into_iter().filter_map(|measure| match measure {
        Measure::Distance(distance) => Some(distance),
        _ => None,
    });
    let plot = |distance: Distance| {
        let name = distance.name(rows, model);
        let references =
            teacher.map(|row| Reference { y: mean(distance.of(row)), name: format!("teacher, {}", evaluations(row)) });
        Plot {
            title: name.clone(),
            x: Axis::linear("evaluations"),
            y: Axis::log(&name),
            series: series(&|row| mean(distance.of(row))),
            references: references.into_iter().collect(),
            ..Plot::default()
        }
    };
    let rollout = Plot {
        title: "Rollout error on held-out latents".to_owned(),
        x: Axis::linear("evaluations"),
        y: Axis::log("mean squared difference of a value"),
        series: series(&|row| row.rollout_error),
        ..Plot::default()
    };
    distances.map(plot).chain([rollout]).collect()
}

/// For every number of evaluations the noise levels, and what the outputs weigh in the sample.
fn plans(rows: &[Row], task: &CompareTask, model: &str) -> Vec<Plot> {
    let plot = |nfe: usize, title: &str, y: Axis, values: fn(&Row) -> &[f64]| {
        let lines = of(rows, model).filter(|row| row.nfe == nfe && row.method != "teacher").map(|row| {
            let points = values(row).iter().enumerate().map(|(k, &value)| (k as f64, value)).collect();
            Series::new(row.method.clone(), points, Style::LineMarkers)
        });
        let title = format!("{title}, {nfe} evaluations");
        Plot { title, x: Axis::linear("evaluation"), y, series: lines.collect(), ..Plot::default() }
    };
    let both = |&nfe: &usize| {
        let levels = plot(nfe, "Noise levels", Axis::log("noise level sigma"), |row| &row.sigmas);
        let weights = plot(nfe, "Coefficients of the sample", Axis::linear("weight of the output"), |row| &row.weights);
        [levels, weights]
    };
    task.columns().iter().flat_map(both).collect()
}
