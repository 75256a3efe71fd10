use fewstep_core::denoiser::Guidance;
use fewstep_core::plan::{Constant, Source};
use fewstep_core::schedule::{Schedule, karras};

use super::*;

fn options() -> Options {
    Options { nearest: false, betas: "scaled-linear:0.00085:0.012".parse().unwrap(), shift: 1.0 }
}

fn plan(solver: Solver) -> Plan {
    solver.plan(&karras(5, 0.04, 14.0, 7.0).unwrap(), &SolverOptions::default()).unwrap()
}

/// The notes of an export, with settings as [`Setting`] has them.
fn said(exported: &Exported) -> Vec<String> {
    let spelled = |Setting { table, name, value }: &Setting| format!("{table}/{name}={value}");
    exported.notes.iter().map(|note| note.in_words(spelled)).collect()
}

/// A pipeline is handed the very variable that the lines leave: a list or a tensor, as the scheduler takes it.
#[test]
fn pipelines_are_handed_what_the_lines_define() {
    for (target, solver, name, kind) in [
        (Target::DiffusersEuler, Solver::Euler, "sigmas", "["),
        (Target::DiffusersEdmEuler, Solver::Euler, "sigmas", "torch.tensor(["),
        (Target::DiffusersFlowEuler, Solver::Euler, "sigmas", "["),
        (Target::DiffusersHeun, Solver::Heun, "timesteps", "["),
    ] {
        let exported = export(&plan(solver), target, &options()).unwrap();
        assert!(exported.text.contains(&format!("\n{name} = {kind}")), "{}", exported.text);
        assert!(exported.text.contains(&format!("set_timesteps({name}={name}, device=device)")));
        assert!(said(&exported)[0].contains(&format!("pipe(..., {name}={name})")), "{:?}", exported.notes);
    }
}

/// What a tool is not told by levels and solver: the guidance, and a constant that it cannot begin with.
#[test]
fn what_an_export_cannot_hold_is_said() {
    let mut guided = plan(Solver::Euler);
    let unguided = export(&guided, Target::Json, &options()).unwrap();
    assert!(!said(&unguided).iter().any(|note| note.contains("guidance")));
    guided.metadata.guidance = Some(Guidance { weight: 1.4, reference: "without its condition".to_owned() });
    for target in [Target::Json, Target::Comfyui] {
        let notes = said(&export(&guided, target, &options()).unwrap());
        assert!(notes.last().unwrap().ends_with("guidance 1.4: run it under the same"), "{notes:?}");
    }
    let mut holding = plan(Solver::Euler);
    holding.constant = Some(Constant { sigma: 80.0, shape: vec![1], samples: vec![vec![0.5]] });
    holding.output = [(Source::Constant, 0.1)].into_iter().chain(holding.output.terms()).collect();
    let nearest = Options { nearest: true, ..options() };
    let exported = export(&holding, Target::Comfyui, &nearest).unwrap();
    let setting = exported.notes.iter().find_map(Note::setting).unwrap();
    assert_eq!((setting.table, setting.name, setting.value), ("least_squares", "constant", false));
    let notes = said(&exported);
    assert!(notes.iter().any(|note| note.ends_with("are found with least_squares/constant=false")), "{notes:?}");
    // it is a setting of the search, and not its default
    let set = serde_json::json!({ setting.table: { setting.name: setting.value } });
    let set: crate::SearchSettings = serde_json::from_value(set).unwrap();
    assert!(!set.least_squares.constant && crate::SearchSettings::default().least_squares.constant);
}

/// A plan of this solver that says what it was found for.
fn found_for(solver: Solver, name: &str) -> Plan {
    let mut plan = plan(solver);
    plan.metadata.parameterisation = Some(name.to_owned());
    plan
}

