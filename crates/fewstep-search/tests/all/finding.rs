//! Searches as users run them, on exact mixtures: every method, guidance, costs, other shapes.

use fewstep_core::Plan;
use fewstep_core::denoiser::{Counting, Denoiser, Guided, Levels, Oracle, Reference};
use fewstep_core::mixture::{Component, Covariance, Mixture};
use fewstep_core::observe::{Event, Observer, Silent};
use fewstep_core::schedule::{karras, log_snr};
use fewstep_core::{LastStep, Solver};
use fewstep_search::settings::{
    Distance, GitsSettings, LeastSquaresSettings, MomentsSettings, NearestSettings, TeacherSettings,
};
use fewstep_search::{
    CostMetric, DataMoments, Error, Extras, Method, PlanScorer, SEARCH_SEEDS, Search, SearchSettings, Seeded, Stage,
    StepCosts, Teacher, find_plans, sample, search_seeds,
};

/// Small images with edges: three patterns of 1x4x5.
pub fn pictures() -> Oracle {
    let component = |weight: f64, f: &dyn Fn(usize) -> f64, variance: f64| Component {
        weight,
        mean: (0..20).map(f).collect(),
        covariance: Covariance::Isotropic(variance),
    };
    let mixture = Mixture::new(vec![
        component(1.0, &|i| if i % 5 < 2 { -0.9 } else { 0.8 }, 0.02),
        component(1.5, &|i| if i < 10 { 0.7 } else { -0.7 }, 0.01),
        component(0.5, &|i| 0.4 * (i as f64).sin(), 0.05),
    ]);
    Oracle::new(mixture.unwrap(), vec![1, 4, 5], Levels::between(0.02, 20.0))
}

pub fn settings() -> SearchSettings {
    SearchSettings {
        teacher: TeacherSettings { samples: 16, grid: 9, ..TeacherSettings::default() },
        gits: GitsSettings { samples: 16, grid: 9, ..GitsSettings::default() },
        least_squares: LeastSquaresSettings { samples: 16, ..LeastSquaresSettings::default() },
        moments: MomentsSettings { control: 48, ..MomentsSettings::default() },
        ..SearchSettings::default()
    }
}

pub fn method(name: &str) -> Method {
    name.parse().unwrap()
}

/// The rollout error of a plan on latents that no search saw.
fn held_out<D: Denoiser>(denoiser: &D, plan: &Plan) -> f64 {
    let seeds: Vec<u64> = (0..40).collect();
    let evaluator = fewstep_search::HeldOut::new(denoiser, &settings().teacher, &seeds, &Silent).unwrap();
    evaluator.rollout_error(denoiser, plan, &Silent).unwrap()
}

#[test]
fn every_method_leaves_plans_and_ours_is_the_best() {
    let denoiser = pictures();
    let settings = settings();
    let search = Search::new(&denoiser, &settings, &Silent).unwrap();
    let mut errors = Vec::new();
    for name in [
        "karras/euler",
        "karras/ipndm4+rollout",
        "oss/unipc2_bh2+levels",
        "gits/euler",
        "gits@1.1/ipndm4",
        "oss/euler",
        "oss/dpmpp3m",
        "least-squares",
        "least-squares+gauss-newton",
        "least-squares+gauss-newton+moments",
    ] {
        let found = search.find(&method(name), &[3, 5]).unwrap();
        assert_eq!(found.plans.keys().copied().collect::<Vec<_>>(), [3, 5], "{name}");
        for plan in found.plans.values() {
            plan.validate().unwrap();
            assert_eq!(plan.metadata.sample_shape, Some(vec![1, 4, 5]));
            assert_eq!(plan.metadata.parameterisation, None);
            assert_eq!(plan.metadata.found_by["method"], name);
        }
        errors.push((name, held_out(&denoiser, &found.plans[&5])));
    }
    let of = |name: &str| errors.iter().find(|(other, _)| *other == name).unwrap().1;
    for (rival, error) in &errors[..7] {
        assert!(of("least-squares+gauss-newton") < *error, "{rival}: {errors:?}");
    }
}

