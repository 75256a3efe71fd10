//! Arrays that users hand in: images, latents with class labels, noise levels. Any npz file of any members.
#![no_main]

use arbitrary::Arbitrary;
use fewstep::arrays::Arrays;
use fewstep::core::denoiser::{Levels, Spec};
use fewstep::sampling::Source;
use fewstep_eval::images;
use fewstep_fuzz::arrays::Array;
use fewstep_fuzz::{Input, memory::bounded, places};
use libfuzzer_sys::fuzz_target;

#[derive(Debug, Arbitrary)]
struct Members {
    latents: Array,
    labels: Array,
    sigmas: Array,
    images: Array,
    deflated: bool,
}

fuzz_target!(|data: &[u8]| {
    let bytes = match Input::of(data) {
        None => return,
        Some(Input::Bytes(bytes)) => bytes.to_vec(),
        Some(Input::Parts(Members { latents, labels, sigmas, images, deflated })) => {
            let members =
                [("latents.npy", latents), ("class_labels.npy", labels), ("sigma.npy", sigmas), ("arr_0.npy", images)];
            let members = members.map(|(name, array)| (name, array.bytes()));
            places::zip(members.iter().map(|(name, bytes)| (*name, bytes.as_slice())), deflated)
        }
    };
    let path = places::file("arrays.npz", &bytes);
    let unconditional = Spec::new([1, 2, 2], Levels::between(0.002, 80.0), "unconditional");
    let conditional = Spec { classes: 3, ..unconditional.clone() };
    bounded(bytes.len(), 4000, || {
        let _ = images::from_npz(&path);
        for spec in [&unconditional, &conditional] {
            for class in [None, Some(1)] {
                let _ = Source::latents(&path, class, spec);
            }
        }
        if let Ok(arrays) = Arrays::read(&path) {
            let _ = arrays.sigmas("sigma", 2);
        }
    });
});
