//! Random numbers that depend on what they are for, never on what else was drawn in the process.
//!
//! Nothing in this project draws from libtorch's own generator or seeds it: that is one for the whole process, and belongs to
//! the program.

use fewstep_core::noise::mix;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::{ChaCha8Rng, ChaCha12Rng};
use rand_distr::StandardNormal;
use tch::{Device, Kind, Tensor};

/// A permutation of `0 .. len` that depends on `seed` and `epoch` alone.
pub fn permutation(seed: u64, epoch: u64, len: usize) -> Vec<i64> {
    let mut order: Vec<i64> = (0..len as i64).collect();
    order.shuffle(&mut ChaCha12Rng::seed_from_u64(mix(seed, epoch)));
    order
}

/// What random numbers are for: those of one purpose have nothing to do with those of another. The values are part of what a seed
/// means and stay as they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Weights of a fresh network.
    Weights = 1,
    /// An update of a network: noise levels, noise, augmentation, dropout.
    Training = 2,
    /// An update of the noise levels (phase 1): noise.
    Learning = 3,
    /// A table of the bound: noise.
    Table = 4,
    /// First weights of a critic.
    CriticWeights = 5,
    /// Noise under which a critic compares images.
    Critic = 6,
    /// First weights of a classifier.
    ClassifierWeights = 7,
    /// Which labels a network is not told in an update.
    LabelDropout = 8,
}

/// Some rows of a batch: what one process, or one part of a batch after another, computes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rows {
    /// Rows of the batch before these.
    pub first: u64,
    /// Rows of the whole batch; none where these are all.
    pub of: Option<u64>,
}

/// A seed of what a network drops in training, for some rows of a batch: the same seed drops the same of every row, however the
/// batch is divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaskSeed {
    /// The seed.
    pub seed: u64,
    /// The rows.
    pub rows: Rows,
}

impl From<u64> for MaskSeed {
    fn from(seed: u64) -> Self {
        Self { seed, rows: Rows::default() }
    }
}

/// Random numbers for one purpose: the same for the same seed, purpose and index.
///
/// The generator is ChaCha with 8 rounds, keyed by the seed, the purpose, the index and the number of the draw. A draw is filled
/// in blocks, each from a stream of its own, so that any number of threads gives the same numbers. The first dimension of a draw are
/// the rows of a batch; a stream for some of them ([`Stream::rows`]) gives these rows of what one for all would.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stream {
    seed: u64,
    purpose: Purpose,
    index: u64,
    draws: u64,
    rows: Rows,
}

/// Numbers in a block.
const BLOCK: usize = 1 << 14;
/// Blocks that are worth a thread.
const BLOCKS_A_THREAD: usize = 8;

impl Stream {
    /// The numbers for the `index`-th use of `seed` for `purpose`.
    pub fn new(seed: u64, purpose: Purpose, index: u64) -> Self {
        Self { seed, purpose, index, draws: 0, rows: Rows::default() }
    }

    /// The numbers for these rows of a batch.
    pub fn rows(self, rows: Rows) -> Self {
        Self { rows, ..self }
    }

    /// Unit normal numbers, f32.
    pub fn normal(&mut self, size: &[i64], device: Device) -> Tensor {
        self.fill(size, device, |generator| generator.sample(StandardNormal))
    }

    /// Numbers uniform in [0, 1), f32.
    pub fn uniform(&mut self, size: &[i64], device: Device) -> Tensor {
        self.fill(size, device, |generator| generator.random())
    }

    /// `count` integers uniform in `0 .. bound`, i64 on the CPU.
    pub fn integers(&mut self, bound: i64, count: i64) -> Tensor {
        let mut generator = self.generator();
        let all = (0..self.rows.first + count as u64).map(|_| generator.random_range(0..bound.max(1)));
        Tensor::from_slice(&all.skip(self.rows.first as usize).collect::<Vec<i64>>())
    }

    /// A seed for something else: the same for all rows.
    pub fn seed(&mut self) -> u64 {
        self.generator().random()
    }

    /// A seed of what a network drops.
    pub fn mask_seed(&mut self) -> MaskSeed {
        MaskSeed { seed: self.seed(), rows: self.rows }
    }

    /// The generator of the next draw.
    fn generator(&mut self) -> ChaCha8Rng {
        let mut key = [0; 32];
        let words = [self.seed, self.purpose as u64, self.index, self.draws];
        for (bytes, word) in key.chunks_exact_mut(8).zip(words) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        self.draws += 1;
        ChaCha8Rng::from_seed(key)
    }

    fn fill(&mut self, size: &[i64], device: Device, draw: impl Fn(&mut ChaCha8Rng) -> f32 + Sync) -> Tensor {
        let generator = self.generator();
        let count = size.iter().product::<i64>() as usize;
        // rows before these, in whole blocks that are left out and a rest of one that is drawn and left out
        let before = self.rows.first as usize * size.iter().skip(1).product::<i64>() as usize;
        let (block_before, rest) = (before / BLOCK, before % BLOCK);
        let mut values = vec![0f32; rest + count];
        let fill = |first: usize, values: &mut [f32]| {
            for (block, values) in values.chunks_mut(BLOCK).enumerate() {
                let mut generator = generator.clone();
                generator.set_stream((block_before + first + block) as u64);
                values.iter_mut().for_each(|value| *value = draw(&mut generator));
            }
        };
        let blocks = values.len().div_ceil(BLOCK);
        let threads = (tch::get_num_threads().max(1) as usize).min(blocks / BLOCKS_A_THREAD).max(1);
        let share = blocks.div_ceil(threads).max(1);
        std::thread::scope(|scope| {
            let mut shares = values.chunks_mut(share * BLOCK).enumerate();
            let own = shares.next(); // this thread's
            for (index, values) in shares {
                scope.spawn(move || fill(index * share, values));
            }
            if let Some((_, values)) = own {
                fill(0, values);
            }
        });
        Tensor::from_slice(&values[rest..]).view(size).to_device(device).to_kind(Kind::Float)
    }
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

