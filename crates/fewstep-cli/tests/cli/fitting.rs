//! `plan`, `tune` and `fit`: both phases, their files, resume.

use fewstep_io::npz;
use fewstep_io::tensors::TensorData;

use crate::support::Place;

/// Settings of quick fits.
pub const QUICK: [&str; 11] = [
    "held_out.samples=2",
    "held_out.teacher_steps=3",
    "tune.batch=4",
    "tune.check_every=2",
    "paper.grid=7",
    "paper.table_images=4",
    "paper.iterations=4",
    "paper.batch=4",
    "paper.check_every=2",
    "search.teacher.samples=4",
    "search.teacher.grid=7",
];

/// `--settings` of a file with these settings, which may be for other methods than the one that is run.
pub fn settings_file(place: &Place, name: &str, settings: &[&str]) -> [String; 2] {
    std::fs::write(place.path(name), settings.join("\n")).unwrap();
    ["--settings".to_owned(), name.to_owned()]
}

/// A quick fit by the paper's loss; settings that are asked for one by one must change something.
pub fn fit<'a>(out: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let first = ["fit", "model.safetensors", "--data", "images", "--out", out, "--steps", "3,4", "--json"];
    let tuning = ["--loss", "bound", "--updates", "4", "--lr", "0.001", "--settings", "quick.toml"];
    // what is given again takes the place of what stands here
    let replaced = |option: &str| option.starts_with("--") && more.contains(&option);
    let pairs = tuning.chunks(2).filter(|pair| !replaced(pair[0])).flatten();
    first.iter().chain(pairs).chain(more).copied().collect()
}

pub fn place() -> Place {
    let place = Place::with_model();
    place.save_images("images", 1, 8, 24);
    settings_file(&place, "quick.toml", &QUICK);
    place
}

#[test]
fn both_phases_leave_a_plan_and_a_network_for_every_number_of_steps() {
    let place = place();
    let outcomes: serde_json::Value = serde_json::from_str(&place.succeeds(&fit("run", &[]))).unwrap();
    for (index, steps) in [3, 4].into_iter().enumerate() {
        let outcome = &outcomes[index];
        assert_eq!(outcome["steps"], steps);
        assert_eq!(outcome["phases"].as_array().unwrap().len(), 2);
        let plan = format!("run/steps-{steps:03}/plan.json");
        let model = format!("run/steps-{steps:03}/model.safetensors");
        let grid = format!("{steps}.png");
        // where tuning bought nothing the network stays untuned
        let model = if outcome["model"].is_string() { model.as_str() } else { "model.safetensors" };
        assert_eq!(
            place.path(&format!("run/steps-{steps:03}/model.safetensors")).exists(),
            outcome["model"].is_string()
        );
        let args = ["sample", model, "--plan", &plan, "--seeds", "0-3", "--out", &grid];
        assert_eq!(place.json(&args)["nfe"], steps);
    }
    // What a tuned network is worth under the other plan, and the same in the report.
    for (index, other) in [4, 3].into_iter().enumerate() {
        let cross = outcomes[index]["cross_plan"].as_array().unwrap();
        let tuned = outcomes[index]["model"].is_string();
        assert_eq!(cross.len(), usize::from(tuned));
        for scored in cross {
            assert_eq!(scored["steps"], other);
            assert!(scored["tuned"].as_f64().unwrap() > 0.0 && scored["untuned"].as_f64().unwrap() > 0.0);
        }
    }
    // What is kept is never worse than where it started.
    for outcome in outcomes.as_array().unwrap() {
        let baseline = outcome["baseline"].as_f64().unwrap();
        let kept = outcome["phases"].as_array().unwrap().iter().filter(|phase| phase["kept"] == true);
        assert!(kept.map(|phase| phase["rollout_error"].as_f64().unwrap()).all(|error| error <= baseline));
    }
}

