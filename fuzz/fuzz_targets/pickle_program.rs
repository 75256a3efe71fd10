//! Pickles that a machine runs to their end, alone, in an archive of `torch.save` with contents, and in a legacy stream.
#![no_main]

use arbitrary::Arbitrary;
use fewstep_fuzz::memory::bounded;
use fewstep_fuzz::pickles::Pickle;
use fewstep_fuzz::places;
use fewstep_io::{edm_pkl, torch_zip};
use libfuzzer_sys::fuzz_target;

#[derive(Debug, Arbitrary)]
struct Input {
    pickle: Pickle,
    keys: Pickle,
    storages: [Vec<u8>; 2],
    deflated: bool,
}

/// Magic number, version and system of a legacy stream.
const LEGACY: &[u8] =
    b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.\x80\x02}q\x00X\x0d\x00\x00\x00little_endian\x88s.";

fuzz_target!(|input: Input| {
    let Input { pickle: Pickle(pickle), keys: Pickle(keys), storages: [first, second], deflated } = &input;
    let archive = places::zip(
        [
            ("archive/data.pkl", pickle.as_slice()),
            ("archive/byteorder", b"little"),
            ("archive/data/0", first),
            ("archive/data/1", second),
        ],
        *deflated,
    );
    let legacy = [LEGACY, pickle, keys, first, second].concat();
    for bytes in [pickle.as_slice(), &archive, &legacy] {
        bounded(bytes.len(), 400, || {
            let _ = edm_pkl::read_bytes(bytes, "input");
            let _ = torch_zip::read_bytes(bytes, "input");
        });
    }
});