/// All numbers of a text between two marks.
fn numbers(text: &str, from: &str, to: &str) -> Vec<f64> {
    let start = text.find(from).unwrap_or_else(|| panic!("no {from} in {text}")) + from.len();
    let end = start + text[start..].find(to).unwrap();
    text[start..end].split(',').map(|number| number.trim().parse().unwrap()).collect()
}

/// ComfyUI and stable-diffusion.cpp call a flow's time sigma; without a word of the network's kind nothing changes.
#[test]
fn levels_of_a_flow_are_its_times() {
    let sigmas = plan(Solver::Euler).sigmas();
    let times: Vec<f64> = sigmas.iter().map(|sigma| sigma / (1.0 + sigma)).collect();
    for (target, from, to) in [(Target::Comfyui, "", "\n"), (Target::StableDiffusionCpp, "--sigmas \"", "\"")] {
        for (plan, levels) in [
            (found_for(Solver::Euler, "flow"), &times),
            (found_for(Solver::Euler, "eps"), &sigmas),
            (plan(Solver::Euler), &sigmas),
        ] {
            let exported = export(&plan, target, &options()).unwrap();
            let found = numbers(&exported.text, from, to);
            assert_eq!(found.last(), Some(&0.0));
            assert!(found.iter().zip(levels).all(|(a, b)| (a / b - 1.0).abs() < 1e-8), "{}", exported.text);
            assert!(found.len() == 6 && exported.nearest.is_none());
        }
    }
    // the whole forms stay as they are
    for target in [Target::Python, Target::Csv] {
        let text = |plan: &Plan| export(plan, target, &options()).unwrap().text;
        assert_eq!(text(&found_for(Solver::Euler, "flow")), text(&plan(Solver::Euler)));
    }
}

/// With another solver than Euler's the tool's steps in t are not the plan's in sigma: what is exported instead is what it does.
#[test]
fn solvers_step_in_the_time_of_a_flow() {
    let denoised = |x: f64, sigma: f64| (0.3 + x * 0.2) / (1.0 + sigma) + (x / (1.0 + sigma)).sin();
    let heun = found_for(Solver::Heun, "flow");
    let error = export(&heun, Target::Comfyui, &options()).unwrap_err().to_string();
    assert!(error.contains("heun has other coefficients"), "{error}");
    let nearest = Options { nearest: true, ..options() };
    let exported = export(&heun, Target::Comfyui, &nearest).unwrap();
    let times = numbers(&exported.text, "", "\n");
    let made = exported.nearest.unwrap().plan;
    assert_eq!((made.nfe(), made.metadata.of_flow()), (heun.nfe(), Some(true)));
    // k-diffusion's Heun, as ComfyUI has it, on x = (1 - t) y + t n, with D of that state
    let latent = 0.7;
    let slope = |x: f64, t: f64| (x - denoised(x / (1.0 - t), t / (1.0 - t))) / t;
    let mut x = latent * times[0];
    for pair in times.windows(2) {
        let (d, step) = (slope(x, pair[0]), pair[1] - pair[0]);
        let euler = x + step * d;
        x = if pair[1] == 0.0 { euler } else { x + step * 0.5 * (d + slope(euler, pair[1])) };
    }
    let run = |plan: &Plan| {
        let denoise = |x: &Vec<f64>, sigma: f64| Ok::<_, ()>(vec![denoised(x[0], sigma)]);
        fewstep_core::execute(plan, &vec![latent], denoise).unwrap()[0]
    };
    assert!((run(&made) - x).abs() < 1e-7, "{} {x}", run(&made));
    assert!((run(&heun) - x).abs() > 1e-4, "the plan itself is another sampler: {} {x}", run(&heun));
    for consistency in made.consistency(0.0) {
        let [found, expected] = consistency.latent;
        assert!((found - expected).abs() < 1e-9, "{consistency:?}");
    }
}

