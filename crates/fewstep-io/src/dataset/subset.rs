//! A random but fixed part of a data set.

/// `count` of `0..len`, drawn by a seeded shuffle (Fisher-Yates on splitmix64), in ascending order.
pub(super) fn fixed_subset(len: usize, count: usize, seed: u64) -> Vec<usize> {
    let mut indices: Vec<usize> = (0..len).collect();
    let mut state = seed;
    for i in 0..count.min(len) {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^= z >> 31;
        indices.swap(i, i + (z % (len - i) as u64) as usize);
    }
    indices.truncate(count);
    indices.sort_unstable();
    indices
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subset_is_fixed_sorted_and_seeded() {
        let subset = fixed_subset(1000, 10, 0);
        assert_eq!(subset, fixed_subset(1000, 10, 0));
        assert_ne!(subset, fixed_subset(1000, 10, 1));
        assert!(subset.is_sorted() && subset.windows(2).all(|w| w[0] != w[1]));
        assert_eq!(fixed_subset(3, 10, 0), [0, 1, 2]);
        assert_eq!(fixed_subset(3, 3, 5), [0, 1, 2]);
    }
}
