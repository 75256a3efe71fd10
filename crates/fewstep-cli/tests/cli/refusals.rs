//! `fit` refuses what it cannot do, and what would change nothing, in one sentence.

use crate::fitting::{fit, place};
use crate::support::Place;

/// A fit with these options and no others that choose a method says so.
fn refuses(place: &Place, args: &[&str], words: &str) {
    let plain = ["fit", "--model", "model.safetensors", "--data", "images", "--out", "new"];
    let error = place.fails(&[&plain, args].concat());
    assert!(error.contains(words), "{error}");
}

#[test]
fn contradictions_and_misfits_are_one_sentence() {
    let place = place();
    place.save_images("colour", 3, 8, 8);
    for (args, word) in [
        (vec!["--search", "paper", "--objective", "joint", "--solver", "table"], "adam"),
        (vec!["--search", "paper", "--objective", "bound", "--gamma=-1"], "--gamma must be"),
        (vec!["--xflip", "--weights", "rollout", "--critic-weight", "0"], "--data-weight"),
        (vec!["--data-weight=-1", "--weights", "rollout"], "--data-weight"),
        (vec!["--critic-weight=-1", "--weights", "rollout"], "--critic-weight must be"),
        (
            vec!["--critic-of", "data", "--critic-weight", "0", "--weights", "rollout"],
            "give it a weight with --critic-weight",
        ),
        (vec!["--ridge=-1"], "--ridge"),
        (vec!["--ema=-1"], "--ema"),
        (vec!["--microbatch", "0"], "--microbatch"),
    ] {
        let error = place.fails(&fit("new", &args));
        assert!(error.contains(word), "{error}");
    }
    let with = |replaced: &str, value: &'static str| {
        let mut args = fit("new", &["--search", "paper", "--objective", "joint"]);
        let place = args.iter().position(|word| *word == replaced).unwrap();
        args[place + 1] = value;
        args
    };
    for (option, value, words) in [
        ("--batch", "0", "--batch must be"),
        ("--phase1-batch", "0", "--phase1-batch must be"),
        ("--lr", "nan", "--lr must be"),
        ("--batch", "25", "24 images, fewer than one batch of 25"),
        ("--phase1-batch", "25", "24 images, fewer than the 25 of one update of phase 1"),
    ] {
        let error = place.fails(&with(option, value));
        assert!(error.contains(words), "{error}");
    }
    let error = place.fails(&fit("new", &["--weights", "rollout", "--trajectories", "0"]));
    assert!(error.contains("--trajectories"), "{error}");
    let many = fit("new", &["--phases", "1"]).into_iter().map(|word| if word == "3,4" { "9" } else { word });
    let error = place.fails(&many.collect::<Vec<_>>());
    assert!(error.contains("--search-grid"), "{error}");
    let unknown = place.run(&fit("new", &["--search", "gits"]));
    assert!(unknown.code == 2 && unknown.stderr.contains("no method 'gits'"), "{}", unknown.stderr);
    let args = ["fit", "--out", "new", "--model", "model.safetensors", "--data", "colour", "--batch", "8"];
    let error = place.fails(&args);
    assert!(error.contains("3x8x8") && error.contains("1x8x8"), "{error}");
}

#[test]
fn options_that_would_change_nothing_are_refused() {
    let place = place();
    for (option, value, needed) in [
        ("--objective", "joint", "--search paper"),
        ("--solver", "table", "--search paper"),
        ("--noise", "shared", "--search paper --solver adam"),
        ("--parameter", "linear", "--search paper --solver adam"),
        ("--gamma", "1", "--search paper --objective joint"),
        ("--distance", "squared", "--weights rollout"),
        ("--step-weights", "signal", "--weights rollout"),
        ("--gradient", "through", "--weights rollout"),
        ("--data-weight", "1", "--weights rollout"),
        ("--critic-weight", "1", "--weights rollout"),
        ("--critic-of", "teacher", "--weights rollout"),
        ("--trajectories", "8", "--weights rollout"),
        ("--last-weight", "1", "--weights bound"),
    ] {
        let other = if option == "--last-weight" { "original" } else { "bound" };
        let error = place.fails(&fit("new", &[option, value, "--weights", other]));
        assert!(error.contains(&format!("{option} is for {needed} and changes nothing here")), "{error}");
    }
    for (phases, option, value) in [
        ("1", "--weights", "rollout"),
        ("1", "--last-weight", "0"),
        ("2", "--search", "local/euler"),
        ("2", "--objective", "joint"),
    ] {
        let error = place.fails(&fit("new", &["--phases", phases, option, value]));
        assert!(error.contains(&format!("{option} is for phase ")) && error.contains("--phases"), "{error}");
    }
    for (args, words) in [
        (&["--search", "paper", "--noise", "shared"][..], "--noise is for --search paper --solver adam"),
        (&["--features", "features.safetensors"], "--features is for --ref or for a distance of features"),
    ] {
        refuses(&place, args, words);
    }
}

#[test]
fn a_search_that_cannot_serve_the_steps_is_refused() {
    let place = place();
    for (args, words) in [
        (
            &["--search", "local/dpm2", "--steps", "4"][..],
            "dpm2 makes odd numbers of evaluations, and --steps asks for 4",
        ),
        (&["--search", "karras/heun", "--steps", "3"], "phase 2 tunes for plans whose levels fall"),
        (&["--search", "bound/euler", "--steps", "9", "--grid", "8"], "--grid must have at least"),
    ] {
        refuses(&place, args, words);
    }
}
