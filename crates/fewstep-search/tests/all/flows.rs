//! Searches on flows that know a part of the times alone.

use fewstep_core::Plan;
use fewstep_core::denoiser::{Denoiser, Levels, Oracle};
use fewstep_core::observe::Silent;
use fewstep_core::parameterisation::{Parameterisation, RectifiedFlow};
use fewstep_search::{DataMoments, Extras, PlanScorer, Search};

use crate::finding::{method, pictures, settings};

/// Refuses plans with a level that the flow does not know.
struct Within((f64, f64));

impl PlanScorer for Within {
    fn distance(&self, plan: &Plan, _: &[u64]) -> fewstep_search::Result<f64> {
        let known = |sigma: &f64| (self.0.0..=self.0.1).contains(sigma);
        assert!(plan.sigmas().iter().all(known), "{:?} outside {:?}", plan.sigmas(), self.0);
        Ok(1.0)
    }
}

/// Times from 0.3 to 0.9: the last of four equal steps to 0 would begin at 0.225.
#[test]
fn all_plans_that_are_compared_stay_within_what_a_flow_knows() {
    let flow = RectifiedFlow { t_min: Some(0.3), t_max: 0.9, ..RectifiedFlow::default() };
    let levels = Levels::from(&Parameterisation::Flow(flow));
    let denoiser = Oracle::new(pictures().mixture().clone(), vec![1, 4, 5], levels);
    let known = denoiser.spec().levels.supported;
    let mut data = DataMoments::new();
    let images: Vec<Vec<f64>> = denoiser.mixture().sample(7, 300).chunks(20).map(<[f64]>::to_vec).collect();
    data.add(denoiser.appearance().unwrap(), &images).unwrap();
    let settings = settings();
    let search = Search::new(&denoiser, &settings, &Silent).unwrap();
    let plan_scorer = Within(known);
    let search = search.with(Extras { data: Some(&data), plan_scorer: Some(&plan_scorer), ..Extras::default() });
    let found = search.find(&method("least-squares+data-moments+nearest"), &[2, 4, 8]).unwrap();
    for (nfe, plan) in &found.plans {
        let compared = &plan.metadata.found_by["nearest"]["compared"];
        assert!(compared.get("flow_trailing/unipc2_bh2+data-moments").is_some(), "{nfe}: {compared}");
    }
}
