//! Programs from files as models: against exact denoisers, through searches, samplers and scores.

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use fewstep::bound::bound_table;
use fewstep::data::data_moments;
use fewstep::features::FeatureOptions;
use fewstep::fitting::{self, FitInputs, FitSettings, FitTask, Phases, PlanSource};
use fewstep::models::{MIXTURES, ModelOptions, OpenModel, open_model};
use fewstep::reference::{ImageReference, ReferenceOptions};
use fewstep::runs::RunOptions;
use fewstep::{assets, scorer};
use fewstep_core::observe::Silent;
use fewstep_core::plan::Plan;
use fewstep_core::schedule::karras;
use fewstep_io::dataset;
use fewstep_nn::data::Images;
use fewstep_nn::fit::{ScheduleConfig, ScheduleOptimiser, TableConfig};
use fewstep_nn::tch::{self, Kind, Tensor};
use fewstep_nn::tensor::Batch;
use fewstep_nn::{Ranks, TorchDenoiser};
use fewstep_search::{Extras, HeldOut, Method, Search, SearchSettings, Seeded, baseline, find_plans, sample};
use serde_json::{Value, json};

use crate::support::{CPU, Data, Place, largest_difference, row};

const STEPS: [usize; 2] = [3, 5];

/// libtorch's generator is one for the whole process: tests that draw from it take turns.
fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn settings(latents: usize) -> SearchSettings {
    let mut settings = SearchSettings::default();
    settings.teacher.samples = latents;
    settings.teacher.grid = 21;
    settings.gauss_newton.samples = latents / 2;
    settings.least_squares.samples = latents;
    settings
}

fn held_out(denoiser: &dyn TorchDenoiser) -> HeldOut<Batch> {
    HeldOut::new(&denoiser, &settings(16).teacher, &(100..116).collect::<Vec<u64>>(), &Silent).unwrap()
}

fn built_in_mixture() -> (OpenModel, Data) {
    let network = open_model(MIXTURES[0], &ModelOptions::default()).unwrap();
    let weights =
        |name: &str| network.network().unwrap().model().params().get(name).unwrap().detach().to_kind(Kind::Double);
    let data = Data {
        shape: vec![1, 32, 32],
        conditional: false,
        means: weights("model.means"),
        stds: weights("model.log_stds").exp(),
        weights: weights("model.log_weights").exp(),
    };
    (network, data)
}

#[test]
fn a_program_of_a_network_has_its_answers_its_derivatives_and_its_plans() {
    let (network, data) = built_in_mixture();
    let place = Place::new();
    place.denoiser(&data, |_| ());
    let program = place.open(None);
    let (network, program) = (network.denoiser(), program.denoiser());
    let mut spec = program.spec().clone();
    assert_ne!(spec.identity, network.spec().identity);
    spec.identity.clone_from(&network.spec().identity);
    spec.parameterisation = network.spec().parameterisation; // a program may hold anything
    (spec.levels.supported, spec.levels.own) = (network.spec().levels.supported, network.spec().levels.own.clone());
    assert_eq!(&spec, network.spec());

    let seeds: Vec<u64> = (0..20).collect(); // more than a batch
    let (latents, labels) = (program.latents(&seeds).unwrap(), program.conditions(&seeds).unwrap());
    assert!(latents.0.equal(&network.latents(&seeds).unwrap().0));
    let states = [0.01, 0.5, 20.0].map(|sigma| (Batch(&latents.0 * sigma + 0.1), sigma));
    let asked: Vec<(&Batch, f64)> = states.iter().map(|(x, sigma)| (x, *sigma)).collect();
    let cotangent = Batch(Tensor::arange(latents.0.numel() as i64, CPU).reshape(latents.0.size()).sin());
    let found = program.denoise(&asked, &labels).unwrap();
    let wanted = network.denoise(&asked, &labels).unwrap();
    for (((x, sigma), found), wanted) in states.iter().zip(&found).zip(&wanted) {
        assert!(largest_difference(&found.0, &wanted.0) < 1e-5 * sigma.max(1.0), "{sigma}");
        let slopes = |denoiser: &dyn TorchDenoiser| {
            denoiser.differentiable().unwrap().pullback(x, *sigma, &labels, &cotangent).unwrap()
        };
        let (found, wanted) = (slopes(program), slopes(network));
        assert!(largest_difference(&found.0.0, &wanted.0.0) < 1e-3, "{sigma}");
        assert!((found.1 - wanted.1).abs() < 1e-3 * wanted.1.abs().max(1.0), "{sigma}: {} {}", found.1, wanted.1);
    }

    let (settings, held_out) = (settings(48), held_out(network));
    for method in
        ["least-squares", "oss/ipndm4", "least-squares+gauss-newton"].map(|name| name.parse::<Method>().unwrap())
    {
        let plans = |denoiser: &dyn TorchDenoiser| find_plans(&denoiser, &method, &STEPS, &settings, &Silent).unwrap();
        let (found, wanted) = (plans(program), plans(network));
        for steps in STEPS {
            let error = |denoiser: &dyn TorchDenoiser, plan| held_out.rollout_error(&denoiser, plan, &Silent).unwrap();
            let wanted = error(network, &wanted.plans[&steps]);
            for denoiser in [program, network] {
                let found = error(denoiser, &found.plans[&steps]);
                assert!((found - wanted).abs() < 1e-4, "{method}, {steps} steps: {found} and {wanted}");
            }
        }
    }
}

