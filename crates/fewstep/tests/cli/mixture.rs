//! The exact mixture through every command that takes a model: what is printed, from no file at all.

use crate::support::{Place, steady};

const MODEL: [&str; 2] = ["--model", "gaussian-mixture"];

fn on_mixture(command: &'static str, rest: &[&'static str]) -> Vec<&'static str> {
    [&[command], &MODEL[..], rest].concat()
}

#[test]
fn info_sample_and_denoise_know_it_by_name() {
    let place = Place::new();
    insta::assert_snapshot!(steady(&place.succeeds(&["info", "gaussian-mixture-classes"])), @r#"
    gaussian-mixture-classes: built-in model
      network          mixture of 10 Gaussians, an exact denoiser
      preconditioning  EDM, sigma_data 0.5
      images           32x32 with 1 channel
      classes          10
      parameters       10,260
      noise levels     0.002 to 80 when sampling
      about            an exact denoiser, to try things on
      sha256           HASH
    "#);
    let args = on_mixture("sample", &["--seeds", "0-8", "--steps", "4", "--out", "grid.png"]);
    let text = place.succeeds(&args);
    insta::assert_snapshot!(text.split(", ").take(3).collect::<Vec<_>>().join(", "), @"grid.png: 9 images, heun, 7 network evaluations an image");
    insta::assert_snapshot!(place.fails(&["sample", "--model", "gausian-mixture", "--out", "x.png"]), @"there is no model file gausian-mixture; did you mean the built-in model gaussian-mixture?");
}

#[test]
fn a_fit_and_its_plan() {
    let place = Place::new();
    let fit = on_mixture("fit", &["--phases", "1", "--steps", "3,5", "--out", "fit", "--held-out", "256"]);
    // two digits: the last ones differ from processor to processor
    let rounded = |word: &str| match word.split('×').next().map(str::parse::<f64>) {
        Some(Ok(number)) if word.contains('.') => format!("{number:.1e}"),
        _ => word.to_owned(),
    };
    let lines = place.succeeds(&fit);
    let lines = lines.lines().map(|line| line.split_whitespace().map(rounded).collect::<Vec<_>>().join(" "));
    insta::assert_snapshot!(lines.collect::<Vec<_>>().join("\n"), @r#"
    steps after rollout error ↓
    ──────────────────────────────────────────
    3 rho = 7 (baseline) 1.1e-1
    3 round 1, phase 1 1.4e-2
    ──────────────────────────────────────────
    5 rho = 7 (baseline) 4.9e-2
    5 round 1, phase 1 8.5e-4

    model gaussian-mixture; all files, report.html among them, are in fit
    "#);
    // the fit's errors are of latents that it never saw, yet far below the baseline's
    let plan = place.json(&["info", "fit/steps-005/plan.json"]);
    assert_eq!(plan[0]["nfe"], 5);
    insta::assert_snapshot!(place.fails(&["export", "fit/steps-005/plan.json", "--to", "comfyui"]), @"ComfyUI cannot express this plan: its coefficients are no public solver's (it was fitted, or edited); --nearest exports its noise levels for a solver of ComfyUI's own, --to python a sampler that runs it as it is");
}

#[test]
fn a_comparison_with_exact_samples() {
    let place = Place::new();
    let own = [
        "--methods",
        "least-squares,karras/euler,reachable/ipndm4",
        "--steps",
        "3,4",
        "--images",
        "200",
        "--out",
        "run",
    ];
    let rows = place.json(&on_mixture("compare", &[&own[..], &["--held-out", "32"]].concat()));
    let value = |method: &str, nfe: u64| {
        let row = rows.as_array().unwrap().iter().find(|row| row["method"] == method && row["nfe"] == nfe).unwrap();
        (row["frechet"][0].as_f64().unwrap(), row["rollout_error"].as_f64().unwrap())
    };
    let teacher = value("teacher", 35).0;
    for nfe in [3, 4] {
        let ours = value("least-squares", nfe);
        for rival in ["karras/euler", "reachable/ipndm4"] {
            let rival = value(rival, nfe);
            assert!(ours.0 < rival.0 && ours.1 < rival.1, "{nfe}: {ours:?} {rival:?}");
        }
        assert!(ours.0 > 0.5 * teacher, "nothing is much nearer to the truth than the teacher: {ours:?} {teacher}");
    }
}
