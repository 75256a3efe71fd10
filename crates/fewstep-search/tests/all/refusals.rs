//! What cannot be found, and denoisers that are not what they say: told in a sentence, before any evaluation where it can be known.

use std::cell::RefCell;

use fewstep_core::denoiser::{Counting, Denoiser, Levels, Oracle, Spec};
use fewstep_core::mixture::Mixture;
use fewstep_core::objective::{BoundTable, ForwardNoised, GramTable, TableError};
use fewstep_core::observe::{Event, Observer, Silent};
use fewstep_core::parameterisation::Parameterisation;
use fewstep_core::schedule::log_snr;
use fewstep_search::{
    DataMoments, Endpoints, Error, Extras, Method, Search, SearchSettings, Seeded, StudentOptions, TEACHER_STEPS,
    Teacher, baseline, check_method, check_steps, find_plans, minimise_bound, minimise_discretization, sample,
    search_cost, search_costs, solve_teacher, sweep_evaluations, usual_teacher,
};

use crate::finding::{method, pictures, settings};
use crate::support::{Answering, Batch, denoised};

/// Two dimensions: no images.
fn vectors() -> Oracle {
    Oracle::new(Mixture::gaussian(vec![0.5, -0.5], 0.2).unwrap(), vec![2], Levels::between(0.01, 30.0))
}

#[test]
fn budgets_without_a_plan_are_refused_before_any_evaluation() {
    let denoiser = Counting::new(pictures());
    let settings = settings(); // a grid of 9 levels
    let refused = |name: &str, steps: &[usize]| {
        let error = find_plans(&denoiser, &method(name), steps, &settings, &Silent).unwrap_err();
        assert_eq!(denoiser.cost().evaluations, 0, "{name}");
        assert!(search_cost(denoiser.spec(), &method(name), steps, &settings).is_err(), "{name}");
        error.to_string()
    };
    for name in ["least-squares", "gits/euler", "oss/ipndm2", "least-squares+gauss-newton+moments"] {
        let error = refused(name, &[8, 9, 10, 30]);
        assert!(error.starts_with(&format!("{name} has no plan of 10 and 30 evaluations")), "{error}");
        let setting = if name.starts_with("gits") { "gits.grid" } else { "teacher.grid" };
        assert!(error.contains(setting) && error.contains("9 of them allow 9"), "{error}");
        assert!(refused(name, &[0, 3]).contains("no plan of 0 evaluations"));
    }
    assert!(refused("karras/euler", &[0]).contains("no plan of 0 evaluations"));
    assert!(refused("gits/heun", &[19]).contains("9 of them allow 17"));
    assert!(refused("karras/dpm2", &[4]).contains("odd numbers of evaluations"));
}

/// A comparison asks what each method has, and finds that.
#[test]
fn what_is_possible_is_found() {
    let denoiser = pictures();
    let settings = settings();
    let search = Search::new(&denoiser, &settings, &Silent).unwrap();
    let table = BoundTable::new(log_snr(5, 0.02, 20.0).unwrap());
    let search = search.with(Extras { table: Some(&table), ..Extras::default() });
    let steps = [0, 1, 2, 5, 8, 9, 10, 17, 30];
    for (name, possible) in [
        ("karras/euler", &[1, 2, 5, 8, 9, 10, 17, 30][..]),
        ("karras/heun", &[1, 5, 9, 17]),
        ("gits@1.1/euler", &[1, 2, 5, 8, 9]),
        ("gits@1.1/heun", &[1, 5, 9, 17]),
        ("oss/dpm2", &[1, 5, 9, 17]),
        ("least-squares", &[1, 2, 5, 8, 9]),
        ("bound/euler", &[2, 5]),
    ] {
        assert_eq!(search.possible(&method(name), &steps), possible, "{name}");
        if name != "bound/euler" {
            let found = search.find(&method(name), possible).unwrap();
            assert_eq!(found.plans.into_keys().collect::<Vec<_>>(), possible, "{name}");
        }
    }
    let error = search.find(&method("bound/euler"), &[1, 5, 6]).unwrap_err().to_string();
    assert!(error.contains("no plan of 1 and 6 evaluations") && error.contains("2 to 5"), "{error}");
    assert!(search.find(&method("gits/euler"), &[]).unwrap().plans.is_empty());
}

