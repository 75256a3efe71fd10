//! The reference samplers, as plans, on a reference network; and one seed, one image.
//!
//! Every array of the golden files is compared, and one that no plan is known for fails the test.

use fewstep_core::denoiser::{Denoiser, Reference};
use fewstep_core::schedule::{Discretization, NoiseFunction, Path, Scaling, karras, log_snr, time_uniform};
use fewstep_core::solver::{OneStep, along_path};
use fewstep_core::{LastStep, Parameterisation, Plan, Schedule, Solver, SolverOptions, Source, Trace, execute};
use fewstep_nn::Model;
use fewstep_nn::checkpoint::{self, Storage};
use fewstep_nn::config::{ModelConfig, NetworkConfig, SongConfig};
use fewstep_nn::tch::{self, Device, Kind, Tensor};
use fewstep_nn::tensor::Batch;
use fewstep_nn::{Labels, Network};

use crate::golden::{arrays, assert_close, folder};
use crate::support::{one_thread, sample, stream};

const TOLERANCE: f64 = 1e-4;
const SIGMA_MIN: f64 = 0.002;
const SIGMA_MAX: f64 = 80.0;
const STOP: SolverOptions = SolverOptions { last_step: LastStep::Stop, analytical_first_step: false };

/// The reference network, and the arrays of a golden file in the order of their names.
fn golden(file: &str) -> Option<(Model, Vec<(String, Tensor)>)> {
    let folder = folder()?;
    let model = checkpoint::load(&folder.join("ddpmpp_edm.pkl"), Device::Cpu).unwrap().model;
    let mut entries: Vec<(String, Tensor)> = arrays(folder.join(file)).into_iter().collect();
    entries.sort_by(|a, b| a.0.cmp(&b.0));
    Some((model, entries))
}

fn entry<'a>(entries: &'a [(String, Tensor)], name: &str) -> &'a Tensor {
    &entries.iter().find(|(other, _)| other == name).unwrap_or_else(|| panic!("no array {name}")).1
}

/// diff-sampler's schedule of the solver goldens, `n` timestamps.
fn polynomial(n: usize) -> Schedule {
    karras(n, SIGMA_MIN, SIGMA_MAX, 7.0).unwrap()
}

/// EDM's samplers: `edm_heun_{n}`, `ablation_{solver}_edm_{n}`,
/// `ablation_euler_disc-{d}_schedule-{s}_scaling-{c}_{n}`.
fn edm_plan(name: &str, network: &Parameterisation) -> Option<Plan> {
    let (name, n) = name.rsplit_once('_')?;
    let n = n.parse().ok()?;
    let edm = Discretization::Edm.schedule(n, network).ok()?;
    if name == "edm_heun" {
        return Solver::Heun.plan(&edm, &SolverOptions::default()).ok();
    }
    let (method, rest) = name.strip_prefix("ablation_")?.split_once('_')?;
    let method = match method {
        "euler" => OneStep::Euler,
        "heun" => OneStep::Heun,
        _ => return None,
    };
    if rest == "edm" {
        return along_path(method, &Path::default(), &edm, &SolverOptions::default()).ok();
    }
    let (discretization, rest) = rest.strip_prefix("disc-")?.split_once("_schedule-")?;
    let (noise, scaling) = rest.split_once("_scaling-")?;
    let discretization = match discretization {
        "vp" => Discretization::Vp,
        "ve" => Discretization::Ve,
        "iddpm" => Discretization::Iddpm,
        "edm" => Discretization::Edm,
        _ => return None,
    };
    let scaling = match scaling {
        "vp" => Scaling::Vp,
        "none" => Scaling::None,
        _ => return None,
    };
    let path = match noise {
        "vp" => discretization.vp_path(network, scaling).ok()?,
        "ve" => Path { noise: NoiseFunction::Ve, scaling },
        "linear" => Path { noise: NoiseFunction::Linear, scaling },
        _ => return None,
    };
    along_path(method, &path, &discretization.schedule(n, network).ok()?, &SolverOptions::default()).ok()
}

