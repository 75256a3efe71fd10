//! Named tensors as plain bytes: what every checkpoint reader gives and every writer takes.

use half::{bf16, f16};
use indexmap::IndexMap;

use crate::{Error, Result, strided};

/// Tensors under their `state_dict` names, in the order in which the file holds them.
pub type TensorMap = IndexMap<String, TensorData>;

/// Element type of a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Dtype {
    Bool,
    U8,
    I8,
    I16,
    I32,
    I64,
    F16,
    BF16,
    F32,
    F64,
}

impl Dtype {
    /// Bytes of one element.
    pub fn size(self) -> usize {
        match self {
            Dtype::Bool | Dtype::U8 | Dtype::I8 => 1,
            Dtype::I16 | Dtype::F16 | Dtype::BF16 => 2,
            Dtype::I32 | Dtype::F32 => 4,
            Dtype::I64 | Dtype::F64 => 8,
        }
    }

    /// Whether elements are floating-point numbers.
    pub fn is_float(self) -> bool {
        matches!(self, Dtype::F16 | Dtype::BF16 | Dtype::F32 | Dtype::F64)
    }
}

/// One tensor: row-major (C order), little-endian bytes.
///
/// Made by [`TensorData::new`] and the `from_*` functions, the length of `bytes` is always the product of `shape`
/// times [`Dtype::size`]; writers check it again.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorData {
    /// Element type.
    pub dtype: Dtype,
    /// Sizes of the dimensions; empty for a scalar.
    pub shape: Vec<usize>,
    /// The elements.
    pub bytes: Vec<u8>,
}

impl TensorData {
    /// A tensor of `shape` from its bytes.
    ///
    /// # Errors
    /// [`Error::Tensor`] if the length of `bytes` is not what `dtype` and `shape` need.
    pub fn new(dtype: Dtype, shape: Vec<usize>, bytes: Vec<u8>) -> Result<Self> {
        let tensor = TensorData { dtype, shape, bytes };
        tensor.check_length("")?;
        Ok(tensor)
    }

    /// A tensor of 32-bit floats.
    ///
    /// # Errors
    /// If `values` has another length than `shape` needs.
    pub fn from_f32(shape: &[usize], values: &[f32]) -> Result<Self> {
        Self::new(Dtype::F32, shape.to_vec(), values.iter().flat_map(|v| v.to_le_bytes()).collect())
    }

    /// A tensor of 64-bit floats.
    ///
    /// # Errors
    /// If `values` has another length than `shape` needs.
    pub fn from_f64(shape: &[usize], values: &[f64]) -> Result<Self> {
        Self::new(Dtype::F64, shape.to_vec(), values.iter().flat_map(|v| v.to_le_bytes()).collect())
    }

    /// A tensor of 64-bit integers.
    ///
    /// # Errors
    /// If `values` has another length than `shape` needs.
    pub fn from_i64(shape: &[usize], values: &[i64]) -> Result<Self> {
        Self::new(Dtype::I64, shape.to_vec(), values.iter().flat_map(|v| v.to_le_bytes()).collect())
    }

    /// A tensor of bytes.
    ///
    /// # Errors
    /// If `values` has another length than `shape` needs.
    pub fn from_u8(shape: &[usize], values: &[u8]) -> Result<Self> {
        Self::new(Dtype::U8, shape.to_vec(), values.to_vec())
    }

    /// Number of elements.
    pub fn numel(&self) -> usize {
        self.bytes.len() / self.dtype.size()
    }

    /// The elements as 64-bit floats (integers above 2^53 round).
    pub fn to_f64(&self) -> Vec<f64> {
        let b = &self.bytes;
        match self.dtype {
            Dtype::Bool | Dtype::U8 => b.iter().map(|&v| f64::from(v)).collect(),
            Dtype::I8 => convert(b, |v| f64::from(i8::from_le_bytes(v))),
            Dtype::I16 => convert(b, |v| f64::from(i16::from_le_bytes(v))),
            Dtype::I32 => convert(b, |v| f64::from(i32::from_le_bytes(v))),
            Dtype::I64 => convert(b, |v| i64::from_le_bytes(v) as f64),
            Dtype::F16 => convert(b, |v| f16::from_le_bytes(v).to_f64()),
            Dtype::BF16 => convert(b, |v| bf16::from_le_bytes(v).to_f64()),
            Dtype::F32 => convert(b, |v| f64::from(f32::from_le_bytes(v))),
            Dtype::F64 => convert(b, f64::from_le_bytes),
        }
    }

    /// The elements as 32-bit floats, rounded to nearest where the dtype is wider.
    pub fn to_f32(&self) -> Vec<f32> {
        match self.dtype {
            // The common case of a checkpoint, without the detour over f64.
            Dtype::F32 => convert(&self.bytes, f32::from_le_bytes),
            _ => self.to_f64().into_iter().map(|v| v as f32).collect(),
        }
    }

    /// The elements as 64-bit integers.
    ///
    /// # Errors
    /// [`Error::Tensor`] for a floating-point tensor: rounding would hide a mistake.
    pub fn to_i64(&self) -> Result<Vec<i64>> {
        let b = &self.bytes;
        Ok(match self.dtype {
            Dtype::Bool | Dtype::U8 => b.iter().map(|&v| i64::from(v)).collect(),
            Dtype::I8 => convert(b, |v| i64::from(i8::from_le_bytes(v))),
            Dtype::I16 => convert(b, |v| i64::from(i16::from_le_bytes(v))),
            Dtype::I32 => convert(b, |v| i64::from(i32::from_le_bytes(v))),
            Dtype::I64 => convert(b, i64::from_le_bytes),
            other => {
                return Err(Error::tensor("", format!("holds {other:?}, where integers are needed")));
            }
        })
    }

