//! What cannot be found, and denoisers that are not what they say: told in a sentence, before any evaluation where it can be known.

use std::cell::RefCell;

use fewstep_core::denoiser::{Counting, Denoiser, Levels, Oracle, Spec};
use fewstep_core::mixture::Mixture;
use fewstep_core::objective::BoundTable;
use fewstep_core::observe::{Event, Observer, Silent};
use fewstep_core::schedule::log_snr;
use fewstep_search::{
    DataMoments, Error, Extras, Method, Search, SearchSettings, Seeded, check_method, find_plans, sample, search_cost,
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
        assert!(error.contains("teacher.grid") && error.contains("9 of them allow 9"), "{error}");
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
    let few = Extras { data: Some(&few), ..Extras::default() };
    let few = check_method(&exact, &method("karras/euler+data-moments"), &[3], &settings, &few).unwrap_err();
    assert!(few.to_string().contains("cannot be told from 2 samples"), "{few}");
}

/// A slip of the hand is no allocation that fails, nor a search without end.
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
            answer.pop();
            answer
        });
        find_plans(&denoiser, &Method::BEST, &[3], &settings, &Silent).unwrap_err()
    };
    assert!(find(&fewer).contains("must be 16 samples, and the denoiser gave 15"), "{}", find(&fewer));
    let shorter = || {
        let denoiser = Answering::new(vectors(), |exact, x, sigma, classes| {
            let mut answer = denoised(exact, x, sigma, classes);
            answer[3].pop();
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
