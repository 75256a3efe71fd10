//! The paper's figures for a fit: the learned schedule beside rho = 7 (Fig. 3), the weights it induces beside EDM's (Fig. 4).

use fewstep_core::objective::induced_weights;
use fewstep_core::parameterisation::Parameterisation;
use fewstep_core::schedule::Schedule;
use fewstep_nn::fit::TuneStep;
use fewstep_report::{Axis, Plot, Series, Style};

/// Fig. 3: noise levels against the step, one line each.
pub fn schedules(title: String, schedules: &[(&str, &[f64])]) -> Plot {
    let styles = [Style::Dashed, Style::LineMarkers, Style::LineMarkers];
    let series = schedules.iter().zip(styles.into_iter().cycle()).map(|((name, sigmas), style)| {
        let points = sigmas.iter().enumerate().map(|(step, &sigma)| (step as f64, sigma)).collect();
        Series::new(*name, points, style)
    });
    let (x, y) = (Axis::linear("step"), Axis::log("noise level sigma"));
    Plot { title, x, y, series: series.collect(), ..Plot::default() }
}

/// Fig. 4: the weights a_i (Eq. 12) that `schedule` induces beside the EDM recipe's 1/c_out^2, raw and times the probability
/// of the level (uniform over the levels, log-normal for EDM). Each curve is scaled to a largest value of 1.
pub fn weights(steps: usize, schedule: &Schedule, parameterisation: &Parameterisation) -> [Plot; 2] {
    let levels = &schedule.levels()[..schedule.len() - 1]; // the last one carries no weight
    let induced: Vec<(f64, f64)> = levels.iter().copied().zip(induced_weights(schedule)).collect();
    let (low, high) = (schedule.sigma_min(), schedule.sigma_max());
    let curve = |weight: &dyn Fn(f64) -> f64| -> Vec<(f64, f64)> {
        (0..=200).map(|i| low * (high / low).powf(f64::from(i) / 200.0)).map(|sigma| (sigma, weight(sigma))).collect()
    };
    let edm = |sigma: f64| parameterisation.coefficients(&sigma).c_out.powi(-2);
    // Density of ln sigma for ln sigma ~ N(-1.2, 1.2^2), up to a constant.
    let density = |sigma: f64| (-0.5 * ((sigma.ln() + 1.2) / 1.2).powi(2)).exp();
    let plot = |title: String, y: Axis, ours: Vec<(f64, f64)>, theirs: Vec<(f64, f64)>| Plot {
        title,
        x: Axis::log("noise level sigma"),
        y,
        series: vec![
            Series::new("EDM", scaled(theirs), Style::Dashed),
            Series::new("induced (Eq. 12)", scaled(ours), Style::LineMarkers),
        ],
        ..Plot::default()
    };
    [
        plot(
            format!("Training weights, {steps} steps"),
            Axis::log("weight, largest = 1"),
            induced.clone(),
            curve(&edm),
        ),
        plot(
            format!("Weights times probability, {steps} steps"),
            Axis::linear("weight x probability, largest = 1"),
            induced,
            curve(&|sigma| edm(sigma) * density(sigma)),
        ),
    ]
}

fn scaled(mut points: Vec<(f64, f64)>) -> Vec<(f64, f64)> {
    let largest = points.iter().map(|point| point.1).fold(0.0, f64::max);
    if largest > 0.0 {
        points.iter_mut().for_each(|point| point.1 /= largest);
    }
    points
}

/// The held-out rollout error while the network is tuned, one line a run.
pub fn tuning(runs: &[(String, &[TuneStep])]) -> Plot {
    let series = runs.iter().map(|(name, evaluations)| {
        let points = evaluations.iter().map(|step| (step.iteration as f64, step.rollout_error)).collect();
        Series::new(name.clone(), points, Style::LineMarkers)
    });
    Plot {
        title: "Phase 2: held-out rollout error".to_owned(),
        x: Axis::linear("update"),
        y: Axis::linear("rollout error"),
        series: series.collect(),
        ..Plot::default()
    }
}
