//! The `.npy` format: one array with a small text header. Also NumPy's type strings, which pickled arrays share.
//!
//! Own code because the header comes from files that nobody vouches for: the Python-literal parsers at hand recurse
//! without a bound, while a header is a flat dictionary of three known keys.

use crate::strided;
use crate::tensors::{Dtype, TensorData};

const MAGIC: &[u8] = b"\x93NUMPY";

/// Element type and whether it is big-endian, from a type string such as `<f4`, `|u1`, `f8`.
pub(crate) fn parse_descr(descr: &str) -> Option<(Dtype, bool)> {
    let (order, kind) = match descr.as_bytes().first()? {
        b'<' | b'>' | b'|' | b'=' => descr.split_at_checked(1)?,
        _ => ("<", descr),
    };
    let dtype = match kind {
        "b1" | "?" => Dtype::Bool,
        "u1" => Dtype::U8,
        "i1" => Dtype::I8,
        "i2" => Dtype::I16,
        "i4" => Dtype::I32,
        "i8" => Dtype::I64,
        "f2" => Dtype::F16,
        "f4" => Dtype::F32,
        "f8" => Dtype::F64,
        _ => return None,
    };
    Some((dtype, order == ">" && dtype.size() > 1))
}

/// NumPy's type string of a dtype; `None` for bfloat16, which NumPy lacks.
pub(crate) fn descr(dtype: Dtype) -> Option<&'static str> {
    Some(match dtype {
        Dtype::Bool => "|b1",
        Dtype::U8 => "|u1",
        Dtype::I8 => "|i1",
        Dtype::I16 => "<i2",
        Dtype::I32 => "<i4",
        Dtype::I64 => "<i8",
        Dtype::F16 => "<f2",
        Dtype::F32 => "<f4",
        Dtype::F64 => "<f8",
        Dtype::BF16 => return None,
    })
}

/// An array from its raw bytes in NumPy's terms.
///
/// # Errors
/// A sentence if the bytes are not exactly those of the shape.
pub(crate) fn array(
    dtype: Dtype,
    big_endian: bool,
    fortran: bool,
    shape: Vec<usize>,
    raw: &[u8],
) -> Result<TensorData, String> {
    let needed = strided::numel(&shape).and_then(|n| n.checked_mul(dtype.size()));
    if needed != Some(raw.len()) {
        return Err(format!("shape {shape:?} of {dtype:?} does not fit its {} bytes", raw.len()));
    }
    let mut bytes = match fortran {
        true => {
            let strides = strided::column_major(&shape).ok_or("its shape overflows")?;
            strided::gather(raw, dtype.size(), 0, &shape, &strides)?
        }
        false => raw.to_vec(),
    };
    if big_endian {
        bytes.chunks_exact_mut(dtype.size()).for_each(<[u8]>::reverse);
    }
    Ok(TensorData { dtype, shape, bytes })
}

/// Parses a whole `.npy` file.
///
/// # Errors
/// A sentence saying what is wrong.
pub(crate) fn parse(file: &[u8]) -> Result<TensorData, String> {
    let rest = file.strip_prefix(MAGIC).ok_or("it does not start with NumPy's signature")?;
    let (&[major, _minor], rest) = rest.split_first_chunk::<2>().ok_or("its header is cut off")?;
    let (len, rest) = match major {
        1 => rest.split_first_chunk::<2>().map(|(n, rest)| (usize::from(u16::from_le_bytes(*n)), rest)),
        2 | 3 => rest.split_first_chunk::<4>().map(|(n, rest)| (u32::from_le_bytes(*n) as usize, rest)),
        _ => return Err(format!("its format version {major} is none of 1 to 3")),
    }
    .ok_or("its header is cut off")?;
    let (header, raw) = rest.split_at_checked(len).ok_or("its header is cut off")?;
    let header = std::str::from_utf8(header).map_err(|_| "its header is not text")?;
    let Header { descr, fortran, shape } = parse_header(header)?;
    let (dtype, big_endian) = parse_descr(&descr)
        .ok_or_else(|| format!("its element type {descr:?} is none of bool, u1, i1..i8, f2..f8: convert it first"))?;
    array(dtype, big_endian, fortran, shape, raw)
}

struct Header {
    descr: String,
    fortran: bool,
    shape: Vec<usize>,
}

