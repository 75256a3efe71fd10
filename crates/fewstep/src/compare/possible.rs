//! Which methods models allow, before any work is done.

use fewstep_core::objective::BoundTable;
use fewstep_core::observe::{Event, Observer};
use fewstep_search::{Error as SearchError, Extras, Method, SearchSettings, Source, check_method};

use super::METHODS;
use crate::bound::{TABLE_GRID, table_levels};
use crate::error::{Error, Result, bail};
use crate::models::OpenModel;

/// [`METHODS`] as far as these models allow them: where samples of one are no images, moments of images are matched by none, and the
/// observer is told so.
///
/// # Errors
/// Never, as they are known.
pub fn default_methods<'a>(
    models: impl IntoIterator<Item = &'a OpenModel>,
    observer: &dyn Observer,
) -> Result<Vec<Method>> {
    let all = METHODS.split(',').map(str::parse).collect::<std::result::Result<Vec<Method>, _>>();
    let all = all.map_err(SearchError::from)?;
    let Some(model) = models.into_iter().find(|model| model.denoiser().appearance().is_none()) else {
        return Ok(all);
    };
    observer.event(Event::Note(&format!(
        "the default methods without +moments, which is of images: the samples of {} are none",
        model.name
    )));
    let mut methods = Vec::new();
    for method in all {
        let method = Method { moments: None, nearest: false, ..method };
        if !methods.contains(&method) {
            methods.push(method);
        }
    }
    Ok(methods)
}

/// Refuses methods that a model lacks something for; `data` is whether there are training images.
///
/// # Errors
/// With the first of them.
pub fn runs_on(methods: &[Method], model: &OpenModel, data: bool) -> Result<()> {
    let denoiser = model.denoiser();
    for method in methods {
        if method.needs_data() && !data {
            return Err(SearchError::NeedsData { method: method.to_string(), hint: "" }.into());
        }
        if method.moments.is_some() && denoiser.appearance().is_none() {
            return Err(SearchError::NoImages.into());
        }
        if method.follows_gradients() && denoiser.differentiable().is_none() {
            return Err(SearchError::NotDifferentiable.into());
        }
    }
    Ok(())
}

/// Refuses a comparison without a cell: no method has a plan of any of these numbers of evaluations on any of the models.
///
/// # Errors
/// With why each method has none.
pub fn refuse_empty<'a>(
    methods: &[Method],
    steps: &[usize],
    search: &SearchSettings,
    models: impl IntoIterator<Item = &'a OpenModel>,
) -> Result<()> {
    let models: Vec<&OpenModel> = models.into_iter().collect();
    // methods with the same reason stand together
    let mut reasons: Vec<(String, Vec<String>)> = Vec::new();
    for model in &models {
        for method in methods {
            let Some(why) = why_none(method, steps, search, model)? else { return Ok(()) };
            let name = if models.len() > 1 { format!("{method} on {}", model.name) } else { method.to_string() };
            match reasons.iter_mut().find(|(known, _)| *known == why) {
                Some((_, names)) => names.push(name),
                None => reasons.push((why, vec![name])),
            }
        }
    }
    let steps: Vec<String> = steps.iter().map(usize::to_string).collect();
    let reasons: Vec<String> = reasons.iter().map(|(why, names)| format!("{}: {why}", names.join(", "))).collect();
    bail!(
        "there is nothing to compare, as no method has a plan of {} evaluations ({})",
        steps.join(" or "),
        reasons.join("; ")
    )
}

/// Why a method has no plan of any of these numbers of evaluations; none where it has one, or lacks something else than levels.
fn why_none(method: &Method, steps: &[usize], search: &SearchSettings, model: &OpenModel) -> Result<Option<String>> {
    let denoiser = model.denoiser();
    // how many levels there are to choose from hangs on what finds the levels alone
    let levels = Method { refinement: None, moments: None, nearest: false, ..method.clone() };
    let table = match method.source {
        Source::Bound => Some(BoundTable::new(table_levels(&denoiser.spec().levels, TABLE_GRID)?)),
        _ => None,
    };
    let extras = Extras { table: table.as_ref(), ..Extras::default() };
    let mut last = None;
    for nfe in method.possible(steps) {
        match check_method(&denoiser, &levels, &[nfe], search, &extras) {
            Err(SearchError::NoPlan { why, .. }) => last = Some(why),
            Ok(()) => return Ok(None),
            Err(error) => return Err(Error::from(error)),
        }
    }
    // as the settings of a comparison are called
    Ok(last.map(|why| why.replace("the setting ", "the setting search.")))
}
