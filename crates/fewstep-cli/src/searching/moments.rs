//! Plans whose images look like the teacher's, or like training images, all of them together.

use std::collections::BTreeMap;
use std::rc::Rc;

use anyhow::{Context, Result, anyhow};
use fewstep_core::plan::Plan;
use fewstep_core::schedule::karras;
use fewstep_core::search::{RefitOptions, refit_output};
use fewstep_core::solver::Solver;
use fewstep_eval::features::RandomFeatures;
use fewstep_eval::{FrechetReference, Moments, Statistics, mean_shift};
use fewstep_nn::data::Images;
use fewstep_nn::distance::FeatureMap;
use fewstep_nn::random;
use fewstep_nn::sample::Seeded;
use fewstep_nn::tch::{Device, Kind, Tensor};
use fewstep_nn::tensor::Batch;
use serde::{Deserialize, Serialize};

use super::saturation::{Ends, SaturationTarget};
use super::{MomentsOf, SEARCH_SEEDS, Searcher, on_schedule};
use crate::ui::Progress;

/// How moments are matched.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MomentsSettings {
    /// What the squared error counts beside the teacher's moments, for a plan of up to 5 evaluations; in proportion more for one of
    /// more.
    pub error_weight: f64,
    /// The same beside training images' moments, which are further off. (Files that do not say so are of a time with one weight.)
    #[serde(default = "one_weight")]
    pub data_error_weight: f64,
    /// Latents on which a plan's images are compared with training images.
    pub control: usize,
    /// Root mean square, in grey levels, of an error that hardly matters beside training images: images that are nearer to the
    /// teacher's have some of it to give away. (Files that do not say so are of a time when all of it mattered.)
    #[serde(default)]
    pub hardly_matters: f64,
}

/// With more evaluations than these, images come near the teacher's as they are, and what a few latents say of its moments is worth
/// less of that.
const FEW_EVALUATIONS: usize = 5;

/// Half the range of an image's values is as many grey levels.
const GREY_LEVELS: f64 = 127.5;

fn one_weight() -> f64 {
    0.15
}

impl MomentsSettings {
    /// How moments of images of `pixels` values are matched for a plan of `nfe` evaluations.
    fn options(&self, of: MomentsOf, nfe: usize, pixels: f64) -> RefitOptions {
        let (error_weight, hardly_matters) = match of {
            MomentsOf::Teacher => (self.error_weight * nfe.max(FEW_EVALUATIONS) as f64 / FEW_EVALUATIONS as f64, 0.0),
            MomentsOf::Data => (self.data_error_weight, (self.hardly_matters / GREY_LEVELS).powi(2) * pixels),
        };
        RefitOptions { error_weight, hardly_matters, ..RefitOptions::default() }
    }
}

/// Training images that are looked at, at most.
const MOST_IMAGES: usize = 10_000;

/// Seed of which ones.
const DATA_SEED: u64 = u64::from_le_bytes(*b"moments ");

/// Evaluations of the sampler whose images are compared with training images: what they lack the teacher is taken to lack.
pub(super) const CONTROL_EVALUATIONS: usize = 15;

/// What plans' images are to be like, all of them together.
#[derive(Debug)]
pub(super) struct Target {
    /// Mean and covariance of their features.
    features: Statistics,
    /// How much of them lies at the ends of the range; none where that is left as it is.
    saturation: Option<SaturationTarget>,
    /// Evaluations of single images that it takes to know; everyone who uses it is charged them.
    evaluations: u64,
}

