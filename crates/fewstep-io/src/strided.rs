//! Strided views made contiguous: the one place that follows strides, for torch storages and Fortran-order arrays.

/// Largest number of dimensions that a tensor may have (PyTorch's and NumPy's own limits are 64).
pub const MAX_DIMS: usize = 64;

/// Number of elements of `shape`, `None` if it overflows.
pub fn numel(shape: &[usize]) -> Option<usize> {
    // A zero anywhere makes the array empty, even where the other sizes would overflow.
    if shape.contains(&0) {
        return Some(0);
    }
    shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d))
}

/// Strides, in elements, of a row-major (C order) array of `shape`; `None` if they overflow.
pub fn row_major(shape: &[usize]) -> Option<Vec<usize>> {
    let mut strides = vec![1usize; shape.len()];
    for d in (1..shape.len()).rev() {
        strides[d - 1] = strides[d].checked_mul(shape[d].max(1))?;
    }
    Some(strides)
}

/// Strides, in elements, of a column-major (Fortran order) array of `shape`; `None` if they overflow.
pub fn column_major(shape: &[usize]) -> Option<Vec<usize>> {
    let mut strides = vec![1usize; shape.len()];
    for d in 1..shape.len() {
        strides[d] = strides[d - 1].checked_mul(shape[d - 1].max(1))?;
    }
    Some(strides)
}

/// Copies the view (`offset`, `shape`, `strides`, all in elements of `item` bytes) of `source` into row-major bytes.
///
/// A view that repeats elements (stride 0) can be far larger than its source: callers bound the size first.
///
/// # Errors
/// A sentence if shape and strides differ in length or the view reaches past the end of `source`.
pub fn gather(
    source: &[u8],
    item: usize,
    offset: usize,
    shape: &[usize],
    strides: &[usize],
) -> Result<Vec<u8>, String> {
    if shape.len() != strides.len() {
        return Err(format!("{} sizes but {} strides", shape.len(), strides.len()));
    }
    if shape.len() > MAX_DIMS {
        return Err(format!("{} dimensions, more than the {MAX_DIMS} that a tensor may have", shape.len()));
    }
    let count = numel(shape).ok_or_else(|| format!("shape {shape:?} overflows"))?;
    if count == 0 {
        return Ok(Vec::new());
    }
    let available = source.len() / item.max(1);
    let last = last_element(offset, shape, strides).filter(|&last| last < available);
    if last.is_none() {
        return Err(format!(
            "shape {shape:?} with strides {strides:?} from offset {offset} reaches past its storage of {available} elements"
        ));
    }
    let bytes = count.checked_mul(item).ok_or_else(|| format!("shape {shape:?} overflows"))?;
    if row_major(shape).as_deref() == Some(strides) {
        let start = offset * item;
        return source.get(start..start + bytes).map(<[u8]>::to_vec).ok_or_else(|| "storage is too short".into());
    }
    Ok(walk(source, item, offset, shape, strides, bytes))
}

/// Index of the last element that a view touches; `None` if it overflows.
fn last_element(offset: usize, shape: &[usize], strides: &[usize]) -> Option<usize> {
    shape.iter().zip(strides).try_fold(offset, |at, (&d, &s)| at.checked_add((d - 1).checked_mul(s)?))
}

/// Copies element by element, like an odometer; the caller has checked that no element lies outside.
fn walk(source: &[u8], item: usize, offset: usize, shape: &[usize], strides: &[usize], bytes: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes);
    let mut index = vec![0usize; shape.len()];
    let mut at = offset;
    while out.len() < bytes {
        out.extend_from_slice(&source[at * item..(at + 1) * item]);
        for d in (0..shape.len()).rev() {
            index[d] += 1;
            // One step past the end may overflow where a dimension of size 1 has an arbitrary stride; the subtraction
            // undoes it.
            at = at.wrapping_add(strides[d]);
            if index[d] < shape[d] {
                break;
            }
            at = at.wrapping_sub(strides[d].wrapping_mul(shape[d]));
            index[d] = 0;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transposed_view_is_copied_in_row_major_order() {
        let source: Vec<u8> = (0..6).collect();
        assert_eq!(gather(&source, 1, 0, &[3, 2], &[1, 3]).unwrap(), [0, 3, 1, 4, 2, 5]);
        assert_eq!(gather(&source, 1, 0, &[2, 3], &[3, 1]).unwrap(), source);
        assert_eq!(gather(&source, 2, 1, &[2], &[1]).unwrap(), [2, 3, 4, 5]);
        assert_eq!(gather(&source, 1, 5, &[], &[]).unwrap(), [5]);
        assert_eq!(gather(&source, 1, 2, &[2, 2], &[0, 1]).unwrap(), [2, 3, 2, 3]);
    }

    #[test]
    fn fortran_order_is_a_stride_pattern() {
        let source = [0, 1, 2, 3, 4, 5];
        let strides = column_major(&[2, 3]).unwrap();
        assert_eq!(gather(&source, 1, 0, &[2, 3], &strides).unwrap(), [0, 2, 4, 1, 3, 5]);
    }

    #[test]
    fn views_past_the_storage_are_refused() {
        let source = [0u8; 8];
        assert!(gather(&source, 1, 0, &[9], &[1]).is_err());
        assert!(gather(&source, 1, 1, &[8], &[1]).is_err());
        assert!(gather(&source, 1, usize::MAX, &[2], &[1]).is_err());
        assert!(gather(&source, 1, 0, &[2, 2], &[usize::MAX, 1]).is_err());
        assert!(gather(&source, 1, 0, &[usize::MAX, usize::MAX], &[0, 0]).is_err());
        assert!(gather(&source, 1, 0, &[2], &[1, 1]).is_err());
        assert_eq!(gather(&source, 1, 3, &[1, 2], &[usize::MAX, 2]).unwrap(), [0, 0]);
        assert!(gather(&source, 1, 100, &[0, usize::MAX], &[1, 1]).unwrap().is_empty());
    }
}
