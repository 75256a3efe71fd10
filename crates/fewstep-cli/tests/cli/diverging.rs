//! Fits where numbers leave what can be computed: it stops, says where, and loses nothing.

use crate::fitting::place;

/// A rate beyond all reason: the update is named, and what there is to go on from.
#[test]
fn a_diverging_fit_names_the_update_and_the_last_good_state() {
    let place = place();
    let args = |out: &'static str, check_every: &'static str| {
        let first = ["tune", "model.safetensors", "--data", "images", "--method", "karras/euler", "--steps", "3"];
        let second = ["--out", out, "--settings", "quick.toml", "--loss", "bound", "--updates", "40"];
        first.into_iter().chain(second).chain(["--lr", "1e30", "--set", check_every]).collect::<Vec<_>>()
    };
    // the rate rises from 0: the first update changes nothing, and is saved
    let run = place.run(&args("saved", "tune.check_every=1"));
    let state = "saved/steps-003/round-1-phase-2-state.safetensors";
    assert!(run.code == 1 && run.stderr.contains(&format!("the last good state is {state}")), "{}", run.stderr);
    assert!(run.stderr.contains(" became ") && run.stderr.contains("at iteration 2"), "{}", run.stderr);
    assert!(place.path(state).exists());
    let run = place.run(&args("unsaved", "tune.check_every=1000"));
    assert!(run.code == 1 && run.stderr.contains("no state was saved yet"), "{}", run.stderr);
    assert!(run.stderr.contains("learning rate"), "{}", run.stderr);
}

/// Levels that come to coincide end phase 1; what was found before stands.
#[test]
fn levels_that_meet_end_phase_1() {
    let place = place();
    let first = ["plan", "model.safetensors", "--data", "images", "--steps", "3,4", "--out", "run", "--json"];
    let paper = ["--method", "paper", "--set", "paper.objective=discretization", "--set", "paper.learning_rate=1e6"];
    let args = [&first[..], &paper, &["--settings", "quick.toml"]].concat();
    let run = place.run(&args);
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert!(run.stderr.contains("phase 1, 3 steps: it ends here") && run.stderr.contains("stand"), "{}", run.stderr);
    let outcomes: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(outcomes[0]["sigmas"].as_array().unwrap().len(), 3);
}