/// `{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }`
fn parse_header(text: &str) -> Result<Header, String> {
    let after = |key: &str| -> Result<&str, String> {
        let (_, rest) = text.split_once(&format!("'{key}'")).ok_or(format!("its header lacks {key:?}"))?;
        let rest = rest.trim_start().strip_prefix(':').ok_or("its header is malformed")?;
        Ok(rest.trim_start())
    };
    let descr = after("descr")?;
    let descr = descr
        .strip_prefix('\'')
        .and_then(|rest| rest.split_once('\''))
        .ok_or("its elements are records, not numbers: save each field as an array of its own")?
        .0;
    let fortran = match after("fortran_order")? {
        rest if rest.starts_with("True") => true,
        rest if rest.starts_with("False") => false,
        _ => return Err("its header is malformed at fortran_order".into()),
    };
    let shape = after("shape")?.strip_prefix('(').and_then(|rest| rest.split_once(')'));
    let shape = shape.ok_or("its header is malformed at shape")?.0;
    let sizes = shape.split(',').map(|s| s.trim().trim_end_matches('L')).filter(|s| !s.is_empty());
    let shape: Result<Vec<usize>, _> = sizes.map(str::parse).collect();
    let shape = shape.map_err(|_| "its header is malformed at shape")?;
    if shape.len() > strided::MAX_DIMS {
        return Err(format!("it has {} dimensions, more than an array may have", shape.len()));
    }
    Ok(Header { descr: descr.chars().take(40).collect(), fortran, shape })
}

/// The bytes before an array's elements in a `.npy` file, padded to 64 as NumPy does; `None` for bfloat16.
pub(crate) fn header(tensor: &TensorData) -> Option<Vec<u8>> {
    let sizes: Vec<String> = tensor.shape.iter().map(ToString::to_string).collect();
    // Python writes a tuple of one with a comma.
    let comma = if sizes.len() == 1 { "," } else { "" };
    let descr = descr(tensor.dtype)?;
    let mut text = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({}{comma}), }}", sizes.join(", "));
    let unpadded = MAGIC.len() + 4 + text.len() + 1;
    text.extend(std::iter::repeat_n(' ', unpadded.next_multiple_of(64) - unpadded));
    text.push('\n');
    let mut out = MAGIC.to_vec();
    out.extend([1, 0]);
    out.extend(u16::try_from(text.len()).ok()?.to_le_bytes());
    out.extend(text.as_bytes());
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn file(header: &str, raw: &[u8]) -> Vec<u8> {
        let mut out = b"\x93NUMPY\x01\x00".to_vec();
        out.extend((header.len() as u16).to_le_bytes());
        out.extend(header.as_bytes());
        out.extend(raw);
        out
    }

    #[test]
    fn reads_fortran_order_and_big_endian() {
        let header = "{'descr': '>i2', 'fortran_order': True, 'shape': (2, 3), }\n";
        let array = parse(&file(header, &[0, 0, 0, 1, 0, 2, 0, 3, 0, 4, 0, 5])).unwrap();
        assert_eq!(array.shape, [2, 3]);
        assert_eq!(array.to_i64().unwrap(), [0, 2, 4, 1, 3, 5]);
    }

    #[test]
    fn hostile_headers_are_errors() {
        for header in [
            "",
            "{}",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (18446744073709551615, 4), }",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (-1,), }",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (1e9,), }",
            "{'descr': '<f4', 'fortran_order': Maybe, 'shape': (1,), }",
            "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,), }",
            "{'descr': '|O', 'fortran_order': False, 'shape': (1,), }",
            &format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({}), }}", "1,".repeat(100)),
            &"(".repeat(60_000),
        ] {
            assert!(parse(&file(header, &[0; 4])).is_err(), "{header}");
        }
        assert!(parse(b"\x93NUMPY\x02\x00\xff\xff\xff\xff").is_err());
        assert!(parse(b"\x93NUMPY").is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_give_an_array_or_an_error(header in ".{0,80}", raw: Vec<u8>) {
            let _ = parse(&file(&header, &raw));
            let _ = parse(&raw);
        }

        #[test]
        fn what_is_written_is_read_back(values: Vec<f64>) {
            let tensor = TensorData::from_f64(&[values.len()], &values).unwrap();
            let mut bytes = header(&tensor).unwrap();
            prop_assert_eq!(bytes.len() % 64, 0);
            bytes.extend(&tensor.bytes);
            prop_assert_eq!(parse(&bytes).unwrap(), tensor);
        }
    }
}
