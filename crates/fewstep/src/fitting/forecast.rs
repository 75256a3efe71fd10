//! What a fit costs, at most: early stopping may end phases sooner.

use fewstep_core::denoiser::Spec;
use fewstep_core::solver::SolverOptions;
use fewstep_search::settings::TeacherSettings;
use fewstep_search::{baseline, search_cost, usual_teacher};

use super::cross_plan::cross_plan_evaluations;
use super::interpolate::{networks, schedules};
use super::outcome::IMAGES;
use super::settings::{FitSettings, PlanSource, TuneLoss, TuneSettings};
use super::task::FitTask;
use super::trajectories::fine_schedule;
use crate::error::Result;
use crate::forecast::{Forecast, product, total};
use crate::models::OpenModel;
use crate::plans::euler;

/// So many runs of a part of a fit for each of some numbers of steps, on a denoiser of this description.
#[derive(Clone, Copy)]
pub(crate) struct Runs<'a> {
    pub spec: &'a Spec,
    pub steps: &'a [usize],
    pub times: u64,
}

impl Runs<'_> {
    fn sum(&self, of: impl Fn(usize) -> u64) -> u64 {
        product([self.times, total(self.steps.iter().map(|&steps| of(steps)))])
    }
}

/// The cost of a task on a model: the search is run on a small mixture of Gaussians that counts its evaluations, samplers are asked as
/// plans, and updates are counted as the settings say.
///
/// # Errors
/// If the task cannot be done.
pub fn forecast(task: &FitTask, model: &OpenModel) -> Result<Forecast> {
    let spec = model.spec();
    let FitSettings { paper, tune, search, held_out, interpolate, .. } = &task.settings;
    let of_teacher = usual_teacher(&spec.levels, held_out.teacher_steps)?.nfe() as u64;
    let runs = Runs { spec, steps: &task.steps, times: task.rounds as u64 };
    let (held, rounds) = (held_out.samples as u64, task.rounds as u64);
    let steps = total(task.steps.iter().map(|&steps| steps as u64));
    let numbers = task.steps.len() as u64;
    let mut cost = Forecast::new(task, spec.calls)?
        .part("teacher on held-out latents", product([held, of_teacher]))
        .part("baseline on held-out latents", product([held, steps]));
    let scored = if task.references.is_empty() { 0 } else { interpolate.images as u64 };
    let chooses = task.interpolates_networks() || task.interpolates_levels();
    if chooses {
        cost = cost.part("the teacher's images that those of plans are compared with", product([scored, of_teacher]));
    }
    let mut matching = 0;
    if task.finds() {
        let table = product([paper.grid as u64, paper.table_images as u64]);
        let needs_table = task.settings.needs_table(&task.method);
        let by_images = task.interpolates_levels() && scored > 0 && !needs_table;
        let learnings = if by_images { interpolate.learnings(paper).len() } else { 1 };
        cost = match &task.method {
            PlanSource::Paper if needs_table => cost.part("table of e(sigma)", product([rounds, table])),
            PlanSource::Paper => {
                learning_levels(cost, &task.settings, Runs { times: product([rounds, learnings as u64]), ..runs })
            }
            PlanSource::Method(method) => {
                let first = search_cost(spec, method, &task.steps, search)?;
                matching = first.matching;
                // one for all numbers of steps, then one each for its own tuned network
                let mut later = 0;
                if rounds > 1 {
                    for &steps in &task.steps {
                        later = total([later, search_cost(spec, method, &[steps], search)?.search]);
                    }
                }
                let tabulated = total([1, product([rounds - 1, numbers])]);
                let tables = if needs_table { product([tabulated, table]) } else { 0 };
                cost.part("table of e(sigma)", tables)
                    .part("the search's teacher", first.teacher)
                    .part(format!("search {method}"), total([first.search, product([rounds - 1, later])]))
            }
        };
        if task.interpolates_levels() {
            let between = product([rounds, level_interpolation_evaluations(learnings, scored, held, steps)]);
            cost = cost.part("interpolation between the first and the learned levels", between);
        }
        // Adam evaluates its levels on the way
        let by_adam = task.method == PlanSource::Paper && !task.settings.needs_table(&task.method);
        cost = cost.part("plans on held-out latents", if by_adam { 0 } else { product([rounds, held, steps]) });
    }
    if task.tunes() {
        let images = if task.interpolates_networks() { scored } else { 0 };
        let networks = networks(interpolate, tune);
        let between = product([rounds, interpolation_evaluations(networks, images, held, matching, steps)]);
        // the trainings of several weights of the last level, of which images choose one
        let tunings = if images > 0 { interpolate.last_weights(tune).len() as u64 } else { 1 };
        cost = tuning(cost, "phase 2", &task.settings, tune, Runs { times: product([rounds, tunings]), ..runs })?
            .part("interpolation between the untuned and the tuned network", between)
            .part("tuned networks under other plans", cross_plan_evaluations(&task.steps, held_out.samples));
    }
    let samplers = 1 + u64::from(task.finds()) + u64::from(task.tunes());
    let images = if model.denoiser().pixel_shape().is_some() { IMAGES } else { 0 };
    Ok(cost.part("images of the report", product([images, samplers, steps])))
}

