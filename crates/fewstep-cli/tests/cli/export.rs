//! `export`: every form, read as its tool reads it.

use std::process::Command;

use fewstep_core::plan::{Constant, Plan, Source};
use fewstep_core::schedule::karras;
use fewstep_core::solver::{LastStep, Solver, SolverOptions};
use fewstep_core::{Combination, execute};

use crate::support::Place;

fn plan(solver: &str, last_step: LastStep) -> Plan {
    let options = SolverOptions { last_step, analytical_first_step: false };
    solver.parse::<Solver>().unwrap().plan(&karras(5, 0.002, 80.0, 7.0).unwrap(), &options).unwrap()
}

/// A place with an Euler plan, one of UniPC, one that stops, and one of nobody's.
fn place() -> Place {
    let place = Place::with_model();
    let save = |name: &str, plan: &Plan| std::fs::write(place.path(name), plan.to_json().unwrap()).unwrap();
    save("euler.json", &plan("euler", LastStep::ToZero));
    save("dpmpp.json", &plan("dpmpp2m_nolof", LastStep::ToZero));
    save("lower.json", &plan("dpmpp2m", LastStep::ToZero));
    save("unipc.json", &plan("unipc3_bh2", LastStep::Stop));
    save("own.json", &own());
    place
}

/// Coefficients of our own and a constant image.
fn own() -> Plan {
    let mut plan = plan("dpmpp2m", LastStep::ToZero);
    plan.solver = "least_squares".to_owned();
    plan.constant = Some(Constant { sigma: 80.0, shape: vec![1, 1, 1], samples: vec![vec![0.25]] });
    let mut first: Vec<(Source, f64)> = plan.stages[0].input.terms().collect();
    first.push((Source::Constant, 0.5));
    plan.stages[0].input = Combination::new(first);
    plan
}

fn levels() -> Vec<f64> {
    karras(5, 0.002, 80.0, 7.0).unwrap().levels().to_vec()
}

fn close(found: &[f64], expected: &[f64]) -> bool {
    found.len() == expected.len() && found.iter().zip(expected).all(|(a, b)| (a - b).abs() <= 1e-8 * b.abs().max(1e-3))
}

fn python(script: &str, args: &[&str]) -> String {
    let output = Command::new("python3").arg("-c").arg(script).args(args).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn numbers(text: &str) -> Vec<f64> {
    text.split(',').map(|number| number.trim().parse().unwrap()).collect()
}

/// The text between two marks.
fn between<'a>(text: &'a str, from: &str, to: &str) -> &'a str {
    let start = text.find(from).unwrap_or_else(|| panic!("no {from} in {text}")) + from.len();
    &text[start..start + text[start..].find(to).unwrap()]
}

#[test]
fn noise_levels_are_read_back_as_each_tool_reads_them() {
    let place = place();
    let export = |plan: &str, to: &str| place.succeeds(&["export", plan, "--to", to]);
    let with_zero = [levels(), vec![0.0]].concat();

    let comfyui = export("euler.json", "comfyui");
    let found =
        python("import re,sys; print(','.join(re.findall(r'[-+]?(?:\\d*\\.*\\d+)', sys.argv[1])))", &[&comfyui]);
    assert!(close(&numbers(&found), &with_zero), "{comfyui}");

    let line = export("dpmpp.json", "k-diffusion");
    assert!(
        line.contains("sample_dpmpp_2m(") && close(&numbers(between(&line, "tensor([", "]")), &with_zero),
        "{line}"
    );

    let line = export("dpmpp.json", "stable-diffusion.cpp");
    assert!(line.starts_with("--sampling-method dpm++2m --steps 5 --sigmas "), "{line}");
    assert!(close(&numbers(between(&line, "--sigmas \"", "\"")), &with_zero), "{line}");

    let line = export("unipc.json", "diff-sampler");
    assert!(line.contains("--solver=unipc --num_steps=5") && line.contains("--variant=bh2"), "{line}");
    assert!(!line.contains("denoise_to_zero") && !line.contains(", "), "{line}");
    assert!(close(&numbers(between(&line, "--t_steps=[", "]")), &levels()), "{line}");
    assert!(export("euler.json", "diff-sampler").contains("--denoise_to_zero=True"));
}

