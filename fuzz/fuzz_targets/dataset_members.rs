//! Zip archives that can be opened: a picture and `dataset.json` of any bytes.
#![no_main]

use fewstep_fuzz::{memory::bounded, places};
use fewstep_io::Dataset;
use libfuzzer_sys::fuzz_target;

// the first byte says what is there beside the picture, which is all that follows: labels, of a length in the second byte
fuzz_target!(|data: &[u8]| {
    let Some((what, rest)) = data.split_first() else { return };
    let [jpeg, deflated, labelled] = [1, 2, 4].map(|bit| what & bit != 0);
    let length = rest.first().map_or(0, |length| usize::from(*length) + 1);
    let (labels, picture) = if labelled { rest.split_at(length.min(rest.len())) } else { (&[][..], rest) };
    let name = if jpeg { "a/0.jpg" } else { "a/0.png" };
    let mut members = vec![(name, picture)];
    if labelled {
        members.push(("dataset.json", labels.get(1..).unwrap_or_default()));
    }
    let bytes = places::zip(members, deflated);
    let path = places::file("members.zip", &bytes);
    bounded(bytes.len(), 4000, || {
        if let Ok(data) = Dataset::open(&path) {
            let _ = data.load_all();
        }
    });
});