/// diff-sampler's solvers, `{solver}_{timestamps}[_afs]`, which stop at sigma_min.
fn diff_sampler_plan(name: &str) -> Option<Plan> {
    let (name, analytical_first_step) = match name.strip_suffix("_afs") {
        Some(name) => (name, true),
        None => (name, false),
    };
    let (solver, n) = name.rsplit_once('_')?;
    let options = SolverOptions { analytical_first_step, ..STOP };
    let n = n.parse().ok()?;
    if solver == "deis_rhoab4" {
        return Some(repeated_weights(n));
    }
    solver.parse::<Solver>().ok()?.plan(&polynomial(n), &options).ok()
}

fn diff_sampler_schedule(name: &str) -> Option<Schedule> {
    let (family, n) = name.strip_prefix("schedule_")?.rsplit_once('_')?;
    let n = n.parse().ok()?;
    match family {
        "polynomial" => karras(n, SIGMA_MIN, SIGMA_MAX, 7.0).ok(),
        "logsnr" => log_snr(n, SIGMA_MIN, SIGMA_MAX).ok(),
        "time_uniform" => time_uniform(n, SIGMA_MIN, SIGMA_MAX, 1.0).ok(),
        _ => None,
    }
}

/// What our `deis_rhoab4` weighs the slopes with in step `i`, oldest first: the terms of `x_{i+1} - x_i` in `d_j`,
/// `d_j = (x_j - D_j) / sigma_j`.
fn slope_weights(plan: &Plan, i: usize) -> Vec<f64> {
    let next = plan.stages.get(i + 1).map_or(&plan.output, |stage| &stage.input);
    let oldest = (i + 1).saturating_sub(4);
    (oldest..=i).map(|j| -next.coefficient(Source::Output(j)) * plan.stages[j].sigma).collect()
}

/// `deis_rhoab4` as diff-sampler has it: from the fifth step on with the weights of the fourth.
fn repeated_weights(n: usize) -> Plan {
    let schedule = polynomial(n);
    let ours = "deis_rhoab4".parse::<Solver>().unwrap().plan(&schedule, &STOP).unwrap();
    let mut trace = Trace::new();
    let mut slopes = Vec::new();
    let mut next = trace.latent() * schedule.sigma_max();
    for (i, &sigma) in schedule.levels()[..n - 1].iter().enumerate() {
        let (x, d) = trace.eval(next, sigma);
        slopes.push((&x - d) / sigma);
        let weights = slope_weights(&ours, i.min(3));
        next = slopes[slopes.len() - weights.len()..].iter().zip(&weights).fold(x, |x, (slope, w)| x + slope * *w);
    }
    trace.finish(next)
}

/// Dynamic thresholding (Saharia et al. 2022) as diff-sampler's DPM-Solver++ and UniPC apply it to every output.
fn thresholded(d: &Tensor) -> Tensor {
    let quantile = d.abs().flatten(1, -1).quantile_scalar(0.995, 1, true, "linear");
    let s = quantile.clamp_min(1.0).view([-1, 1, 1, 1]);
    d.clamp_tensor(Some(&-&s), Some(&s)) / &s
}

fn sample_thresholded(model: &Model, plan: &Plan, latents: &Tensor) -> Tensor {
    let denoise = |x: &Batch, sigma: f64| {
        Ok::<_, std::convert::Infallible>(Batch(thresholded(&model.denoise_at(&x.0, sigma, None).unwrap())))
    };
    execute(plan, &Batch(latents.to_kind(Kind::Float)), denoise).unwrap().0
}

#[test]
fn golden_edm_samplers() {
    let Some((model, entries)) = golden("edm_samplers_on_ddpmpp_edm.npz") else { return };
    let latents = entry(&entries, "latents");
    for (name, expected) in entries.iter().filter(|(name, _)| name != "latents") {
        let plan =
            edm_plan(name, &model.config().parameterisation).unwrap_or_else(|| panic!("no plan is known for {name}"));
        assert_close(name, &sample(&model, &plan, latents, None), expected, TOLERANCE);
    }
}