#[test]
fn methods_that_go_on_from_the_same_stages_share_them() {
    let denoiser = Counting::new(pictures());
    let settings = settings();
    let search = Search::new(&denoiser, &settings, &Silent).unwrap();
    search.find(&method("least-squares"), &[4]).unwrap();
    let before = denoiser.cost().evaluations;
    let found = search.find(&method("least-squares"), &[4]).unwrap();
    assert_eq!(denoiser.cost().evaluations, before);
    let refined = search.find(&method("least-squares+gauss-newton"), &[4]).unwrap();
    let after = denoiser.cost().evaluations - before;
    assert!(after > 0 && refined.evaluations == found.evaluations + after, "{after}");
}

#[test]
fn moments_of_data_take_data() {
    let denoiser = pictures();
    let settings = settings();
    let search = Search::new(&denoiser, &settings, &Silent).unwrap();
    let wanted = method("least-squares+data-moments");
    assert!(matches!(search.find(&wanted, &[3]), Err(Error::NeedsData { .. })));
    assert!(matches!(search.find(&method("bound/euler"), &[3]), Err(Error::NeedsData { .. })));
    let mut data = DataMoments::new();
    let images: Vec<Vec<f64>> = denoiser.mixture().sample(7, 300).chunks(20).map(<[f64]>::to_vec).collect();
    data.add(denoiser.appearance().unwrap(), &images).unwrap();
    let search = search.with(Extras { data: Some(&data), ..Extras::default() });
    let plan = &search.find(&wanted, &[3]).unwrap().plans[&3];
    assert!(plan.metadata.found_by.contains_key("refitted"), "{:?}", plan.metadata.found_by);
}

/// Where data are what some method's plan makes, that plan is the nearest to them, whatever the search itself found; where they are what the denoiser
/// knows, its own plan is. What either takes is counted.
#[test]
fn the_plan_is_chosen_whose_samples_are_nearest_to_data() {
    let denoiser = Counting::new(pictures());
    let appearance = || denoiser.inner().appearance().unwrap();
    let others = ["karras/euler", "karras/heun"].map(method).to_vec();
    let nearest = NearestSettings { methods: others, samples: 256, least_gain: 0.0, ..NearestSettings::default() };
    let settings = SearchSettings { nearest, ..settings() };
    let (wanted, steps) = (method("least-squares+data-moments+nearest"), [3, 4]);

    let seeds: Vec<u64> = (1000..2000).collect();
    let euler = &find_plans(&denoiser, &method("karras/euler"), &[3], &settings, &Silent).unwrap().plans[&3];
    let mut of_euler = DataMoments::new();
    sample(&denoiser, euler, &seeds, 100, &Silent, |_, batch| of_euler.add(appearance(), batch)).unwrap();
    let images: Vec<Vec<f64>> = denoiser.inner().mixture().sample(7, 1000).chunks(20).map(<[f64]>::to_vec).collect();
    let mut of_mixture = DataMoments::new();
    of_mixture.add(appearance(), &images).unwrap();

    for (data, chosen) in [(&of_euler, "karras/euler+data-moments"), (&of_mixture, "own")] {
        let search = Search::new(&denoiser, &settings, &Silent).unwrap();
        let search = search.with(Extras { data: Some(data), ..Extras::default() });
        let before = denoiser.cost().evaluations;
        let found = search.find(&wanted, &steps).unwrap();
        assert_eq!(found.evaluations, denoiser.cost().evaluations - before);
        let of = |nfe: usize| found.plans[&nfe].metadata.found_by["nearest"].clone();
        assert_eq!(of(3)["method"], chosen, "{}", of(3));
        let compared = of(3)["compared"].as_object().unwrap().clone();
        let distance = |name: &str| compared[name]["distance"].as_f64();
        assert!(compared.keys().all(|name| distance(name) >= distance(chosen)), "{compared:?}");
        // a solver of two evaluations a step has a plan of 3 and none of 4
        assert_eq!((compared.len(), of(4)["compared"].as_object().unwrap().len()), (3, 2));
    }
}