#[test]
fn every_objective_and_choice_of_phase_1_runs() {
    let place = place();
    place.succeeds(&["features", "--data", "images", "--out", "features.safetensors", "--epochs", "1", "--batch", "9"]);
    let features = ["--features", "features.safetensors", "--set", "tune.distance=features"];
    let rollout = ["--loss", "rollout", "--set", "tune.trajectories=8"];
    let first =
        ["--set", "tune.lr_schedule=cosine", "--set", "tune.data_weight=0.5", "--set", "tune.step_weights=equal"];
    let on_features = [&rollout[..], &features, &first].concat();
    let critic = ["--set", "tune.critic_weight=0.1", "--set"];
    let by_step = [&rollout[..], &features, &critic, &["tune.gradient=step"]].concat();
    let last = ["tune.gradient=through", "--set", "tune.critic_of=data", "--set", "tune.xflip=true"];
    let by_data = [&rollout[..], &critic, &last].concat();
    let paper = |objective: &'static str| ["--method", "paper", "--set", objective];
    let shared = [&paper("paper.objective=discretization")[..], &["--set", "paper.noise=shared"]].concat();
    let joint = ["--set", "paper.gamma=0.5", "--set", "paper.scale=linear"];
    let joint = [&paper("paper.objective=joint")[..], &joint].concat();
    let adam = [&paper("paper.optimiser=adam")[..], &["--set", "early_stop=false"]].concat();
    let table = [&paper("paper.optimiser=table")[..], &["--rounds", "2"]].concat();
    let choices: [&[&str]; 10] = [
        &shared,
        &joint,
        &adam,
        &table,
        &["--loss", "edm"],
        &["--method", "bound/dpmpp2m", "--rounds", "2"],
        &["--rounds", "2", "--set", "early_stop=false"],
        &on_features,
        &by_step,
        &by_data,
    ];
    for (index, choice) in choices.iter().enumerate() {
        let out = format!("run-{index}");
        place.succeeds(&fit(&out, choice));
    }
    let plans: [&[&str]; 3] = [
        &["--method", "local/ipndm4"],
        &["--method", "least-squares+gauss-newton", "--set", "search.least_squares.robust=true"],
        &[
            "--method",
            "least-squares+rollout",
            "--features",
            "features.safetensors",
            "--set",
            "search.rollout.loss=features",
        ],
    ];
    for (index, choice) in plans.iter().enumerate() {
        let out = format!("plans-{index}");
        let first = ["plan", "model.safetensors", "--steps", "3,4", "--settings", "quick.toml", "--out", &out];
        place.succeeds(&[&first, *choice].concat());
    }
    let without_stop = std::fs::read_to_string(place.path("run-2/steps-003/round-1-phase-1.json")).unwrap();
    let learned: serde_json::Value = serde_json::from_str(&without_stop).unwrap();
    assert_eq!(learned["steps"].as_array().unwrap().len(), 4);
    // Without early stopping the last levels are the outcome.
    assert_eq!(learned["plan"]["schedule"], learned["steps"][3]["sigmas"]);
}

#[test]
fn a_finished_part_is_not_done_again() {
    let place = place();
    let first = place.succeeds(&fit("run", &[]));
    std::fs::remove_file(place.path("run/steps-004/round-1-phase-2.json")).unwrap();
    let before = std::fs::metadata(place.path("run/steps-003/round-1-phase-1.json")).unwrap().modified().unwrap();
    let second = place.succeeds(&fit("run", &["--resume"]));
    assert_eq!(first, second);
    let after = std::fs::metadata(place.path("run/steps-003/round-1-phase-1.json")).unwrap().modified().unwrap();
    assert_eq!(before, after);
    let other = place.run(&fit("run", &["--resume", "--rounds", "2"]));
    assert!(other.code == 1 && other.stderr.contains("rounds 2 (was 1)"), "{}", other.stderr);
}