#[test]
fn golden_diff_sampler_solvers_and_schedules() {
    let Some((model, entries)) = golden("diff_sampler_on_ddpmpp_edm.npz") else { return };
    let latents = entry(&entries, "latents");
    for (name, expected) in entries.iter().filter(|(name, _)| name != "latents") {
        if let Some(schedule) = diff_sampler_schedule(name) {
            let found = Tensor::from_slice(schedule.levels()).to_kind(Kind::Float);
            assert_close(name, &found, expected, TOLERANCE);
            continue;
        }
        let plan = diff_sampler_plan(name).unwrap_or_else(|| panic!("no plan is known for {name}"));
        let found = if name.starts_with("dpmpp") || name.starts_with("unipc") {
            sample_thresholded(&model, &plan, latents)
        } else {
            sample(&model, &plan, latents, None)
        };
        assert_close(name, &found, expected, TOLERANCE);
    }
}

/// Heun's samples of one EDM2 network, guided by another or by its own answer without a class: `heun_{steps}_guidance_{w}_by_uncond_net`,
/// `heun_{steps}_cfg_{w}`.
#[test]
fn golden_guided_edm2_samplers() {
    let Some(folder) = folder() else { return };
    let open = |name: &str| checkpoint::load(&folder.join(format!("{name}.pkl")), Device::Cpu).unwrap().model;
    let golden = arrays(folder.join("edm2_samplers.npz"));
    let labels = || Labels(Some(golden["class_labels"].shallow_clone()));
    for (name, expected) in golden.iter().filter(|(name, _)| name.starts_with("heun_")) {
        let parts: Vec<&str> = name.split('_').collect();
        let (steps, weight) = (parts[1].parse().unwrap(), parts[3].parse().unwrap());
        let reference = match parts[2] {
            "guidance" => Reference::Network(std::rc::Rc::new(open("edm2_uncond"))),
            "cfg" => Reference::Unconditional,
            _ => panic!("{name} is not known"),
        };
        let network = Network::guided(open("edm2_cond"), reference, weight).unwrap();
        let plan = Solver::Heun.plan(&polynomial(steps), &SolverOptions::default()).unwrap();
        let denoise =
            |x: &Batch, sigma: f64| Ok::<_, fewstep_nn::Error>(network.denoise(&[(x, sigma)], &labels())?.remove(0));
        let found = execute(&plan, &Batch(golden["latents"].to_kind(Kind::Float)), denoise).unwrap().0;
        assert_close(name, &found, expected, TOLERANCE);
    }
    assert_eq!(golden.len(), 8);
}

/// Adams-Bashforth of order 4 integrates slopes that are cubic in sigma exactly. Our fifth step does; the toolbox's,
/// with the weights of its fourth, is not even right for a constant slope, and its images differ from ours.
#[test]
fn golden_deis_rhoab4_is_the_correct_formula() {
    let schedule = polynomial(8);
    let ours = "deis_rhoab4".parse::<Solver>().unwrap().plan(&schedule, &STOP).unwrap();
    let levels = schedule.levels();
    let integrates = |weights: &[f64], i: usize| {
        let exact = |p: i32| (levels[i + 1].powi(p + 1) - levels[i].powi(p + 1)) / f64::from(p + 1);
        let nodes = &levels[i - 3..=i];
        let found = |p: i32| weights.iter().zip(nodes).map(|(w, sigma)| w * sigma.powi(p)).sum::<f64>();
        (0..4).all(|p| (found(p) / exact(p) - 1.0).abs() < 1e-9)
    };
    for i in 3..7 {
        assert!(integrates(&slope_weights(&ours, i), i), "step {i}");
    }
    assert!(!integrates(&slope_weights(&ours, 3), 4));
    let Some((model, entries)) = golden("diff_sampler_on_ddpmpp_edm.npz") else { return };
    let (latents, theirs) = (entry(&entries, "latents"), entry(&entries, "deis_rhoab4_8"));
    let difference = (sample(&model, &ours, latents, None) - theirs).abs().max().double_value(&[]);
    assert!(difference > 100.0 * TOLERANCE * theirs.abs().max().double_value(&[]), "{difference}");
}