#[test]
fn a_network_that_the_tool_cannot_run_is_refused() {
    let nearest = Options { nearest: true, ..options() };
    for options in [options(), nearest] {
        for (target, solver) in [
            (Target::KDiffusion, Solver::Euler),
            (Target::DiffSampler, Solver::Euler),
            (Target::DiffusersEuler, Solver::Euler),
            (Target::DiffusersEdmEuler, Solver::Euler),
            (Target::DiffusersHeun, Solver::Heun),
            (Target::DiffusersDpmpp, Solver::DpmPp { order: 2, lower_order_final: false }),
        ] {
            let error = export(&found_for(solver, "flow"), target, &options).unwrap_err();
            assert!(matches!(error, Error::OtherNetwork { .. }), "{error}");
            let error = error.to_string();
            assert!(error.contains("parameterisation flow") && error.contains("diffusers-flow-euler"), "{error}");
        }
        for name in ["eps", "v", "edm"] {
            let error = export(&found_for(Solver::Euler, name), Target::DiffusersFlowEuler, &options).unwrap_err();
            let says = format!("parameterisation {name}, which is no flow");
            assert!(matches!(&error, Error::OtherNetwork { reason, .. } if reason.contains(&says)), "{error}");
        }
        let flow = found_for(Solver::Euler, "flow");
        assert_eq!(
            export(&flow, Target::DiffusersFlowEuler, &options).unwrap().text,
            export(&plan(Solver::Euler), Target::DiffusersFlowEuler, &options).unwrap().text
        );
        for target in [Target::KDiffusion, Target::DiffusersEuler, Target::DiffSampler] {
            assert!(export(&found_for(Solver::Euler, "v"), target, &options).is_ok());
        }
    }
}

/// The second evaluation of a step is no level of its own to a solver that makes its own second evaluations.
#[test]
fn the_nearest_takes_as_many_evaluations_as_the_plan() {
    let nearest = Options { nearest: true, ..options() };
    let schedule = karras(5, 0.04, 14.0, 7.0).unwrap();
    let edited = |mut plan: Plan| {
        plan.output = plan.output.terms().map(|(source, c)| (source, 1.1 * c)).collect();
        plan
    };
    for solver in [Solver::Heun, Solver::Dpm2] {
        for target in [Target::Comfyui, Target::KDiffusion, Target::StableDiffusionCpp, Target::DiffusersHeun] {
            let fitted = edited(plan(solver));
            let without = Plan { schedule: None, ..fitted.clone() };
            // as refining levels leaves it: with those of the second evaluations
            let refined = Plan { schedule: Schedule::new(fitted.sigmas()).ok(), ..fitted.clone() };
            for plan in [fitted, without, refined] {
                let made = export(&plan, target, &nearest).unwrap();
                assert!(!said(&made).iter().any(|note| note.contains("evaluations on these")), "{:?}", made.notes);
                let made = made.nearest.unwrap();
                assert_eq!(made.plan.nfe(), plan.nfe(), "{solver} {target}");
                let found = made.plan.schedule.unwrap();
                // a scheduler may have them rounded to its table
                let near = |(a, b): (&f64, &f64)| (a / b - 1.0).abs() < 1e-9;
                assert!(found.len() == schedule.len() && found.levels().iter().zip(schedule.levels()).all(near));
                assert_eq!(made.moved, None);
            }
        }
    }
    // a solver of one evaluation a step has one for each of the plan's
    let made = export(&plan(Solver::Dpm2), Target::DiffusersEuler, &nearest).unwrap().nearest.unwrap();
    assert_eq!(made.plan.sigmas(), plan(Solver::Dpm2).sigmas());
    // one that stops has no equal: the tool's goes on to 0, which is said
    let stop = SolverOptions { last_step: LastStep::Stop, analytical_first_step: false };
    let stopping = Solver::Dpm2.plan(&schedule, &stop).unwrap();
    let made = export(&stopping, Target::Comfyui, &nearest).unwrap();
    assert!(said(&made).iter().any(|note| note.contains("takes 9 evaluations") && note.ends_with("takes 8")));
}

