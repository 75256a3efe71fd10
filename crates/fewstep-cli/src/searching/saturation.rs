//! Images with as many black and white values as training images have.

use fewstep_core::plan::Plan;
use fewstep_nn::tch::{Kind, Tensor};
use serde_json::json;

/// From here on a value in [-1, 1] is stored as the least or the greatest byte ([`fewstep_nn::sample::to_u8`]).
const END: f64 = 254.0 / 255.0;

/// Values are stretched, or drawn together, by at most so much: what would take more is not for a gain to mend.
const MOST: f64 = 1.05;

/// A gain may make so much of the rollout error that there is. Chosen on the two models of docs/choosing.md: a quarter more bought
/// at most 4 per cent of the distance there.
const MOST_ERROR: f64 = 1.0625;

/// Data that are clipped more rarely than this say nothing about a gain.
const LEAST_SHARE: f64 = 1e-3;

/// The values of images near the ends of their range: enough to know which share of them a gain would saturate.
///
/// Data are clipped to their range, and a denoiser, which answers with means, hardly ever gets to the end of it: a black
/// ground becomes a nearly black one. Features that are means over an image do not see it, trained ones do.
#[derive(Debug, Default)]
pub(super) struct Ends {
    values: u64,
    /// Saturated with any gain.
    beyond: u64,
    /// Magnitudes of those that some gain saturates.
    near: Vec<f32>,
}

impl Ends {
    /// Looks at `images` in [-1, 1], too, of any shape.
    pub fn look(&mut self, images: &Tensor) -> fewstep_nn::Result<()> {
        let size = images.f_abs()?.f_to_kind(Kind::Float)?.f_flatten(0, -1)?;
        self.values += size.numel() as u64;
        self.beyond += u64::try_from(size.f_ge(END * MOST)?.f_sum(Kind::Int64)?.int64_value(&[])).unwrap_or(0);
        let near = size.f_ge(END / MOST)?.f_logical_and(&size.f_lt(END * MOST)?)?;
        self.near.extend(Vec::<f32>::try_from(size.f_masked_select(&near)?)?);
        Ok(())
    }

    /// The share of the values that is saturated with a gain between `1 / MOST` and `MOST`.
    pub fn share(&self, gain: f64) -> f64 {
        let near = self.near.iter().filter(|size| f64::from(**size) * gain >= END).count();
        (self.beyond + near as u64) as f64 / self.values.max(1) as f64
    }

    /// The gain between `1 / MOST` and `MOST` with which the share is nearest to this one; of several that near to 1.
    pub fn gain(&mut self, share: f64) -> f64 {
        self.near.sort_by(|a, b| b.total_cmp(a));
        let wanted = (share * self.values as f64).round() as u64;
        let Some(wanted) = wanted.checked_sub(self.beyond) else { return 1.0 / MOST };
        // the greatest ones are to be saturated, and the next one not
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

/// The share of the images of some latents that is to be saturated, so that with many more it is the share of the data.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct SaturationTarget {
    pub share: f64,
    /// So many of the search's latents, the first ones.
    pub latents: usize,
}

impl SaturationTarget {
    /// `of_data`: training images, `of_many`: what a plan makes of many latents; `of_these`: of so many of the search's.
    /// None where the data are hardly ever clipped.
    pub fn new(of_data: &Ends, of_many: &mut Ends, of_these: &Ends, latents: usize) -> Option<Self> {
        let share = of_data.share(1.0);
        (share >= LEAST_SHARE).then(|| Self { share: of_these.share(of_many.gain(share)), latents })
    }

    /// Gives the plan's images a gain about mid-grey with which as much of them is saturated, or as far towards it as the
    /// rollout error lets. `images` `[N, C, H, W]`: what the plan makes of the search's latents; `teacher`: what the teacher does.
    pub fn reach(&self, plan: &mut Plan, images: &Tensor, teacher: &Tensor) -> fewstep_nn::Result<()> {
        let mut ends = Ends::default();
        ends.look(&images.f_narrow(0, 0, (self.latents as i64).min(images.size()[0]))?)?;
        let gain = reined(ends.gain(self.share), images, teacher)?;
        plan.output.terms_mut().for_each(|(_, coefficient)| *coefficient *= gain);
        let found_by = json!({ "gain": gain, "shares": [ends.share(1.0), ends.share(gain)], "wanted": self.share });
        plan.metadata.found_by.insert("saturated".into(), found_by);
        Ok(())
    }
}

/// As much of the way from 1 to `gain` as `MOST_ERROR` lets: the squared error of `g x` is `a g^2 - 2 b g + c`.
fn reined(gain: f64, images: &Tensor, teacher: &Tensor) -> fewstep_nn::Result<f64> {
    let dot = |x: &Tensor, y: &Tensor| -> fewstep_nn::Result<f64> {
        Ok(x.f_to_kind(Kind::Double)?.f_mul(y)?.f_sum(Kind::Double)?.double_value(&[]))
    };
    let (a, b, off) = (dot(images, images)?, dot(images, teacher)?, images.f_sub(teacher)?);
    let error = dot(&off, &off)?;
    if !(a > 0.0 && a.is_finite() && b.is_finite() && error.is_finite()) {
        return Ok(1.0);
    }
    // where it reaches MOST_ERROR times that of a gain of 1: a (g - 1)^2 + 2 (a - b) (g - 1) = (MOST_ERROR - 1) error
    let half = a - b;
    let root = (half * half + a * (MOST_ERROR - 1.0) * error).sqrt();
    Ok(gain.clamp(1.0 + (-half - root) / a, 1.0 + (-half + root) / a))
}

#[cfg(test)]
mod tests {
    use fewstep_core::schedule::karras;
    use fewstep_core::{Solver, SolverOptions};
    use fewstep_nn::sample::to_u8;
    use fewstep_nn::tch::{self, Device};