impl Searcher<'_> {
    /// `plan` for this network with its images' moments matched: once more, where it was found for another one.
    pub fn matched(&self, of: MomentsOf, plan: &Plan) -> Result<Plan> {
        let mut plans = BTreeMap::from([(plan.nfe(), plan.clone())]);
        self.match_moments(of, &mut plans)?;
        plans.into_values().next().context("the plan that was just matched")
    }

    /// Fits the last combination of every plan so that mean and covariance of its images' features, of a network that
    /// nobody trained, are those of the teacher's images, as they are or moved to training images; the latter also as to how much
    /// of them is black or white. Returns the evaluations of single images.
    pub(super) fn match_moments(&self, of: MomentsOf, plans: &mut BTreeMap<usize, Plan>) -> Result<u64> {
        if plans.is_empty() {
            return Ok(0);
        }
        let before = self.network.evaluations();
        let target = self.target(of)?;
        let (features, ends) = (self.random_features(), self.teacher.ends());
        let look = Look { features, reference: FrechetReference::new(&target.features)?, batch: self.network.batch() };
        let pixels = self.model().image_shape().iter().product::<i64>() as f64;
        let mut progress = Progress::new("matching moments", "plans", plans.len() as u64, 0);
        for (done, plan) in (1..).zip(plans.values_mut()) {
            let near = |images: &Batch, directions: &[Batch]| look.near(images, directions);
            let denoise = |x: &Batch, sigma: f64| self.network.denoised(x, sigma);
            let options = self.settings.moments.options(of, plan.nfe(), pixels);
            let refitted =
                refit_output(plan, ends, &options, near, denoise).map_err(|error| anyhow!(error.to_string()))?;
            *plan = refitted.plan;
            if let Some(target) = &target.saturation {
                target.reach(plan, &refitted.image.0, &ends.image.0)?;
            }
            progress.set(done, "");
        }
        progress.finish();
        Ok(self.network.evaluations() - before + target.evaluations)
    }

    /// What images are to be like.
    fn target(&self, of: MomentsOf) -> Result<Rc<Target>> {
        if let Some(origin) = self.origin {
            return origin.target(of); // a tuned network is no judge of what its teacher lacks
        }
        if let (MomentsOf::Data, Some(known)) = (of, self.target.get()) {
            return Ok(Rc::clone(known));
        }
        let features = self.random_features();
        let of_teacher = self.statistics(&features, &self.teacher.ends().image.0)?;
        let MomentsOf::Data = of else {
            return Ok(Rc::new(Target { features: of_teacher, saturation: None, evaluations: 0 }));
        };
        let images = self.images.context(
            "methods that end in +data-moments need training images: name them with --data, or write +moments for the teacher's",
        )?;
        let target = Rc::new(self.moved_to_data(of_teacher, &features, images)?);
        Ok(Rc::clone(self.target.get_or_init(|| target)))
    }

    /// A sampler near enough to the teacher to say what that lacks: DPM-Solver++ on rho = 7. It is the same whatever plans are asked
    /// for, so that no plan depends on the others.
    fn control(&self) -> Result<Plan> {
        let precond = &self.model().config().precond;
        let (low, high) = precond.sampling_range();
        let solver = Solver::DpmPp { order: 3, lower_order_final: true };
        on_schedule(solver, &karras(CONTROL_EVALUATIONS, low, high, 7.0)?.round(precond)?)
    }

    /// The network that nobody trained.
    fn random_features(&self) -> RandomFeatures {
        let [channels, resolution, _] = self.model().image_shape();
        RandomFeatures::new(channels, resolution, self.model().device())
    }

    /// The statistics of the teacher's images from the search's few latents, their mean moved by what another sampler's
    /// images lack to training images. A few images miss the mean of many by far more than a teacher's images differ from training
    /// images, so a plan must not be drawn to the latter as it is; that difference is measured on many latents instead, as far as
    /// they can tell it ([`mean_shift`]). Covariances are too noisy for that, and distances rose with them.
    fn moved_to_data(&self, of_teacher: Statistics, features: &RandomFeatures, images: &Images) -> Result<Target> {
        let plan = self.control()?;
        let of_data = self.seen_in_data(features, images)?;
        let (mut of_plan, of_search) = self.seen_in_control(features, &plan)?;
        let all_data = of_data.features.statistics(None).context("cannot match the moments of --data")?;
        let shift = mean_shift(&of_plan.features.statistics(None)?, &all_data)
            .context("cannot compare the images of --moments-control latents with --data")?;
        let mu = of_teacher.mu.iter().zip(shift).map(|(ours, shift)| ours + shift).collect();
        let latents = self.settings.moments.control.min(self.settings.teacher.samples);
        Ok(Target {
            features: Statistics { mu, ..of_teacher },
            saturation: SaturationTarget::new(&of_data.ends, &mut of_plan.ends, &of_search, latents),
            evaluations: (self.settings.moments.control * plan.nfe()) as u64,
        })
    }

    /// The images that `plan` makes of `--moments-control` latents; second, those of the search's own latents, which come first.
    fn seen_in_control(&self, features: &RandomFeatures, plan: &Plan) -> Result<(Seen, Ends)> {
        let count = self.settings.moments.control;
        let seeds: Vec<u64> = (SEARCH_SEEDS..SEARCH_SEEDS + count as u64).collect();
        let run = Seeded { seeds: &seeds, class: None, batch: self.network.batch() };
        let mut progress = Progress::new("images of the control latents", "img", count as u64, 0);
        let (mut seen, mut of_search) = (Seen::new(features)?, Ends::default());
        let collect = |start: usize, images: &Tensor| {
            seen.look(features, images).map_err(|error| fewstep_nn::Error::Input(error.to_string()))?;
            let of_these = self.settings.teacher.samples.saturating_sub(start) as i64;
            of_search.look(&images.f_narrow(0, 0, of_these.min(images.size()[0]))?)?;
            progress.set((start + images.size()[0] as usize) as u64, "");
            Ok(())
        };
        run.run(self.model(), plan, collect)?;
        progress.finish();
        Ok((seen, of_search))
    }

    fn statistics(&self, features: &RandomFeatures, images: &Tensor) -> Result<Statistics> {
        let mut moments = Moments::new(features.dim())?;
        moments.update(&in_batches(features, images, self.network.batch())?)?;
        Ok(moments.statistics(None)?)
    }

    fn seen_in_data(&self, features: &RandomFeatures, images: &Images) -> Result<Seen> {
        let mut seen = Seen::new(features)?;
        for indices in drawn(images.len()).chunks(self.network.batch()) {
            seen.look(features, &images.batch(indices, self.model())?.images)?;
        }
        Ok(seen)
    }
}