/// Nine digits would make one level of two.
#[test]
fn neighbouring_levels_stay_apart() {
    let levels = vec![10.0, 2.000_000_000_2, 2.0];
    let plan = Solver::Euler.plan(&Schedule::new(levels.clone()).unwrap(), &SolverOptions::default()).unwrap();
    for (target, from, to) in [
        (Target::Comfyui, "", ", 0.0\n"),
        (Target::KDiffusion, "tensor([", ", 0.0]"),
        (Target::StableDiffusionCpp, "--sigmas \"", ",0.0\""),
        (Target::DiffSampler, "--t_steps=[", "]"),
        (Target::DiffusersEuler, "sigmas = [", ", 0.0]"),
    ] {
        let text = export(&plan, target, &options()).unwrap().text;
        assert_eq!(numbers(&text, from, to), levels, "{text}");
    }
    for (target, from) in [(Target::DiffusersFlowEuler, "sigmas = ["), (Target::DiffusersEdmEuler, "tensor([")] {
        let text = export(&plan, target, &options()).unwrap().text;
        assert!(numbers(&text, from, "]").windows(2).all(|pair| pair[0] != pair[1]), "{text}");
    }
    // above 1e16 all of a flow's times are 1
    let far = Schedule::new(vec![3e17, 2e17, 1.0]).unwrap();
    let mut far = Solver::Euler.plan(&far, &SolverOptions::default()).unwrap();
    far.metadata.parameterisation = Some("flow".to_owned());
    for target in [Target::Comfyui, Target::StableDiffusionCpp, Target::DiffusersFlowEuler] {
        let error = export(&far, target, &options()).unwrap_err();
        assert!(matches!(error, Error::LevelsBecomeOne { betas: None, .. }), "{error}");
    }
    // two levels as near to one of the table as levels may be
    let level = options().betas.table().ends().1;
    let near = Schedule::new(vec![level * (1.0 + 2e-6), level, 1.0]).unwrap();
    let near = Solver::Heun.plan(&near, &SolverOptions::default()).unwrap();
    let error = export(&near, Target::DiffusersHeun, &options()).unwrap_err();
    assert!(matches!(error, Error::LevelsBecomeOne { betas: Some(_), .. }), "{error}");
}

/// The printed timesteps are those of betas that are not rescaled.
#[test]
fn timesteps_are_said_to_be_those_of_betas_as_they_stand() {
    let says = |target, solver| {
        let exported = export(&plan(solver), target, &Options { nearest: true, ..options() }).unwrap();
        said(&exported)[0].contains("rescale_betas_zero_snr=False")
    };
    assert!(says(Target::DiffusersHeun, Solver::Heun));
    assert!(says(Target::DiffusersDpmpp, Solver::DpmPp { order: 2, lower_order_final: false }));
    assert!(!says(Target::DiffusersFlowEuler, Solver::Euler));
}

#[test]
fn a_shift_that_is_none_is_refused() {
    for shift in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        let error = export(&plan(Solver::Euler), Target::Csv, &Options { shift, ..options() });
        assert!(matches!(error, Err(Error::Shift(_))), "{shift}");
    }
}

/// A plan of this solver on this many levels.
fn of_levels(solver: &str, levels: usize, last_step: LastStep) -> Plan {
    let options = SolverOptions { last_step, analytical_first_step: false };
    solver.parse::<Solver>().unwrap().plan(&karras(levels, 0.04, 14.0, 7.0).unwrap(), &options).unwrap()
}

