//! Data sets of one file: zip, IDX, CIFAR-10, packed or not. Any bytes.
#![no_main]

use fewstep_fuzz::{memory::bounded, places};
use fewstep_io::Dataset;
use libfuzzer_sys::fuzz_target;

// the first byte is for the name, which may say what bytes do not
fuzz_target!(|data: &[u8]| {
    let Some((name, bytes)) = data.split_first() else { return };
    let names = ["data.zip", "data.bin", "data-images-idx3-ubyte", "data-images-idx3-ubyte.gz", "cifar.tar.gz", "data"];
    let path = places::file(names[*name as usize % names.len()], bytes);
    bounded(bytes.len(), 4000, || {
        if let Ok(data) = Dataset::open(&path) {
            let _ = data.image(0);
            let _ = data.image(data.len());
            let _ = data.fingerprint();
            // images that a few bytes declare by the million
            if data.len() < 1000 {
                let _ = data.load_all();
            }
        }
    });
});
