//! Seeds and permutations that depend on what they are for, never on what was drawn before.

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha12Rng;

/// Counter for the class of an image, in [`mix`].
pub const CLASS_STREAM: u64 = 0xC1A5;

/// A seed for the `counter`-th use of `seed` (splitmix64's finaliser).
pub fn mix(seed: u64, counter: u64) -> u64 {
    let mut z = seed ^ counter.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// Reseeds libtorch's generators for the `counter`-th use of `seed`.
pub fn reseed(seed: u64, counter: u64) {
    tch::manual_seed((mix(seed, counter) >> 1) as i64);
}

/// A permutation of `0 .. len` that depends on `seed` and `epoch` alone.
pub fn permutation(seed: u64, epoch: u64, len: usize) -> Vec<i64> {
    let mut order: Vec<i64> = (0..len as i64).collect();
    order.shuffle(&mut ChaCha12Rng::seed_from_u64(mix(seed, epoch)));
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permutation_is_one_and_is_fixed() {
        let mut order = permutation(1, 2, 100);
        assert_eq!(order, permutation(1, 2, 100));
        assert_ne!(order, permutation(1, 3, 100));
        order.sort_unstable();
        assert_eq!(order, (0..100).collect::<Vec<i64>>());
    }
}