/// The training images that are looked at, of so many: drawn at random, as their classes may come one after the other, or take turns.
fn drawn(len: usize) -> Vec<i64> {
    let mut order = random::permutation(DATA_SEED, 0, len);
    order.truncate(MOST_IMAGES);
    order
}

/// What was seen in images so far.
struct Seen {
    features: Moments,
    ends: Ends,
}

impl Seen {
    fn new(features: &RandomFeatures) -> fewstep_eval::Result<Self> {
        Ok(Self { features: Moments::new(features.dim())?, ends: Ends::default() })
    }

    /// Looks at `images` `[N, C, H, W]`, too.
    fn look(&mut self, features: &RandomFeatures, images: &Tensor) -> Result<()> {
        self.features.update(&features.features(images)?)?;
        Ok(self.ends.look(images)?)
    }
}

/// A distance and its gradient.
type WithGradient = fewstep_nn::Result<(f64, Vec<f64>)>;

/// What sets of images are compared by.
struct Look {
    features: RandomFeatures,
    reference: FrechetReference,
    /// Images at once.
    batch: usize,
}

/// How far images are moved along a direction to see what it does, in units of the error that a plan leaves.
const DIFFERENCE: f64 = 0.1;

impl Look {
    /// The Frechet distance of `images` plus so much of each of the `directions`, with its gradient by how much: features are
    /// taken to be linear in it, so that their moments are polynomials.
    fn near(
        &self,
        images: &Batch,
        directions: &[Batch],
    ) -> fewstep_nn::Result<impl FnMut(&[f64]) -> WithGradient + use<'_>> {
        let here = self.of(&images.0)?;
        let mut linear = vec![here.shallow_clone()];
        for Batch(direction) in directions {
            linear.push((self.of(&(&images.0 + direction * DIFFERENCE))? - &here) / DIFFERENCE);
        }
        // [N, 1 + directions, d]
        let linear = Tensor::f_stack(&linear, 1)?.f_to_device(Device::Cpu)?.f_to_kind(Kind::Double)?;
        let (n, terms, dim) = linear.size3()?;
        let means = linear.f_mean_dim(&[0i64][..], false, Kind::Double)?;
        let centred = linear.f_sub(&means)?.f_view([n, terms * dim])?;
        let products =
            (centred.f_tr()?.f_matmul(&centred)? / (n - 1).max(1) as f64).f_view([terms, dim, terms, dim])?;
        // [(1 + directions)^2, d^2]
        let products = products.f_permute([0, 2, 1, 3])?.f_reshape([terms * terms, dim * dim])?;
        Ok(move |along: &[f64]| {
            let along = Tensor::from_slice(along).set_requires_grad(true);
            let weights = Tensor::f_cat(&[Tensor::ones([1], (Kind::Double, Device::Cpu)), along.shallow_clone()], 0)?;
            let mean = weights.f_unsqueeze(0)?.f_matmul(&means)?.f_squeeze_dim(0)?;
            let pairs = weights.f_outer(&weights)?.f_view([1, terms * terms])?;
            let covariance = pairs.f_matmul(&products)?.f_view([dim, dim])?;
            let distance = self
                .reference
                .differentiable_moments(&mean, &covariance)
                .map_err(|error| fewstep_nn::Error::Input(error.to_string()))?;
            let slope = Tensor::f_run_backward(&[&distance], &[&along], false, false)?;
            Ok((distance.double_value(&[]).max(0.0), Vec::<f64>::try_from(&slope[0])?))
        })
    }

    /// The features of `images` `[N, C, H, W]`, `[N, d]`.
    fn of(&self, images: &Tensor) -> fewstep_nn::Result<Tensor> {
        in_batches(&self.features, images, self.batch)
    }
}

