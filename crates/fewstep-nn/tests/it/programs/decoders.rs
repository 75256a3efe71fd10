//! Decoders: pixels of latent states.

use fewstep_nn::program::Program;
use fewstep_nn::tch::{Device, Kind, Tensor};
use fewstep_nn::tensor::Batch;
use serde_json::json;

use super::{CPU, Place, config, load};
use crate::golden::assert_close;

/// A decoder that doubles the height and width and makes three channels of the first.
fn upscaled(x: &Tensor) -> Tensor {
    x.narrow(1, 0, 1).repeat([1, 3, 1, 1]).repeat_interleave_self_int(2, 2, None).repeat_interleave_self_int(2, 3, None)
}

#[test]
fn a_decoder_makes_pixels_of_scaled_states() {
    let (place, path) = Place::with_network(&[4, 3, 5]);
    place.trace("decoder.pt", &[Tensor::rand([3, 4, 3, 5], CPU)], |x| upscaled(&x[0]));
    let program = load(
        &path,
        config(|json| {
            json["decoder"] = json!({"path": "decoder.pt", "scale": [2.0, 1.0, 1.0, 1.0], "shift": -0.25});
        }),
    )
    .with_batch(2);
    let x = Tensor::randn([5, 4, 3, 5], CPU).set_requires_grad(true);
    let decoder = program.codec().decoder().unwrap();
    let pixels = decoder.decode(&x).unwrap();
    let in_parts = program.codec().pixels(&Batch(x.detach())).unwrap();
    assert_close("pixels in parts", &in_parts, &pixels, 1e-6);
    assert_close("pixels", &pixels, &upscaled(&(&x * 2.0 - 0.25)), 1e-6);
    let gradient = &Tensor::run_backward(&[pixels.sum(Kind::Float)], &[&x], false, false)[0];
    let once = x.zeros_like();
    let _ = once.narrow(1, 0, 1).fill_(24.0); // 3 channels of 4 pixels, times 2
    assert_close("gradient", gradient, &once, 1e-6);
    let error = decoder.decode(&x.narrow(1, 0, 3)).unwrap_err().to_string();
    assert!(error.contains("decoder.pt") && error.contains("states [5, 3, 3, 5]"), "{error}");
}

#[test]
fn decoders_that_make_no_pixels_are_refused() {
    let (place, path) = Place::with_network(&[4, 3, 5]);
    let with_decoder = || {
        let described = config(|json| json["decoder"] = json!({"path": "decoder.pt"}));
        let error = Program::load(&path, described, Device::Cpu).unwrap_err().to_string();
        assert!(error.contains("decoder.pt") && error.lines().count() == 1, "{error}");
        error
    };
    assert!(with_decoder().contains("does not exist"));
    type Decode = fn(&Tensor) -> Tensor;
    let wrong: [(Decode, &str); 6] = [
        (|x| x * 1.0, "answers [2, 4, 3, 5]"),
        (|x| x.flatten(1, -1), "pixels [2, 1 or 3, height, width] are needed"),
        (|x| upscaled(x) + 127.5, "up to 128"),
        (|x| upscaled(x) * f64::NAN, "not a number"),
        (|x| upscaled(x) + f64::INFINITY, "up to inf"),
        (|x| upscaled(x).to_kind(Kind::Int64), "answers int64 [2, 3, 6, 10], where floats are needed"),
    ];
    for (f, says) in wrong {
        place.trace("decoder.pt", &[Tensor::rand([3, 4, 3, 5], CPU)], |x| f(&x[0]));
        let error = with_decoder();
        assert!(error.contains(says), "{error}");
    }
}