/// A schedule by its formula may ask for more levels than there are, or for levels that round to the same.
#[test]
fn formulas_that_cannot_be_built_are_refused_before_any_evaluation() {
    let settings = settings();
    let table = Counting::new(pictures()); // 0.02 to 20: 849 of iDDPM's 1000 levels
    let known = Counting::new(discrete()); // 60 levels
    let no_vp = Oracle::new(Mixture::gaussian(vec![0.5], 0.2).unwrap(), vec![1], Levels::between(0.5, 1.0));
    for (denoiser, name, possible, why) in [
        (&table, "iddpm/euler", &[1, 5][..], "1100 noise levels were asked for, but only"),
        (&table, "iddpm/euler+gauss-newton", &[1, 5], "1100 noise levels were asked for, but only"),
        (&known, "karras/dpmpp2m", &[1, 5], "noise levels must fall strictly"),
        (&known, "timestep_uniform/euler", &[1, 5], "1100 noise levels were asked for, but only"),
        (&Counting::new(no_vp), "vp/euler", &[], "sigma_min must be so small"),
    ] {
        let (method, steps) = (method(name), [1, 5, 1100]);
        let before = denoiser.cost().evaluations;
        let refused = find_plans(denoiser, &method, &steps, &settings, &Silent).unwrap_err();
        assert_eq!(denoiser.cost().evaluations, before, "{name}");
        let Error::NoPlan { nfe, why: said, .. } = refused else { panic!("{name}: {refused}") };
        assert!(possible.iter().all(|possible| !nfe.contains(possible)) && nfe.len() + possible.len() == 3, "{nfe:?}");
        assert!(said.contains(why), "{name}: {said}");
        assert!(check_steps(&denoiser.spec().levels, &method, &[1100], &settings).is_err(), "{name}");
        // a comparison goes on with the others, and its forecast is of them
        let search = Search::new(denoiser, &settings, &Silent).unwrap();
        assert_eq!(search.possible(&method, &steps), possible, "{name}");
        let found = search.find(&method, &search.possible(&method, &steps)).unwrap();
        assert_eq!(found.plans.into_keys().collect::<Vec<_>>(), possible, "{name}");
        let of =
            |steps: &[usize]| search_costs(denoiser.spec(), std::slice::from_ref(&method), steps, &settings).unwrap();
        assert_eq!(of(&steps), of(possible), "{name}");
    }
}

#[test]
fn what_a_method_lacks_is_said_before_any_evaluation() {
    let denoiser = Counting::new(vectors());
    let settings = settings();
    let refused = |name: &str| check_method(&denoiser, &method(name), &[3], &settings, &Extras::default());
    assert!(matches!(refused("least-squares+data-moments"), Err(Error::NoImages)));
    assert!(matches!(refused("bound/euler"), Err(Error::NeedsData { .. })));
    assert!("least-squares+levels".parse::<Method>().unwrap_err().to_string().contains("no formula"));
    assert!(
        refused("karras/euler+levels").is_ok()
            && refused("karras/euler+rollout").is_ok()
            && refused("karras/euler+moments").is_ok()
    );
    let numbers = Answering::new(vectors(), denoised); // without a derivative
    let found = find_plans(&numbers, &method("karras/euler+rollout"), &[3], &settings, &Silent);
    assert!(matches!(found, Err(Error::NotDifferentiable)));
    let images = check_method(&pictures(), &method("karras/euler+data-moments"), &[3], &settings, &Extras::default());
    assert!(matches!(images, Err(Error::NeedsData { .. })));
    assert_eq!(denoiser.cost().evaluations, 0);
    let mut few = DataMoments::new();
    let exact = pictures();
    few.add(exact.appearance().unwrap(), &exact.mixture().sample(7, 2).chunks(20).map(<[f64]>::to_vec).collect())
        .unwrap();
    let refused = |data: &DataMoments, control: usize| {
        let mut settings = settings.clone();
        settings.moments.control = control;
        let extras = Extras { data: Some(data), ..Extras::default() };
        check_method(&exact, &method("karras/euler+data-moments"), &[3], &settings, &extras)
    };
    let error = refused(&few, 48).unwrap_err();
    assert!(error.to_string().contains("cannot be told from 2 samples"), "{error}");
    // samples of our own to compare with many are as many
    let mut many = DataMoments::new();
    let images = exact.mixture().sample(7, 300).chunks(20).map(<[f64]>::to_vec).collect();
    many.add(exact.appearance().unwrap(), &images).unwrap();
    let error = refused(&many, 2).unwrap_err();
    assert!(error.to_string().contains("cannot be told from 2 samples"), "{error}");
    refused(&many, 48).unwrap();
}