/// The search needs the network alone: no data, one teacher for all numbers of steps, kept for the next run.
#[test]
fn plans_need_no_data() {
    let place = place();
    let plan = |model: &'static str, steps: &'static str, out: &'static str| {
        vec!["plan", model, "--steps", steps, "--settings", "quick.toml", "--out", out]
    };
    place.succeeds(&plan("model.safetensors", "2,3,5", "run"));
    let found = place.read_json("run/steps-003/plan.json");
    assert_eq!((&found["nfe"], &found["solver"]), (&serde_json::json!(3), &serde_json::json!("least_squares")));
    assert_eq!(found["metadata"]["found_by"]["method"], "least-squares+gauss-newton+moments");
    let told = place.json(&["info", "run/steps-003/plan.json"]);
    assert_eq!(told[0]["nfe"], 3);
    // paths are those inside the folder, wherever it goes
    std::fs::rename(place.path("run"), place.path("moved")).unwrap();
    let outcomes = place.read_json("moved/fit.json");
    assert!(place.path("moved").join(outcomes[0]["plan"].as_str().unwrap()).exists(), "{outcomes}");
    std::fs::remove_dir_all(place.path("moved/steps-005")).unwrap();
    place.succeeds(&[plan("model.safetensors", "2,3,5", "moved"), vec!["--resume"]].concat());

    // nor does tuning by rollout, for plans that there are
    let tuning = ["--updates", "3", "--set", "tune.trajectories=6", "--set", "tune.batch=12"];
    let more = ["--set", "tune.check_every=1", "--set", "early_stop=false", "--settings", "quick.toml"];
    let first = ["tune", "model.safetensors", "--plan", "moved/steps-003/plan.json", "--out", "tuned"];
    let outcome = place.json(&[&first[..], &tuning, &more].concat());
    assert_eq!((&outcome[0]["phases"][0]["phase"], &outcome[0]["steps"]), (&2.into(), &3.into()));
    assert_eq!(outcome[0]["baseline_name"], "the plan given");
    // with no other plan to try it on, the tuned network is tried on one that anybody might sample with
    let cross = outcome[0]["cross_plan"].as_array().unwrap();
    assert_eq!(cross.len(), 1);
    assert_eq!((&cross[0]["steps"], &cross[0]["solver"]), (&6.into(), &"dpmpp3m on rho = 7".into()));
    assert!(cross[0]["tuned"].as_f64().unwrap() > 0.0 && cross[0]["untuned"].as_f64().unwrap() > 0.0);
    let run = place.read_json("tuned/run.json");
    assert_eq!(run["kind"], "tune");
    let tune = &run["task"]["settings"]["tune"];
    assert_eq!((&tune["critic_weight"], &tune["critic_of"]), (&0.3.into(), &"auto".into()), "{run}");
    assert!(place.path("tuned/steps-003/round-1-phase-2.safetensors").exists());
    assert!(!place.path("tuned/steps-003/round-1-phase-2-trajectories.safetensors").exists());
    // the folder of `plan` names all its plans
    let all = ["tune", "model.safetensors", "--plan", "moved", "--out", "new", "--dry-run"];
    let small = ["--settings", "quick.toml", "--set", "tune.trajectories=60"];
    let cost = place.json(&[&all[..], &small].concat());
    assert_eq!(cost["settings"]["steps"], serde_json::json!([2, 3, 5]), "{cost}");

    // a plan that phase 2 cannot take is refused before anything is done
    let heun = ["plan", "model.safetensors", "--steps", "3", "--method", "karras/heun", "--out", "heun"];
    place.succeeds(&[&heun[..], &["--set", "held_out.samples=4", "--set", "early_stop=false"]].concat());
    let error = place.fails(&["tune", "model.safetensors", "--plan", "heun", "--out", "new", "--dry-run"]);
    assert!(error.contains("heun/steps-003/plan.json") && error.contains("noise levels fall"), "{error}");

    for (args, wanted) in [
        (&["tune", "model.safetensors", "--loss", "bound", "--out", "new"][..], "--data"),
        (&["plan", "model.safetensors", "--method", "paper", "--out", "new"], "--data"),
    ] {
        let error = place.fails(args);
        assert!(error.contains(wanted), "{error}");
    }
}

