//! Images with as many black and white values as training images have.

use std::ops::Range;

use fewstep_core::VectorSpace;
use fewstep_core::denoiser::Clipping;
use fewstep_core::plan::Plan;
use serde::{Deserialize, Serialize};
use serde_json::json;

/// From here on a value in [-1, 1] is stored as the least or the greatest byte.
const END: f64 = 254.0 / 255.0;

/// Values are stretched, or drawn together, by at most so much: what would take more is not for a gain to mend.
const MOST: f64 = 1.05;

/// A gain may make so much of the rollout error that there is (docs/experiments/moments.md has what a quarter more bought).
const MOST_ERROR: f64 = 1.0625;

/// Data that are clipped more rarely than this say nothing about a gain.
const LEAST_SHARE: f64 = 1e-3;

/// The magnitudes whose clipping some gain decides.
pub const NEAR: Range<f64> = END / MOST..END * MOST;

/// How much of some images is black or white, and would be under another gain.
///
/// Data are clipped to their range, and a denoiser, which answers with means, hardly ever gets to the end of it: a black
/// ground becomes a nearly black one. Features that are means over an image do not see it, trained ones do.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ClippingHistogram {
    values: u64,
    /// Clipped with any gain.
    beyond: u64,
    /// Magnitudes of those that some gain clips.
    near: Vec<f32>,
}

impl ClippingHistogram {
    /// Adds what was counted in the range near black and white.
    pub fn add(&mut self, counted: Clipping) {
        self.values += counted.values;
        self.beyond += counted.beyond;
        self.near.extend(counted.near);
    }

    /// The fraction of the values that is clipped with a gain between `1 / 1.05` and 1.05.
    pub fn fraction(&self, gain: f64) -> f64 {
        let near = self.near.iter().filter(|size| f64::from(**size) * gain >= END).count();
        (self.beyond + near as u64) as f64 / self.values.max(1) as f64
    }

    /// The gain between these with which the fraction is nearest to this one; of several that nearest to 1.
    pub fn gain(&mut self, fraction: f64) -> f64 {
        self.near.sort_by(|a, b| b.total_cmp(a));
        let wanted = (fraction * self.values as f64).round() as u64;
        let Some(wanted) = wanted.checked_sub(self.beyond) else { return 1.0 / MOST };
        // the greatest ones are to be clipped, and the next one not
        let size = |at: Option<u64>| at.and_then(|at| self.near.get(at as usize)).map(|size| f64::from(*size));
        match (size(wanted.checked_sub(1)), size(Some(wanted))) {
            (Some(last), Some(next)) => 2.0 * END / (last + next),
            (None, Some(next)) => (END / next).min(1.0),
            (Some(last), None) => (END / last).max(1.0),
            (None, None) if wanted == 0 => 1.0,
            (None, None) => MOST,
        }
    }
}

/// The fraction of the images of some latents that is to be clipped, so that with many more it is the fraction of the data.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct ClippingTarget {
    pub fraction: f64,
    /// So many of the search's latents, the first ones.
    pub latents: usize,
}

impl ClippingTarget {
    /// `of_data`: training images, `of_many`: what a plan makes of many latents; `of_these`: of so many of the search's.
    /// None where the data are hardly ever clipped.
    pub fn new(
        of_data: &ClippingHistogram,
        of_many: &mut ClippingHistogram,
        of_these: &ClippingHistogram,
        latents: usize,
    ) -> Option<Self> {
        let fraction = of_data.fraction(1.0);
        (fraction >= LEAST_SHARE).then(|| Self { fraction: of_these.fraction(of_many.gain(fraction)), latents })
    }

    /// Gives the plan's images a gain about mid-grey with which as much of them is clipped, or as far towards it as the
    /// rollout error lets. `of_first`: what the plan makes of the target's latents; `images`: of all the search's; `teacher`: what the
    /// teacher makes of these.
    pub fn reach<V: VectorSpace>(&self, plan: &mut Plan, mut of_first: ClippingHistogram, images: &V, teacher: &V) {
        let gain = limited(of_first.gain(self.fraction), images, teacher);
        plan.output.terms_mut().for_each(|(_, coefficient)| *coefficient *= gain);
        let found_by = json!({ "gain": gain, "shares": [of_first.fraction(1.0), of_first.fraction(gain)], "wanted": self.fraction });
        plan.metadata.found_by.insert("saturated".into(), found_by);
    }
}

/// `gain`, or what of it towards 1 `MOST_ERROR` lets: the squared error of `g x` is `a g^2 - 2 b g + c`.
fn limited<V: VectorSpace>(gain: f64, images: &V, teacher: &V) -> f64 {
    let (a, b, error) = (images.norm_squared(), images.dot(teacher), images.difference(teacher).norm_squared());
    if !(a > 0.0 && a.is_finite() && b.is_finite() && error.is_finite()) {
        return 1.0;
    }
    // where it reaches MOST_ERROR times that of a gain of 1: a (g - 1)^2 + 2 (a - b) (g - 1) = (MOST_ERROR - 1) error
    let half = a - b;
    let root = (half * half + a * (MOST_ERROR - 1.0) * error).sqrt();
    gain.clamp(1.0 + (-half - root) / a, 1.0 + (-half + root) / a)
}