/// Vectors at some levels and none between.
fn discrete() -> Oracle {
    let known = log_snr(60, 0.01, 30.0).unwrap().levels().to_vec();
    let levels = Levels { discrete: known, ..Levels::between(0.01, 30.0) };
    Oracle::new(Mixture::gaussian(vec![0.5, -0.5], 0.2).unwrap(), vec![2], levels)
}

/// Nothing asks a denoiser at a level that it does not know.
#[test]
fn levels_of_a_denoiser_that_knows_no_others_stay() {
    let denoiser = Counting::new(discrete());
    let settings = settings();
    let refused = find_plans(&denoiser, &method("karras/euler+levels"), &[3], &settings, &Silent).unwrap_err();
    assert!(matches!(refused, Error::DiscreteLevels { known: 60 }), "{refused}");
    assert!(refused.to_string().contains("use +rollout or +gauss-newton"), "{refused}");
    assert_eq!(denoiser.cost().evaluations, 0);
    let search = Search::new(&denoiser, &settings, &Silent).unwrap();
    let of_levels = method("karras/euler+levels").stages(&settings);
    assert!(matches!(search.run(&of_levels, &[3]), Err(Error::DiscreteLevels { .. })));
    let before = &search.find(&method("karras/euler"), &[3]).unwrap().plans[&3];
    for name in ["karras/euler+rollout", "karras/euler+gauss-newton"] {
        let plan = &search.find(&method(name), &[3]).unwrap().plans[&3];
        assert_eq!(plan.sigmas(), before.sigmas(), "{name}");
        assert_ne!(plan.output, before.output, "{name}");
    }
}

/// A network that diverges on one level of a table.
struct Diverging(Vec<f64>);

impl ForwardNoised<Vec<f64>> for Diverging {
    type Error = std::convert::Infallible;

    fn clean(&self) -> &Vec<f64> {
        &self.0
    }

    fn denoised(&mut self, level: usize, _: f64) -> Result<Vec<f64>, Self::Error> {
        Ok(vec![if level == 2 { f64::NAN } else { 0.1 }])
    }

    fn pullback(&mut self, _: usize, _: f64, _: &Vec<f64>) -> Result<f64, Self::Error> {
        Ok(0.0)
    }
}

#[test]
fn tables_that_are_not_finite_are_refused() {
    let grid = log_snr(5, 0.01, 30.0).unwrap();
    let mut bound = BoundTable::new(grid.clone());
    bound.check().unwrap();
    bound.add(1, &mut Diverging(vec![0.0])).unwrap();
    let mut gram = GramTable::new(grid);
    gram.add(1, &mut Diverging(vec![0.0])).unwrap();
    let not_finite = TableError::NotFinite { index: 2 };
    assert_eq!(bound.check(), Err(not_finite));
    assert_eq!(minimise_discretization(&gram, 4), Err(not_finite));
    // schedules that pass by the level have a bound, and none has that visits every level
    assert_eq!(minimise_bound(&bound, 5).iter().map(|found| found.path.len()).collect::<Vec<_>>(), [2, 3, 4]);
    let (denoiser, settings) = (Counting::new(vectors()), settings());
    let extras = Extras { table: Some(&bound), ..Extras::default() };
    let refused = check_method(&denoiser, &method("bound/euler"), &[3], &settings, &extras).unwrap_err();
    assert!(refused.to_string().contains("not finite at noise level number 2"), "{refused}");
    assert_eq!(denoiser.cost().evaluations, 0);
    let search = Search::new(&denoiser, &settings, &Silent).unwrap().with(extras);
    assert!(matches!(search.run(&method("bound/euler").stages(&settings), &[3]), Err(Error::Table(_))));
}

