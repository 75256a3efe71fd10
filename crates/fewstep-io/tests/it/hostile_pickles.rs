//! Damage and malice against every checkpoint reader: a value or an error, never a panic, never much memory.

use fewstep_io::pickle::{self, PickleErrorKind};
use fewstep_io::{edm_pkl, torch_zip};
use proptest::prelude::*;

use crate::testdata;

fn file(name: &str) -> Vec<u8> {
    std::fs::read(testdata("edm_pickles").join(name)).unwrap()
}

#[test]
fn every_truncation_is_an_error() {
    for name in ["protocol0.pkl", "protocol2.pkl", "protocol4.pkl"] {
        let bytes = file(name);
        for len in 0..bytes.len() {
            assert!(edm_pkl::read_bytes(&bytes[..len], name).is_err(), "{name} cut at {len}");
        }
    }
    for name in ["state.zip.pth", "state.legacy.pth"] {
        let bytes = file(name);
        for len in 0..bytes.len() {
            assert!(torch_zip::read_bytes(&bytes[..len], name).is_err(), "{name} cut at {len}");
        }
    }
}

#[test]
fn every_single_damaged_byte_is_survived() {
    for name in ["protocol0.pkl", "protocol4.pkl"] {
        let bytes = file(name);
        for at in 0..bytes.len() {
            for flip in [0x01, 0x40, 0xff] {
                let mut damaged = bytes.clone();
                damaged[at] ^= flip;
                let _ = edm_pkl::read_bytes(&damaged, name);
            }
        }
    }
    for name in ["state.zip.pth", "state.legacy.pth"] {
        let bytes = file(name);
        for at in 0..bytes.len() {
            for flip in [0x01, 0x40, 0xff] {
                let mut damaged = bytes.clone();
                damaged[at] ^= flip;
                let _ = torch_zip::read_bytes(&damaged, name);
            }
        }
    }
}

#[test]
fn depth_costs_no_stack() {
    // A list in a list in a list, half a million deep, read and dropped.
    let depth = 500_000;
    let mut bytes = vec![b']'; depth];
    bytes.extend(vec![b'a'; depth - 1]);
    bytes.push(b'.');
    assert!(pickle::load(&bytes).is_ok());

    // The same inside a snapshot's settings.
    let mut bytes = b"\x80\x04}(\x8c\x03ema".to_vec();
    let inner = file("protocol4.pkl");
    bytes = {
        let _ = bytes;
        let mut out = inner[..inner.len() - 1].to_vec();
        out.extend(b"\x8c\x0edataset_kwargs");
        out.extend(vec![b']'; depth]);
        out.extend(vec![b'a'; depth - 1]);
        out.extend(b"s.");
        out
    };
    // The frame's length no longer matters: it only has to lie within the file.
    let message = edm_pkl::read_bytes(&bytes, "deep").unwrap_err().to_string();
    assert!(message.contains("nested deeper than 32 levels"), "{message}");
}

#[test]
fn declared_sizes_are_not_believed() {
    let kinds = [
        &b"\x8e\xff\xff\xff\xff\xff\xff\xff\x7fx."[..], // BINBYTES8 of 2^63 bytes
        b"\x8d\xff\xff\xff\xff\xff\xff\xff\xffx.",      // BINUNICODE8
        b"\x96\x00\x00\x00\x00\x01\x00\x00\x00x.",      // BYTEARRAY8 of 4 GiB
        b"B\xff\xff\xff\xffx.",                         // BINBYTES
        b"\x95\xff\xff\xff\xff\xff\xff\xff\xffN.",      // FRAME
        b"\x8b\xff\xff\xff\x7fx.",                      // LONG4
    ];
    for bytes in kinds {
        let error = pickle::load(bytes).unwrap_err();
        assert!(matches!(error.kind, PickleErrorKind::Truncated { .. }), "{error}");
    }
    assert!(pickle::load(b"T\xff\xff\xff\xffx.").is_err(), "a negative length");
}

#[test]
fn objects_without_end_hit_the_limit() {
    let mut bytes = vec![b']'; 1_100_000];
    bytes.push(b'.');
    let error = pickle::load(&bytes).unwrap_err();
    assert!(matches!(error.kind, PickleErrorKind::Limit { .. }), "{error}");
    let mut bytes = vec![b'('; 1_100_000];
    bytes.push(b'.');
    assert!(matches!(pickle::load(&bytes).unwrap_err().kind, PickleErrorKind::Limit { .. }));
}