    /// The same values as `dtype`, rounded to nearest even where it is narrower. Only between floating-point types.
    ///
    /// # Errors
    /// [`Error::Tensor`] if either type is not a floating-point type.
    pub fn cast(&self, dtype: Dtype) -> Result<Self> {
        if dtype == self.dtype {
            return Ok(self.clone());
        }
        if !(self.dtype.is_float() && dtype.is_float()) {
            return Err(Error::tensor("", format!("cannot be cast from {:?} to {dtype:?}", self.dtype)));
        }
        let values = self.to_f64().into_iter();
        let bytes = match dtype {
            Dtype::F16 => values.flat_map(|v| f16::from_f64(v).to_le_bytes()).collect(),
            Dtype::BF16 => values.flat_map(|v| bf16::from_f64(v).to_le_bytes()).collect(),
            Dtype::F32 => values.flat_map(|v| (v as f32).to_le_bytes()).collect(),
            _ => values.flat_map(f64::to_le_bytes).collect(),
        };
        Self::new(dtype, self.shape.clone(), bytes)
    }

    /// Checks that the bytes fit dtype and shape; `name` goes into the message.
    ///
    /// # Errors
    /// [`Error::Tensor`] if they do not.
    pub fn check_length(&self, name: &str) -> Result<()> {
        let needed = strided::numel(&self.shape).and_then(|n| n.checked_mul(self.dtype.size()));
        if needed == Some(self.bytes.len()) {
            return Ok(());
        }
        let (shape, dtype, len) = (&self.shape, self.dtype, self.bytes.len());
        Err(Error::tensor(name, format!("shape {shape:?} of {dtype:?} does not fit its {len} bytes")))
    }

    /// Checks that no element is NaN or infinite; `name` goes into the message.
    ///
    /// # Errors
    /// [`Error::NotFinite`] with the first offending position.
    pub fn check_finite(&self, name: &str) -> Result<()> {
        if !self.dtype.is_float() {
            return Ok(());
        }
        let found = match self.dtype {
            Dtype::F32 => first_not_finite(&self.bytes, |v| f64::from(f32::from_le_bytes(v))),
            Dtype::F16 => first_not_finite(&self.bytes, |v| f16::from_le_bytes(v).to_f64()),
            Dtype::BF16 => first_not_finite(&self.bytes, |v| bf16::from_le_bytes(v).to_f64()),
            _ => first_not_finite(&self.bytes, f64::from_le_bytes),
        };
        match found {
            Some((index, value)) => Err(Error::NotFinite { name: name.to_owned(), index, value }),
            None => Ok(()),
        }
    }
}

/// Checks that no tensor holds a NaN or an infinity.
///
/// # Errors
/// [`Error::NotFinite`] naming the first tensor that does.
pub fn check_finite(tensors: &TensorMap) -> Result<()> {
    tensors.iter().try_for_each(|(name, tensor)| tensor.check_finite(name))
}

fn elements<const N: usize>(bytes: &[u8]) -> impl Iterator<Item = [u8; N]> + '_ {
    bytes.chunks_exact(N).filter_map(|chunk| chunk.try_into().ok())
}

fn convert<const N: usize, T>(bytes: &[u8], to: impl Fn([u8; N]) -> T) -> Vec<T> {
    elements(bytes).map(to).collect()
}

fn first_not_finite<const N: usize>(bytes: &[u8], to: impl Fn([u8; N]) -> f64) -> Option<(usize, f64)> {
    elements(bytes).map(to).enumerate().find(|(_, v)| !v.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_checked() {
        assert!(TensorData::from_f32(&[2, 2], &[0.0; 4]).is_ok());
        assert!(TensorData::from_f32(&[2, 3], &[0.0; 4]).is_err());
        assert!(TensorData::new(Dtype::U8, vec![usize::MAX, 2], vec![]).is_err());
        assert!(TensorData::new(Dtype::U8, vec![usize::MAX, 0], vec![]).is_ok());
    }

    #[test]
    fn values_survive_every_float_type_that_can_hold_them() {
        let values = [0.0, -1.5, 0.25, 240.0];
        let tensor = TensorData::from_f64(&[4], &values).unwrap();
        for dtype in [Dtype::F16, Dtype::BF16, Dtype::F32, Dtype::F64] {
            let cast = tensor.cast(dtype).unwrap();
            assert_eq!(cast.bytes.len(), 4 * dtype.size());
            assert_eq!(cast.to_f64(), values);
            assert_eq!(cast.to_f32(), values.map(|v| v as f32));
        }
        assert!(tensor.cast(Dtype::I64).is_err());
        assert!(tensor.to_i64().is_err());
        assert_eq!(TensorData::from_i64(&[2], &[-7, 9]).unwrap().to_i64().unwrap(), [-7, 9]);
    }

    #[test]
    fn a_bad_weight_is_named_with_its_place() {
        let mut tensors = TensorMap::new();
        tensors.insert("fine".into(), TensorData::from_f32(&[2], &[1.0, 2.0]).unwrap());
        tensors.insert("indices".into(), TensorData::from_i64(&[1], &[-1]).unwrap());
        assert!(check_finite(&tensors).is_ok());
        for dtype in [Dtype::F16, Dtype::BF16, Dtype::F32, Dtype::F64] {
            let bad = TensorData::from_f64(&[3], &[0.0, f64::NAN, f64::INFINITY]).unwrap().cast(dtype).unwrap();
            tensors.insert("model.enc.conv.weight".into(), bad);
            let message = check_finite(&tensors).unwrap_err().to_string();
            assert!(message.contains("`model.enc.conv.weight` holds NaN at flat index 1"), "{message}");
        }
    }
}
