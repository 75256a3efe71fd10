//! Data sets of several files: a folder of pictures with `dataset.json`, and IDX images with a file of labels. Any bytes.
#![no_main]

use fewstep_fuzz::{memory::bounded, places};
use fewstep_io::{Dataset, DatasetOptions};
use libfuzzer_sys::fuzz_target;

const IMAGES: &str = "idx/data-images-idx3-ubyte";

// the first byte says what follows two others, which say how long its first part is
fuzz_target!(|data: &[u8]| {
    let [kind, low, high, rest @ ..] = data else { return };
    let (first, second) = rest.split_at(usize::from(u16::from_le_bytes([*low, *high])).min(rest.len()));
    let (path, options) = if kind & 1 == 0 {
        let name = if kind & 2 == 0 { "a/0.png" } else { "a/0.jpg" };
        let folder = places::folder(&[("dataset.json", first), (name, second), ("b/1.png", second)]);
        (folder, DatasetOptions::default())
    } else {
        let folder = places::folder(&[(IMAGES, first), ("idx/data-labels-idx1-ubyte", second)]);
        let pad_to = (kind & 2 != 0).then_some(8);
        (folder.join(IMAGES), DatasetOptions { pad_to, ..DatasetOptions::default() })
    };
    bounded(data.len(), 4000, || {
        if let Ok(data) = Dataset::open_with(&path, &options) {
            let _ = data.image(0);
            let _ = data.fingerprint();
            if data.len() < 1000 {
                let _ = data.load_all();
            }
        }
    });
});
