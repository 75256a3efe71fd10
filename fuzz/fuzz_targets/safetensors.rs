//! Safetensors: any bytes, and a header of any text with contents behind it.
#![no_main]

use arbitrary::Arbitrary;
use fewstep_fuzz::{Input, memory::bounded, places};
use fewstep_io::safetensors;
use libfuzzer_sys::fuzz_target;

#[derive(Debug, Arbitrary)]
struct Parts {
    header: String,
    contents: Vec<u8>,
}

fuzz_target!(|data: &[u8]| {
    let bytes = match Input::of(data) {
        None => return,
        Some(Input::Bytes(bytes)) => bytes.to_vec(),
        Some(Input::Parts(Parts { header, contents })) => places::safetensors(&header, &contents),
    };
    bounded(bytes.len(), 400, || {
        let _ = safetensors::read_bytes(&bytes, "input.safetensors");
    });
});
