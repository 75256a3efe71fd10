//! Programs that do not do what their descriptions say, and files that are none.

use fewstep_nn::program::config::EXAMPLE;
use fewstep_nn::program::{Program, ProgramConfig};
use fewstep_nn::tch::{Device, Kind, Tensor};
use serde_json::json;

use super::{CPU, Place, beside, config, load};

#[test]
fn programs_that_do_something_else_than_described_are_one_sentence() {
    let place = Place::new();
    let refused = |f: &dyn Fn(&[Tensor]) -> Tensor, batch: i64| {
        let inputs = [Tensor::rand([batch, 4, 3, 5], CPU), Tensor::rand([batch], CPU)];
        let path = place.trace("model.pt", &inputs, f);
        let error = Program::load(&path, config(|_| ()), Device::Cpu).unwrap_err().to_string();
        assert!(error.contains("model.pt") && error.lines().count() == 1, "{error}");
        error
    };
    let error = refused(&|x| x[0].narrow(2, 0, 1) + beside(&x[1], &x[0]), 3);
    assert!(error.contains("answers [2, 4, 1, 5]") && error.contains("[2, 4, 3, 5] is needed"), "{error}");
    let error = refused(&|x| (&x[0] + beside(&x[1], &x[0])).to_kind(Kind::Int64), 3);
    assert!(error.contains("answers int64 [2, 4, 3, 5], where floats"), "{error}");
    // a trace that knows one batch alone
    let error = refused(&|x| x[0].reshape([3, 4, 15]).reshape([3, 4, 3, 5]) + beside(&x[1], &x[0]), 3);
    assert!(error.contains("forward(x f32 [2, 4, 3, 5], noise f32 [2])"), "{error}");

    let (_place, path) = Place::with_network(&[4, 3, 5]);
    let swapped = config(|json| json["inputs"] = json!(["noise", "x"]));
    let error = Program::load(&path, swapped, Device::Cpu).unwrap_err().to_string();
    assert!(error.contains("forward(noise f32 [2], x f32 [2, 4, 3, 5])"), "{error}");
    let program = load(&path, config(|_| ()));
    let x = Tensor::randn([3, 4, 3, 5], CPU);
    for (x, sigma, says) in [
        (x.narrow(1, 0, 3), vec![1f32], "states [3, 3, 3, 5], where [N, ...] with [4, 3, 5] are needed"),
        (x.narrow(0, 0, 0), vec![1f32], "states [0, 4, 3, 5]"),
        (x, vec![1f32, 2.0], "2 noise levels for 3 states"),
    ] {
        let error = program.denoise(&x, &Tensor::from_slice(&sigma), None).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
}

#[test]
fn files_that_are_no_programs_are_refused() {
    let place = Place::new();
    let path = place.path("model.pt");
    let error = ProgramConfig::beside(&path).unwrap_err().to_string();
    assert!(error.contains("model.pt does not exist"), "{error}");
    let error = Program::load(&path, config(|_| ()), Device::Cpu).unwrap_err().to_string();
    assert!(error.contains("model.pt does not exist"), "{error}");
    std::fs::write(&path, b"no zip").unwrap();
    let error = ProgramConfig::beside(&path).unwrap_err().to_string();
    assert!(error.contains("model.json beside it, such as") && error.contains(EXAMPLE), "{error}");
    let error = Program::load(&path, config(|_| ()), Device::Cpu).unwrap_err().to_string();
    assert!(error.contains("model.pt is no TorchScript") && error.lines().count() == 1, "{error}");
    for (json, says) in [("{", "EOF"), ("\u{feff}{\"shapes\": [3]}", "unknown field `shapes`")] {
        std::fs::write(place.path("model.json"), json).unwrap();
        let error = ProgramConfig::beside(&path).unwrap_err().to_string();
        assert!(error.contains("model.json is no valid description of a program: ") && error.contains(says), "{error}");
    }
    std::fs::write(place.path("model.json"), format!("\u{feff}{EXAMPLE}\n")).unwrap();
    assert_eq!(ProgramConfig::beside(&path).unwrap().shape, [3, 32, 32]);
}