/// diff-sampler's code departs from its own solvers on some numbers of levels, and fails on others.
#[test]
fn what_diff_sampler_does_otherwise_is_no_export_of_the_plan() {
    let nearest = Options { nearest: true, ..options() };
    for last_step in [LastStep::ToZero, LastStep::Stop] {
        for (solver, levels, says) in [
            ("deis_rhoab3", 5, "its code for deis_rhoab3 fails with more than 4 noise levels"),
            ("deis_rhoab4", 6, "repeats the weights of the fourth step"),
            ("unipc2_bh1", 2, "corrects the last state"),
            ("unipc3_bh2", 3, "corrects the last state"),
        ] {
            let plan = of_levels(solver, levels, last_step);
            let error = export(&plan, Target::DiffSampler, &options()).unwrap_err();
            assert!(matches!(&error, Error::CannotExpress { reason, .. } if reason.contains(says)), "{error}");
            // the nearest is what its code takes the steps of, and ends as the plan does
            let exported = export(&plan, Target::DiffSampler, &nearest).unwrap();
            let made = &exported.nearest.as_ref().unwrap().plan;
            let (solver, levels) = (made.solver.parse().unwrap(), made.schedule.as_ref().unwrap().len());
            assert_eq!(diff_sampler::refuses(solver, levels), None, "{}", exported.text);
            assert!(!exported.is_exact && made.nfe() == plan.nfe(), "{}", exported.text);
            assert_eq!(made.sigmas(), plan.sigmas());
            let goes_on = exported.text.contains("--denoise_to_zero=True");
            assert_eq!(goes_on, last_step == LastStep::ToZero, "{}", exported.text);
        }
        for (solver, levels) in [("deis_rhoab3", 4), ("deis_rhoab4", 5), ("deis_rhoab2", 9), ("ipndm1", 9)] {
            let exported = export(&of_levels(solver, levels, last_step), Target::DiffSampler, &options()).unwrap();
            assert!(exported.is_exact && exported.notes.is_empty(), "{exported:?}");
        }
    }
    for solver in Solver::all() {
        let one = of_levels(&solver.to_string(), 1, LastStep::ToZero);
        for options in [options(), nearest.clone()] {
            let error = export(&one, Target::DiffSampler, &options).unwrap_err();
            assert!(matches!(error, Error::NothingNear { .. }), "{error}");
            assert!(error.to_string().contains("fails with a single noise level"), "{error}");
            assert!(export(&one, Target::Json, &options).unwrap().is_exact);
        }
    }
}

/// Two of diff-sampler's solvers clip outputs, which is said, and nobody is told that they do exactly what a plan does.
#[test]
fn diff_samplers_clipping_is_warned_of() {
    for solver in Solver::all() {
        let plan = of_levels(&solver.to_string(), 4, LastStep::ToZero);
        let exported = export(&plan, Target::DiffSampler, &options()).unwrap();
        let clips = matches!(solver, Solver::DpmPp { .. } | Solver::UniPc { .. });
        let warned = said(&exported).iter().any(|note| note.starts_with("warning: ") && note.contains("clips"));
        assert_eq!((warned, exported.is_exact), (clips, !clips), "{solver}");
        assert!(exported.nearest.is_none());
    }
}

/// ComfyUI adds the variance of data to the first state where it takes the first level for the model's largest.
#[test]
fn what_comfyui_begins_with_is_said() {
    let notes = |plan: &Plan| said(&export(plan, Target::Comfyui, &options()).unwrap()).join("\n");
    for (sigma, text) in [
        (80.0, "noise * sqrt(1 + sigma^2), 0.0078 % more than the plan's noise * 80;"),
        (14.6146, "noise * sqrt(1 + sigma^2), 0.23 % more than the plan's noise * 14.6146;"),
        (1.0, "noise * sqrt(1 + sigma^2), 41 % more than the plan's noise * 1;"),
    ] {
        let schedule = Schedule::new(vec![sigma, 0.5 * sigma]).unwrap();
        let plan = Solver::Euler.plan(&schedule, &SolverOptions::default()).unwrap();
        assert!(notes(&plan).contains(text), "{}", notes(&plan));
    }
    // flows begin with noise times t
    let notes = notes(&found_for(Solver::Euler, "flow"));
    assert!(!notes.contains("sqrt") && notes.contains("the flow's times"), "{notes}");
}