/// A vector, an image of odd sides and latents, each of three classes, guided: D = 2 D_class - D_all.
#[test]
fn programs_of_any_shape_are_guided_fitted_and_sampled() {
    let rho_7 = |opened: &OpenModel, steps: usize| {
        fewstep::plans::euler(&baseline(&opened.spec().levels, steps).unwrap()).unwrap()
    };
    for shape in [&[6][..], &[1, 17, 33], &[4, 8, 8]] {
        let (place, data) = (Place::new(), Data::patterns(shape, true));
        place.denoiser(&data, |_| ());
        let opened = place.open(Some(2.0));
        let (denoiser, spec) = (opened.denoiser(), opened.spec());
        assert_eq!((spec.calls, spec.classes), (2, 3));
        assert_eq!(spec.guidance.as_ref().unwrap().weight, 2.0);
        assert!(opened.network().is_none() && opened.tunable().is_err());

        let x = denoiser.latents(&[7, 8]).unwrap();
        let of_class = denoiser.same_condition(Some(1), 2).unwrap();
        for sigma in [0.05, 1.0, 30.0] {
            let x = Batch(&x.0 * sigma);
            let found = denoiser.denoise(&[(&x, sigma)], &of_class).unwrap().remove(0);
            for n in 0..2 {
                let exact = |class: Option<usize>| data.mixture(class).denoised(&row(&x.0, n), sigma);
                let exact =
                    exact(Some(1)).into_iter().zip(exact(None)).map(|(of_class, of_all)| 2.0 * of_class - of_all);
                let worst = row(&found.0, n).into_iter().zip(exact).fold(0.0, |w: f64, (a, b)| w.max((a - b).abs()));
                assert!(worst < 1e-5 * sigma.max(1.0), "{shape:?} at {sigma}: {worst}");
            }
        }

        let found = find_plans(&denoiser, &Method::BEST, &STEPS, &settings(32), &Silent).unwrap();
        let held_out = held_out(denoiser);
        for steps in STEPS {
            let plan = &found.plans[&steps];
            let error = |plan| held_out.rollout_error(&denoiser, plan, &Silent).unwrap();
            let (before, after) = (error(&rho_7(&opened, steps)), error(plan));
            assert!(after < 0.7 * before, "{shape:?}, {steps} steps: {before} to {after}");
            let mut made = Vec::new();
            sample(&denoiser, plan, &[3, 4, 5], 2, &Silent, |_, samples| {
                made.push(samples.0.shallow_clone());
                Ok(())
            })
            .unwrap();
            let together = Seeded::new(&denoiser, &[3, 4, 5], &Silent).unwrap().run(plan).unwrap();
            assert_eq!(together.0.size(), [&[3], shape].concat());
            assert!(largest_difference(&together.0, &Tensor::cat(&made, 0)) < 1e-4);
        }
        let pixels = denoiser.pixels(&x);
        match shape {
            [1, ..] => {
                assert_eq!((opened.pixel_shape().unwrap(), pixels.unwrap().size()), ([1, 17, 33], vec![2, 1, 17, 33]))
            }
            _ => assert!(pixels.is_err() && opened.pixel_shape().unwrap_err().to_string().contains("no decoder")),
        }
        // features of grids of any channels, which are no pixels but of one channel or three
        let direct = denoiser.appearance().map(|appearance| appearance.is_direct());
        assert_eq!(direct, (shape.len() == 3).then_some(shape[0] == 1));
    }
}

