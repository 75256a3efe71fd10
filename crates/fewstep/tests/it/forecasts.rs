//! Forecasts against what whole commands take, on a mixture of Gaussians whose evaluations are counted. (Tunings, which need weights, are
//! counted phase by phase beside `fitting::forecast`.)

use std::path::Path;
use std::rc::Rc;

use fewstep::assets;
use fewstep::compare::{self, CompareSettings, CompareTask, Subject};
use fewstep::data::DataId;
use fewstep::demo::{self, DemoTask};
use fewstep::fitting::settings::PaperOptimiser;
use fewstep::fitting::{self, FitInputs, FitSettings, FitTask, Phases, PlanSource};
use fewstep::forecast::Forecast;
use fewstep::models::{MIXTURES, OpenModel};
use fewstep::plans::euler;
use fewstep::reference::{ImageReference, ReferenceOptions};
use fewstep::reproduce::{self, Experiment, ReproduceInputs, ReproduceSettings, ReproduceTask};
use fewstep::runs::RunOptions;
use fewstep::sampling::{self, Destination, Sampling, Source};
use fewstep::training::{TrainSettings, TrainTask, train};
use fewstep_core::denoiser::Counting;
use fewstep_core::observe::Silent;
use fewstep_core::schedule::karras;
use fewstep_io::{Dataset, dataset, png};
use fewstep_nn::data::Images;
use fewstep_nn::tch::Device;
use fewstep_nn::{Network, Ranks, mixture};
use fewstep_search::SearchSettings;

/// A mixture that counts, as a caller's own denoiser.
fn counting() -> (Rc<Counting<Network>>, OpenModel) {
    let mixture = mixture::patterns(true, Device::Cpu).unwrap().with_identity("patterns");
    let counting = Rc::new(Counting::new(Network::new(mixture)));
    let opened = OpenModel::of(Box::new(Rc::clone(&counting)), MIXTURES[1]).unwrap();
    (counting, opened)
}

fn images(opened: &OpenModel) -> Images {
    Images::for_model(assets::test_images().unwrap().load_all().unwrap(), opened.denoiser()).unwrap()
}

fn references(opened: &OpenModel) -> Vec<ImageReference> {
    let options = ReferenceOptions { pad_to: None, batch: 16 };
    ImageReference::open_all(opened, &[], &[], options, &Silent).unwrap()
}

fn search() -> SearchSettings {
    let mut search = SearchSettings::default();
    search.teacher.samples = 8;
    search.teacher.grid = 11;
    (search.gits.samples, search.gits.grid) = (8, 11);
    search.least_squares.samples = 8;
    search.gauss_newton.samples = 8;
    search.moments.control = 128;
    search
}

fn run(folder: &Path, name: &str) -> RunOptions {
    RunOptions { out: folder.join(name), resume: false, command: Vec::new(), ranks: Ranks::alone() }
}

/// A search's own loops end early on some denoisers: what it takes is forecast to a quarter, and all else to the evaluation.
fn check(what: &str, forecast: &Forecast, took: u64, searched: bool) {
    let ratio = forecast.work() as f64 / took as f64;
    let as_forecast = if searched { (0.75..1.25).contains(&ratio) } else { forecast.work() == took };
    assert!(as_forecast, "{what} took {took}: {forecast:?}");
}

