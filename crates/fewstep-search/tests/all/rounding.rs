//! A search on a denoiser that is rounded to single precision, beside the same in double precision.

use fewstep_core::Plan;
use fewstep_core::denoiser::{Classes, Denoiser, Levels, Oracle, Spec};
use fewstep_core::observe::Silent;
use fewstep_search::settings::{GaussNewtonSettings, LeastSquaresSettings, TeacherSettings};
use fewstep_search::{HeldOut, SearchSettings, find_plans};

use crate::support::{Answering, Batch, denoised, images};

/// A mixture that is told levels and states in single precision, and answers in it.
pub fn single(exact: &Oracle) -> impl Denoiser<Batch = Batch> {
    let spec = Spec { rounding: f64::from(f32::EPSILON) / 2.0, ..exact.spec().clone() };
    let answer = |exact: &Oracle, x: &Batch, sigma: f64, classes: &Classes| {
        rounded(&denoised(exact, &rounded(x), f64::from(sigma as f32), classes))
    };
    Answering { spec, ..Answering::new(exact.clone(), answer) }
}

fn rounded(batch: &Batch) -> Batch {
    batch.iter().map(|sample| sample.iter().map(|value| f64::from(*value as f32)).collect()).collect()
}

/// Levels and coefficients, the image's last.
fn numbers(plan: &Plan) -> Vec<f64> {
    let inputs = plan.stages.iter().flat_map(|stage| stage.input.terms().map(|(_, c)| c).collect::<Vec<_>>());
    plan.sigmas().into_iter().chain(inputs).chain(plan.output.terms().map(|(_, c)| c)).collect()
}

#[test]
fn refined_plans_do_not_hang_on_rounding() {
    let exact = Oracle::new(images(), vec![1, 8, 8], Levels::between(0.002, 80.0));
    let single = single(&exact);
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
