//! Sliced Wasserstein distance between sets of images, on their pixels: no network, no reference file.

use fewstep_core::noise;
use fewstep_nn::tch::{Device, Kind, Tensor};

use crate::error::{Error, Result};

/// Directions that are projected on at once.
const BLOCK: usize = 64;

/// Square root of the mean, over `directions` random unit vectors, of the squared 2-Wasserstein distance between the
/// projections of u8 images `a` `[n, C, H, W]` and `b` `[m, C, H, W]`, scaled to -1 to 1 (Bonneel et al. 2015).
///
/// In one dimension the optimal transport pairs equal quantiles, which is exact also for n != m.
///
/// # Errors
/// If the images differ in shape or are not u8, or there are no directions.
pub fn sliced_wasserstein(a: &Tensor, b: &Tensor, directions: usize, seed: u64) -> Result<f64> {
    let (sa, sb) = (a.size(), b.size());
    if sa.len() != 4 || sb.len() != 4 || sa[1..] != sb[1..] || sa.contains(&0) || sb.contains(&0) || directions == 0 {
        return Err(Error::Input(format!(
            "a sliced Wasserstein distance needs two sets of images of one shape and at least one direction, there are \
             {sa:?}, {sb:?} and {directions} directions"
        )));
    }
    if a.kind() != Kind::Uint8 || b.kind() != Kind::Uint8 {
        return Err(Error::Input(format!(
            "a sliced Wasserstein distance of {:?} and {:?} images, u8 is needed",
            a.kind(),
            b.kind()
        )));
    }
    let flat = |x: &Tensor| x.to_device(Device::Cpu).flatten(1, -1).to_kind(Kind::Float) / 127.5 - 1.0;
    let (a, b) = (flat(a), flat(b));
    let pixels = a.size()[1] as usize;
    let coupling = Coupling::new(sa[0], sb[0]);
    let mut total = 0.0;
    for (index, start) in (0..directions).step_by(BLOCK).enumerate() {
        let count = BLOCK.min(directions - start);
        let unit = unit_vectors(pixels, count, seed, index as u64);
        let sorted = |x: &Tensor| x.matmul(&unit).to_kind(Kind::Double).sort(0, false).0; // [n, count]
        total += coupling.squared_cost(&sorted(&a), &sorted(&b));
    }
    Ok((total / directions as f64).sqrt())
}

/// `[pixels, count]` f32, columns of length 1, uniform on the sphere.
fn unit_vectors(pixels: usize, count: usize, seed: u64, stream: u64) -> Tensor {
    let mut values = vec![0f32; pixels * count];
    noise::normal(seed, stream, &mut values);
    let vectors = Tensor::from_slice(&values).view([pixels as i64, count as i64]);
    &vectors / vectors.norm_scalaropt_dim(2.0, [0i64], true)
}

/// Which order statistics of n and of m values are paired, and the mass that each pair moves.
struct Coupling {
    left: Tensor,
    right: Tensor,
    /// `[pairs, 1]`
    mass: Tensor,
}

impl Coupling {
    fn new(n: i64, m: i64) -> Self {
        let (mut left, mut right, mut mass) = (Vec::new(), Vec::new(), Vec::new());
        let (mut i, mut j, mut done) = (0, 0, 0i64);
        let whole = n as f64 * m as f64;
        // In units of 1 / (n m): the i-th of n values ends at (i + 1) m.
        while i < n && j < m {
            let end = ((i + 1) * m).min((j + 1) * n);
            left.push(i);
            right.push(j);
            mass.push((end - done) as f64 / whole);
            done = end;
            i += i64::from(end == (i + 1) * m);
            j += i64::from(end == (j + 1) * n);
        }
        Self {
            left: Tensor::from_slice(&left),
            right: Tensor::from_slice(&right),
            mass: Tensor::from_slice(&mass).view([-1, 1]),
        }
    }

    /// Sum over columns of the transport cost between sorted columns `[n, count]` and `[m, count]`.
    fn squared_cost(&self, a: &Tensor, b: &Tensor) -> f64 {
        let difference = a.index_select(0, &self.left) - b.index_select(0, &self.right);
        (difference.square() * &self.mass).sum(Kind::Double).double_value(&[])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fewstep_nn::tch;

    fn constant(n: i64, value: i64) -> Tensor {
        Tensor::full([n, 1, 4, 4], value, (Kind::Uint8, Device::Cpu))
    }

    #[test]
    fn a_shift_of_all_images_has_a_closed_form() {
        // The mean over directions of (v . u)^2 is |v|^2 / 16, here with 16 entries of 51 / 127.5 = 0.4.
        let distance = sliced_wasserstein(&constant(3, 100), &constant(3, 151), 4000, 0).unwrap();
        assert!((distance - 0.4).abs() < 0.02, "{distance}");
        assert!(sliced_wasserstein(&constant(3, 9), &constant(5, 9), 10, 0).unwrap() < 1e-5);
    }

    #[test]
    fn unequal_counts_are_coupled_by_quantiles() {
        let coupling = Coupling::new(2, 3);
        assert_eq!(Vec::<i64>::try_from(&coupling.left).unwrap(), [0, 0, 1, 1]);
        assert_eq!(Vec::<i64>::try_from(&coupling.right).unwrap(), [0, 1, 1, 2]);
        let mass = Vec::<f64>::try_from(coupling.mass.reshape([-1])).unwrap();
        assert!(mass.iter().zip([2.0, 1.0, 1.0, 2.0]).all(|(m, sixths)| (m - sixths / 6.0).abs() < 1e-15));
        // Every image twice is the same distribution.
        tch::manual_seed(8);
        let x = Tensor::randint(256, [10, 3, 4, 4], (Kind::Uint8, Device::Cpu));
        assert!(sliced_wasserstein(&x, &x.repeat([2, 1, 1, 1]), 20, 1).unwrap() < 1e-6);
    }

    #[test]
    fn images_of_other_shapes_are_refused() {
        let other = Tensor::zeros([3, 1, 5, 4], (Kind::Uint8, Device::Cpu));
        assert!(sliced_wasserstein(&constant(3, 1), &other, 10, 0).is_err());
        assert!(sliced_wasserstein(&constant(3, 1), &constant(3, 1), 0, 0).is_err());
    }
}
