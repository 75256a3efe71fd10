//! What a comparison would cost.

use fewstep_core::denoiser::{Cost, Spec};
use fewstep_search::{Method, Source, check_steps, held_out_teacher, search_costs, usual_teacher};

use super::{CompareTask, Subject};
use crate::bound::{TABLE_GRID, table_levels};
use crate::cells::TIMED;
use crate::error::Result;
use crate::forecast::{Forecast, product, total};

/// The settings and the cost of a comparison; what an earlier run left is not taken off.
///
/// # Errors
/// If a model knows too few levels, or a method cannot be run.
pub fn forecast(task: &CompareTask, subjects: &[Subject]) -> Result<Forecast> {
    let calls = subjects.first().map_or(1, |subject| subject.model.spec().calls);
    let mut forecast = Forecast::new(task, calls)?;
    for subject in subjects {
        let spec = subject.model.spec();
        for (what, evaluations) in parts(task, subject, spec)? {
            let what = if subjects.len() > 1 { format!("{}: {what}", subject.model.name) } else { what };
            forecast = forecast.cost(what, Cost { evaluations, calls: product([evaluations, spec.calls as u64]) });
        }
    }
    Ok(forecast)
}

/// Evaluations of single samples, part by part.
fn parts(task: &CompareTask, subject: &Subject, spec: &Spec) -> Result<Vec<(String, u64)>> {
    let settings = &task.settings;
    let held_out = settings.held_out as u64;
    let samples = if subject.references.is_empty() { TIMED } else { product([settings.images, settings.ranges]) };
    let others = if subject.references.is_empty() { 0 } else { settings.images };
    let scored = total([samples, held_out]);
    let evaluations = |steps: &[usize]| total(steps.iter().map(|&steps| steps as u64));
    let coarse = usual_teacher(&spec.levels, settings.teacher_steps)?.nfe() as u64;
    let fine = held_out_teacher(&spec.levels, &settings.search.teacher)?.nfe() as u64;
    let bound = task.methods.iter().any(|method| method.source == Source::Bound);
    let images =
        subject.data.as_ref().map_or(settings.table_images, |(images, _)| settings.table_images.min(images.len()));
    let levels = if bound { table_levels(&spec.levels, TABLE_GRID)?.len() } else { 0 };
    let mut parts = vec![
        ("the table's teacher".to_owned(), product([total([scored, others]), coarse])),
        ("teacher on held-out latents".to_owned(), product([held_out, fine])),
        ("table of e(sigma)".to_owned(), product([images as u64, levels as u64])),
    ];
    if !task.methods.is_empty() {
        let costs = search_costs(spec, &task.methods, &task.steps, &settings.search)?;
        parts.push(("the searches' teacher".to_owned(), costs.first().map_or(0, |cost| cost.teacher)));
        let found = task.methods.iter().zip(costs);
        parts.extend(found.map(|(method, cost)| (format!("search {method}"), cost.search)));
    }
    let possible = |method: &Method| -> Vec<usize> {
        let served = |nfe: usize| check_steps(&spec.levels, method, &[nfe], &settings.search).is_ok();
        task.steps.iter().copied().filter(|nfe| served(*nfe)).collect()
    };
    let searched = task.methods.iter().filter(|method| method.needs_teacher());
    let compared = total(searched.map(|method| evaluations(&possible(method))));
    let of_methods = total(task.methods.iter().map(|method| evaluations(&possible(method))));
    let of_files = total(task.plans.iter().map(|plans| evaluations(&plans.steps)));
    let latents = settings.search.teacher.samples as u64;
    parts.extend([
        ("samples of plan files".to_owned(), product([of_files, scored])),
        ("rollout errors on the searches' latents".to_owned(), product([compared, latents])),
        (format!("samples of {} methods", task.methods.len()), product([of_methods, scored])),
    ]);
    Ok(parts)
}