/// Lines for Python import or define every name that they use, but for those that their first line says the reader has.
#[test]
fn python_lines_define_what_they_use() {
    let place = place();
    let names = "import ast, sys\n\
                 names = [node for node in ast.walk(ast.parse(sys.argv[1])) if isinstance(node, (ast.Name, ast.alias))]\n\
                 loads = lambda node: isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)\n\
                 made = {getattr(node, 'id', getattr(node, 'name', '')) for node in names if not loads(node)}\n\
                 print(*sorted({node.id for node in names if loads(node)} - made))";
    let scheduled = "# given: scheduler (the model's own, such as pipe.scheduler), device\n";
    for (plan, to, given, used) in [
        ("dpmpp.json", "k-diffusion", "# given: model (a k-diffusion denoiser), noise (", "model noise"),
        ("euler.json", "diffusers-euler", scheduled, "device"),
        ("euler.json", "diffusers-edm-euler", scheduled, "device"),
        ("euler.json", "diffusers-flow-euler", scheduled, "device"),
    ] {
        let text = place.succeeds(&["export", plan, "--to", to]);
        assert!(text.starts_with(given), "{text}");
        // `scheduler` is made of the one that is given, under its name
        assert_eq!(python(names, &[&text]).trim(), used, "{text}");
    }
}

#[test]
fn what_a_tool_cannot_express_is_said_and_exported_on_request_alone() {
    let place = place();
    for (plan, to, says) in [
        ("own.json", "comfyui", "no public solver's"),
        ("unipc.json", "comfyui", "no unipc3_bh2"),
        ("dpmpp.json", "diffusers-euler", "no dpmpp2m"),
        // no tool but the public toolbox lowers the order before the step to 0
        ("lower.json", "comfyui", "only dpmpp2m_nolof"),
        ("lower.json", "k-diffusion", "only dpmpp2m_nolof"),
        ("lower.json", "diffusers-dpmpp", "only dpmpp2m_nolof"),
    ] {
        let error = place.fails(&["export", plan, "--to", to]);
        assert!(error.contains(says) && error.contains("--nearest"), "{error}");
    }
    let run = place.run(&["export", "own.json", "--to", "comfyui", "--nearest"]);
    assert!(run.code == 0 && run.stderr.contains("--model measures what that costs"), "{}", run.stderr);
    assert_eq!(run.stdout.split(", ").count(), 6);
    assert!(
        run.stderr.contains("are found with the setting search.least_squares.constant = false\n"),
        "{}",
        run.stderr
    );
    assert!(run.stderr.contains("0.0078 % more than the plan's noise * 80;"), "{}", run.stderr);
    let json = place.json(&["export", "own.json", "--to", "diffusers-euler", "--nearest"]);
    assert_eq!((&json["exact"], &json["file"]), (&false.into(), &serde_json::Value::Null));

    let small = ["--nearest", "--model", "model.safetensors", "--held-out", "2"];
    let run = place.run(&[&["export", "dpmpp.json", "--to", "diffusers-euler"], &small[..]].concat());
    assert!(run.code == 0 && run.stderr.contains("rollout error"), "{}", run.stderr);
    let error = place.run(&[&["export", "own.json", "--to", "comfyui"], &small[..]].concat());
    assert!(error.code == 1 && error.stderr.contains("1x1"), "{}", error.stderr);
}

/// Nothing is called exact that diff-sampler's code does otherwise or fails at.
#[test]
fn what_diff_sampler_does_otherwise_is_said() {
    let place = place();
    let json = |plan: &str| place.json(&["export", plan, "--to", "diff-sampler"]);
    for (plan, exact) in [("euler.json", true), ("lower.json", false), ("unipc.json", false)] {
        let json = json(plan);
        let warned = json["notes"].to_string().contains("warning: diff-sampler's ");
        assert_eq!((&json["exact"], warned, &json["nearest"]), (&exact.into(), !exact, &serde_json::Value::Null));
    }
    let save = |name: &str, plan: &Plan| std::fs::write(place.path(name), plan.to_json().unwrap()).unwrap();
    save("rhoab.json", &plan("deis_rhoab3", LastStep::Stop));
    let error = place.fails(&["export", "rhoab.json", "--to", "diff-sampler"]);
    assert!(error.contains("fails with more than 4 noise levels; --nearest"), "{error}");
    let run = place.run(&["export", "rhoab.json", "--to", "diff-sampler", "--nearest"]);
    assert!(run.code == 0 && run.stdout.starts_with("--solver=dpmpp --num_steps=5 "), "{}{}", run.stdout, run.stderr);
    let one = Solver::Heun.plan(&karras(1, 0.002, 80.0, 7.0).unwrap(), &SolverOptions::default()).unwrap();
    save("one.json", &one);
    for nearest in [&[][..], &["--nearest"]] {
        let error = place.fails(&[&["export", "one.json", "--to", "diff-sampler"], nearest].concat());
        assert!(error.contains("fails with a single noise level") && error.contains("; --to python"), "{error}");
        assert!(!error.contains("--nearest"), "{error}");
    }
}