/// The features of `images` `[N, C, H, W]`, so many at once, `[N, d]`.
fn in_batches(features: &RandomFeatures, images: &Tensor, batch: usize) -> fewstep_nn::Result<Tensor> {
    let parts = images.split(batch.max(1) as i64, 0);
    let parts = parts.iter().map(|part| features.features(part)).collect::<fewstep_nn::Result<Vec<_>>>()?;
    Ok(Tensor::f_cat(&parts, 0)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_is_looked_at_in_whatever_order_they_come() {
        let drawn = drawn(50_000);
        assert_eq!(drawn.len(), MOST_IMAGES);
        for class_of in [|index: i64| index % 10, |index: i64| index / 5000] {
            let of_class = |class: i64| drawn.iter().filter(|index| class_of(**index) == class).count();
            assert!((0..10).all(|class| (900..1100).contains(&of_class(class))));
        }
        assert_eq!(super::drawn(3).len(), 3);
    }

    /// Beside the teacher's moments the error counts more in longer plans; beside training images' a little of it is the unit.
    #[test]
    fn what_the_error_counts() {
        let settings = MomentsSettings { error_weight: 0.15, data_error_weight: 0.8, control: 2, hardly_matters: 3.0 };
        let of = |of: MomentsOf, nfe: usize| {
            let options = settings.options(of, nfe, 100.0);
            (options.error_weight, options.hardly_matters)
        };
        assert_eq!([3, 5, 10].map(|nfe| of(MomentsOf::Teacher, nfe)), [(0.15, 0.0), (0.15, 0.0), (0.3, 0.0)]);
        for nfe in [3, 10] {
            let (weight, unit) = of(MomentsOf::Data, nfe);
            assert!(weight == 0.8 && (unit - 100.0 * (6.0f64 / 255.0).powi(2)).abs() < 1e-12, "{weight} {unit}");
        }
    }

    /// At 0 the distance is that of the images' own moments, near by it is nearly that, and its gradient is that of differences.
    #[test]
    fn a_look_near_images_is_a_look_at_them() {
        fewstep_nn::tch::manual_seed(3);
        let draw = |n: i64, size: f64| Tensor::randn([n, 1, 16, 16], (Kind::Float, Device::Cpu)) * size;
        let features = RandomFeatures::new(1, 16, Device::Cpu);
        let mut target = Moments::new(features.dim()).unwrap();
        target.update(&features.features(&draw(300, 0.4)).unwrap()).unwrap();
        let reference = FrechetReference::new(&target.statistics(None).unwrap()).unwrap();
        let look = Look { features, reference, batch: 7 };
        let (images, directions) = (draw(80, 0.3), [draw(80, 0.02), draw(80, 0.02) + 0.02]);
        let exactly = |q: [f64; 2]| {
            let moved = &images + &directions[0] * q[0] + &directions[1] * q[1];
            look.reference.differentiable(&look.features.features(&moved).unwrap()).unwrap().double_value(&[])
        };
        let mut near = look
            .near(&Batch(images.shallow_clone()), &directions.each_ref().map(|d| Batch(d.shallow_clone())))
            .unwrap();
        let (here, slope) = near(&[0.0, 0.0]).unwrap();
        assert!((here - exactly([0.0, 0.0])).abs() < 1e-6 * here, "{here} {}", exactly([0.0, 0.0]));
        let there = [0.2, -0.1];
        let (found, expected) = (near(&there).unwrap().0, exactly(there));
        assert!((found - expected).abs() < 0.05 * (here - expected).abs(), "{here} to {found}, not {expected}");
        let difference = (near(&[1e-4, 0.0]).unwrap().0 - near(&[-1e-4, 0.0]).unwrap().0) / 2e-4;
        assert!((slope[0] - difference).abs() < 1e-3 * difference.abs(), "{slope:?} {difference}");
        let difference = (exactly([0.0, 0.1]) - exactly([0.0, -0.1])) / 0.2;
        assert!((slope[1] - difference).abs() < 0.1 * difference.abs(), "{slope:?} {difference}");
    }
}
