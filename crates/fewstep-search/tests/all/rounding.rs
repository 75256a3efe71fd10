//! A search on a denoiser that is rounded to single precision, beside the same in double precision.

use std::convert::Infallible;

use fewstep_core::Plan;
use fewstep_core::denoiser::{Classes, Denoiser, Levels, Oracle, Spec};
use fewstep_core::observe::Silent;
use fewstep_core::plan::Constant;
use fewstep_search::settings::{GaussNewtonSettings, LeastSquaresSettings, TeacherSettings};
use fewstep_search::{HeldOut, SearchSettings, find_plans};

use crate::support::images;

type Batch = Vec<Vec<f64>>;

/// A mixture that is told levels and states in single precision, and answers in it.
struct Single {
    exact: Oracle,
    spec: Spec,
}

impl Single {
    fn new(exact: Oracle) -> Self {
        let spec = Spec { rounding: f64::from(f32::EPSILON) / 2.0, ..exact.spec().clone() };
        Self { exact, spec }
    }
}

fn rounded(batch: &Batch) -> Batch {
    batch.iter().map(|sample| sample.iter().map(|value| f64::from(*value as f32)).collect()).collect()
}

impl Denoiser for Single {
    type Batch = Batch;
    type Conditions = Classes;
    type Error = Infallible;

    fn spec(&self) -> &Spec {
        &self.spec
    }

    fn latents(&self, seeds: &[u64]) -> Result<Batch, Infallible> {
        self.exact.latents(seeds)
    }

    fn conditions(&self, seeds: &[u64]) -> Result<Classes, Infallible> {
        self.exact.conditions(seeds)
    }

    fn same_condition(&self, class: Option<usize>, samples: usize) -> Result<Classes, Infallible> {
        self.exact.same_condition(class, samples)
    }

    fn constant(&self, constant: &Constant, classes: &Classes, samples: usize) -> Result<Batch, Infallible> {
        self.exact.constant(constant, classes, samples)
    }

    fn denoise(&self, asked: &[(&Batch, f64)], classes: &Classes) -> Result<Vec<Batch>, Infallible> {
        let asked: Vec<(Batch, f64)> = asked.iter().map(|(x, sigma)| (rounded(x), f64::from(*sigma as f32))).collect();
        let asked: Vec<(&Batch, f64)> = asked.iter().map(|(x, sigma)| (x, *sigma)).collect();
        Ok(self.exact.denoise(&asked, classes)?.iter().map(rounded).collect())
    }
}

/// Levels and coefficients, the image's last.
fn numbers(plan: &Plan) -> Vec<f64> {
    let inputs = plan.stages.iter().flat_map(|stage| stage.input.terms().map(|(_, c)| c).collect::<Vec<_>>());
    plan.sigmas().into_iter().chain(inputs).chain(plan.output.terms().map(|(_, c)| c)).collect()
}

#[test]
fn refined_plans_do_not_hang_on_rounding() {
    let exact = Oracle::new(images(), vec![1, 8, 8], Levels::between(0.002, 80.0));
    let single = Single::new(exact.clone());
    let settings = SearchSettings {
        teacher: TeacherSettings { samples: 64, ..TeacherSettings::default() },
        least_squares: LeastSquaresSettings { samples: 64, ..LeastSquaresSettings::default() },
        gauss_newton: GaussNewtonSettings { samples: 32, ..GaussNewtonSettings::default() },
        ..SearchSettings::default()
    };
    let steps = [3, 4, 5, 6];
    let method = "least-squares+gauss-newton".parse().unwrap();
    let plain = find_plans(&exact, &"least-squares".parse().unwrap(), &steps, &settings, &Silent).unwrap().plans;
    let wanted = find_plans(&exact, &method, &steps, &settings, &Silent).unwrap().plans;
    let found = find_plans(&single, &method, &steps, &settings, &Silent).unwrap().plans;
    let held_out = HeldOut::new(&exact, &settings.teacher, &(1000..1100).collect::<Vec<u64>>(), &Silent).unwrap();
    for nfe in steps {
        let [wanted, found] = [&wanted[&nfe], &found[&nfe]];
        assert_ne!(numbers(wanted), numbers(&plain[&nfe]), "{nfe} evaluations: nothing was refined");
        let apart = numbers(wanted).into_iter().zip(numbers(found)).map(|(a, b)| (a - b).abs() / (1.0 + a.abs()));
        let apart = apart.fold(0.0, f64::max);
        let [a, b] = [wanted, found].map(|plan| held_out.rollout_error(&exact, plan, &Silent).unwrap());
        println!("{nfe} evaluations: numbers apart by {apart:.1e}, rollout errors {a:.6e} {b:.6e}");
        assert!(apart < 1e-4, "{nfe} evaluations: {apart}");
        assert!((a / b - 1.0).abs() < 2e-4, "{nfe} evaluations: {a} {b}");
    }
}