/// The Python sampler on numbers, which are arrays enough for it, against the sampling loop.
#[test]
fn the_python_sampler_does_what_the_loop_does() {
    let place = place();
    place.succeeds(&["export", "own.json", "--to", "python", "--out", "plan_sampler.py"]);
    let script = "import sys; sys.path.insert(0, sys.argv[1])\n\
                  from plan_sampler import *\n\
                  plan = load_plan(sys.argv[1] + '/' + sys.argv[2])\n\
                  image = constant_image(plan, lambda rows: rows[0][0][0])\n\
                  print(repr(sample(plan, lambda x, sigma: x / (1 + sigma * sigma) + 0.1 * sigma, 0.7, constant=image)))";
    let folder = place.path(".").display().to_string();
    for name in ["own.json", "euler.json", "unipc.json"] {
        let found: f64 = python(script, &[&folder, name]).trim().parse().unwrap();
        let plan = Plan::from_json(&std::fs::read_to_string(place.path(name)).unwrap()).unwrap();
        let denoise = |x: &Vec<f64>, sigma: f64| Ok::<_, ()>(vec![x[0] / (1.0 + sigma * sigma) + 0.1 * sigma]);
        let (latent, constant) = (vec![0.7], vec![0.25]);
        let start = fewstep_core::execute::Start { latent: &latent, constant: Some(&constant) };
        let expected = execute(&plan, start, denoise).unwrap()[0];
        assert!((found - expected).abs() < 1e-12 * (1.0 + expected.abs()), "{name}: {found} {expected}");
    }
}

/// A constant of any rank comes back in its shape, a class each.
#[test]
fn the_python_sampler_reads_constants_of_any_rank() {
    let place = place();
    place.succeeds(&["export", "own.json", "--to", "python", "--out", "plan_sampler.py"]);
    let script = "import json, sys; sys.path.insert(0, sys.argv[1])\n\
                  from plan_sampler import *\n\
                  print(json.dumps(constant_image(load_plan(sys.argv[1] + '/ranked.json'), lambda lists: lists, label=1)))";
    for (shape, expected) in [
        (vec![4], "[4.0, 5.0, 6.0, 7.0]"),
        (vec![2, 2], "[[4.0, 5.0], [6.0, 7.0]]"),
        (vec![1, 2, 2], "[[[4.0, 5.0], [6.0, 7.0]]]"),
        (vec![2, 1, 1, 2], "[[[[4.0, 5.0]]], [[[6.0, 7.0]]]]"),
    ] {
        let samples = vec![vec![0.0, 1.0, 2.0, 3.0], vec![4.0, 5.0, 6.0, 7.0]];
        let plan = Plan { constant: Some(Constant { sigma: 80.0, shape, samples }), ..own() };
        std::fs::write(place.path("ranked.json"), plan.to_json().unwrap()).unwrap();
        assert_eq!(python(script, &[&place.path(".").display().to_string()]).trim(), expected);
    }
}

#[test]
fn tables_hold_every_coefficient() {
    let place = place();
    let csv = place.succeeds(&["export", "own.json", "--to", "csv"]);
    assert_eq!(csv.lines().count(), 1 + 5 + 1);
    assert!(csv.starts_with("state,sigma,latent,constant,d0,"), "{csv}");
    let json: serde_json::Value =
        serde_json::from_str(&place.succeeds(&["export", "own.json", "--to", "json"])).unwrap();
    assert_eq!(json["nfe"], 5);
    let unrolled = Plan::from_json(&json["unrolled"].to_string()).unwrap();
    assert_eq!(unrolled, own().unrolled());
}