#[test]
fn moments_of_images_draw_a_plan() {
    let place = place();
    let images = |name: &str, count: usize, pixel: fn(usize) -> u8| {
        let pixels = (0..count * 64).map(pixel).collect::<Vec<_>>();
        place.save_npz(name, vec![("images", TensorData::from_u8(&[count, 1, 8, 8], &pixels).unwrap())]);
    };
    let loud = |i: usize| if i * i * 7 % 31 < 15 { 255 } else { 0 };
    images("loud.npz", 40, loud);
    images("flat.npz", 40, |_| 128);
    let spread = |data: &str| {
        let out = format!("{data}-plans");
        let first = ["plan", "model.safetensors", "--steps", "3", "--data", data, "--out", &out];
        let method = ["--method", "karras+data-moments", "--set", "search.moments.data_error_weight=0"];
        let small = ["--set", "search.moments.control=128", "--set", "search.teacher.samples=8"];
        let more = ["--set", "held_out.samples=2", "--set", "held_out.teacher_steps=3", "--set", "early_stop=false"];
        let grid = ["--set", "search.teacher.grid=8"];
        place.succeeds(&[&first[..], &method, &small, &more, &grid].concat());
        let plan = format!("{out}/steps-003/plan.json");
        assert_eq!(place.read_json(&plan)["metadata"]["found_by"]["method"], "karras/euler+data-moments");
        let out = data.replace(".npz", "-images.npz");
        place.succeeds(&["sample", "model.safetensors", "--plan", &plan, "--out", &out, "--set", "output.raw=true"]);
        let images = npz::read(place.path(&out)).unwrap()["images"].to_f64();
        (images.iter().map(|value| value * value).sum::<f64>() / images.len() as f64).sqrt()
    };
    let (flat, loud) = (spread("flat.npz"), spread("loud.npz"));
    assert!(loud > 1.2 * flat, "{flat} and {loud}");

    let error = place.fails(&["plan", "model.safetensors", "--out", "new", "--method", "karras+data-moments"]);
    assert!(error.contains("--data"), "{error}");
}

/// Quick fits of the mixture by rollout.
fn on_mixture(out: &'static str, more: &[&'static str]) -> Vec<&'static str> {
    let args = ["fit", "gaussian-mixture", "--out", out, "--set", "tune.batch=24", "--set", "tune.check_every=2"];
    let small = ["--set", "search.teacher.samples=8", "--set", "tune.trajectories=32", "--set", "held_out.samples=32"];
    [&args[..], &small, more].concat()
}

