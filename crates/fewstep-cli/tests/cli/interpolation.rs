//! Images choose between what a phase began with and what it learned: networks, and levels of the paper.

use fewstep_io::tensors::TensorData;

use crate::support::Place;

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
