//! Zero padding to a square.

use std::path::Path;

use super::{FORMAT, describe};
use crate::{Error, Result};

/// Refuses a square that is smaller than the images, or absurdly large.
pub(super) fn check(stored: [usize; 3], to: usize, path: &Path) -> Result<()> {
    let [_, height, width] = stored;
    if to < height || to < width || to > 8192 {
        let reason = format!("its images are {}, which cannot be padded to {to}x{to}", describe(stored));
        return Err(Error::format(FORMAT, path.display().to_string(), reason));
    }
    Ok(())
}

/// An image `[channels, height, width]` in the middle of zeros `[channels, to, to]`; where the margin is odd, the extra
/// row or column is at the bottom or right.
pub(super) fn pad(chw: &[u8], [channels, height, width]: [usize; 3], to: usize) -> Vec<u8> {
    let (top, left) = ((to - height) / 2, (to - width) / 2);
    let mut out = vec![0; channels * to * to];
    for (row, from) in chw.chunks_exact(width.max(1)).enumerate() {
        let (c, y) = (row / height.max(1), row % height.max(1));
        let at = (c * to + top + y) * to + left;
        out[at..at + width].copy_from_slice(from);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_lie_in_the_middle_of_zeros() {
        let padded = pad(&[1, 2, 3, 4, 5, 6, 7, 8], [2, 2, 2], 4);
        let plane = |a, b, c, d| [0, 0, 0, 0, 0, a, b, 0, 0, c, d, 0, 0, 0, 0, 0];
        assert_eq!(padded, [plane(1, 2, 3, 4), plane(5, 6, 7, 8)].concat());
        assert_eq!(pad(&[1, 2], [1, 1, 2], 3), [0, 0, 0, 1, 2, 0, 0, 0, 0]);
        assert!(check([1, 28, 28], 32, Path::new("x")).is_ok());
        assert!(check([1, 28, 28], 27, Path::new("x")).is_err());
    }
}