/// With phase 1 by Adam.
pub(crate) fn learning_levels(cost: Forecast, settings: &FitSettings, runs: Runs) -> Forecast {
    let FitSettings { paper, held_out, .. } = settings;
    // the last level makes the image, and counts in no objective
    let levels = runs.sum(|steps| steps.saturating_sub(1) as u64);
    let evaluations = product([paper.iterations, paper.batch as u64, levels]);
    let errors = product([evaluated(paper.iterations, paper.check_every), held_out.samples as u64]);
    // the loss first, then every level's error once more, for its slope
    cost.part("evaluations of phase 1 before their gradients", product([2, evaluations]))
        .training("phase 1", evaluations)
        .part("held-out errors of phase 1", product([errors, runs.sum(|steps| steps as u64)]))
}

/// With a tuning, called `name`.
///
/// # Errors
/// If the settings leave no teacher.
pub(crate) fn tuning(
    cost: Forecast,
    name: &str,
    settings: &FitSettings,
    tune: &TuneSettings,
    runs: Runs,
) -> Result<Forecast> {
    let rollout = tune.loss == TuneLoss::Rollout;
    let mut trajectories = 0;
    for &steps in runs.steps.iter().filter(|_| rollout) {
        let each = trajectory_evaluations(runs.spec, &settings.search.teacher, tune.trajectories, steps)?;
        trajectories = total([trajectories, product([runs.times, each])]);
    }
    let beside = |n| product([tune.updates, tune.update_size(n).batch as u64]);
    // on the way, and of the outcome
    let held_out = settings.held_out.samples as u64;
    let errors = |n: usize| product([evaluated(tune.updates, tune.check_every) + 1, held_out, n as u64]);
    let cost = cost
        .part(format!("teacher's trajectories of {name}"), trajectories)
        .training(
            format!("training images of {name} beside trajectories"),
            if rollout && tune.data_weight > 0.0 { runs.sum(beside) } else { 0 },
        )
        .part(format!("evaluations of {name} before their gradients"), runs.sum(|n| tune.repeated_evaluations(n)))
        .training(format!("the critic of {name}"), runs.sum(|n| tune.criticised_images(n)))
        .training(name, runs.sum(|n| tune.evaluations_with_gradient(n)))
        .part(format!("held-out errors of {name}"), runs.sum(errors));
    Ok(cost)
}

/// Evaluations of the held-out error that so many updates take.
pub(crate) fn evaluated(updates: u64, every: u64) -> u64 {
    updates.div_ceil(every.max(1)) + 1
}

/// Evaluations of so many trajectories of a teacher at the levels of a plan of `steps` evaluations: of the baseline's, as those of a
/// plan that is yet to be found are not known.
fn trajectory_evaluations(spec: &Spec, teacher: &TeacherSettings, trajectories: usize, steps: usize) -> Result<u64> {
    let plan = euler(&baseline(&spec.levels, steps)?)?;
    let fine = fine_schedule(spec, &plan, teacher)?;
    let teacher = teacher.steps_on(&spec.levels).0.plan(&fine, &SolverOptions::default())?;
    Ok(product([teacher.nfe() as u64, trajectories as u64]))
}

/// Evaluations of plans on levels between the first ones and those that were learned in so many ways, on so many images and held-out
/// latents, of `steps` evaluations in all. Without images none.
pub(crate) fn level_interpolation_evaluations(learnings: usize, images: u64, held_out: u64, steps: u64) -> u64 {
    if images > 0 { product([schedules(learnings), images + held_out, steps]) } else { 0 }
}