    use super::*;

    fn ends(images: &Tensor) -> Ends {
        let mut ends = Ends::default();
        for part in images.split(7, 0) {
            ends.look(&part).unwrap();
        }
        ends
    }

    /// Of what a file stores.
    fn stored(images: &Tensor) -> f64 {
        let bytes = to_u8(images);
        bytes.eq(0).logical_or(&bytes.eq(255)).to_kind(Kind::Double).mean(Kind::Double).double_value(&[])
    }

    fn draw() -> Tensor {
        tch::manual_seed(5);
        Tensor::randn([40, 1, 8, 8], (Kind::Float, Device::Cpu)) * 0.6
    }

    #[test]
    fn shares_are_those_of_files_and_gains_reach_them() {
        let images = draw();
        let mut seen = ends(&images);
        for gain in [0.96, 1.0, 1.03] {
            let share = stored(&(&images * gain));
            assert_eq!(seen.share(gain), share);
            let found = seen.gain(share);
            assert_eq!(stored(&(&images * found)), share, "{gain} {found}");
        }
        assert_eq!([seen.gain(0.0), seen.gain(1.0)], [1.0 / MOST, MOST]);
        let at = |values: &[f32], share: f64| ends(&Tensor::from_slice(values).view([-1, 1])).gain(share);
        assert_eq!([at(&[0.5, 0.98], 0.0), at(&[0.5, 0.999], 0.5), at(&[0.5, 0.2], 0.0)], [1.0; 3]);
        assert!(
            (at(&[0.5, 0.98], 0.5) - END / 0.98).abs() < 1e-6 && (at(&[0.5, 0.999], 0.0) - END / 0.999).abs() < 1e-6
        );
        assert_eq!(at(&[0.5, 0.2], 0.5), MOST);
    }

    #[test]
    fn a_plan_gets_the_gain_and_says_so() {
        let images = draw();
        let (data, made) = (&images * 1.04, &images * 1.01);
        let target =
            SaturationTarget::new(&ends(&data), &mut ends(&images), &ends(&images.narrow(0, 0, 9)), 9).unwrap();
        let mut plan = Solver::Euler.plan(&karras(3, 0.05, 10.0, 7.0).unwrap(), &SolverOptions::default()).unwrap();
        let before: Vec<f64> = plan.output.terms().map(|(_, c)| c).collect();
        // so far from the teacher that the rein does not matter
        target.reach(&mut plan, &made, &(&images * -0.5)).unwrap();
        let gain = plan.metadata.found_by["saturated"]["gain"].as_f64().unwrap();
        assert!((gain - 1.04 / 1.01).abs() < 5e-3, "{gain}");
        assert!(plan.output.terms().zip(before).all(|((_, now), before)| now == before * gain));
    }

    #[test]
    fn the_error_is_a_rein() {
        let teacher = draw();
        let images = &teacher * 0.99 + teacher.flip([0]) * 0.1;
        let error = |gain: f64| (&images * gain - &teacher).square().sum(Kind::Double).double_value(&[]);
        let reined = |gain: f64| reined(gain, &images, &teacher).unwrap();
        assert_eq!(reined(1.001), 1.001);
        for far in [0.8, 1.2] {
            let gain = reined(far);
            assert!((gain - 1.0).abs() < 0.1 && (gain > 1.0) == (far > 1.0), "{gain}");
            assert!((error(gain) / error(1.0) - MOST_ERROR).abs() < 1e-4, "{gain}");
        }
        assert_eq!(super::reined(1.02, &teacher, &teacher).unwrap(), 1.0);
        assert_eq!(super::reined(1.02, &teacher.zeros_like(), &teacher).unwrap(), 1.0);
    }

    #[test]
    fn data_that_are_not_clipped_ask_for_nothing() {
        let images = draw();
        let data = ends(&(&images * 0.1));
        assert_eq!(SaturationTarget::new(&data, &mut ends(&images), &ends(&images), 40), None);
    }
}