#[test]
fn schedulers_of_diffusers_get_levels_in_their_own_forms() {
    let place = place();
    let export = |plan: &str, to: &str| place.succeeds(&["export", plan, "--to", to]);
    let with_zero = [levels(), vec![0.0]].concat();

    let text = export("euler.json", "diffusers-euler");
    assert!(close(&numbers(between(&text, "sigmas = [", "]")), &with_zero), "{text}");

    // maps positions through rho and appends the 0 itself
    let text = export("euler.json", "diffusers-edm-euler");
    let root = |sigma: f64| sigma.powf(1.0 / 7.0);
    let sigma = |r: f64| (root(80.0) + r * (root(0.002) - root(80.0))).powi(7);
    let back: Vec<f64> = numbers(between(&text, "tensor([", "]")).into_iter().map(sigma).collect();
    assert!(close(&back, &levels()), "{text}");
    assert!(text.contains("sigma_min=0.002, sigma_max=80, rho=7.0"), "{text}");

    // s = sigma / (1 + sigma), shifted by the scheduler, which appends the 0
    for shift in [1.0, 3.0] {
        let text =
            place.succeeds(&["export", "euler.json", "--to", "diffusers-flow-euler", "--shift", &shift.to_string()]);
        let sigma = |s: f64| shift * s / (1.0 + (shift - 1.0) * s);
        let back: Vec<f64> =
            numbers(between(&text, "sigmas = [", "]")).into_iter().map(|s| sigma(s) / (1.0 - sigma(s))).collect();
        assert!(back.iter().zip(levels()).all(|(a, b)| (a / b - 1.0).abs() < 1e-6), "{text}");
        assert!(text.contains(&format!("shift={shift},")), "{text}");
    }
    let error = place.fails(&["export", "euler.json", "--to", "diffusers-flow-euler", "--shift", "0"]);
    assert!(error.contains("--shift"), "{error}");
}

/// Stable Diffusion's table of levels, in double precision.
fn table() -> Vec<f64> {
    let (start, end) = (0.00085_f64.sqrt(), 0.012_f64.sqrt());
    let mut product = 1.0;
    let levels = (0..1000).map(|t| {
        product *= 1.0 - (start + (end - start) * t as f64 / 999.0).powi(2);
        ((1.0 - product) / product).sqrt()
    });
    levels.collect()
}

#[test]
fn timesteps_are_those_of_the_table() {
    let place = Place::with_model();
    let schedule = karras(5, 0.04, 14.0, 7.0).unwrap();
    for (name, solver) in [("heun.json", "heun"), ("dpmpp.json", "dpmpp2m_nolof")] {
        let plan = solver.parse::<Solver>().unwrap().plan(&schedule, &SolverOptions::default()).unwrap();
        std::fs::write(place.path(name), plan.to_json().unwrap()).unwrap();
    }
    let level = |t: f64| {
        let (table, below) = (table(), (t as usize).min(998));
        table[below] + (t - below as f64) * (table[below + 1] - table[below])
    };
    // Heun takes fractions
    let text = place.succeeds(&["export", "heun.json", "--to", "diffusers-heun"]);
    let timesteps = numbers(between(&text, "timesteps = [", "]"));
    for (t, sigma) in timesteps.iter().zip(schedule.levels()) {
        assert!((level(*t) / sigma - 1.0).abs() < 1e-4, "{text}");
    }

    // DPM-Solver++ does not: said, exported on request, and exact once its levels are the table's
    let error = place.fails(&["export", "dpmpp.json", "--to", "diffusers-dpmpp"]);
    assert!(error.contains("whole numbers") && error.contains("--nearest"), "{error}");
    let run = place.run(&["export", "dpmpp.json", "--to", "diffusers-dpmpp", "--nearest"]);
    assert!(run.code == 0 && run.stderr.contains("the largest change is"), "{}", run.stderr);
    let json = place.json(&["export", "dpmpp.json", "--to", "diffusers-dpmpp", "--nearest"]);
    assert_eq!(json["exact"], false);
    let text = json["text"].as_str().unwrap();
    let nearest = Plan::from_json(&json["nearest"].to_string()).unwrap();
    let timesteps = numbers(between(text, "timesteps = [", "]"));
    for ((t, sigma), wanted) in timesteps.iter().zip(nearest.sigmas()).zip(schedule.levels()) {
        assert!(t.fract() == 0.0 && (level(*t) / sigma - 1.0).abs() < 1e-4, "{text}");
        let off = |t: f64| (level(t) / wanted).ln().abs();
        assert!(off(*t) <= off(t - 1.0) && off(*t) <= off(t + 1.0), "{text}");
    }
    std::fs::write(place.path("nearest.json"), nearest.to_json().unwrap()).unwrap();
    let again = place.json(&["export", "nearest.json", "--to", "diffusers-dpmpp"]);
    assert_eq!((&again["exact"], &again["text"]), (&true.into(), &json["text"]));

    // the cost is that of the rounded levels
    let cost = ["--nearest", "--model", "model.safetensors", "--held-out", "2"];
    let run = place.run(&[&["export", "dpmpp.json", "--to", "diffusers-dpmpp"], &cost[..]].concat());
    assert!(run.code == 0 && run.stderr.contains("rollout error"), "{}", run.stderr);
}

