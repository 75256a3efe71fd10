//! The exact mixture through every command that takes a model: what is printed, from no file at all.

use std::collections::BTreeMap;

use crate::support::{Place, steady};

fn on_mixture(command: &'static str, rest: &[&'static str]) -> Vec<&'static str> {
    [&[command, "gaussian-mixture"], rest].concat()
}

#[test]
fn info_sample_and_denoise_know_it_by_name() {
    let place = Place::new();
    insta::assert_snapshot!(steady(&place.succeeds(&["info", "gaussian-mixture-classes"])), @r#"
    gaussian-mixture-classes: built-in model
      network           mixture of 10 Gaussians, an exact denoiser
      parameterisation  EDM, sigma_data 0.5
      images            32x32 with 1 channel
      classes           10
      parameters        10,260
      noise levels      0.002 to 80 when sampling
      about             an exact denoiser, to try things on
      sha256            HASH
    "#);
    let args = ["sample", "gaussian-mixture", "--seeds", "0-8", "--steps", "4", "--out", "grid.png"];
    std::fs::create_dir(place.path("gaussian-mixture")).unwrap(); // images, say: no model is in it
    let text = place.succeeds(&args);
    insta::assert_snapshot!(text.split(", ").take(3).collect::<Vec<_>>().join(", "), @"grid.png: 9 samples, heun, 7 evaluations a sample");
    insta::assert_snapshot!(place.fails(&["sample", "gausian-mixture", "--out", "x.png"]), @"there is no model file gausian-mixture; did you mean the built-in model gaussian-mixture?");
}

#[test]
fn a_fit_and_its_plan() {
    let place = Place::new();
    let fit = on_mixture("plan", &["--steps", "3,5", "--out", "fit", "--set", "held_out.samples=256"]);
    let lines = place.succeeds(&fit);
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let rows: Vec<Vec<String>> = lines.lines().map(words).collect();
    // the errors themselves hang on single latents that end in another class, which differ from processor to processor
    let error = |steps: &str, after: &str| {
        let row = rows.iter().find(|row| row.join(" ").starts_with(&format!("{steps} {after}")));
        let last = row.and_then(|row| row.last()).unwrap_or_else(|| panic!("no {after} at {steps} in {lines}"));
        last.split('×').next().unwrap_or_default().parse::<f64>().unwrap_or_else(|_| panic!("{last} in {lines}"))
    };
    assert!(
        lines.starts_with("evaluations  sampler") && lines.contains("model gaussian-mixture; all files"),
        "{lines}"
    );
    // the fit's errors are of latents that nothing was fitted to, yet far below the baseline's
    for steps in ["3", "5"] {
        let (baseline, fitted) = (error(steps, "rho = 7"), error(steps, "plan"));
        assert!((0.01..1.0).contains(&baseline) && fitted < 0.3 * baseline, "{lines}");
    }
    let plan = place.json(&["info", "fit/steps-005/plan.json"]);
    assert_eq!(plan[0]["nfe"], 5);
    insta::assert_snapshot!(place.fails(&["export", "fit/steps-005/plan.json", "--to", "comfyui"]), @"ComfyUI cannot express this plan: its coefficients are no public solver's (it was fitted, or edited); --nearest exports its noise levels for a solver of ComfyUI's own, --to python a sampler that runs it as it is");
}

#[test]
fn a_comparison_with_exact_samples() {
    let place = Place::new();
    let own =
        ["--methods", "least-squares,karras/euler,oss/ipndm4", "--steps", "3,4", "--images", "200", "--out", "run"];
    let rows = place.json(&on_mixture("compare", &[&own[..], &["--set", "held_out=32"]].concat()));
    let value = |method: &str, nfe: u64| {
        let row = rows.as_array().unwrap().iter().find(|row| row["method"] == method && row["nfe"] == nfe).unwrap();
        (row["scores"][0]["data"]["frechet"][0].as_f64().unwrap(), row["rollout_error"].as_f64().unwrap())
    };
    let teacher = value("teacher", 35).0;
    for nfe in [3, 4] {
        let ours = value("least-squares", nfe);
        for rival in ["karras/euler", "oss/ipndm4"] {
            let rival = value(rival, nfe);
            assert!(ours.0 < rival.0 && ours.1 < rival.1, "{nfe}: {ours:?} {rival:?}");
        }
        assert!(ours.0 > 0.5 * teacher, "nothing is much nearer to the truth than the teacher: {ours:?} {teacher}");
    }
}

/// What `compare` with these options finds by least squares, a training error a plan and whether its levels moved, and the evaluations that
/// took, which are at most the forecast's.
fn fitted(options: &[&'static str]) -> (u64, BTreeMap<usize, (f64, bool)>) {
    let place = Place::new();
    let own = [
        "--methods",
        "least-squares",
        "--images",
        "2",
        "--set",
        "held_out=8",
        "--set",
        "teacher_steps=2",
        "--out",
        "run",
    ];
    let all = [&own[..], options].concat();
    let cost = place.json(&on_mixture("compare", &[&all[..], &["--dry-run"]].concat()));
    let parts = cost["parts"].as_array().unwrap();
    let part = parts.iter().find(|part| part["what"].as_str().unwrap().contains("search least")).unwrap();
    place.json(&on_mixture("compare", &all));
    let folder = place.folder_in("run");
    let found = std::fs::read_to_string(place.path(&format!("run/{folder}/least-squares.found.json"))).unwrap();
    let found: serde_json::Value = serde_json::from_str(&found).unwrap();
    let taken = found["found"]["evaluations"].as_u64().unwrap();
    let forecast = part["evaluations"].as_u64().unwrap();
    assert!(taken <= forecast && forecast <= 3 * taken, "{taken} {part}");
    let plans = found["found"]["plans"].as_object().unwrap().iter().map(|(nfe, plan)| {
        let found_by = &plan["metadata"]["found_by"];
        assert_eq!(found_by["sweeps"].is_null(), found_by["sweep_samples"].is_null());
        (nfe.parse().unwrap(), (found_by["training_error"].as_f64().unwrap(), !found_by["sweeps"].is_null()))
    });
    (taken, plans.collect())
}

/// Where levels move, plans are nearer to the teacher's images. Plans do not depend on whether
/// shorter ones are asked for, too, which is only dearer.
#[test]
fn sweeps_move_levels() {
    let found = |steps: &'static str, sweeps: &'static str| {
        let fit = ["--set", "search.least_squares.samples=32", "--set", "search.least_squares.beam=1"];
        let sweep = ["--set", "search.sweep.from=3", "--set", "search.sweep.samples=32", "--set", sweeps];
        fitted(&[&fit[..], &sweep, &["--steps", steps]].concat())
    };
    let (none, two) = ("search.sweep.sweeps=0", "search.sweep.sweeps=2");
    let (still, moved, long) = (found("1-8", none), found("1-8", two), found("6,8", two));
    assert!(still.0 < long.0 && long.0 < moved.0, "{} {} {}", still.0, long.0, moved.0);
    assert!(still.1.values().chain(moved.1.range(..3).map(|(_, plan)| plan)).all(|(_, moved)| !moved));
    let pairs = || moved.1.iter().map(|(nfe, moved)| (*moved, still.1[nfe]));
    assert!(pairs().all(|(moved, still)| if moved.1 { moved.0 < still.0 } else { moved.0 == still.0 }), "{moved:?}");
    assert!(pairs().any(|(moved, still)| moved.0 < 0.95 * still.0), "{moved:?} {still:?}");
    assert!(long.1.len() == 2 && long.1.iter().all(|(nfe, plan)| moved.1[nfe] == *plan), "{long:?} {moved:?}");
}

/// On a grid that has fewer plans than are swept.
#[test]
fn there_may_be_nothing_to_sweep() {
    let (_, plans) = fitted(&["--set", "search.teacher.grid=4", "--steps", "1-9"]);
    assert!(plans.keys().eq(&[1, 2, 3, 4]) && plans.values().all(|(_, moved)| !moved), "{plans:?}");
}