/// Makes grey pixels of the first channel of latents `[4, 16, 16]`, twice as high and wide.
fn decode(x: &Tensor) -> Tensor {
    let grey = x.narrow(1, 0, 1) + x.narrow(1, 1, 1) * 0.1;
    grey.repeat_interleave_self_int(2, 2, None).repeat_interleave_self_int(2, 3, None)
}

fn with_decoder() -> Place {
    let (place, data) = (Place::new(), Data::patterns(&[4, 16, 16], true));
    place.trace("decoder.pt", &[Tensor::rand([3, 4, 16, 16], CPU)], |x| decode(&x[0]));
    place.denoiser(&data, |json| json["decoder"] = json!({"path": "decoder.pt", "scale": 1.5}));
    place
}

#[test]
fn latents_are_scored_by_their_pixels() {
    let place = with_decoder();
    let opened = place.open(Some(2.0));
    let denoiser = opened.denoiser();
    assert_eq!(opened.pixel_shape().unwrap(), assets::IMAGE_SHAPE);
    let seeds: Vec<u64> = (0..100).collect();
    let plan = fewstep::plans::euler(&karras(6, 0.002, 80.0, 7.0).unwrap()).unwrap();
    let latents = Seeded::new(&denoiser, &seeds, &Silent).unwrap().run(&plan).unwrap();
    let pixels = denoiser.pixels(&latents).unwrap();
    assert!(largest_difference(&pixels, &decode(&(&latents.0 * 1.5))) < 1e-5);
    let images = scorer::images(denoiser, &plan, &seeds, 16, &Silent).unwrap().unwrap();
    assert!(largest_difference(&images, &pixels) < 1e-4);

    // moments are those of pixels
    let (of_samples, of_pixels) = (denoiser.appearance().unwrap(), denoiser.codec().pixel_appearance().unwrap());
    assert!(!of_samples.is_direct() && of_pixels.is_direct());
    let (rows, dim) = of_samples.features(&latents).unwrap();
    let (same, dim_of_pixels) = of_pixels.features(&Batch(pixels.shallow_clone())).unwrap();
    assert_eq!((dim, rows.len()), (dim_of_pixels, 100 * dim));
    assert!(rows.iter().zip(&same).all(|(a, b)| (a - b).abs() < 1e-5));
    let clipping = of_samples.clipping(&latents, 0.9..1.1).unwrap();
    assert_eq!(clipping.values, 100 * 32 * 32);
    assert_eq!(clipping.beyond, of_pixels.clipping(&Batch(pixels.shallow_clone()), 0.9..1.1).unwrap().beyond);
    let asset = |name: &str| Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/assets")).join(name);
    let (features, statistics) = (FeatureOptions::file(Some(asset("features.safetensors"))), [asset("reference.npz")]);
    let at_once = ReferenceOptions { pad_to: None, batch: 16 };
    let references = ImageReference::open_all(&opened, &[features], &statistics, at_once, &Silent).unwrap();
    let by_images = scorer::ImageScorer::new(&references, 16).unwrap();
    let score = by_images.score(denoiser, &plan, &seeds[..20], &Silent).unwrap();
    assert!(score.frechet() > 0.0 && score.scores[0].teacher.is_none() && !score.grid.is_empty());

    // with training images, which are pixels
    let images = grey_images(&opened);
    let data = data_moments(&images, denoiser, 16).unwrap();
    let mut settings = settings(128);
    settings.moments.control = 128;
    let search =
        Search::new(&denoiser, &settings, &Silent).unwrap().with(Extras { data: Some(&data), ..Extras::default() });
    let mean = |samples: &Batch| {
        let (rows, dim) = of_samples.features(samples).unwrap();
        Tensor::from_slice(&rows).reshape([-1, dim as i64]).mean_dim(0, false, Kind::Double)
    };
    let all: Vec<u64> = (fewstep_search::SEARCH_SEEDS..).take(128).collect();
    let run = |plan: &Plan| mean(&Seeded::new(&denoiser, &all, &Silent).unwrap().run(plan).unwrap());
    let target = run(&fewstep_search::held_out_teacher(&opened.spec().levels, &settings.teacher).unwrap());
    let gap = |method: &str| {
        let found = search.find(&method.parse().unwrap(), &[3]).unwrap();
        (run(&found.plans[&3]) - &target).norm().double_value(&[])
    };
    let (plain, matched) = (gap("least-squares"), gap("least-squares+moments"));
    assert!(matched < plain, "{plain} to {matched}");
    assert!(gap("least-squares+data-moments").is_finite());
}