/// A teacher of a file may be of other settings.
#[test]
fn teachers_of_other_samples_are_refused() {
    let (denoiser, solved) = (vectors(), settings());
    let (teacher, _) = solve_teacher(&denoiser, &solved, &Silent).unwrap();
    for samples in [12, 20] {
        let mut settings = settings();
        settings.teacher.samples = samples;
        let refused = Search::with_teacher(&denoiser, teacher.clone(), &settings, &Silent).err().unwrap();
        assert!(matches!(refused, Error::TeacherSamples { found: 16, expected } if expected == samples), "{refused}");
    }
    // one that says more than it holds
    let ends = Endpoints { image: teacher.ends().image[..9].to_vec(), ..teacher.ends().clone() };
    let states = teacher.states().to_vec();
    let short = Teacher::from_parts::<std::convert::Infallible>(teacher.grid().clone(), states, ends, 0).unwrap();
    let refused = Search::with_teacher(&denoiser, short, &solved, &Silent).err().unwrap();
    assert!(matches!(refused, Error::TeacherSamples { found: 9, expected: 16 }), "{refused}");
    let refused = Search::with_teacher(&pictures(), teacher, &solved, &Silent).err().unwrap();
    assert!(matches!(refused, Error::SampleSize { found: 2, .. }), "{refused}");
}

/// A slip of the hand is no allocation that fails, nor a search without end.
/// A table of few levels, of which several of the teacher's become the same: it makes fewer steps, and nothing that was found is lost.
#[test]
fn the_usual_teacher_makes_do_with_few_levels() {
    let levels = Levels::from(&Parameterisation::Iddpm { c_1: 0.001, c_2: 0.008, m: 60 });
    assert!(baseline(&levels, TEACHER_STEPS).is_err());
    let teacher = usual_teacher(&levels, TEACHER_STEPS).unwrap();
    assert!((11..35).contains(&teacher.nfe()), "{}", teacher.nfe());
    let denoiser = Oracle::new(pictures().mixture().clone(), pictures().spec().shape.clone(), levels);
    let found = find_plans(&denoiser, &method("karras/euler+moments"), &[3], &settings(), &Silent).unwrap();
    assert_eq!(found.plans[&3].nfe(), 3);
}

#[test]
fn settings_beyond_any_memory_are_refused() {
    let of = |change: fn(&mut SearchSettings)| {
        let mut settings = settings();
        change(&mut settings);
        let error = find_plans(&vectors(), &Method::BEST, &[3], &settings, &Silent).unwrap_err().to_string();
        assert_eq!(search_cost(vectors().spec(), &Method::BEST, &[3], &settings).unwrap_err().to_string(), error);
        error
    };
    assert!(of(|s| s.teacher.samples = usize::MAX / 2).contains("teacher.samples must be from 1 to a million"));
    assert!(of(|s| s.teacher.grid = 30_000).contains("teacher.grid must be from 2 to 1,000, but it is 30000"));
    const TO_MOST: &str = "must be from 1 to 1,000";
    assert!(of(|s| s.teacher.substeps = 10_000).contains(&format!("teacher.substeps {TO_MOST}")));
    assert!(of(|s| s.oss.beam = 1001).contains(&format!("oss.beam {TO_MOST}")));
    assert!(of(|s| s.least_squares.beam = usize::MAX).contains(&format!("least_squares.beam {TO_MOST}")));
    assert!(of(|s| s.sweep.sweeps = usize::MAX).contains("sweep.sweeps must be from 0 to 1,000"));
    assert!(of(|s| s.sweep.beyond = usize::MAX).contains("sweep.beyond must be from 0 to 1,000"));
    assert!(of(|s| s.gits.samples = usize::MAX).contains("gits.samples must be from 1 to a million"));
    assert!(of(|s| s.gits.grid = 1).contains("gits.grid must be from 2 to 1,000, but it is 1"));
    assert!(of(|s| s.gauss_newton.rounds = 1001).contains("gauss_newton.rounds must be from 0 to 1,000"));
    assert!(usual_teacher(&Levels::between(0.001, 999.0), usize::MAX).is_err());
    let most = StudentOptions { most: usize::MAX, beam: usize::MAX, ..StudentOptions::default() };
    assert_eq!((most.most_evaluations(9, true), sweep_evaluations(usize::MAX, 2, true)), (usize::MAX, usize::MAX));
    // 1 first, then 3 at each of 8 to 6 levels; a path of 4, 10 on the way from the longer one, of either 2 sweeps over 4 levels
    let student = StudentOptions { most: 4, beam: 3, ..StudentOptions::default() };
    assert_eq!(
        (student.most_evaluations(9, false), sweep_evaluations(4, 2, true)),
        (1 + 3 * (8 + 7 + 6), 4 + 10 + 2 * 2 * 20)
    );
    assert!(of(|s| s.moments.control = 1 << 40).contains("moments.control must be at least 2"));
    assert!(of(|s| s.nearest.samples = 1 << 40).contains("nearest.samples must be at least 8"));
}

