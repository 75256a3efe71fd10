//! `fewstep info` on every kind of file.

use fewstep_core::schedule::Schedule;
use fewstep_core::solver::{Solver, SolverOptions};
use fewstep_io::tensors::TensorData;

use crate::support::{Place, steady};

#[test]
fn models_and_arrays() {
    let place = Place::with_model();
    insta::assert_snapshot!(steady(&place.succeeds(&["info", "model.safetensors"])), @r#"
    model.safetensors: model
      network           DDPM++, 8 channels times [1, 2], 1 block(s) a level, attention at [4]
      parameterisation  EDM, sigma_data 0.5
      images            8x8 with 1 channel
      classes           none, unconditional
      parameters        47,985
      noise levels      0.002 to 80 when sampling
      stored as         f32
      sha256            HASH
    "#);
    place.save_npz(
        "a.npz",
        vec![
            ("x", TensorData::from_f32(&[2, 2], &[0.5, -1.0, f32::NAN, 3.0]).unwrap()),
            ("seeds", TensorData::from_i64(&[1], &[7]).unwrap()),
        ],
    );
    insta::assert_snapshot!(place.succeeds(&["info", "a.npz"]), @r#"
    a.npz: arrays
      tensors                     2
      values that are not finite  1

    name   type  shape   lowest  highest    mean
    ────────────────────────────────────────────
    x      f32   [2, 2]  -1.000    3.000  0.8333
    seeds  i64   [1]      7.000    7.000   7.000
    "#);
    place.save_npz(
        "ref.npz",
        vec![
            ("mu", TensorData::from_f64(&[2], &[3.0, 4.0]).unwrap()),
            ("sigma", TensorData::from_f64(&[2, 2], &[1.0, 0.0, 0.0, 2.0]).unwrap()),
        ],
    );
    insta::assert_snapshot!(place.succeeds(&["info", "ref.npz"]), @r#"
    ref.npz: statistics of features
      dimensions          2
      images              the file does not say
      features            the file does not say
      length of the mean  5.0
      total variance      3.0
    "#);
}

#[test]
fn plans_show_eq_8() {
    let place = Place::new();
    let schedule = Schedule::new(vec![80.0, 2.0, 0.5]).unwrap();
    let plan = Solver::Euler.plan(&schedule, &SolverOptions::default()).unwrap();
    std::fs::write(place.path("plan.json"), plan.to_json().unwrap()).unwrap();
    insta::assert_snapshot!(place.succeeds(&["info", "plan.json"]), @r#"
    plan.json: plan
      solver    euler
      nfe       3 network evaluations
      schedule  80.00, 2.000, 0.5000

    States in the latent and the network outputs d0, d1, ... (Eq. 8)
    input of   sigma  latent      d0      d1     d2  sum of outputs
    ───────────────────────────────────────────────────────────────
    d0         80.00   80.00       –       –      –               0
    d1         2.000   2.000  0.9750       –      –          0.9750
    d2        0.5000  0.5000  0.2437  0.7500      –          0.9938
    image          –       0       –       –  1.000           1.000
    "#);
    // x_2 = 0.5 (n + w_0 d_0 + w_1 d_1), w_0 = 1/2 - 1/80, w_1 = 1/0.5 - 1/2.
    let json = place.json(&["info", "plan.json"]);
    let last = &json[0]["states"][2];
    let near = |value: &serde_json::Value, expected: f64| (value.as_f64().unwrap() - expected).abs() < 1e-12;
    assert!(
        near(&last["d0"], 0.5 * (0.5 - 1.0 / 80.0)) && near(&last["d1"], 0.75) && near(&last["latent"], 0.5),
        "{last}"
    );
    let many = Solver::Heun
        .plan(&fewstep_core::schedule::karras(18, 0.002, 80.0, 7.0).unwrap(), &SolverOptions::default())
        .unwrap();
    std::fs::write(place.path("many.json"), many.to_json().unwrap()).unwrap();
    let words = place.succeeds(&["info", "many.json"]);
    assert!(
        words.contains("35 network evaluations") && words.lines().all(|line| line.chars().count() < 200),
        "{words}"
    );
}

#[test]
fn data_sets_run_folders_and_several_files() {
    let place = Place::with_model();
    place.save_images("data", 1, 8, 6);
    insta::assert_snapshot!(steady(&place.succeeds(&["info", "data"])), @r#"
    data: data set
      format       folder of images
      images       6
      size         8x8 with 1 channel
      labels       2 classes of 3 images
      fingerprint  sha256:HASH
    "#);
    place.succeeds(&["sample", "model.safetensors", "--seeds", "0-1", "--steps", "2", "--out", "s"]);
    let words = place.succeeds(&["info", "s", "s/run.json"]);
    assert_eq!(words.matches("run folder of sample").count(), 2, "{words}");
    assert!(words.contains("  files         000000.png, 000001.png, run.json\n"), "{words}");
    assert!(words.contains("  sampler       heun, 3 network evaluations\n") && !words.contains("null"), "{words}");
    let run = place.run(&["info", "data", "nowhere"]);
    assert_eq!(run.code, 1);
    assert!(run.stdout.starts_with("data: data set"));
    assert!(run.stderr.contains("nowhere does not exist"), "{}", run.stderr);
}

/// A run.json that others wrote may hold what a terminal would obey; `Place` makes sure that none of it is printed.
#[test]
fn what_a_run_file_says_is_no_command_to_the_terminal() {
    let place = Place::new();
    std::fs::create_dir(place.path("s")).unwrap();
    let run = r#"{"kind": "\u001b[31msample\u0007", "provenance": {}, "task": {"\u001b[2Jcolour": "\u001b[0mred"}}"#;
    std::fs::write(place.path("s/run.json"), run).unwrap();
    let words = place.succeeds(&["info", "s"]);
    assert!(words.starts_with("s: run folder of  [31msample \n"), "{words}");
    assert!(words.contains("   [2Jcolour   [0mred\n"), "{words}");
    let error = place.fails(&["sample", "gaussian-mixture", "--seeds", "0", "--steps", "2", "--out", "s", "--resume"]);
    insta::assert_snapshot!(error, @"s is the folder of `fewstep  [31msample `, not of `fewstep sample`: choose another --out");
}

#[test]
fn what_it_does_not_know_is_an_error() {
    let place = Place::new();
    for (name, bytes) in [
        ("x.json", &b"{\"a\": 1}"[..]),
        ("x.safetensors", b"short"),
        ("x.npz", b"PK"),
        ("x.pkl", b"\x80\x04"),
        ("x.txt", b"words"),
    ] {
        std::fs::write(place.path(name), bytes).unwrap();
        let message = place.fails(&["info", name]);
        assert!(message.contains(name), "{message}");
    }
}

/// What a plan holds of a sample of any rank, and who guided the network that it was found for.
#[test]
fn plans_say_what_they_hold_and_were_found_under() {
    use fewstep_core::denoiser::Guidance;
    use fewstep_core::plan::Constant;
    let place = Place::new();
    let mut plan = Solver::Euler.plan(&Schedule::new(vec![80.0, 2.0]).unwrap(), &SolverOptions::default()).unwrap();
    plan.constant = Some(Constant { sigma: 80.0, shape: vec![4, 5], samples: vec![vec![0.25; 20]; 3] });
    plan.metadata.sample_shape = Some(vec![4, 5]);
    let guidance = Guidance { weight: 1.5, reference: "without its condition".to_owned() };
    plan.metadata.guidance = Some(guidance);
    std::fs::write(place.path("plan.json"), plan.to_json().unwrap()).unwrap();
    let words = place.succeeds(&["info", "plan.json"]);
    insta::assert_snapshot!(words.split("\n\n").next().unwrap(), @r#"
    plan.json: plan
      solver    euler
      nfe       2 network evaluations, 4 network calls
      schedule  80.00, 2.000
      guidance  weight 1.5, against the network without its condition
      constant  a 4x5 sample for each of 3 classes, in place of an evaluation at sigma 80
      samples   4x5, which are no images
    "#);
    let json = &place.json(&["info", "plan.json"])[0];
    assert_eq!(json["constant"], serde_json::json!({ "sigma": 80.0, "samples": 3, "shape": [4, 5] }));
    assert_eq!((&json["nfe"], &json["calls"], &json["guidance"]["weight"]), (&2.into(), &4.into(), &1.5.into()));
}