#[cfg(test)]
mod tests {
    use fewstep_core::schedule::karras;
    use fewstep_core::{Solver, SolverOptions, noise};

    use super::*;

    fn counted(values: &[f64]) -> ClippingHistogram {
        let mut histogram = ClippingHistogram::default();
        for part in values.chunks(97) {
            let mut counted = Clipping { values: part.len() as u64, ..Clipping::default() };
            for size in part.iter().map(|value| value.abs()) {
                counted.beyond += u64::from(size >= NEAR.end);
                if NEAR.contains(&size) {
                    counted.near.push(size as f32);
                }
            }
            histogram.add(counted);
        }
        histogram
    }

    /// Of what a file stores: clip(127.5 x + 128, 0, 255), truncated.
    fn stored(values: &[f64], gain: f64) -> f64 {
        let byte = |value: &f64| (value * gain * 127.5 + 128.0).clamp(0.0, 255.0) as u8;
        values.iter().map(byte).filter(|byte| *byte == 0 || *byte == 255).count() as f64 / values.len() as f64
    }

    fn draw() -> Vec<f64> {
        let mut values = vec![0f32; 2560];
        noise::normal(5, 0, &mut values);
        values.into_iter().map(|value| f64::from(value * 0.6)).collect()
    }

    fn times(values: &[f64], gain: f64) -> Vec<f64> {
        values.iter().map(|value| value * gain).collect()
    }

    #[test]
    fn shares_are_those_of_files_and_gains_reach_them() {
        let images = draw();
        let mut seen = counted(&images);
        for gain in [0.96, 1.0, 1.03] {
            let fraction = stored(&images, gain);
            assert_eq!(seen.fraction(gain), fraction);
            let found = seen.gain(fraction);
            assert_eq!(stored(&images, found), fraction, "{gain} {found}");
        }
        assert_eq!([seen.gain(0.0), seen.gain(1.0)], [1.0 / MOST, MOST]);
        let at = |values: &[f64], fraction: f64| counted(values).gain(fraction);
        assert_eq!([at(&[0.5, 0.98], 0.0), at(&[0.5, 0.999], 0.5), at(&[0.5, 0.2], 0.0)], [1.0; 3]);
        assert!((at(&[0.5, 0.98], 0.5) - END / 0.98).abs() < 1e-6);
        assert!((at(&[0.5, 0.999], 0.0) - END / 0.999).abs() < 1e-6);
        assert_eq!(at(&[0.5, 0.2], 0.5), MOST);
    }

    #[test]
    fn a_plan_gets_the_gain_and_says_so() {
        let images = draw();
        let (data, made) = (times(&images, 1.04), times(&images, 1.01));
        let target = ClippingTarget::new(&counted(&data), &mut counted(&images), &counted(&images[..576]), 9).unwrap();
        let mut plan = Solver::Euler.plan(&karras(3, 0.05, 10.0, 7.0).unwrap(), &SolverOptions::default()).unwrap();
        let before: Vec<f64> = plan.output.terms().map(|(_, c)| c).collect();
        // so far from the teacher that the error does not matter
        target.reach(&mut plan, counted(&made[..576]), &made, &times(&images, -0.5));
        let gain = plan.metadata.found_by["saturated"]["gain"].as_f64().unwrap();
        assert!((gain - 1.04 / 1.01).abs() < 5e-3, "{gain}");
        assert!(plan.output.terms().zip(before).all(|((_, now), before)| now == before * gain));
    }

    #[test]
    fn the_error_limits_a_gain() {
        let teacher = draw();
        let images: Vec<f64> = teacher.iter().zip(teacher.iter().rev()).map(|(a, b)| a * 0.99 + b * 0.1).collect();
        let error = |gain: f64| times(&images, gain).difference(&teacher).norm_squared();
        assert_eq!(limited(1.001, &images, &teacher), 1.001);
        for far in [0.8, 1.2] {
            let gain = limited(far, &images, &teacher);
            assert!((gain - 1.0).abs() < 0.1 && (gain > 1.0) == (far > 1.0), "{gain}");
            assert!((error(gain) / error(1.0) - MOST_ERROR).abs() < 1e-4, "{gain}");
        }
        assert_eq!(limited(1.02, &teacher, &teacher), 1.0);
        assert_eq!(limited(1.02, &vec![0.0; teacher.len()], &teacher), 1.0);
    }

    #[test]
    fn data_that_are_not_clipped_ask_for_nothing() {
        let images = draw();
        let data = counted(&times(&images, 0.1));
        assert_eq!(ClippingTarget::new(&data, &mut counted(&images), &counted(&images), 40), None);
    }
}