/// A small class-conditional network with random weights everywhere; a fresh one has zeros where they hide mistakes.
fn random_network() -> Model {
    let song = SongConfig {
        model_channels: 8,
        channel_mult: vec![1, 2],
        num_blocks: 1,
        attn_resolutions: vec![8],
        ..SongConfig::default()
    };
    let config = ModelConfig {
        img_resolution: 16,
        img_channels: 3,
        label_dim: 5,
        use_fp16: false,
        parameterisation: Parameterisation::EDM,
        network: NetworkConfig::SongUNet(song),
    };
    let model = Model::fresh(config, 3, Device::Cpu).unwrap();
    let mut stream = stream(3);
    tch::no_grad(|| {
        for (_, weight) in model.params().trainable() {
            let _ = weight.shallow_clone().g_add_(&(stream.normal(&weight.size(), Device::Cpu) * 0.1));
        }
    });
    model
}

/// One seed, one image, whatever else is in the batch; convolutions of other batch sizes may round differently.
#[test]
fn one_seed_one_image() {
    one_thread();
    let model = random_network();
    let plan = Solver::Heun.plan(&polynomial(4), &SolverOptions::default()).unwrap();
    let seeds = [7, 0, 123_456_789_012, 7, 41, 2];
    let images = |seeds: &[u64], batch| crate::support::images(&model, &plan, seeds, None, batch);
    let together = images(&seeds, 6);
    let scale = together.abs().max().double_value(&[]);
    let apart = |a: &Tensor, b: &Tensor| (a - b).abs().max().double_value(&[]) / scale;
    assert!(apart(&together.get(0), &together.get(3)) <= 1e-5);
    assert!(apart(&together.get(0), &together.get(1)) > 1e-2);
    for batch in [1, 4, 100] {
        let reversed: Vec<u64> = seeds.iter().rev().copied().collect();
        let found = images(&reversed, batch);
        assert_eq!(found.size(), [6, 3, 16, 16]);
        for k in 0..6 {
            let difference = apart(&together.get(k), &found.get(5 - k));
            assert!(difference <= 1e-5, "seed {} in batches of {batch}: {difference:.1e}", seeds[k as usize]);
        }
    }
    let classes = model.classes_of(&seeds);
    assert!(classes.iter().any(|class| *class != classes[0]), "the classes of these seeds are meant to differ");
}

/// Labels that skip a number leave classes that no image taught; drawn classes are among the others, and the file keeps which.
#[test]
fn classes_without_images_are_never_drawn() {
    let mixture = || fewstep_nn::mixture::patterns(true, Device::Cpu).unwrap();
    let seeds: Vec<u64> = (0..200).collect();
    let drawn = |model: &Model| {
        let classes = model.classes_of(&seeds);
        let mut found = classes.clone();
        found.sort_unstable();
        found.dedup();
        (classes, found)
    };
    let (all, found) = drawn(&mixture());
    assert_eq!(found, (0..10).collect::<Vec<_>>());
    // where none lacks, the same seed keeps its class
    let whole = mixture().with_trained_classes((0..10).rev().collect()).unwrap();
    assert_eq!((drawn(&whole).0, whole.trained_classes()), (all, None));
    let some = mixture().with_trained_classes(vec![9, 1, 4, 4]).unwrap();
    assert_eq!(drawn(&some).1, [1, 4, 9]);
    assert_eq!(some.duplicate().unwrap().trained_classes(), Some(&[1, 4, 9][..]));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    checkpoint::save(&path, &some, Storage::F32, &Default::default()).unwrap();
    let read = checkpoint::load(&path, Device::Cpu).unwrap();
    assert_eq!(read.model.trained_classes(), Some(&[1, 4, 9][..]));
    assert_eq!(read.notes["classes_with_images"], "[1,4,9]");
    for wrong in [vec![], vec![10], vec![-1]] {
        assert!(mixture().with_trained_classes(wrong).is_err());
    }
}
