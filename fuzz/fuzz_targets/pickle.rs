//! The pickle machine and what is read off its graph: any bytes.
#![no_main]

use fewstep_fuzz::memory::bounded;
use fewstep_io::pickle::{self, json};
use fewstep_io::{FileKind, edm_pkl};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    bounded(bytes.len(), 400, || {
        if let Ok(graph) = pickle::load(bytes) {
            let _ = json::convert(&graph, graph.root());
        }
        let _ = edm_pkl::read_bytes(bytes, "input.pkl");
        let _ = FileKind::of_bytes(bytes);
    });
});
