//! Snapshots of the EDM code as networks: JSON with hostile constructor arguments, pickled as that code pickles.
#![no_main]

use fewstep_fuzz::{memory::bounded, pickles, places};
use fewstep_nn::checkpoint;
use fewstep_nn::tch::Device;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let Ok(root) = serde_json::from_str(text) else { return };
    let bytes = pickles::of_json(&root);
    let path = places::file("snapshot.pkl", &bytes);
    bounded(bytes.len(), 400, || {
        let _ = checkpoint::load(&path, Device::Cpu);
    });
});