/// A caller's scores decide, and are asked for with seeds that the search uses neither for its latents nor to compare with data.
#[test]
fn scores_choose_plans() {
    struct LikesHeun(f64);
    impl PlanScorer for LikesHeun {
        fn distance(&self, plan: &Plan, seeds: &[u64]) -> fewstep_search::Result<f64> {
            let mut used = settings();
            assert!(used.moments.control > used.teacher.samples);
            used.teacher.samples = used.moments.control;
            assert!(seeds.iter().all(|seed| !search_seeds(&used).contains(seed)));
            Ok(if plan.solver == "heun" { self.0 } else { 2.0 })
        }
    }
    let denoiser = pictures();
    let mut data = DataMoments::new();
    let images: Vec<Vec<f64>> = denoiser.mixture().sample(7, 300).chunks(20).map(<[f64]>::to_vec).collect();
    data.add(denoiser.appearance().unwrap(), &images).unwrap();
    let nearest = NearestSettings { methods: vec![method("karras/heun")], ..NearestSettings::default() };
    let settings = SearchSettings { nearest, ..settings() };
    // a plan that is hardly nearer does not take the place of one that is truer to the model
    for (distance, chosen) in [(0.1, "karras/heun+data-moments"), (1.79, "karras/heun+data-moments"), (1.81, "own")] {
        let plan_scorer = LikesHeun(distance);
        let search = Search::new(&denoiser, &settings, &Silent).unwrap();
        let search = search.with(Extras { data: Some(&data), plan_scorer: Some(&plan_scorer), ..Extras::default() });
        let found = search.find(&method("least-squares+data-moments+nearest"), &[3]).unwrap();
        assert_eq!(found.plans[&3].metadata.found_by["nearest"]["method"], chosen);
    }
    // of plans that are at no distance at all, the own one is kept where others have to gain, and given up where they may lose anything
    struct SeesNothing;
    impl PlanScorer for SeesNothing {
        fn distance(&self, _: &Plan, _: &[u64]) -> fewstep_search::Result<f64> {
            Ok(0.0)
        }
    }
    for (least_gain, chosen) in [(0.1, "own"), (-1.0, "own"), (f64::MIN, "karras/heun+data-moments")] {
        let mut settings = settings.clone();
        settings.nearest.least_gain = least_gain;
        let search = Search::new(&denoiser, &settings, &Silent).unwrap();
        let search = search.with(Extras { data: Some(&data), plan_scorer: Some(&SeesNothing), ..Extras::default() });
        let found = search.find(&method("least-squares+data-moments+nearest"), &[3]).unwrap();
        assert_eq!(found.plans[&3].metadata.found_by["nearest"]["method"], chosen);
    }
}

/// Vectors are no grids: errors are compared as they are, and moments are refused in a sentence.
/// Keeps what it is told.
#[derive(Debug, Default)]
struct Told(std::cell::RefCell<Vec<String>>);

impl Observer for Told {
    fn event(&self, event: Event) {
        if let Event::Note(note) = event {
            self.0.borrow_mut().push(note.to_owned());
        }
    }
}

#[test]
fn vectors_are_searched_too() {
    let mixture = Mixture::new(vec![
        Component { weight: 1.0, mean: vec![1.0, 0.0, -1.0], covariance: Covariance::Isotropic(0.1) },
        Component { weight: 1.0, mean: vec![-1.0, 0.5, 0.0], covariance: Covariance::Isotropic(0.2) },
    ]);
    let denoiser = Oracle::new(mixture.unwrap(), vec![3], Levels::between(0.01, 30.0));
    let settings = settings();
    let found = find_plans(&denoiser, &Method::LEAST_SQUARES, &[4], &settings, &Silent).unwrap();
    let karras = find_plans(&denoiser, &method("karras/dpmpp2m"), &[4], &settings, &Silent).unwrap();
    assert!(held_out(&denoiser, &found.plans[&4]) < 0.5 * held_out(&denoiser, &karras.plans[&4]));
    // vectors have no features to match moments of: that stage is left out, and told
    let told = Told::default();
    let best = find_plans(&denoiser, &Method::BEST, &[4], &settings, &told).unwrap();
    let combinations = |plan: &Plan| (plan.stages.clone(), plan.output.clone());
    assert_eq!(combinations(&best.plans[&4]), combinations(&found.plans[&4]));
    assert!(told.0.borrow().iter().any(|note| note.contains("moments are left as they are")), "{told:?}");
}

