//! Arrays as NumPy writes them, of whatever they say.

use arbitrary::Arbitrary;

/// An array with its header as NumPy writes it, of whatever it says.
#[derive(Debug, Arbitrary)]
pub enum Array {
    /// Any bytes.
    Bytes(Vec<u8>),
    /// A header and contents.
    #[allow(missing_docs)]
    Parts { version: bool, descr: Descr, fortran: bool, shape: Vec<u32>, own: Option<String>, contents: Vec<u8> },
}

/// Types by NumPy's names.
#[derive(Debug, Arbitrary)]
#[allow(missing_docs)]
pub enum Descr {
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
    /// The file of it.
    pub fn bytes(&self) -> Vec<u8> {
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
        let header = own
            .clone()
            .unwrap_or_else(|| format!("{{'descr': '{descr}', 'fortran_order': {fortran}, 'shape': ({shape}), }}\n"));
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
