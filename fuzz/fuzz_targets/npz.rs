//! Archives of arrays: any bytes, and members of any bytes in an archive that can be opened.
#![no_main]

use arbitrary::Arbitrary;
use fewstep_fuzz::arrays::Array;
use fewstep_fuzz::{Input, memory::bounded, places};
use fewstep_io::npz;
use libfuzzer_sys::fuzz_target;

#[derive(Debug, Arbitrary)]
struct Members {
    first: Array,
    second: Array,
    deflated: bool,
}

fuzz_target!(|data: &[u8]| {
    let bytes = match Input::of(data) {
        None => return,
        Some(Input::Bytes(bytes)) => bytes.to_vec(),
        Some(Input::Parts(Members { first, second, deflated })) => {
            places::zip([("mu.npy", first.bytes().as_slice()), ("sigma.npy", second.bytes().as_slice())], deflated)
        }
    };
    // what is deflated may be a thousand times as much
    bounded(bytes.len(), 4000, || {
        let _ = npz::read_bytes(&bytes, "input.npz");
    });
});