#[test]
fn guidance_is_what_it_says_and_costs_two_calls() {
    let conditional = pictures().conditional();
    let plain = pictures();
    // a network of another type guides, too
    let by_network = Guided::new(&conditional, Reference::Network(&plain), 2.5).unwrap();
    let error = Guided::<_, &Oracle>::new(&plain, Reference::Unconditional, 2.0).unwrap_err();
    assert!(error.to_string().contains("no classes"), "{error}");
    let guided = Guided::<&Oracle>::new(&conditional, Reference::Unconditional, 2.5).unwrap();
    let seeds = [0, 1, 2, 5];
    let (x, conditions) = (guided.latents(&seeds).unwrap(), guided.conditions(&seeds).unwrap());
    for sigma in [0.3, 4.0] {
        let with = conditional.denoise(&[(&x, sigma)], &conditions).unwrap().remove(0);
        let without = plain.denoise(&[(&x, sigma)], &vec![None; 4]).unwrap().remove(0);
        for denoiser in [
            &guided.denoise(&[(&x, sigma)], &conditions).unwrap(),
            &by_network.denoise(&[(&x, sigma)], &conditions).unwrap(),
        ] {
            for ((found, with), without) in
                denoiser[0].iter().flatten().zip(with.iter().flatten()).zip(without.iter().flatten())
            {
                assert!((found - (without + 2.5 * (with - without))).abs() < 1e-12);
            }
        }
        // its derivative is that of differences
        let cotangent: Vec<Vec<f64>> = x.iter().map(|x| x.iter().map(|v| v.cos()).collect()).collect();
        let value = |x: &Vec<Vec<f64>>, sigma: f64| -> f64 {
            let d = guided.denoise(&[(x, sigma)], &conditions).unwrap().remove(0);
            d.iter().flatten().zip(cotangent.iter().flatten()).map(|(d, c)| d * c).sum()
        };
        let (d_x, d_sigma) = guided.differentiable().unwrap().pullback(&x, sigma, &conditions, &cotangent).unwrap();
        let mut moved = x.clone();
        moved[1][3] += 1e-6;
        assert!((d_x[1][3] - (value(&moved, sigma) - value(&x, sigma)) / 1e-6).abs() < 1e-4);
        let slope = (value(&x, sigma + 1e-6) - value(&x, sigma - 1e-6)) / 2e-6;
        assert!((d_sigma - slope).abs() < 1e-4 * (1.0 + slope.abs()), "{d_sigma} {slope}");
    }
    let counting = Counting::new(&guided);
    let settings = settings();
    let found = find_plans(&counting, &Method::BEST, &[3], &settings, &Silent).unwrap();
    let plan = &found.plans[&3];
    let guidance = plan.metadata.guidance.as_ref().unwrap();
    assert_eq!((guidance.weight, counting.spec().calls), (2.5, 2));
    assert_eq!(counting.cost().calls, 2 * counting.cost().evaluations);
    assert_ne!(guided.spec().identity, conditional.spec().identity);
    assert!(held_out(&guided, plan).is_finite());
    // the constant is each class's own
    assert!(plan.constant.as_ref().is_none_or(|constant| constant.samples.len() == 3));
    let mut first = Vec::new();
    sample(&guided, plan, &[0, 1, 2], 2, &Silent, |start, batch| {
        first.push((start, batch.len()));
        Ok(())
    })
    .unwrap();
    assert_eq!(first, [(0, 2), (2, 1)]);
}