#[test]
fn encoding_the_same_text_again_and_again_hits_the_limit() {
    // text = 1000 x "a", encoded by 7-byte calls that each would make another 1000 bytes.
    let mut bytes = b"\x80\x02c_codecs\nencode\nq\x00X\xe8\x03\x00\x00".to_vec();
    bytes.extend([b'a'; 1000]);
    bytes.extend(b"q\x01X\x06\x00\x00\x00latin1q\x02");
    for _ in 0..10_000 {
        bytes.extend(b"h\x00h\x01h\x02\x86R0");
    }
    bytes.push(b'.');
    assert!(matches!(pickle::load(&bytes).unwrap_err().kind, PickleErrorKind::Limit { .. }));
}

#[test]
fn names_of_the_same_decoded_text_again_and_again_hit_the_limit() {
    // a text of 1000 characters, which is decoded, and names made of it twice by 4 bytes each
    let mut bytes = [b"V", &[b'a'; 1000][..], b"\nq\0"].concat();
    for _ in 0..10_000 {
        bytes.extend(b"h\x002\x93");
    }
    bytes.push(b'.');
    let error = pickle::load(&bytes).unwrap_err();
    assert!(matches!(error.kind, PickleErrorKind::Limit { limit, .. } if limit < 100_000), "{error}");
    // once is as good as any text, and one that is borrowed may come as often as it likes
    assert!(pickle::load(b"Vtorch\nVSize\n\x93.").is_ok());
    let mut bytes = [&b"X\xe8\x03\0\0"[..], &[b'a'; 1000], b"q\0"].concat();
    bytes.extend(b"h\x002\x93".repeat(10_000));
    bytes.push(b'.');
    assert!(pickle::load(&bytes).is_ok());
}

#[test]
fn cycles_are_harmless() {
    // A list that holds itself, and a dictionary that is its own value.
    assert!(pickle::load(b"]q\x00h\x00a.").is_ok());
    let graph = pickle::load(b"}q\x00X\x01\x00\x00\x00ah\x00s.").unwrap();
    assert!(pickle::json::convert(&graph, graph.root()).unwrap_err().to_string().contains("deeper"));
}

#[test]
fn unsupported_instructions_are_named() {
    for bytes in [&b"\x82\x01."[..], b"\x97.", b"\x98."] {
        assert!(matches!(pickle::load(bytes).unwrap_err().kind, PickleErrorKind::Unsupported(_)));
    }
    assert!(matches!(pickle::load(b"\xfe.").unwrap_err().kind, PickleErrorKind::UnknownOpcode(0xfe)));
    assert!(matches!(pickle::load(b"h\x05.").unwrap_err().kind, PickleErrorKind::NoMemo(5)));
    for bytes in [&b"."[..], b"0.", b"a.", b"(a.", b"R.", b"]u.", b"](Nu.", b"N)R.", b"N(e.", b"]]b.", b"(1.", b"2."] {
        assert!(pickle::load(bytes).is_err(), "{bytes:?}");
    }
    assert!(pickle::load(b"N.N").is_err(), "bytes after the end");
}

const OPCODES: &[u8] = b"(.012FIJKLMNTUSVXBCabcde}tgh]jl)pqrsuiRoPQG\
    \x80\x81\x85\x86\x87\x88\x89\x8a\x8b\x8c\x8d\x8e\x8f\x90\x91\x92\x93\x94\x95\x96\x00\x01\x02\n";

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn random_bytes_are_survived(bytes: Vec<u8>) {
        let _ = pickle::load(&bytes);
        let _ = edm_pkl::read_bytes(&bytes, "random");
        let _ = torch_zip::read_bytes(&bytes, "random");
    }

    #[test]
    fn random_instructions_are_survived(picks in prop::collection::vec(0..OPCODES.len(), 0..200)) {
        let bytes: Vec<u8> = picks.into_iter().map(|i| OPCODES[i]).collect();
        if let Ok(graph) = pickle::load(&bytes) {
            let _ = pickle::json::convert(&graph, graph.root());
        }
    }

    #[test]
    fn several_damaged_bytes_are_survived(
        protocol in 0..=5usize,
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
    ) {
        let mut bytes = file(&format!("protocol{protocol}.pkl"));
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let _ = edm_pkl::read_bytes(&bytes, "damaged");
    }

    #[test]
    fn spliced_files_are_survived(from in any::<prop::sample::Index>(), len in 0usize..64, to in any::<prop::sample::Index>()) {
        let bytes = file("state.legacy.pth");
        let from = from.index(bytes.len());
        let piece = bytes[from..(from + len).min(bytes.len())].to_vec();
        let to = to.index(bytes.len());
        let mut spliced = bytes.clone();
        spliced.splice(to..to, piece);
        let _ = torch_zip::read_bytes(&spliced, "spliced");
    }
}