/// With something to score images by, a fit takes the interpolated network whose images come nearest.
#[test]
fn a_fit_interpolates_between_the_untuned_and_the_tuned_network() {
    let place = Place::new();
    place.save_images("images", 1, 32, 120);
    place.succeeds(&["features", "--data", "images", "--out", "features.safetensors", "--epochs", "1", "--batch", "9"]);
    place.succeeds(&["ref", "--data", "images", "--features", "features.safetensors", "--out", "ref.npz"]);
    let scored = ["--ref", "ref.npz", "--features", "features.safetensors", "--set", "interpolate.images=32"];
    let method = ["--data", "images", "--method", "karras+data-moments", "--rounds", "2"];
    let search = [&method[..], &["--set", "search.moments.control=128"]].concat();
    let more = [&scored[..], &search, &["--steps", "3,4", "--updates", "8", "--lr", "0.001"]].concat();
    let outcomes = place.json(&on_mixture("run", &more));
    let number = |value: &serde_json::Value| value.as_f64().unwrap();
    for outcome in outcomes.as_array().unwrap() {
        let phases = outcome["phases"].as_array().unwrap();
        let tunings: Vec<_> = phases.iter().filter(|phase| phase["phase"] == 2).collect();
        let rounds = outcome["interpolation"].as_array().unwrap();
        assert_eq!(rounds.len(), 2);
        for (points, phase) in rounds.iter().zip(tunings) {
            let points = points.as_array().unwrap();
            let alphas: Vec<f64> = points.iter().map(|point| number(&point["alpha"])).collect();
            // averages of 3 half-lives after 4 and 8 updates, and points on the way to the best of them
            assert_eq!(alphas, [0.0, 0.25, 0.5, 0.75, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]);
            let average = |at: usize| (&points[at]["average"]["updates"], &points[at]["average"]["halflife_images"]);
            let halflives = |updates: u64| {
                let of: Vec<f64> =
                    (4..10).map(average).filter(|(after, _)| **after == updates).map(|(_, of)| number(of)).collect();
                (of.len(), (of[1] / of[0]).round(), (of[2] / of[0]).round())
            };
            assert_eq!((halflives(4), halflives(8)), ((3, 5.0, 25.0), (3, 5.0, 25.0)));
            let nearest = points[4..].iter().min_by(|a, b| number(&a["frechet"]).total_cmp(&number(&b["frechet"])));
            assert!((1..4).all(|at| points[at]["average"] == nearest.unwrap()["average"]));
            let best =
                points[1..].iter().min_by(|a, b| number(&a["frechet"]).total_cmp(&number(&b["frechet"]))).unwrap();
            assert_eq!(best["rollout_error"], phase["rollout_error"]);
            assert_eq!(phase["kept"], number(&best["frechet"]) <= number(&points[0]["frechet"]));
        }
    }
    let table = place.succeeds(&on_mixture("run", &[&more[..], &["--resume"]].concat()));
    assert!(table.contains("alpha") && table.contains("0.75"), "{table}");
    let page = std::fs::read_to_string(place.path("run/report.html")).unwrap();
    assert!(page.contains("Between the untuned and the tuned network"));
    let cost = place.json(&on_mixture("new", &[&more[..], &["--dry-run"]].concat()));
    let parts = cost["parts"].as_array().unwrap();
    let part = |name: &str| parts.iter().find(|part| part["what"] == name).unwrap()["evaluations"].as_u64().unwrap();
    // 2 rounds of 10 networks, 32 images and 32 held out, all but one matched with 8 latents, 3 and 4 evaluations
    assert_eq!(part("interpolation between the untuned and the tuned network"), 2 * (10 * 64 + 9 * 8) * 7);

    // the plan for a tuned network is the same where a fit that was stopped goes on: it does not search again
    let plan = place.path("run/steps-004/plan.json");
    let before = std::fs::read_to_string(&plan).unwrap();
    for file in ["round-1-phase-2.json", "round-2-phase-1.json", "round-2-phase-2.json"] {
        std::fs::remove_file(place.path("run/steps-004").join(file)).unwrap();
    }
    place.succeeds(&on_mixture("run", &[&more[..], &["--resume"]].concat()));
    assert_eq!(std::fs::read_to_string(plan).unwrap(), before);

    let error = place.fails(&on_mixture("new", &[&scored[..4], &["--set", "interpolate.images=1"]].concat()));
    assert!(error.contains("interpolate.images"), "{error}");
    let alone = place.run(&on_mixture("new", &scored[..2]));
    assert!(alone.code == 2 && alone.stderr.contains("--features"), "{}", alone.stderr);
    let refined = ["--method", "karras+rollout", "--set", "search.rollout.loss=features"];
    for idle in [&["--set", "early_stop=false"][..], &["--set", "tune.distance=features"], &refined] {
        let error = place.fails(&on_mixture("new", &[&scored[..], idle].concat()));
        assert!(error.contains("--ref chooses among networks between"), "{error}");
    }
    // a reference that does not fit shows before anything is made
    let (mu, sigma) = ([0.0, 1.0], [1.0, 0.0, 0.0, 1.0]);
    let arrays = vec![
        ("mu", TensorData::from_f64(&[2], &mu).unwrap()),
        ("sigma", TensorData::from_f64(&[2, 2], &sigma).unwrap()),
    ];
    place.save_npz("other.npz", arrays);
    let error = place.fails(&on_mixture("new", &["--ref", "other.npz", "--features", "features.safetensors"]));
    assert!(error.contains("other.npz are of 2 features") && !place.path("new").exists(), "{error}");
}