#[test]
fn plans() {
    let folder = tempfile::tempdir().unwrap();
    for (method, optimiser) in [
        ("karras/ipndm4", PaperOptimiser::Table),
        ("bound/euler", PaperOptimiser::Table),
        ("paper", PaperOptimiser::Table),
        ("paper", PaperOptimiser::Adam),
        ("least-squares", PaperOptimiser::Table),
        ("least-squares+gauss-newton+moments", PaperOptimiser::Table),
    ] {
        let (counting, opened) = counting();
        let images = images(&opened);
        let mut settings = FitSettings { search: search(), early_stop: false, ..FitSettings::default() };
        settings.held_out.samples = 6;
        settings.paper.optimiser = optimiser;
        (settings.paper.grid, settings.paper.table_images) = (12, 10);
        (settings.paper.iterations, settings.paper.check_every, settings.paper.batch) = (3, 2, 4);
        let method: PlanSource = method.parse().unwrap();
        let task = FitTask {
            phases: Phases::Plan,
            model: opened.id("f32"),
            data: None,
            features: None,
            references: Vec::new(),
            method,
            plans: Vec::new(),
            steps: vec![3, 5],
            rounds: 1,
            settings,
        };
        let (what, forecast) = (format!("{} {optimiser:?}", task.method), fitting::forecast(&task, &opened).unwrap());
        let searched = matches!(&task.method, PlanSource::Method(method) if method.needs_teacher());
        let inputs = FitInputs { model: &opened, images: Some(&images), features: None, references: &[], plans: &[] };
        assert_eq!(counting.cost().evaluations, 0);
        fitting::fit(task, &inputs, &run(folder.path(), &what.replace(['/', ' '], "-")), &Silent).unwrap();
        check(&what, &forecast, counting.cost().evaluations, searched);
    }
}

#[test]
fn comparisons_with_images_and_without() {
    let folder = tempfile::tempdir().unwrap();
    for (name, methods, scored) in [
        ("scored", "karras/heun,bound/euler", true),
        ("errors", "karras/euler,bound/ipndm4", false),
        ("searched", "karras/euler,gits@1.15/euler,least-squares", true),
    ] {
        let (counting, opened) = counting();
        let references = if scored { references(&opened) } else { Vec::new() };
        let subject = Subject { model: opened, precision: "f32".to_owned(), batch: 16, references, data: None };
        let subject = subject.with_data(&assets::test_images().unwrap()).unwrap();
        let mut settings = CompareSettings {
            images: 20,
            ranges: 2,
            held_out: 6,
            table_images: 10,
            search: search(),
            ..CompareSettings::default()
        };
        settings.teacher_steps = 4;
        let methods: Vec<_> = methods.split(',').map(|method| method.parse().unwrap()).collect();
        let subjects = [subject];
        let task = CompareTask::new(&subjects, &methods, &[], &[3, 5], &settings).unwrap();
        let forecast = compare::forecast(&task, &subjects).unwrap();
        compare::compare(task, &subjects, &[], &run(folder.path(), name), &Silent).unwrap();
        check(name, &forecast, counting.cost().evaluations, name == "searched");
    }
}

/// A table of as many images as there are.
#[test]
fn a_comparison_takes_no_more_images_than_there_are() {
    let folder = tempfile::tempdir().unwrap();
    let (counting, opened) = counting();
    let pixels = (0..12 * 32 * 32).map(|at| (at % 251) as u8).collect();
    let images = dataset::Images::new(pixels, 1, 32, 32, Some((0..12).map(|n| n % 10).collect())).unwrap();
    let images = Images::for_model(images, opened.denoiser()).unwrap();
    let id = DataId { name: "few".to_owned(), sha256: "0".to_owned(), images: 12 };
    let subject = Subject {
        model: opened,
        precision: "f32".to_owned(),
        batch: 16,
        references: Vec::new(),
        data: Some((images, id)),
    };
    let settings = CompareSettings { held_out: 2, search: search(), ..CompareSettings::default() };
    let subjects = [subject];
    let task = CompareTask::new(&subjects, &["bound/euler".parse().unwrap()], &[], &[3], &settings).unwrap();
    let forecast = compare::forecast(&task, &subjects).unwrap();
    compare::compare(task, &subjects, &[], &run(folder.path(), "c"), &Silent).unwrap();
    check("bound", &forecast, counting.cost().evaluations, false);
}