#[test]
fn levels_outside_of_a_table_and_levels_that_become_one_are_errors_or_said() {
    let place = place();
    let error = place.fails(&["export", "lower.json", "--to", "diffusers-heun", "--nearest"]);
    assert!(error.contains("become one") && error.contains("--betas"), "{error}");
    let heun = plan("heun", LastStep::ToZero).to_json().unwrap();
    std::fs::write(place.path("heun.json"), heun).unwrap();
    let error = place.fails(&["export", "heun.json", "--to", "diffusers-heun"]);
    assert!(error.contains("80") && error.contains("14.614") && error.contains("--nearest"), "{error}");
    let run =
        place.run(&["export", "heun.json", "--to", "diffusers-heun", "--nearest", "--betas", "linear:0.0001:0.02"]);
    assert!(run.code == 0 && run.stderr.contains("0.002 became 0.01"), "{}{}", run.stdout, run.stderr);
    let run = place.run(&["export", "euler.json", "--to", "diffusers-euler"]);
    assert!(run.code == 0 && run.stderr.contains("warning: noise levels outside of the table"), "{}", run.stderr);
    let wrong = place.run(&["export", "euler.json", "--to", "diffusers-heun", "--betas", "squared"]);
    assert!(wrong.code == 2 && wrong.stderr.contains("scaled-linear:START:END"), "{}", wrong.stderr);
}

/// What `testdata/exports/diffusers_check.py` runs in diffusers is what the solvers leave.
#[test]
fn the_plans_of_the_diffusers_check_are_ours() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/exports/plans");
    let discrete = karras(6, 0.04, 14.0, 7.0).unwrap();
    let plan =
        |solver: &str, schedule| solver.parse::<Solver>().unwrap().plan(schedule, &SolverOptions::default()).unwrap();
    let mut own = plan("dpmpp2m_nolof", &discrete);
    own.solver = "least_squares".to_owned();
    let scaled = |(source, c): (Source, f64)| (source, if source == Source::Output(0) { 1.1 * c } else { c });
    own.output = own.output.terms().map(scaled).collect();
    own.stages[2].input = own.stages[2].input.terms().map(scaled).collect();
    for (name, plan) in [
        ("euler", plan("euler", &discrete)),
        ("heun", plan("heun", &discrete)),
        ("dpmpp2m", plan("dpmpp2m_nolof", &discrete)),
        ("dpmpp3m", plan("dpmpp3m_nolof", &discrete)),
        ("edm", plan("euler", &karras(6, 0.002, 80.0, 7.0).unwrap())),
        ("one", plan("euler", &karras(1, 0.002, 80.0, 7.0).unwrap())),
        ("own", own),
    ] {
        let path = folder.join(format!("{name}.json"));
        let json = plan.to_json().unwrap();
        if std::env::var_os("UPDATE_PLANS").is_some() {
            std::fs::write(&path, &json).unwrap();
        }
        assert_eq!(std::fs::read_to_string(&path).unwrap_or_default(), json, "{}", path.display());
    }
}