/// The paper's levels: what images prefer between rho = 7 and the learned ones, without a network that is tuned.
#[test]
fn images_choose_levels_of_the_paper() {
    let place = Place::new();
    place.save_images("images", 1, 32, 120);
    let plan = |out: &'static str, more: &[&'static str]| {
        let small = ["plan", "gaussian-mixture", "--data", "images", "--method", "paper", "--steps", "4", "--out", out];
        let settings = [
            "--set",
            "paper.objective=discretization",
            "--set",
            "paper.iterations=20",
            "--set",
            "held_out.samples=32",
            "--set",
            "interpolate.images=64",
        ];
        [&small[..], &settings, more].concat()
    };
    let found = place.json(&plan("run", &[]));
    let points = found[0]["levels"][0].as_array().unwrap();
    let alphas: Vec<f64> = points.iter().map(|point| point["alpha"].as_f64().unwrap()).collect();
    assert_eq!(alphas, [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]);
    let frechet = |point: &&serde_json::Value| point["frechet"].as_f64().unwrap();
    let best = points.iter().min_by(|a, b| frechet(a).total_cmp(&frechet(b))).unwrap();
    assert_eq!(best["rollout_error"], found[0]["phases"][0]["rollout_error"]);
    let page = std::fs::read_to_string(place.path("run/report.html")).unwrap();
    assert!(page.contains("Levels between those that phase 1 began with"), "{page}");
    // none to choose by: the rollout error chooses
    let without = place.json(&plan("without", &["--set", "interpolate.images=0"]));
    assert_eq!(without[0]["levels"], serde_json::json!([[]]));
    let cost = place.json(&plan("new", &["--dry-run"]));
    let parts = cost["parts"].as_array().unwrap();
    let part = parts.iter().find(|part| part["what"] == "interpolation between the first and the learned levels");
    // 6 schedules, 64 images and 32 held out
    assert_eq!(part.unwrap()["evaluations"], 6 * 96 * 4);
}