/// Evaluations of networks between the untuned and the tuned one, on so many images and held-out latents, for plans of `steps`
/// evaluations in all; `matching` is what matching the moments of these plans takes. Without images the tuned network alone, else so
/// many networks beside the untuned one.
pub(crate) fn interpolation_evaluations(networks: u64, images: u64, held_out: u64, matching: u64, steps: u64) -> u64 {
    let networks = if images > 0 { networks } else { 1 };
    let each = product([images + held_out, steps]);
    let untuned = if images > 0 { each } else { 0 };
    total([untuned, product([networks, total([matching, each])])])
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use fewstep_core::denoiser::{Counting, Denoiser, Reference};
    use fewstep_core::observe::Silent;
    use fewstep_core::plan::Plan;
    use fewstep_core::schedule::karras;
    use fewstep_io::dataset;
    use fewstep_nn::data::Images;
    use fewstep_nn::tch::Device;
    use fewstep_nn::train::GradientFlow;
    use fewstep_nn::{Network, TorchDenoiser, Tunable, mixture};

    use super::*;
    use crate::fitting::cross_plan::{cross_plan, others};
    use crate::fitting::settings::{HeldOutSettings, InterpolateSettings, PaperSettings};
    use crate::fitting::{Fitter, FoundPlan, tune};
    use crate::models::{MIXTURES, ModelOptions, open_model};
    use crate::reference::{ImageReference, ReferenceOptions};
    use crate::scorer::ImageScorer;

    /// A guided mixture that counts, and images for it.
    fn counting() -> (Counting<Network>, Images) {
        let mixture = mixture::patterns(true, Device::Cpu).unwrap();
        let counting = Counting::new(Network::guided(mixture, Reference::Unconditional, 2.0).unwrap());
        let [channels, height, width] = counting.pixel_shape().unwrap();
        let data = (0..8 * channels * height * width).map(|at| (at * 7 % 256) as u8).collect();
        let labels = Some((0..8).collect());
        let images = dataset::Images { data, labels, channels, height, width, num_classes: 10 };
        let images = Images::for_model(images, &counting).unwrap();
        (counting, images)
    }

    /// Phase 1 by Adam, too: to the evaluation.
    #[test]
    fn the_cost_of_learning_levels_is_that_of_the_learning_itself() {
        let (counting, images) = counting();
        let settings = FitSettings {
            paper: PaperSettings { iterations: 5, check_every: 2, batch: 4, ..FitSettings::default().paper },
            held_out: HeldOutSettings { samples: 6, teacher_steps: 2 },
            early_stop: false,
            ..FitSettings::default()
        };
        let fitter = Fitter::new(&counting, None, Some(&images), &settings, &Silent).unwrap();
        let before = counting.cost().evaluations;
        let folder = tempfile::tempdir().unwrap();
        let levels = karras(4, 0.01, 50.0, 7.0).unwrap();
        let _ = fitter.optimise_levels(&counting, &levels, &folder.path().join("state"), false).unwrap();
        let cost = learning_levels(
            Forecast::new(&(), 1).unwrap(),
            &settings,
            Runs { spec: counting.spec(), steps: &[4], times: 1 },
        );
        assert_eq!(cost.work(), counting.cost().evaluations - before, "{cost:?}");
    }

    /// What the forecast says of a tuning is what the tuning takes, to the evaluation. (A critic sees images with a part of the network,
    /// which is not counted.)
    #[test]
    fn the_cost_of_a_tuning_is_that_of_the_tuning_itself() {
        let (counting, images) = counting();
        let usual = TuneSettings {
            updates: 5,
            check_every: 2,
            batch: 12,
            trajectories: 16,
            critic_weight: 0.0,
            ..TuneSettings::default()
        };
        let rollout = |gradient, data_weight| TuneSettings { gradient, data_weight, ..usual.clone() };
        for tuned in [
            rollout(GradientFlow::Step, 0.0),
            rollout(GradientFlow::Through, 0.0),
            rollout(GradientFlow::Step, 0.5),
            TuneSettings { loss: TuneLoss::Bound, batch: 8, ..usual.clone() },
        ] {
            let held_out = HeldOutSettings { samples: 6, teacher_steps: 2 };
            let settings = FitSettings { tune: tuned, held_out, early_stop: false, ..FitSettings::default() };
            let evaluations = |work: &dyn Fn()| {
                let before = counting.cost().evaluations;
                work();
                counting.cost().evaluations - before
            };
            let teacher = evaluations(&|| drop(Fitter::new(&counting, None, None, &settings, &Silent).unwrap()));
            let plan = euler(&baseline(&counting.spec().levels, 3).unwrap()).unwrap();
            let runs = Runs { spec: counting.spec(), steps: &[3], times: 1 };
            let took = evaluations(&|| drop(tune(&counting, &plan, Some(&images), &settings, &Silent).unwrap()));
            let cost = tuning(Forecast::new(&(), 1).unwrap(), "tuning", &settings, &settings.tune, runs).unwrap();
            assert_eq!(cost.work() + teacher, took, "{:?}: {cost:?}", settings.tune);
        }
    }

    /// Networks between, scored by images and without, and tuned networks under other plans: to the evaluation.
    #[test]
    fn the_cost_of_what_follows_a_tuning_is_that_of_doing_it() {
        let (counting, images_of) = counting();
        let settings = FitSettings {
            tune: TuneSettings { loss: TuneLoss::Bound, updates: 3, batch: 8, ..TuneSettings::default() },
            held_out: HeldOutSettings { samples: 6, teacher_steps: 2 },
            interpolate: InterpolateSettings { images: 10, ..InterpolateSettings::default() },
            early_stop: false,
            ..FitSettings::default()
        };
        let fitter = Fitter::new(&counting, None, Some(&images_of), &settings, &Silent).unwrap();
        let evaluations = |work: &dyn Fn()| {
            let before = counting.cost().evaluations;
            work();
            counting.cost().evaluations - before
        };
        let plans = [3, 5].map(|steps| euler(&karras(steps, 0.01, 50.0, 7.0).unwrap()).unwrap());
        let tuned = |averages: bool| {
            let network = counting.together_with(counting.inner().duplicate().unwrap());
            fitter.tune(&network, &plans[0], None, averages).unwrap()
        };
        let opened = open_model(MIXTURES[1], &ModelOptions::default()).unwrap();
        let options = ReferenceOptions { pad_to: None, batch: 16 };
        let references = ImageReference::open_all(&opened, &[], &[], options, &Silent).unwrap();
        let scorer = ImageScorer::new(&references, 16).unwrap();
        for (scorer, images) in [(Some(&scorer), 10), (None, 0)] {
            for averages in [true, false] {
                let tuned = RefCell::new(Some(tuned(averages)));
                let took = evaluations(&|| {
                    let tuned = tuned.borrow_mut().take().unwrap();
                    drop(fitter.interpolate(&counting, tuned, &plans[0], None, scorer).unwrap());
                });
                // 3 points between, and 3 half-lives after 2 and 3 updates, or the last average alone
                let networks = if averages { networks(&settings.interpolate, &settings.tune) } else { 4 };
                assert_eq!(took, interpolation_evaluations(networks, images, 6, 0, 3));
            }
            let [start, learned] = [7.0, 3.0].map(|rho| karras(3, 0.01, 50.0, rho).unwrap());
            let found = FoundPlan {
                plan: euler(&learned).unwrap(),
                rollout_error: 0.0,
                steps: Vec::new(),
                evaluations: Vec::new(),
                interpolation: Vec::new(),
            };
            for learnings in [1, 2] {
                let learned = vec![(settings.paper.learned_by(), found.clone()); learnings];
                let took =
                    evaluations(&|| drop(fitter.chosen_levels(&counting, &start, learned.clone(), scorer).unwrap()));
                assert_eq!(took, level_interpolation_evaluations(learnings, images, 6, 3));
            }
        }
        let levels = &counting.spec().levels;
        let tuned = tuned(false).model;
        for plans in [&plans[..], &plans[..1]] {
            let tried = evaluations(&|| {
                for other in (0..plans.len()).flat_map(|index| others(levels, plans, index).unwrap()) {
                    cross_plan(&fitter, &tuned, &other).unwrap();
                }
            });
            let steps: Vec<usize> = plans.iter().map(Plan::nfe).collect();
            assert_eq!(tried, cross_plan_evaluations(&steps, 6));
        }
    }
}
