//! Files of `torch.save`, zip and legacy, and snapshots saved so: any bytes.
#![no_main]

use fewstep_fuzz::memory::bounded;
use fewstep_io::{FileKind, edm_pkl, torch_zip};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    bounded(bytes.len(), 400, || {
        let _ = torch_zip::read_bytes(bytes, "input.pt");
        let _ = edm_pkl::read_bytes(bytes, "input.pt");
        let _ = FileKind::of_bytes(bytes);
    });
});