/// A built-in model has its own reference, and stays as it was where no interpolated network is nearer.
#[test]
fn built_in_models_interpolate_by_themselves() {
    let place = Place::new();
    let small = ["--steps", "3", "--method", "least-squares", "--set", "interpolate.images=96"];
    let fit = |out, more: &[&'static str]| place.json(&on_mixture(out, &[&small[..], more].concat()));
    let tuned = fit("tuned", &["--updates", "8", "--lr", "0.001"]);
    assert_eq!(tuned[0]["interpolation"][0].as_array().unwrap().len(), 10);
    let run = std::fs::read_to_string(place.path("tuned/run.json")).unwrap();
    let run: serde_json::Value = serde_json::from_str(&run).unwrap();
    assert!(run["task"]["references"][0]["reference"].as_str().unwrap().contains("exact samples"));
    // so long steps that nothing is kept of them
    let untuned = fit("untuned", &["--updates", "6", "--lr", "10", "--set", "tune.ema_images=1"]);
    assert_eq!(untuned[0]["phases"][1]["kept"], false);
    assert!(untuned[0]["model"].is_null());
}

/// The example as it is shown; its `main` is for `cargo run`.
#[path = "../../../fewstep/examples/few_steps.rs"]
#[expect(dead_code)]
mod few_steps;

/// The library and the command line are two doors to one house: the same plan, to the bit.
#[test]
fn the_library_finds_the_plans_of_the_command_line() {
    fewstep_nn::device::set_threads(1); // as these tests run the program: sums depend on it
    let place = Place::new();
    place.succeeds(&["plan", "gaussian-mixture-classes", "--steps", "3,5", "--out", "run"]);
    let found = few_steps::plans("gaussian-mixture-classes", &[3, 5]).unwrap();
    assert_eq!(found.plans.len(), 2);
    for (steps, ours) in &found.plans {
        let text = std::fs::read_to_string(place.path(&format!("run/steps-{steps:03}/plan.json"))).unwrap();
        let theirs = fewstep_core::Plan::from_json(&text).unwrap();
        assert_eq!((&ours.stages, &ours.output, &ours.constant), (&theirs.stages, &theirs.output, &theirs.constant));
    }
}

/// Samples that are no images are fitted, measured and reported, and nothing of them is drawn.
#[test]
fn models_of_two_and_four_channels_are_fitted_whole() {
    let place = Place::new();
    for (channels, out) in [(2, "two"), (4, "four")] {
        place.save_model("latents.safetensors", channels, 0);
        let small =
            ["--set", "search.teacher.samples=8", "--set", "search.teacher.grid=7", "--set", "held_out.samples=4"];
        let tuning = ["--updates", "2", "--set", "tune.trajectories=8", "--set", "tune.batch=4"];
        let fit = [&["fit", "latents.safetensors", "--steps", "3", "--out", out][..], &small, &tuning].concat();
        let forecast = place.json(&[&fit[..], &["--dry-run"]].concat());
        let images = |part: &&serde_json::Value| part["what"] == "images of the report";
        let drawn = forecast["parts"].as_array().unwrap().iter().find(images).map(|part| part["evaluations"].clone());
        assert!(drawn.is_none_or(|drawn| drawn == 0), "{forecast}");
        place.succeeds(&fit);
        let page = std::fs::read_to_string(place.path(&format!("{out}/report.html"))).unwrap();
        assert!(page.contains("ollout error") && !page.contains("data:image/png"));
        let plan = format!("{out}/steps-003/plan.json");
        place.succeeds(&[
            "sample",
            "latents.safetensors",
            "--plan",
            &plan,
            "--seeds",
            "0-1",
            "--out",
            &format!("{out}.npz"),
        ]);
    }
}

/// A folder that a run cannot have is refused before feature networks and references are opened, which may have to see a whole data set.
#[test]
fn the_folder_is_looked_at_before_references_are_made() {
    let place = Place::new();
    for (folder, run) in [("full", "notes.txt"), ("other", "run.json")] {
        std::fs::create_dir(place.path(folder)).unwrap();
        std::fs::write(place.path(folder).join(run), r#"{ "kind": "train" }"#).unwrap();
    }
    let commands: [&[&str]; 3] = [
        &["fit", "gaussian-mixture"],
        &["compare", "gaussian-mixture", "--methods", "karras/euler"],
        &["reproduce", "gaussian-mixture", "--rows", "baseline"],
    ];
    for command in commands {
        let to = |out: &str, more: &[&str]| {
            let references = ["--ref", "none.npz", "--features", "none.safetensors", "--out", out];
            place.fails(&[command, &references, more].concat())
        };
        let error = to("full", &[]);
        assert!(error.contains("run folder full already holds files: pass --resume"), "{command:?}: {error}");
        for (out, says) in [("full", "not a run folder"), ("new", "not a run folder"), ("other", "`fewstep train`")] {
            let error = to(out, &["--resume"]);
            assert!(error.contains(says), "{command:?} {out}: {error}");
        }
        assert!(to("new", &[]).contains("none.safetensors"), "{command:?}");
    }
}

/// What a round chose by some images, the next one scores by others: on the same ones it would look nearer than it is.
#[test]
fn every_round_chooses_by_images_of_its_own() {
    let place = Place::new();
    let method = ["--steps", "3", "--method", "karras/euler", "--rounds", "2", "--set", "interpolate.images=32"];
    let found = place.json(&on_mixture("run", &[&method[..], &["--updates", "2", "--lr", "0.001"]].concat()));
    let distances = |round: usize| -> Vec<f64> {
        let points = found[0]["interpolation"][round].as_array().unwrap();
        points.iter().map(|point| point["frechet"].as_f64().unwrap()).collect()
    };
    // the network that the second round begins with is one that the first has scored, be it the tuned one or not
    let (first, second) = (distances(0), distances(1));
    assert!(!first.contains(&second[0]), "{first:?} {second:?}");
}