/// 128 grey images of the shape of the model's pixels.
fn grey_images(opened: &OpenModel) -> Images {
    let [channels, height, width] = opened.pixel_shape().unwrap();
    let pixels = (0..128 * height * width).map(|i| (i * i % 509 * 7 % 256) as u8).collect();
    let labels = opened.spec().classes.checked_sub(1).map(|_| (0..128).map(|n| n % 3).collect());
    let images = dataset::Images::new(pixels, channels, height, width, labels).unwrap();
    Images::for_model(images, opened.denoiser()).unwrap()
}

fn learn() -> ScheduleConfig {
    let paper = FitSettings::default().paper;
    ScheduleConfig {
        objective: paper.objective(),
        noise: paper.noise,
        parameter: paper.scale,
        iterations: 2,
        batch: 8,
        learning_rate: paper.learning_rate,
        seed: 1,
    }
}

#[test]
fn phase_1_of_the_paper_is_the_same_on_a_program_and_on_its_network() {
    let _turn = alone();
    let (network, data) = built_in_mixture();
    let place = Place::new();
    place.denoiser(&data, |_| ());
    let program = place.open(None);
    let images = grey_images(&program);
    let table = |opened: &OpenModel| {
        let config = TableConfig { images: 32, batch: 16, seed: 1 };
        bound_table(opened.denoiser(), &images, 12, config, &Silent).unwrap().errors()
    };
    for (found, wanted) in table(&program).into_iter().zip(table(&network)) {
        assert!((found - wanted).abs() < 1e-4 * wanted, "{found} {wanted}");
    }
    let levels = karras(5, 0.002, 80.0, 7.0).unwrap();
    let learned = |opened: &OpenModel| {
        let mut optimiser = ScheduleOptimiser::new(&levels, learn());
        (0..2).map(|_| optimiser.step(opened.denoiser(), &images).unwrap()).collect::<Vec<_>>()
    };
    for (found, wanted) in learned(&program).into_iter().zip(learned(&network)) {
        assert!((found.loss - wanted.loss).abs() < 1e-4 * wanted.loss, "{} {}", found.loss, wanted.loss);
        for (found, wanted) in found.sigmas.iter().zip(&wanted.sigmas) {
            assert!((found - wanted).abs() < 1e-3 * wanted, "{found} {wanted}");
        }
    }
}

fn paper_task(opened: &OpenModel, method: PlanSource) -> FitTask {
    let mut settings = FitSettings::default();
    settings.held_out.samples = 8;
    settings.paper.batch = 8;
    settings.paper.iterations = 2;
    settings.paper.table_images = 16;
    settings.paper.grid = 16;
    settings.paper.optimiser = fitting::settings::PaperOptimiser::Adam;
    settings.search = self::settings(16);
    FitTask {
        phases: Phases::Plan,
        model: opened.id("f32"),
        data: None,
        features: None,
        references: Vec::new(),
        method,
        plans: Vec::new(),
        steps: vec![3],
        rounds: 1,
        settings,
    }
}

#[test]
fn whole_runs_of_the_paper_and_of_bound_take_guided_programs() {
    let _turn = alone();
    let place = Place::new();
    place.denoiser(&Data::patterns(&[1, 9, 11], true), |_| ());
    let opened = place.open(Some(2.0));
    let images = grey_images(&opened);
    let inputs = FitInputs { model: &opened, images: Some(&images), features: None, references: &[], plans: &[] };
    for (index, method) in [PlanSource::Paper, "bound".parse().unwrap()].into_iter().enumerate() {
        let out = place.path(&format!("run-{index}"));
        let options = RunOptions { out, resume: false, command: Vec::new(), ranks: Ranks::alone() };
        let run = fitting::fit(paper_task(&opened, method), &inputs, &options, &Silent).unwrap();
        let outcome = &run.outcomes[0];
        assert!(outcome.calls == 6 && outcome.model.is_none(), "{outcome:?}");
        assert!(outcome.phases[0].rollout_error.is_finite());
    }
}

