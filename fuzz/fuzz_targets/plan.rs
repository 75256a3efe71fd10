//! Plans: any text. One that is read is written and read back as it was, runs, and means in its unrolled form what it means.
#![no_main]

use std::convert::Infallible;

use fewstep_core::plan::Plan;
use fewstep_core::{execute, mixture::Mixture};
use fewstep_fuzz::memory::bounded;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    bounded(text.len(), 1000, || {
        let Ok(plan) = Plan::from_json(text) else { return };
        let written = plan.to_json().expect("a plan that was read can be written");
        assert_eq!(Plan::from_json(&written).expect("and read"), plan);
        if plan.nfe() > 64 || plan.constant.is_some() {
            return;
        }
        let data = Mixture::gaussian(vec![0.5, -1.0], 0.25).expect("it is one");
        let run = |plan: &Plan| {
            execute(plan, &vec![0.3, -0.7], |x, sigma| Ok::<_, Infallible>(data.denoised(x, sigma)))
                .expect("it cannot fail")
        };
        let (found, unrolled) = (run(&plan), run(&plan.unrolled()));
        let size = found.iter().chain(&unrolled).fold(1.0f64, |size, value| size.max(value.abs()));
        // coefficients of any size cancel: only what stays small is compared
        if size < 1e3 && plan.stages.iter().all(|stage| stage.input.terms().all(|(_, weight)| weight.abs() < 10.0)) {
            for (a, b) in found.iter().zip(&unrolled) {
                assert!((a - b).abs() < 1e-3 * size, "{a} {b}");
            }
        }
    });
});
