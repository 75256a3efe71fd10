//! Comparisons that cannot be: one sentence, before any work.

use crate::compare::{SMALL, place};
use crate::support::Place;

#[test]
fn misfits_are_one_sentence() {
    let place = place();
    for (args, says) in [
        (vec!["compare", "model.safetensors", "--out", "new"], "--ref"),
        (vec!["compare", "--out", "new"], "<MODEL>"),
        (vec!["compare", "fashion-mnist", "--methods", "gats", "--out", "new"], "no method named 'gats'"),
        (vec!["compare", "fashion-mnist", "--images", "1", "--out", "new"], "images must be at least 2"),
        (vec!["compare", "fashion-mnist", "--steps", "0", "--out", "new"], "steps must be"),
        (vec!["compare", "fashion-mnist", "--set", "held_out=0", "--out", "new"], "held_out must be at least 1"),
        (vec!["compare", "fashion-mnist", "--set", "search.beem=1", "--out", "new"], "beem"),
    ] {
        let run = place.run(&args);
        assert!(run.code != 0 && run.stderr.contains(says), "{args:?}: {}", run.stderr);
    }
    let printed = place.succeeds(&["compare", "model.safetensors", "--out", "new", "--print-settings"]);
    assert!(printed.contains("[search.teacher]") && !place.path("new").exists(), "{printed}");
    for method in ["bound", "karras+data-moments"] {
        let own = ["--methods", method, "--steps", "3", "--out", "new"];
        let run = place.run(&[&SMALL[..], &own].concat());
        assert!(run.code == 1 && run.stderr.contains("--data"), "{method}: {}", run.stderr);
    }
}

#[test]
fn settings_of_methods_that_are_not_compared_are_refused() {
    let place = Place::new();
    let compare =
        |set| place.fails(&["compare", "gaussian-mixture", "--methods", "karras/euler", "--out", "run", "--set", set]);
    for idle in ["search.gits.metric=l1", "search.gauss_newton.least_gain=0.1"] {
        let name = idle.split('=').next().unwrap();
        let error = compare(idle);
        assert!(error.contains(&format!("the setting {name} is for methods that have such a stage")), "{error}");
    }
}

/// What no model could be compared by is refused before feature networks and references are opened, which may take hours.
#[test]
fn settings_steps_and_methods_are_checked_before_references() {
    let place = Place::new();
    let own = ["compare", "gaussian-mixture", "--ref", "none.npz", "--features", "none.safetensors", "--out", "new"];
    for (args, says) in [
        (&["--images", "1"][..], "images must be at least 2"),
        (&["--steps", "0"], "the steps must be numbers of at least 1"),
        (&["--methods", "karras/heun", "--steps", "4"], "odd numbers of evaluations"),
        (&["--methods", "karras/euler,karras/euler"], "not the only row of that name"),
        (&["--methods", "karras/euler", "--set", "search.gits.metric=l1"], "search.gits.metric is for methods"),
    ] {
        let error = place.fails(&[&own[..], args].concat());
        assert!(error.contains(says), "{args:?}: {error}");
    }
}

/// What has no cell at all is no comparison.
#[test]
fn methods_that_have_no_plans_at_all_are_named_with_their_reasons() {
    let place = Place::new();
    let grids = ["--set", "search.gits.grid=9", "--set", "search.teacher.grid=7"];
    let compare = |methods: &str, steps: &str| {
        let own = ["compare", "gaussian-mixture", "--methods", methods, "--steps", steps, "--out", "new"];
        place.fails(&[&own[..], &grids].concat())
    };
    insta::assert_snapshot!(compare("gits/euler,gits@1.1/ipndm2,oss/euler+gauss-newton", "12,30"), @"there is nothing to compare, as no method has a plan of 12 or 30 evaluations (gits/euler, gits@1.1/ipndm2: its levels are of a grid, and 9 of them allow 9 evaluations at most: raise the setting search.gits.grid; oss/euler+gauss-newton: its levels are of a grid, and 7 of them allow 7 evaluations at most: raise the setting search.teacher.grid)");
    place.save_images("data", 1, 32, 12);
    let own =
        ["compare", "gaussian-mixture", "--methods", "bound/euler", "--data", "data", "--steps", "1", "--out", "new"];
    let error = place.fails(&own);
    assert!(error.contains("a plan of 1 evaluations (bound/euler: its levels are of a table of 65"), "{error}");
    // of several methods, one is enough
    let small = ["--images", "16", "--set", "held_out=4", "--set", "search.teacher.samples=8"];
    let own = ["compare", "gaussian-mixture", "--methods", "gits/euler,karras/euler", "--steps", "12", "--out", "run"];
    let run = place.run(&[&own[..], &small, &grids].concat());
    assert!(run.code == 0 && run.stderr.contains("gits/euler has no plan of 12 evaluations"), "{}", run.stderr);
}
