//! Checkpoints of ours: a header of any configuration with tensors of any shape.
#![no_main]

use arbitrary::Arbitrary;
use fewstep_fuzz::{Input, memory::bounded, places};
use fewstep_nn::checkpoint;
use fewstep_nn::tch::Device;
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
            let metadata = serde_json::Value::String(metadata);
            let comma = if tensors.is_empty() { "" } else { ", " };
            let header = format!(
                "{{\"__metadata__\": {{\"format\": \"fewstep model 1\", \"config\": {metadata}}}{comma}{tensors}}}"
            );
            places::safetensors(&header, &contents)
        }
    };
    bounded(bytes.len(), 400, || {
        let _ = checkpoint::from_bytes(&bytes, "input.safetensors", Device::Cpu);
    });
});
