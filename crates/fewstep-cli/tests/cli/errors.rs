//! Bad input to commands that use a model: one sentence, exit code 1 (2 for usage), no file touched.

use fewstep_io::tensors::TensorData;
use fewstep_io::{png, safetensors};

use crate::support::{Place, SIZE};

const SAMPLE: [&str; 4] = ["sample", "model.safetensors", "--out", "out.npz"];

fn sample(rest: &[&'static str]) -> Vec<&'static str> {
    [&SAMPLE[..], rest].concat()
}

#[test]
fn models_that_cannot_be_used() {
    let place = Place::with_model();
    let with = |model: &str| place.fails(&["sample", model, "--out", "out.npz"]);
    insta::assert_snapshot!(with("cifar.pkl"), @"there is no model file cifar.pkl (built-in models are called fashion-mnist, gaussian-mixture, gaussian-mixture-classes)");
    let bytes = std::fs::read(place.path("model.safetensors")).unwrap();
    std::fs::write(place.path("cut.safetensors"), &bytes[..bytes.len() / 2]).unwrap();
    assert!(with("cut.safetensors").contains("cut.safetensors is not a usable safetensors file"));
    let mut file = safetensors::read_bytes(&bytes, "").unwrap();
    let name = file.tensors.keys().next().unwrap().clone();
    file.tensors[&name].bytes[..4].copy_from_slice(&f32::NAN.to_le_bytes());
    safetensors::write(place.path("nan.safetensors"), &file.tensors, &file.metadata).unwrap();
    assert!(with("nan.safetensors").contains(&format!("'{name}' holds values that are not finite")));
    file.tensors.shift_remove(&name);
    safetensors::write(place.path("less.safetensors"), &file.tensors, &file.metadata).unwrap();
    assert!(with("less.safetensors").contains(&format!("no tensor '{name}'")));
    file.metadata.clear();
    safetensors::write(place.path("other.safetensors"), &file.tensors, &file.metadata).unwrap();
    insta::assert_snapshot!(with("other.safetensors"), @"other.safetensors is a safetensors file without the metadata of a fewstep model, so that its architecture is not known; a model is the model.safetensors of fewstep, or a snapshot of the EDM or EDM2 code (.pkl)");
}

#[test]
fn samplers_that_cannot_be_run() {
    let place = Place::with_model();
    insta::assert_snapshot!(place.fails(&sample(&["--sigmas", "80,3,3,0.1"])), @"the levels that were given are no schedule: noise levels must fall strictly, but number 2 is 3 and the one before it is 3 (list them largest first, without repeats)");
    insta::assert_snapshot!(place.fails(&sample(&["--sigmas", "80,3,0"])), @"the levels that were given are no schedule: noise level 0 (number 2, counting from 0) is not a positive finite number (the final 0 is not written)");
    insta::assert_snapshot!(place.fails(&sample(&["--set", "sampler.sigma_min=100"])), @"the noise range must satisfy 0 < sigma_min < sigma_max, but it is 100 to 80");
    insta::assert_snapshot!(place.fails(&sample(&["--steps", "0"])), @"there must be at least 1 step");
    let many = place.fails(&sample(&["--steps", "2000000000"]));
    insta::assert_snapshot!(many, @"a schedule has at most 10000 noise levels, and 2000000000 were asked for");
    let many = ["plan", "gaussian-mixture", "--method", "karras/euler", "--steps", "2000000000", "--out", "m"];
    let run = place.run(&many);
    let said = "karras/euler has no plan of 2000000000 evaluations: a schedule has 10000 levels at most, which allow 10000 evaluations";
    assert!(run.code == 1 && run.stderr.contains(said), "{}", run.stderr);
    insta::assert_snapshot!(place.fails(&sample(&["--schedule", "linear"])), @"there is no schedule named 'linear'; there are karras, log_snr, vp, ve, iddpm, cosine, time_uniform, timestep_uniform, flow_uniform, flow_trailing");
    insta::assert_snapshot!(place.fails(&sample(&["--plan", "none.json"])), @"the plan none.json does not exist: check the path");
    let run = place.run(&sample(&["--solver", "rk45"]));
    assert!(run.code == 2 && run.stderr.contains("rk45") && run.stderr.contains("heun"), "{}", run.stderr);
    std::fs::write(place.path("plan.json"), r#"{"version": 1, "stages": [{"sigma": 80, "input": {"latent": 80}}], "output": {"d0": 1}, "metadata": {"image_shape": [3, 32, 32]}}"#).unwrap();
    insta::assert_snapshot!(place.fails(&sample(&["--plan", "plan.json"])), @"cannot use the plan plan.json: the plan was made for samples of shape 3x32x32, but the model makes 1x8x8");
    std::fs::write(place.path("plan.json"), "{}").unwrap();
    insta::assert_snapshot!(place.fails(&sample(&["--plan", "plan.json"])), @"plan.json is JSON, but not a plan (plan.json, as `fewstep plan` leaves it)");
}

#[test]
fn images_that_cannot_be_made() {
    let place = Place::with_model();
    place.save_model("cond.safetensors", 1, 10);
    let cond = ["sample", "cond.safetensors", "--out", "out.npz"];
    insta::assert_snapshot!(place.fails(&[&cond[..], &["--class", "10"]].concat()), @"class 10 is out of range: the model knows classes 0 to 9");
    insta::assert_snapshot!(place.fails(&[&cond[..], &["--class", "-1"]].concat()), @"class -1 is out of range: the model knows classes 0 to 9");
    insta::assert_snapshot!(place.fails(&sample(&["--class", "1"])), @"--class is for class-conditional models, and this one knows no classes");
    insta::assert_snapshot!(place.fails(&sample(&["--batch", "0"])), @"--batch must be at least 1");
    let latents = TensorData::from_f32(&[1, 1, SIZE, SIZE], &[0.0; SIZE * SIZE]).unwrap();
    place.save_npz("latents.npz", vec![("latents", latents)]);
    insta::assert_snapshot!(place.fails(&[&cond[..], &["--latents", "latents.npz"]].concat()), @"the model is class-conditional: give a class with --class, or an array `class_labels` [1, 10] in latents.npz");
    insta::assert_snapshot!(place.fails(&sample(&["--latents", "nowhere.npz"])), @"nowhere.npz does not exist: check the path to the file");
    insta::assert_snapshot!(place.fails(&sample(&["--device", "tpu"])), @"'tpu' is no device; use auto, cpu, cuda or cuda:N");
    let run = place.run(&sample(&["--precision", "f8"]));
    assert!(run.code == 2 && run.stderr.contains("[possible values: f32, bf16, f16]"), "{}", run.stderr);
}

#[test]
fn places_that_cannot_be_written() {
    let place = Place::with_model();
    std::fs::write(place.path("file"), b"").unwrap();
    std::fs::create_dir(place.path("folder.png")).unwrap();
    let to = |out: &str| place.fails(&["sample", "model.safetensors", "--steps", "1", "--out", out]);
    insta::assert_snapshot!(to("nowhere/grid.png"), @"cannot write nowhere/grid.png: there is no folder nowhere");
    insta::assert_snapshot!(to("folder.png"), @"the output folder.png is a folder: give a file name");
    insta::assert_snapshot!(to("file/samples"), @"cannot write file/samples: Not a directory (os error 20)");
    insta::assert_snapshot!(to("file"), @"--out file is a file: name a folder, or let the name end in .png or .npz");
    place.save_images("data", 1, SIZE, 2);
    insta::assert_snapshot!(to("data"), @"the folder data already holds files: choose another one; --resume goes on with a folder of samples, --overwrite starts it again");
    insta::assert_snapshot!(to("grid.jpg"), @"images are not written as .jpg: let --out be a folder, or end in .png or .npz");
    insta::assert_snapshot!(place.fails(&sample(&["--set", "output.subdirs=true"])), @"--set output.subdirs=true is for a folder of PNGs, and --out out.npz is none");
}

#[test]
fn data_sets_that_cannot_be_used() {
    let place = Place::with_model();
    let train = |data: &str| place.fails(&["train", "--data", data, "--out", "run", "--channels", "8"]);
    insta::assert_snapshot!(train("nowhere"), @"nowhere does not exist: check the path to the data set");
    std::fs::create_dir(place.path("empty")).unwrap();
    insta::assert_snapshot!(train("empty"), @"empty is not a usable data set: the folder holds no PNG or JPEG images, no IDX files and no CIFAR-10 batches");
    place.save_images("mixed", 1, SIZE, 2);
    png::write(place.path("mixed/above/9.png"), &[0; 16], 1, 4, 4).unwrap();
    insta::assert_snapshot!(train("mixed"), @"above/9.png in mixed is 4x4 grey, but the first image is 8x8 grey: all images of a data set must have one size and one channel count; `fewstep data` makes them so");
    place.save_images("data", 1, SIZE, 2);
    std::fs::create_dir(place.path("old")).unwrap();
    std::fs::write(place.path("old/run.json"), "{}").unwrap();
    let args = [
        "train",
        "--data",
        "data",
        "--out",
        "old",
        "--channels",
        "8",
        "--channel-mult",
        "1",
        "--blocks",
        "1",
        "--batch",
        "2",
    ];
    let run = place.run(&args);
    assert_eq!(run.code, 1);
    assert!(run.stderr.contains("run folder old already holds files"), "{}", run.stderr);
}

/// One sentence for every place that takes a file: what it is, and what to do.
#[test]
fn files_of_other_kinds_are_called_by_their_names() {
    let place = Place::with_model();
    let examples = concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/edm_pickles");
    for name in ["state.zip.pth", "state.legacy.pth"] {
        std::fs::copy(format!("{examples}/{name}"), place.path(name)).unwrap();
        let sample = place.fails(&["sample", name, "--out", "x.npz"]);
        assert!(
            sample.starts_with(&format!(
                "{name} is a PyTorch file of tensors (torch.save), such as a state dictionary, which does not say"
            )),
            "{sample}"
        );
        assert!(sample.contains("pickle.dump({'ema': net}, file)"), "{sample}");
        let plan = place.fails(&["sample", "model.safetensors", "--plan", name, "--out", "x.npz"]);
        assert!(plan.contains("is a PyTorch file of tensors") && plan.contains("; that is a model"), "{plan}");
        assert!(place.succeeds(&["info", name]).contains("PyTorch file of tensors"));
    }
    std::fs::write(place.path("page.pkl"), "<!DOCTYPE html><html>Not found").unwrap();
    std::fs::write(place.path("lfs.safetensors"), "version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
        .unwrap();
    std::fs::write(place.path("empty.npz"), "").unwrap();
    let fails = |args: &[&str], parts: &[&str]| {
        let message = place.fails(args);
        assert!(parts.iter().all(|part| message.contains(part)) && message.lines().count() == 1, "{args:?}: {message}");
    };
    fails(&["sample", "page.pkl", "--out", "x.npz"], &["page.pkl is a web page (HTML)", "the download failed"]);
    fails(&["import", "page.pkl"], &["page.pkl is a web page (HTML)"]);
    fails(&["sample", "lfs.safetensors", "--out", "x.npz"], &["a git-lfs pointer", "git lfs pull"]);
    fails(&["eval", "empty.npz"], &["empty.npz is an empty file"]);
    fails(
        &["ref", "--data", "page.pkl", "--out", "r.npz"],
        &["page.pkl", "it is a web page (HTML)", "a folder of images"],
    );
    fails(
        &["ref", "--data", "model.safetensors", "--out", "r.npz"],
        &["it is a safetensors file", "a folder of images"],
    );
    fails(&["info", "lfs.safetensors"], &["a git-lfs pointer"]);
}

#[test]
fn plans_of_any_encoding_are_read() {
    let place = Place::with_model();
    let sample = ["sample", "model.safetensors", "--seeds", "0", "--out"];
    let plan = fewstep_core::solver::Solver::Euler
        .plan(&fewstep_core::schedule::karras(2, 0.002, 80.0, 7.0).unwrap(), &Default::default())
        .unwrap();
    let text = plan.to_json().unwrap();
    let utf16: Vec<u8> = format!("\u{feff}{text}").encode_utf16().flat_map(u16::to_le_bytes).collect();
    for (name, bytes) in [
        ("plain.json", text.clone().into_bytes()),
        ("mark.json", format!("\u{feff}{text}").into()),
        ("wide.json", utf16),
    ] {
        std::fs::write(place.path(name), bytes).unwrap();
        place.succeeds(&[&sample[..], &[&format!("{name}.npz"), "--plan", name]].concat());
    }
}

/// What a message quotes of a file moves no cursor and hides nothing.
#[test]
fn messages_show_control_characters_as_text() {
    let place = Place::new();
    std::fs::write(place.path("settings.toml"), r#""\u001b[2J\u009b\rsweep" = 1"#).unwrap();
    let error = place.fails(&["plan", "gaussian-mixture", "--settings", "settings.toml", "--out", "run"]);
    assert!(error.contains(r"\u{1b}[2J\u{9b}\rsweep") && !error.contains('\r'), "{error}");
    std::fs::write(place.path("plan.json"), r#"{"format": "\u001b[31m"}"#).unwrap();
    let error = place.fails(&["info", "plan.json"]);
    assert!(!error.contains('\x1b'), "{error}");
    // a name that would show as annexe.png
    let turned = "ann\u{202e}gnp.exe";
    std::fs::write(place.path("settings.toml"), format!("\"{turned}\" = 1")).unwrap();
    let of_contents = place.fails(&["plan", "gaussian-mixture", "--settings", "settings.toml", "--out", "run"]);
    let of_a_name = place.fails(&["info", turned]);
    for error in [of_contents, of_a_name] {
        assert!(error.contains(r"ann\u{202e}gnp.exe") && !error.contains('\u{202e}'), "{error}");
    }
}

/// Beyond its own size nothing of an image is left.
#[test]
fn images_are_not_shifted_out_of_sight() {
    let place = Place::new();
    place.save_images("data", 1, SIZE, 20);
    let with =
        |option: &str, by: &str| place.fails(&["features", "--data", "data", "--out", "f.safetensors", option, by]);
    let shift = |by: &str| with("--max-shift", by);
    insta::assert_snapshot!(shift("8"), @"images of 8x8 pixels cannot be shifted by up to 8: nothing of them would be left; take a shift below 8");
    assert!(shift("18446744073709551615").contains("cannot be shifted by up to 18446744073709551615"));
    for epochs in ["0", "18446744073709551615"] {
        assert!(with("--epochs", epochs).contains(&format!("from 1 to a million, and not {epochs}")));
    }
}

#[test]
fn usage_errors_have_exit_code_2() {
    let place = Place::with_model();
    let cases: [&[&str]; 7] = [
        &["sample", "--out", "a.npz"],
        &["sample", "gaussian-mixture"],
        &["sample", "gaussian-mixture", "--out", "a.npz", "--seeds", "3-1"],
        &["sample", "gaussian-mixture", "--out", "a.npz", "--seeds", "1,1"],
        &["eval"],
        &["sharpen"],
        &["sample", "gaussian-mixture", "--out", "a.npz", "--steps", "5", "--sigmas", "1"],
    ];
    for args in cases {
        let run = place.run(args);
        assert_eq!(run.code, 2, "{args:?}");
        assert!(run.stdout.is_empty() && run.stderr.starts_with("error: "), "{}", run.stderr);
    }
}

/// What a slip of the hand asks for would not fit into memory: that is one sentence, and no abort.
#[test]
fn absurd_counts_are_refused() {
    let place = Place::new();
    for (args, name) in [
        ("plan gaussian-mixture --out new --set held_out.samples=1000000000000", "held_out.samples"),
        ("fit gaussian-mixture --out new --set tune.trajectories=1000000000000", "tune.trajectories"),
        ("fit gaussian-mixture --out new --set interpolate.images=1000000000000", "interpolate.images"),
        ("compare gaussian-mixture --out new --images 1000000000000000000", "images"),
        ("compare gaussian-mixture --out new --set ranges=1000000000000", "ranges"),
        ("compare gaussian-mixture --out new --set held_out=1000000000000", "held_out"),
        ("reproduce gaussian-mixture --rows baseline --out new --images 1000000000000", "seeds.images"),
        ("eval gaussian-mixture --protocol edm --set reduced=1000000000000", "reduced"),
        (
            "eval gaussian-mixture --steps 2 --seeds 0-29 --set metrics.bootstrap=1000000000000000000",
            "metrics.bootstrap",
        ),
        (
            "eval gaussian-mixture --steps 2 --seeds 0-29 --set metrics.bootstrap=4000000000000000000",
            "metrics.bootstrap",
        ),
        (
            "eval gaussian-mixture --steps 2 --seeds 0-29 --metrics kid --set metrics.kid_subsets=1000000000000",
            "metrics.kid_subsets",
        ),
    ] {
        let error = place.fails(&args.split(' ').collect::<Vec<_>>());
        assert!(error.contains(&format!("the setting {name} must be at most 10000000, not ")), "{args}: {error}");
    }
    let few = "eval gaussian-mixture --steps 2 --seeds 0-29 --metrics fid-infinity --set metrics.infinity_points=1";
    let error = place.fails(&few.split(' ').collect::<Vec<_>>());
    assert_eq!(error, "the setting metrics.infinity_points must be at least 2, not 1");
}
