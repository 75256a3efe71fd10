//! Tensors that are read row by row: any bytes of safetensors.
#![no_main]

use fewstep_fuzz::{memory::bounded, places};
use fewstep_io::rows::Reader;
use fewstep_io::safetensors;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let path = places::file("rows.safetensors", bytes);
    bounded(bytes.len(), 400, || {
        let (header, reader) = (safetensors::read_header(&path), Reader::open(&path));
        let (Ok(header), Ok(reader)) = (header, reader) else { return };
        for name in header.tensors.keys() {
            let rows = reader.shape(name).and_then(|shape| shape.first().copied()).unwrap_or_default();
            let (first, last) = (reader.read(name, &[0]), reader.read(name, &[rows.saturating_sub(1)]));
            assert_eq!(first.is_ok(), last.is_ok(), "{name}");
            assert!(reader.read(name, &[rows]).is_err(), "{name} has {rows} rows");
        }
    });
});
