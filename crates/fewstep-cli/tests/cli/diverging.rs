//! `fit` where numbers leave what can be computed: it stops, says where, and loses nothing.

use crate::fitting::{fit, place};

/// A rate beyond all reason: the update is named, and what there is to go on from.
#[test]
fn a_diverging_fit_names_the_update_and_the_last_good_state() {
    let place = place();
    let args = |out: &'static str, check_every: &'static str| {
        let first = ["fit", "--model", "model.safetensors", "--data", "images", "--phases", "2", "--steps", "3"];
        let second = ["--out", out, "--held-out", "2", "--teacher-steps", "3", "--batch", "4", "--updates", "40"];
        first.into_iter().chain(second).chain(["--lr", "1e30", "--check-every", check_every]).collect::<Vec<_>>()
    };
    // the rate rises from 0: the first update changes nothing, and is saved
    let run = place.run(&args("saved", "1"));
    let state = "saved/steps-003/round-1-phase-2-state.safetensors";
    assert!(run.code == 1 && run.stderr.contains(&format!("the last good state is {state}")), "{}", run.stderr);
    assert!(run.stderr.contains(" became ") && run.stderr.contains("at iteration 2"), "{}", run.stderr);
    assert!(place.path(state).exists());
    let run = place.run(&args("unsaved", "1000"));
    assert!(run.code == 1 && run.stderr.contains("no state was saved yet"), "{}", run.stderr);
    assert!(run.stderr.contains("learning rate"), "{}", run.stderr);
}

/// Levels that come to coincide end phase 1; what was found before stands.
#[test]
fn levels_that_meet_end_phase_1() {
    let place = place();
    let args: Vec<&str> =
        fit("run", &["--search", "paper", "--objective", "discretization", "--phases", "1", "--phase1-lr", "1e6"]);
    let run = place.run(&args);
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert!(run.stderr.contains("phase 1, 3 steps: it ends here") && run.stderr.contains("stand"), "{}", run.stderr);
    let outcomes: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(outcomes[0]["sigmas"].as_array().unwrap().len(), 3);
}
