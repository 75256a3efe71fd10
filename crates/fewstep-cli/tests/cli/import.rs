//! `fewstep import`: what it says, and what it refuses.

use crate::support::{Place, goldens, steady};

#[test]
fn says_what_it_found() {
    let Some(goldens) = goldens() else { return };
    let place = Place::new();
    std::fs::copy(goldens.join("adm_iddpm_cond.pkl"), place.path("net.pkl")).unwrap();
    insta::assert_snapshot!(steady(&place.succeeds(&["import", "net.pkl"])), @r#"
    net.pkl: snapshot of the EDM or EDM2 code
      network           ADM, 32 channels times [1, 2], 1 block(s) a level, attention at [8]
      parameterisation  iDDPM, 1000 discrete noise levels
      images            16x16 with 3 channels
      classes           10
      parameters        829,638
      noise levels      0.006422 to 80 when sampling
      imported from     net.pkl
      imported sha256   HASH
      source            EDM snapshot, class iDDPMPrecond
      stored as         f32
      written to        net.safetensors
    "#);
    assert!(place.fails(&["import", "net.pkl"]).contains("net.safetensors exists already"));
    let json = place.json(&["import", "net.pkl", "--half", "--overwrite"]);
    assert_eq!((json["classes"].as_i64(), json["stored_as"].as_str()), (Some(10), Some("f16")));
    assert_eq!(place.json(&["info", "net.safetensors"])[0]["parameters"], json["parameters"]);
}

#[test]
fn damaged_and_hostile_snapshots_leave_nothing() {
    let place = Place::new();
    let examples = format!("{}/../../testdata/edm_pickles", env!("CARGO_MANIFEST_DIR"));
    for name in ["os_system", "eval", "huge_shape", "no_ema"] {
        std::fs::copy(format!("{examples}/{name}.pkl"), place.path(&format!("{name}.pkl"))).unwrap();
    }
    insta::assert_snapshot!(place.fails(&["import", "os_system.pkl"]), @"os_system.pkl: the pickle calls `posix.system`, which is not among the names that a checkpoint or data set needs: nothing was executed, and the file should not be trusted (at byte 57 of the pickle)");
    insta::assert_snapshot!(place.fails(&["import", "eval.pkl"]), @"eval.pkl: the pickle calls `__builtin__.eval`, which is not among the names that a checkpoint or data set needs: nothing was executed, and the file should not be trusted (at byte 50 of the pickle)");
    insta::assert_snapshot!(place.fails(&["import", "huge_shape.pkl"]), @"huge_shape.pkl is not a usable EDM snapshot: its tensor `model.enc.16x16_conv.weight` cannot be read: its size is out of all proportion to the file's");
    insta::assert_snapshot!(place.fails(&["import", "no_ema.pkl"]), @"no_ema.pkl is not a usable EDM snapshot: it has no `ema` entry (it has: G, D)");
    insta::assert_snapshot!(place.fails(&["import", "missing.pkl"]), @"missing.pkl does not exist: check the path to the checkpoint");
    std::fs::write(place.path("weights.pth"), b"x").unwrap();
    let message = place.fails(&["import", "weights.pth"]);
    assert!(message.starts_with("weights.pth cannot be used as a feature network"), "{message}");
    std::fs::write(place.path("weights.ckpt"), b"x").unwrap();
    insta::assert_snapshot!(place.fails(&["import", "weights.ckpt"]), @"weights.ckpt is neither a snapshot of the EDM or EDM2 code (.pkl) nor Inception's weights (.pth, .pt or .safetensors)");
}

#[test]
fn every_truncation_of_a_snapshot_is_an_error() {
    let Some(goldens) = goldens() else { return };
    let place = Place::new();
    let bytes = std::fs::read(goldens.join("ddpmpp_edm.pkl")).unwrap();
    for share in [0, 1, 50, 99] {
        std::fs::write(place.path("cut.pkl"), &bytes[..bytes.len() * share / 100]).unwrap();
        assert!(place.fails(&["import", "cut.pkl"]).contains("cut.pkl"));
    }
}

#[test]
fn feature_networks_of_other_programs() {
    let place = Place::with_model();
    let examples = format!("{}/../../testdata/inception_files", env!("CARGO_MANIFEST_DIR"));
    for name in ["zip.pth", "legacy.pth", "torchvision.pt", "pytorch_fid.pt", "plain.safetensors"] {
        std::fs::copy(format!("{examples}/{name}"), place.path(name)).unwrap();
        // They hold the first layer only: read, and found to be incomplete.
        let message = place.fails(&["import", name, "--out", "inception.safetensors"]);
        assert_eq!(message, "the Inception weights have no tensor `Conv2d_2a_3x3.bn.weight`: the file is incomplete");
    }
    insta::assert_snapshot!(place.fails(&["import", "plain.safetensors"]), @"plain.safetensors has the name that the result would get: name another with --out");
    insta::assert_snapshot!(place.fails(&["import", "model.safetensors", "--out", "x.safetensors"]), @"model.safetensors is a file of fewstep, which needs no import");
    place.save_images("data", 1, 8, 4);
    // A pickle like those of NVIDIA's metric networks: no snapshot, and it calls what a checkpoint does not need.
    std::fs::write(place.path("inception-2015-12-05.pkl"), b"\x80\x02ctorch.jit\nload\n)R.").unwrap();
    insta::assert_snapshot!(place.fails(&["import", "inception-2015-12-05.pkl"]), @"inception-2015-12-05.pkl cannot be used as a feature network: NVIDIA's pickles of metric networks hold a program, which is never run here; use pytorch-fid's pt_inception-2015-12-05-6726825d.pth (github.com/mseitzer/pytorch-fid, release fid_weights; often already in ~/.cache/torch/hub/checkpoints) or torch-fidelity's weights-inception-2015-12-05-6726825d.pth (github.com/toshas/torch-fidelity, release v0.2.0)");
    let eval = ["eval", "data", "--ref", "data", "--features", "inception-2015-12-05.pkl"];
    let message = place.fails(&eval);
    assert!(message.contains("hold a program, which is never run here; use pytorch-fid's"), "{message}");
}
