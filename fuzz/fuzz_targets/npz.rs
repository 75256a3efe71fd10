//! Archives of arrays: any bytes, and members of any bytes in an archive that can be opened.
#![no_main]

use arbitrary::Arbitrary;
use fewstep_fuzz::{Input, memory::bounded, places};
use fewstep_io::npz;
use libfuzzer_sys::fuzz_target;

#[derive(Debug, Arbitrary)]
struct Members {
    first: Array,
    second: Array,
    deflated: bool,
}

/// An array with its header as NumPy writes it, of whatever it says.
#[derive(Debug, Arbitrary)]
enum Array {
    Bytes(Vec<u8>),
    Parts { version: bool, descr: Descr, fortran: bool, shape: Vec<u32>, own: Option<String>, contents: Vec<u8> },
}

#[derive(Debug, Arbitrary)]
enum Descr {
    F4,
    F8,
    F2,
    I8,
    U1,
    Text,
    Big,
    Object,
    Own(String),
}

impl Array {
    fn bytes(&self) -> Vec<u8> {
        let Self::Parts { version, descr, fortran, shape, own, contents } = self else {
            let Self::Bytes(bytes) = self else { return Vec::new() };
            return bytes.clone();
        };
        let descr = match descr {
            Descr::F4 => "<f4",
            Descr::F8 => "<f8",
            Descr::F2 => "<f2",
            Descr::I8 => "<i8",
            Descr::U1 => "|u1",
            Descr::Text => "<U5",
            Descr::Big => ">f4",
            Descr::Object => "|O",
            Descr::Own(own) => own,
        };
        let fortran = if *fortran { "True" } else { "False" };
        let shape: String = shape.iter().map(|size| format!("{size}, ")).collect();
        let header = own.clone().unwrap_or_else(|| {
            format!("{{'descr': '{descr}', 'fortran_order': {fortran}, 'shape': ({shape}), }}\n")
        });
        let mut bytes = b"\x93NUMPY".to_vec();
        if *version {
            bytes.extend([2, 0]);
            bytes.extend((header.len() as u32).to_le_bytes());
        } else {
            bytes.extend([1, 0]);
            bytes.extend((header.len() as u16).to_le_bytes());
        }
        bytes.extend(header.as_bytes());
        bytes.extend(contents);
        bytes
    }
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
