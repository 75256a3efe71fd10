//! Every architecture and parameterisation that EDM's checkpoints come in, through train, fit, sample and compare.

use crate::support::Place;

/// A tiny class-conditional network, trained on a few colour images, with a feature network and a reference.
fn place(arch: &str, parameterisation: &str) -> Place {
    let place = Place::new();
    place.save_images("data", 3, 8, 24);
    let network = ["--channels", "8", "--channel-mult", "1,2", "--blocks", "1", "--attention", "4"];
    let training = ["--images", "32", "--batch", "8", "--augment", "0"];
    let settings = ["--set", "network.dropout=0", "--set", "output.grid_every=0", "--set", "training.rampup_images=16"];
    let kind = ["train", "--data", "data", "--out", "trained", "--cond", "--arch", arch, "--precond", parameterisation];
    place.succeeds(&[&kind[..], &network, &training, &settings].concat());
    place.succeeds(&["features", "--data", "data", "--out", "features.safetensors", "--epochs", "1", "--batch", "9"]);
    place.succeeds(&["ref", "--data", "data", "--out", "ref.npz", "--features", "features.safetensors"]);
    place
}

fn goes_through(arch: &str, parameterisation: &str) {
    let place = place(arch, parameterisation);
    let levels = |plan: &str| {
        let info = place.json(&["info", plan]);
        let sigmas = info[0]["schedule"].as_array().unwrap_or_else(|| panic!("{info}")).clone();
        sigmas.into_iter().map(|sigma| sigma.as_f64().unwrap()).collect::<Vec<_>>()
    };
    // both phases, the paper's way and ours
    crate::fitting::settings_file(
        &place,
        "quick.toml",
        &[
            "early_stop=false",
            "held_out.samples=3",
            "held_out.teacher_steps=4",
            "search.teacher.samples=4",
            "search.teacher.grid=7",
            "tune.batch=6",
            "tune.check_every=2",
            "tune.trajectories=6",
            "paper.grid=9",
            "paper.table_images=4",
        ],
    );
    let paper = ["--method", "paper", "--loss", "bound"];
    for (out, way) in [("paper", &paper), ("ours", &["--method", "least-squares", "--loss", "rollout"])] {
        let asked = ["fit", "trained/model.safetensors", "--data", "data", "--out", out, "--steps", "3"];
        let quick = ["--updates", "3", "--settings", "quick.toml"];
        let run = place.json(&[&asked[..], way, &quick].concat());
        let phases = run[0]["phases"].as_array().unwrap();
        assert_eq!(phases.len(), 2, "{run}");
        assert!(phases.iter().all(|phase| phase["rollout_error"].as_f64().is_some_and(f64::is_finite)), "{run}");
        let (plan, model) = (format!("{out}/steps-003/plan.json"), format!("{out}/steps-003/model.safetensors"));
        let images = format!("{out}.npz");
        let sampled = ["sample", &model, "--plan", &plan, "--seeds", "0-3", "--class", "1", "--out", &images];
        assert_eq!(place.json(&sampled)["nfe"], 3);
        // the network must know every level
        let range = place.json(&["info", "trained/model.safetensors"]);
        let [low, high] = [0, 1].map(|end| range[0]["noise_levels"][end].as_f64().unwrap());
        // iDDPM's own levels lie a little beside what is asked for
        let inside = |sigma: f64| (low * 0.99..=high * 1.01).contains(&sigma);
        assert!(levels(&plan).into_iter().all(inside), "{:?} {range}", levels(&plan));
    }
    let scored = ["--ref", "ref.npz", "--features", "features.safetensors", "--images", "6", "--steps", "3"];
    let methods = [
        "--methods",
        "least-squares,karras/euler,gits/ipndm4,bound/euler,least-squares+rollout,least-squares+gauss-newton+moments",
    ];
    let quick = [
        "held_out=3",
        "teacher_steps=4",
        "search.teacher.samples=4",
        "search.teacher.grid=7",
        "search.gits={samples=4,grid=7}",
        "table_images=4",
        "search.rollout.steps=2",
    ];
    let quick: Vec<&str> = quick.iter().flat_map(|setting| ["--set", setting]).collect();
    let rest = ["--data", "data", "--out", "run"];
    let rows = place.json(&[&["compare", "trained/model.safetensors"], &quick[..], &scored, &methods, &rest].concat());
    let rows = rows.as_array().unwrap();
    assert_eq!(rows.len(), 7);
    for row in rows {
        assert!(row["scores"][0]["data"]["frechet"][0].as_f64().is_some_and(f64::is_finite), "{row}");
        assert!(row["rollout_error"].as_f64().is_some_and(f64::is_finite), "{row}");
    }
}

#[test]
fn ddpmpp_with_edm() {
    goes_through("ddpmpp", "edm");
}

#[test]
fn ncsnpp_with_edm() {
    goes_through("ncsnpp", "edm");
}

#[test]
fn ddpmpp_with_the_original_vp() {
    goes_through("ddpmpp", "vp");
}

#[test]
fn ncsnpp_with_the_original_ve() {
    goes_through("ncsnpp", "ve");
}

#[test]
fn adm_with_iddpm() {
    goes_through("adm", "iddpm");
}

/// Rounded to the levels that it knows, rho = 7 has no 62 of them: a network tuned for 31 is not tried under so many.
#[test]
fn a_network_of_few_levels_is_not_tried_beyond_them() {
    let place = place("adm", "iddpm");
    let tune = ["tune", "trained/model.safetensors", "--data", "data", "--out", "run", "--steps", "31"];
    let plan = ["--method", "karras/euler", "--loss", "bound", "--updates", "1", "--set", "early_stop=false"];
    let small = ["--set", "held_out.samples=2", "--set", "held_out.teacher_steps=3", "--set", "tune.batch=4"];
    let run = place.json(&[&tune[..], &plan, &small].concat());
    assert!(run[0]["model"].is_string() && run[0]["cross_plan"].as_array().unwrap().is_empty(), "{run}");
}
