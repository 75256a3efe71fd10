//! Feature networks: any bytes, and a header of any architecture with tensors of any shape. One that opens gives features.
#![no_main]

use arbitrary::Arbitrary;
use fewstep_eval::features::{OpenOptions, open};
use fewstep_fuzz::{Input, memory::bounded, places};
use fewstep_nn::tch::{Device, Kind, Tensor};
use libfuzzer_sys::fuzz_target;

#[derive(Debug, Arbitrary)]
struct Parts {
    metadata: String,
    tensors: String,
    contents: Vec<u8>,
}

fuzz_target!(|data: &[u8]| {
    let bytes = match Input::of(data) {
        None => return,
        Some(Input::Bytes(bytes)) => bytes.to_vec(),
        Some(Input::Parts(Parts { metadata, tensors, contents })) => {
            let config = serde_json::Value::String(metadata);
            let comma = if tensors.is_empty() { "" } else { ", " };
            let header = format!(
                "{{\"__metadata__\": {{\"format\": \"fewstep features 1\", \"architecture\": \"small-cnn\", \"config\": {config}}}{comma}{tensors}}}"
            );
            places::safetensors(&header, &contents)
        }
    };
    let path = places::file("features", &bytes);
    bounded(bytes.len(), 400, || {
        if let Ok(network) = open(&path, &OpenOptions::default(), Device::Cpu) {
            for channels in [1, 3] {
                let _ = network.activations(&Tensor::zeros([1, channels, 8, 8], (Kind::Uint8, Device::Cpu)));
            }
        }
    });
});