/// A teacher of its own: the student is measured against another denoiser's trajectories.
#[test]
fn a_guided_teacher_can_be_distilled_into_a_plain_student() {
    let student = pictures();
    let conditional = pictures().conditional();
    let teacher = Guided::<&Oracle>::new(&conditional, Reference::Unconditional, 1.5).unwrap();
    let settings = settings();
    let (trajectories, evaluations) = fewstep_search::solve_teacher(&teacher, &settings, &Silent).unwrap();
    assert_eq!(evaluations, 16 * (2 * 8 + 1) + 4); // before it, whether the answer depends on the input
    let search = Search::with_teacher(&student, trajectories, &settings, &Silent).unwrap();
    let own = Search::new(&student, &settings, &Silent).unwrap();
    let found = |search: &Search<Oracle>| search.find(&Method::LEAST_SQUARES, &[4]).unwrap().plans[&4].clone();
    assert_ne!(found(&search).stages, found(&own).stages);
}

/// A watcher who has seen enough after some events.
struct Impatient(std::cell::Cell<usize>);

impl Observer for Impatient {
    fn event(&self, _: Event) {
        self.0.set(self.0.get() + 1);
    }

    fn cancelled(&self) -> bool {
        self.0.get() > 20
    }
}

#[test]
fn a_search_ends_when_its_observer_asks() {
    let settings = settings();
    let impatient = Impatient(std::cell::Cell::new(0));
    let error = find_plans(&pictures(), &Method::BEST, &[4, 5], &settings, &impatient).unwrap_err();
    assert!(matches!(error, Error::Cancelled), "{error}");
}

#[test]
fn what_does_not_fit_is_said() {
    let denoiser = pictures();
    let refused = |change: &dyn Fn(&mut SearchSettings), name: &str, steps: &[usize]| {
        let mut settings = settings();
        change(&mut settings);
        find_plans(&denoiser, &method(name), steps, &settings, &Silent).unwrap_err().to_string()
    };
    assert!(refused(&|s| s.teacher.samples = 0, "karras/euler", &[3]).contains("teacher.samples"));
    assert!(refused(&|s| s.teacher.samples = 1, "least-squares+gauss-newton", &[3]).contains("teacher.samples"));
    assert!(refused(&|s| s.least_squares.ridge = f64::NAN, "least-squares", &[3]).contains("least_squares.ridge"));
    assert!(
        refused(&|s| s.rollout.loss = Distance::Features, "karras/euler+rollout", &[3]).contains("feature network")
    );
    assert!(refused(&|_| {}, "karras/heun", &[4]).contains("odd numbers"));
    let settings = settings();
    let search = Search::new(&denoiser, &settings, &Silent).unwrap();
    let sweep = Stage::Sweep(settings.sweep.clone());
    assert!(search.run(&[sweep], &[3]).unwrap_err().to_string().contains("before sweep"));
    let found = search.find(&method("karras/euler"), &[3]).unwrap();
    assert!(found.plan(&method("karras/euler"), 4).unwrap_err().to_string().contains("no plan of 4"));
}