    fn first(stream: &mut Stream, n: i64) -> Vec<f32> {
        Vec::try_from(stream.normal(&[n], Device::Cpu)).unwrap()
    }

    /// If this fails, no training can be repeated: pin the dependency instead.
    #[test]
    fn values_are_pinned() {
        let mut stream = Stream::new(5, Purpose::Training, 3);
        assert_eq!(first(&mut stream, 3), [-0.58543694, -1.10476, 0.5227883]);
        assert_eq!(Vec::<f32>::try_from(stream.uniform(&[2], Device::Cpu)).unwrap(), [0.61297196, 0.30562258]);
        assert_eq!(Vec::<i64>::try_from(stream.integers(1000, 3)).unwrap(), [935, 757, 967]);
        assert_eq!(stream.seed(), 4_407_480_346_958_865_010);
    }

    /// Moments of what is drawn, and correlations with every stream that differs in one thing.
    #[test]
    fn streams_are_what_they_say_and_independent() {
        let n = 40_000;
        let mean = |values: &[f32], of: &dyn Fn(f64) -> f64| {
            values.iter().map(|&value| of(f64::from(value))).sum::<f64>() / values.len() as f64
        };
        let mut stream = Stream::new(1, Purpose::Training, 2);
        let values = first(&mut stream, n);
        assert_eq!(values[..100], first(&mut Stream::new(1, Purpose::Training, 2), 100));
        let tolerance = 5.0 / (n as f64).sqrt();
        assert!(mean(&values, &|v| v).abs() < tolerance && (mean(&values, &|v| v * v) - 1.0).abs() < 1.5 * tolerance);
        let others = [
            first(&mut stream, n),
            first(&mut Stream::new(2, Purpose::Training, 2), n),
            first(&mut Stream::new(1, Purpose::Learning, 2), n),
            first(&mut Stream::new(1, Purpose::Training, 3), n),
        ];
        for other in others {
            let product: Vec<f32> = values.iter().zip(&other).map(|(a, b)| a * b).collect();
            assert!(mean(&product, &|v| v).abs() < tolerance);
        }
        // two blocks of one draw
        let product: Vec<f32> = values.iter().zip(&values[BLOCK..]).map(|(a, b)| a * b).collect();
        assert!(mean(&product, &|v| v).abs() < 1.5 * tolerance);
        let uniform = Vec::<f32>::try_from(stream.uniform(&[n], Device::Cpu)).unwrap();
        assert!(uniform.iter().all(|value| (0.0..1.0).contains(value)));
        assert!((mean(&uniform, &|v| v) - 0.5).abs() < tolerance);
        assert!((mean(&uniform, &|v| v * v) - 1.0 / 3.0).abs() < tolerance);
        let integers = Vec::<i64>::try_from(stream.integers(3, n)).unwrap();
        for value in 0..3 {
            let share = integers.iter().filter(|found| **found == value).count() as f64 / n as f64;
            assert!((share - 1.0 / 3.0).abs() < tolerance, "{value}: {share}");
        }
    }

    /// However a batch is divided, its rows are drawn the same.
    #[test]
    fn rows_of_a_batch_are_those_of_the_whole() {
        let draw = |first: i64, count: i64| {
            let mut stream = Stream::new(3, Purpose::Training, 7).rows(Rows { first: first as u64, of: Some(20) });
            let drawn = [
                stream.normal(&[count, 5], Device::Cpu).flatten(0, -1),
                stream.uniform(&[count, 1, 4000], Device::Cpu).flatten(0, -1), // blocks are cut in rows
                stream.integers(100, count).to_kind(Kind::Float),
            ];
            (drawn, stream.mask_seed().seed)
        };
        let (whole, seed) = draw(0, 20);
        let parts = [(0, 7), (7, 1), (8, 12)].map(|(first, count)| draw(first, count));
        for (at, whole) in whole.iter().enumerate() {
            let parts: Vec<&Tensor> = parts.iter().map(|(drawn, _)| &drawn[at]).collect();
            assert!(Tensor::cat(&parts, 0).equal(whole), "{at}");
        }
        assert!(parts.iter().all(|(_, of_part)| *of_part == seed));
    }

    #[test]
    fn threads_change_nothing() {
        let size = [3, 5 * BLOCK as i64 * BLOCKS_A_THREAD as i64 / 3 + 7];
        let drawn = [1, 2, 3].map(|threads| {
            tch::set_num_threads(threads);
            Stream::new(9, Purpose::Weights, 0).normal(&size, Device::Cpu)
        });
        assert!(drawn[0].equal(&drawn[1]) && drawn[0].equal(&drawn[2]));
    }
}