#[test]
fn demos_and_experiments() {
    let folder = tempfile::tempdir().unwrap();
    let (counting, opened) = counting();
    let mut task = DemoTask::new(opened.id("f32"), vec![3, 5], 10, 3);
    task.settings.search = search();
    let forecast = demo::forecast(&task, &opened).unwrap();
    demo::demo(task, &opened, &run(folder.path(), "demo"), &Silent).unwrap();
    check("demo", &forecast, counting.cost().evaluations, true);

    let images = images(&opened);
    let mut settings = ReproduceSettings::default();
    settings.seeds.images = 10;
    settings.seeds.ranges = 2;
    settings.fit.search = search();
    (settings.fit.held_out.samples, settings.fit.paper.batch) = (6, 4);
    settings.set_level_updates(3);
    let experiment = |experiment, ours| ReproduceTask {
        experiment,
        steps: vec![3, 5],
        ours,
        only: Vec::new(),
        model: opened.id("f32"),
        data: None,
        references: Vec::new(),
        settings: settings.clone(),
    };
    for (name, task, scored) in [
        ("objectives", experiment(Experiment::Objectives, false), false),
        ("levels", experiment(Experiment::Fig3, false), false),
        ("rows", experiment(Experiment::Table1, false), false),
        ("scored", experiment(Experiment::Table1, false), true),
        ("ours", experiment(Experiment::Table1, true), true),
    ] {
        let references = if scored { references(&opened) } else { Vec::new() };
        let mut task = task.for_model(&opened, &Silent);
        task.references = references.iter().map(ImageReference::id).collect();
        let (forecast, before) = (reproduce::forecast(&task, opened.spec()).unwrap(), counting.cost().evaluations);
        let inputs = ReproduceInputs { model: &opened, images: Some(&images), references: &references };
        reproduce::reproduce(task, &inputs, &run(folder.path(), name), &Silent).unwrap();
        check(name, &forecast, counting.cost().evaluations - before, name == "ours");
    }
}

#[test]
fn samples() {
    let (counting, opened) = counting();
    let folder = tempfile::tempdir().unwrap();
    let plan = euler(&karras(4, 0.01, 50.0, 7.0).unwrap()).unwrap();
    let source = Source::seeds((0..5).collect(), None, opened.spec()).unwrap();
    let sampling =
        Sampling { denoiser: opened.denoiser(), model: opened.id("f32"), plan: &plan, source: &source, batch: 2 };
    let destination = Destination::Arrays { path: folder.path().join("a.npz"), overwrite: true, raw: true };
    sampling::sample(&sampling, &destination, &Silent).unwrap();
    check("sample", &sampling.forecast().unwrap(), counting.cost().evaluations, false);
}

/// Grids between updates and at the end, of batches that do not divide the images.
#[test]
fn trainings() {
    let folder = tempfile::tempdir().unwrap();
    let pictures = folder.path().join("pictures");
    std::fs::create_dir(&pictures).unwrap();
    for index in 0..12u8 {
        let pixels: Vec<u8> = (0..64u8).map(|at| at.wrapping_mul(index)).collect();
        png::write(pictures.join(format!("{index}.png")), &pixels, 1, 8, 8).unwrap();
    }
    let data = Dataset::open(&pictures).unwrap();
    for (images, every) in [(20, 9), (8, 0)] {
        let mut settings = TrainSettings::default();
        (settings.network.channels, settings.network.channel_mult) = (8, vec![1]);
        (settings.network.blocks, settings.network.attention) = (1, Vec::new());
        (settings.training.images, settings.training.batch) = (images, 8);
        settings.output.grid_every = Some(every);
        let task = TrainTask::new(&data, settings, "f32").unwrap();
        let json = serde_json::to_value(task.forecast().unwrap()).unwrap();
        let part = |what: &str| {
            let parts = json["parts"].as_array().unwrap().iter();
            parts.filter(|part| part["what"] == what).map(|part| part["evaluations"].as_u64().unwrap()).sum::<u64>()
        };
        let options = run(folder.path(), &format!("{images}-{every}"));
        let trained = train(task, &data, Device::Cpu, &options, &Silent).unwrap();
        let grids = std::fs::read_dir(options.out.join("samples")).map_or(0, |grids| grids.count() as u64);
        assert_eq!((part("training images"), part("sample grids")), (trained.images_seen, grids * 64 * 35));
    }
}

/// Caches and resumed runs could not tell it from others.
#[test]
fn a_denoiser_without_an_identity_is_no_model() {
    let mixture = mixture::patterns(false, Device::Cpu).unwrap();
    assert!(OpenModel::of(Box::new(mixture), "mine").unwrap_err().to_string().contains("identity"));
}