/// GITS has a teacher of its own, in as many parts as its latents take, and what it costs is that teacher alone.
#[test]
fn gits_is_found_on_its_own_grid() {
    let denoiser = Counting::new(pictures());
    let mut settings = settings();
    settings.gits = GitsSettings { samples: 70, grid: 13, ..GitsSettings::default() };
    let search = Search::new(&denoiser, &settings, &Silent).unwrap();
    let before = denoiser.cost().evaluations;
    let found = search.find(&method("gits@1.15/ipndm2"), &[3, 12]).unwrap();
    assert_eq!((denoiser.cost().evaluations - before, found.evaluations), (13 * 70, 13 * 70));
    // another solver and other coefficients take no evaluation beyond those that compare plans
    let found = search.find(&method("gits/euler"), &[4]).unwrap();
    assert!(found.evaluations <= 7 * 4 * 16, "{}", found.evaluations);

    let grid = karras(13, 0.02, 20.0, 7.0).unwrap();
    let seeds: Vec<u64> = (0..70).map(|seed| SEARCH_SEEDS + seed).collect();
    let seeded = Seeded::new(&denoiser, &seeds, &Silent).unwrap();
    let denoise = |x: &Vec<Vec<f64>>, sigma: f64| seeded.denoised(x, sigma);
    let (solver, latents) = (Solver::Ipndm { order: 4 }, seeded.latents().clone());
    let teacher = Teacher::solve(solver, &grid, &grid, latents, 70, denoise).unwrap();
    let costs = StepCosts::measure(&teacher, CostMetric::Deviation, LastStep::ToZero, denoise).unwrap();
    let whole = costs.search(12, 1.15, Solver::Ipndm { order: 2 }).unwrap();
    for nfe in [3, 12] {
        let plan = &search.find(&method("gits@1.15/ipndm2"), &[nfe]).unwrap().plans[&nfe];
        assert_eq!(plan.stages, whole.plans[nfe - 1].plan.stages);
        let cost = |plan: &Plan| plan.metadata.found_by["cost"].as_f64().unwrap();
        assert!((cost(plan) / cost(&whole.plans[nfe - 1].plan) - 1.0).abs() < 1e-9);
        assert_eq!(plan.metadata.found_by["samples"], 70);
    }
}

/// GITS on levels that are known one by one, and on a flow's.
#[test]
fn gits_keeps_to_the_levels_that_there_are() {
    let mixture = || Mixture::gaussian(vec![0.5, -0.5], 0.2).unwrap();
    let known = log_snr(40, 0.01, 30.0).unwrap().levels().to_vec();
    let discrete = Levels { discrete: known, ..Levels::between(0.01, 30.0) };
    let settings = SearchSettings { gits: GitsSettings { samples: 8, ..GitsSettings::default() }, ..settings() };
    for levels in [discrete, Levels::between(1e-3, 999.0)] {
        let known = levels.discrete.clone();
        let denoiser = Oracle::new(mixture(), vec![2], levels);
        let found = find_plans(&denoiser, &method("gits/ipndm4"), &[3, 12], &settings, &Silent).unwrap();
        for (nfe, plan) in found.plans {
            assert_eq!(plan.stages.len(), nfe);
            assert!(plan.stages.iter().all(|stage| known.is_empty() || known.contains(&stage.sigma)), "{plan:?}");
        }
    }
}

/// Longer paths help a plan whether they are asked for or not.
#[test]
fn plans_beyond_the_longest_help_it() {
    let denoiser = pictures();
    let mut settings = settings(); // a grid of 9 levels
    let error = |settings: &SearchSettings, steps: &[usize]| {
        let found = find_plans(&denoiser, &method("least-squares"), steps, settings, &Silent).unwrap();
        assert_eq!(found.plans.keys().copied().collect::<Vec<_>>(), steps);
        found.plans[&7].metadata.found_by["training_error"].as_f64().unwrap()
    };
    let alone = error(&settings, &[7]);
    assert_eq!(alone, error(&settings, &[7, 8, 9]));
    settings.sweep.beyond = 0;
    assert_eq!(alone, error(&settings, &[7, 8, 9]));
    assert!(alone < error(&settings, &[7]), "{alone}");
}

/// The same stages written by hand and by name.
#[test]
fn a_list_of_stages_is_what_a_name_stands_for() {
    let denoiser = pictures();
    let settings = settings();
    let search = Search::new(&denoiser, &settings, &Silent).unwrap();
    let solver = Solver::Ipndm { order: 2 };
    let stages = [Stage::Gits { solver, settings: GitsSettings { coefficients: vec![1.2], ..settings.gits.clone() } }];
    let by_hand = search.run(&stages, &[4]).unwrap();
    let by_name = search.find(&method("gits@1.2/ipndm2"), &[4]).unwrap();
    assert_eq!(by_hand.plans[&4].stages, by_name.plans[&4].stages);
}