#[test]
fn denoisers_that_are_not_what_they_say() {
    let settings = settings();
    let find = |denoiser: &dyn Fn() -> Error| denoiser().to_string();
    let fewer = || {
        let denoiser = Answering::new(vectors(), |exact, x, sigma, classes| {
            let mut answer = denoised(exact, x, sigma, classes);
            answer.truncate(15);
            answer
        });
        find_plans(&denoiser, &Method::BEST, &[3], &settings, &Silent).unwrap_err()
    };
    assert!(find(&fewer).contains("must be 16 samples, and the denoiser gave 15"), "{}", find(&fewer));
    let shorter = || {
        let denoiser = Answering::new(vectors(), |exact, x, sigma, classes| {
            let mut answer = denoised(exact, x, sigma, classes);
            if let Some(sample) = answer.get_mut(3) {
                sample.pop();
            }
            answer
        });
        find_plans(&denoiser, &Method::BEST, &[3], &settings, &Silent).unwrap_err()
    };
    assert!(find(&shorter).contains("the answer to a batch must have 2 numbers a sample"), "{}", find(&shorter));
    let shape = || {
        let exact = vectors();
        let spec = Spec { shape: vec![3], ..exact.spec().clone() };
        let denoiser = Answering { spec, ..Answering::new(exact, denoised) };
        find_plans(&denoiser, &Method::BEST, &[3], &settings, &Silent).unwrap_err()
    };
    let text = find(&shape);
    assert!(text.contains("must have 3 numbers a sample") && text.contains("[3]") && text.contains("has 2"), "{text}");
    // latents that the caller made
    let denoiser = vectors();
    let plan = find_plans(&denoiser, &method("karras/euler"), &[2], &settings, &Silent).unwrap().plans[&2].clone();
    let latents: Batch = vec![vec![0.1, 0.2], vec![0.3]];
    let made = Seeded::from_latents(&denoiser, latents, vec![None; 2], &Silent).run(&plan);
    assert!(matches!(made, Err(Error::SampleSize { found: 1, .. })), "{made:?}");
}

#[test]
fn an_error_of_the_callers_own_comes_back() {
    let denoiser = vectors();
    let plan = find_plans(&denoiser, &method("karras/euler"), &[2], &settings(), &Silent).unwrap().plans[&2].clone();
    let mut batches = 0;
    let stopped = sample(&denoiser, &plan, &[0, 1, 2, 3], 2, &Silent, |_, _| {
        batches += 1;
        Err(Error::caller(std::io::Error::other("the disk is full")))
    });
    let error = stopped.unwrap_err();
    assert_eq!((error.to_string().as_str(), batches), ("the disk is full", 1));
    assert!(matches!(error, Error::Caller(inner) if inner.is::<std::io::Error>()));
}

/// Keeps what it is told.
#[derive(Default)]
struct Heard(RefCell<Vec<String>>);

impl Observer for Heard {
    fn event(&self, event: Event) {
        if let Event::Note(text) = event {
            self.0.borrow_mut().push(text.to_owned());
        }
    }
}

#[test]
fn few_values_to_fit_to_are_told() {
    let told = |denoiser: &Oracle, name: &str, samples: usize| {
        let (heard, mut settings) = (Heard::default(), SearchSettings::default());
        settings.teacher.samples = samples;
        settings.teacher.grid = 9;
        find_plans(denoiser, &method(name), &[3, 7], &settings, &heard).unwrap();
        heard.0.into_inner().into_iter().filter(|note| note.contains("are few to fit")).collect::<Vec<_>>()
    };
    let notes = told(&vectors(), "least-squares", 64);
    assert!(
        notes.len() == 1 && notes[0].starts_with("64 latents of 2 values") && notes[0].contains(" 7 "),
        "{notes:?}"
    );
    assert!(told(&vectors(), "least-squares", 512).is_empty());
    assert!(told(&vectors(), "gits@1.1/euler", 8).is_empty(), "nothing is fitted");
    assert!(told(&pictures(), "least-squares+gauss-newton", 64).is_empty());
}
