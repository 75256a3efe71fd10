//! Reference statistics: archives of any arrays.
#![no_main]

use fewstep_eval::Reference;
use fewstep_fuzz::{memory::bounded, places};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let path = places::file("statistics.npz", bytes);
    bounded(bytes.len(), 4000, || {
        if let Ok(reference) = Reference::read(&path, "input")
            && reference.statistics.dim() <= 64
        {
            let _ = reference.frechet().map(|_| ());
        }
    });
});