#[test]
fn phase_1_of_the_paper_refuses_what_it_cannot_use() {
    let refused = |opened: &OpenModel, method: PlanSource| {
        paper_task(opened, method).check(opened, Some(100)).map_err(|error| error.to_string())
    };
    let place = with_decoder();
    let latents = place.open(None);
    for method in [PlanSource::Paper, "bound".parse().unwrap()] {
        let error = refused(&latents, method).unwrap_err();
        assert!(error.contains("noise to training images") && error.contains("[4, 16, 16]"), "{error}");
    }
    refused(&latents, PlanSource::Method(Method::BEST)).unwrap();
    let error = ScheduleOptimiser::new(&karras(3, 0.1, 8.0, 7.0).unwrap(), learn());
    let error = { error }.step(latents.denoiser(), &grey_images(&latents)).unwrap_err().to_string();
    assert!(error.contains("noise to training images"), "{error}");

    // a program that answers without a graph
    let (place, data) = (Place::new(), Data::patterns(&[1, 8, 8], false));
    place.denoiser(&data, |_| ());
    let inputs = [Tensor::rand([3, 1, 8, 8], CPU), Tensor::rand([3], CPU)];
    place.trace("model.pt", &inputs, |x| data.denoised(&x[0].detach(), &x[1].detach(), None));
    let opened = place.open(None);
    assert!(opened.denoiser().differentiable().is_none());
    for method in [PlanSource::Paper, "least-squares+rollout".parse().unwrap()] {
        let error = refused(&opened, method).unwrap_err();
        assert!(error.contains("follows gradients"), "{error}");
    }
    refused(&opened, "bound".parse().unwrap()).unwrap();
    find_plans(&opened.denoiser(), &Method::LEAST_SQUARES, &[3], &settings(8), &Silent).unwrap();
}

#[test]
fn programs_are_run_only_where_they_are_trusted() {
    let place = Place::new();
    let data = Data::patterns(&[6], true);
    place.denoiser(&data, |json| json["labels"]["unconditional"] = Value::Null);
    let options = ModelOptions { trust: true, ..ModelOptions::default() };
    let error = |options: &ModelOptions| place.try_open(options).unwrap_err().to_string();
    let untrusted = error(&ModelOptions::default());
    assert!(untrusted.contains("--trust") && untrusted.contains("was not run"), "{untrusted}");
    let precise = error(&ModelOptions { kind: Kind::BFloat16, ..options.clone() });
    assert!(precise.contains("--precision"), "{precise}");
    let guidance = Some(fewstep::models::GuidanceOptions { weight: 2.0, by: None });
    let guided = error(&ModelOptions { guidance, ..options.clone() });
    assert!(guided.contains("always needs a class"), "{guided}");
    std::fs::remove_file(place.path("model.json")).unwrap();
    let lacking = error(&options);
    assert!(lacking.contains("model.json beside it"), "{lacking}");
}

#[test]
fn a_program_is_known_by_what_its_files_hold() {
    let place = with_decoder();
    let described: Value = serde_json::from_slice(&std::fs::read(place.path("model.json")).unwrap()).unwrap();
    let hash = || {
        let opened = place.open(None);
        assert!(opened.notes.contains_key("decoder") && opened.spec().identity == opened.hash);
        opened.hash
    };
    let first = hash();
    let mut moved = described.clone();
    moved["decoder"]["path"] = json!("moved.pt");
    std::fs::rename(place.path("decoder.pt"), place.path("moved.pt")).unwrap();
    place.describe("model.json", &moved);
    assert_eq!(hash(), first);
    let mut scaled = moved.clone();
    scaled["decoder"]["scale"] = json!(2.0);
    place.describe("model.json", &scaled);
    assert_ne!(hash(), first);
    place.describe("model.json", &moved);
    place.trace("moved.pt", &[Tensor::rand([3, 4, 16, 16], CPU)], |x| tch::no_grad(|| decode(&x[0])) * 0.5);
    assert_ne!(hash(), first);
}
