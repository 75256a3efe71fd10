use super::*;
use crate::Parameterisation;

const TERMINAL: Alphas = Alphas::ScaledLinear { start: 0.000_85, end: 0.012, steps: 1000, rescale_zero_snr: true };

fn network(alphas: Alphas) -> AlphaNetwork {
    AlphaNetwork::new(Prediction::Eps, alphas, 0.5).unwrap()
}

fn near(a: f64, b: f64, what: &str) {
    assert!((a / b - 1.0).abs() < 1e-5, "{what}: {a} is not {b}");
}

/// Levels 0, 1, 500 and the last two as diffusers and k-diffusion have them, in single precision.
#[test]
fn levels_are_those_of_the_published_models() {
    let ddpm = Alphas::Linear { start: 1e-4, end: 0.02, steps: 1000, rescale_zero_snr: true };
    let cosine = Alphas::SquaredcosCapV2 { steps: 1000, rescale_zero_snr: true };
    const NOISE_ALONE: f64 = f64::INFINITY;
    for (alphas, expected) in [
        (Alphas::STABLE_DIFFUSION, [0.029_167_534_8, 0.041_314_479, 1.618_279_7, 14.526_280_4, 14.614_646_9]),
        (Alphas::DDPM, [0.010_001_329_7, 0.014_832_044, 3.442_967_41, 155.825_18, 157.407_272]),
        (Alphas::COSINE, [0.006_427_108_78, 0.009_351_345_71, 1.015_550_85, 641.662_415, 20_291.302_7]),
        (TERMINAL, [0.029_167_532_9, 0.042_066_957_8, 1.774_558_66, 2_254.195_31, NOISE_ALONE]),
        (ddpm, [0.010_001_329_7, 0.014_856_146_6, 3.505_667_21, 15_406.113_3, NOISE_ALONE]),
        (cosine, [0.006_422_469_86, 0.009_348_156_86, 1.015_591_98, 662.583_252, NOISE_ALONE]),
    ] {
        let levels = alphas.levels().unwrap();
        assert_eq!(levels.len(), 1000);
        for (t, level) in [0, 1, 500, 998, 999].into_iter().zip(expected) {
            if level.is_finite() {
                near(levels[t], level, &format!("{alphas:?} at {t}"));
            } else {
                assert_eq!(levels[t], level, "{alphas:?}");
            }
        }
    }
}

/// What k-diffusion's `sigma_to_t` answers on Stable Diffusion's table.
#[test]
fn timesteps_are_those_of_k_diffusion() {
    let network = network(Alphas::STABLE_DIFFUSION);
    for (sigma, timestep) in [
        (0.03, 0.080_828_614_5),
        (0.5, 169.314_599_6),
        (1.0, 353.890_299_4),
        (7.7, 884.511_439_4),
        (14.0, 991.884_375_6),
    ] {
        // its table is of logarithms in single precision, and a timestep is a hundredth of one
        assert!((network.timestep(sigma) - timestep).abs() < 1e-4, "{sigma}: {}", network.timestep(sigma));
    }
    assert_eq!((network.timestep(80.0), network.timestep(0.001)), (999.0, 0.0));
}

#[test]
fn timesteps_and_levels_are_inverse_within_the_table() {
    for alphas in [Alphas::STABLE_DIFFUSION, Alphas::DDPM, Alphas::COSINE, TERMINAL] {
        let network = network(alphas);
        let levels = network.levels();
        for (t, &level) in levels.iter().enumerate() {
            assert_eq!(network.timestep(level), t as f64);
        }
        for timestep in [0.0, 0.25, 17.5, 500.9, (levels.len() - 1) as f64] {
            assert!((network.timestep(network.level(timestep)) - timestep).abs() < 1e-9, "{timestep}");
        }
        assert_eq!(network.timestep(1e9), (levels.len() - 1) as f64);
        assert_eq!(network.level(1e9), network.level((levels.len() - 1) as f64));
    }
}

/// A list that ends in 0 is sampled up to the last level that is finite.
#[test]
fn zero_terminal_snr_leaves_the_last_finite_level() {
    let list = Parameterisation::Alphas(network(Alphas::AlphasCumprod { values: vec![0.9, 0.5, 0.2, 0.0] }));
    assert_eq!(list.sigma_max(), 2.0);
    assert_eq!(list.coefficients(&list.sigma_max()).c_noise, 2.0);
    let rescaled = Parameterisation::Alphas(network(TERMINAL));
    near(rescaled.sigma_max(), 2_254.195_31, "the last finite level");
    assert_eq!(rescaled.coefficients(&rescaled.sigma_max()).c_noise, 998.0);
}

#[test]
fn files_are_readable_and_exact() {
    let text = r#"{"type":"alphas","prediction":"v_prediction","alphas":{"type":"scaled_linear","start":0.00085,"end":0.012}}"#;
    let read: Parameterisation = serde_json::from_str(text).unwrap();
    let meant = AlphaNetwork::new(Prediction::V, Alphas::STABLE_DIFFUSION, 0.5).unwrap();
    assert_eq!(read, Parameterisation::Alphas(meant));
    assert_eq!(
        serde_json::to_string(&read).unwrap(),
        r#"{"type":"alphas","prediction":"v","alphas":{"type":"scaled_linear","start":0.00085,"end":0.012,"steps":1000},"sigma_data":0.5}"#
    );
    let values: Vec<f64> = (0..1000).map(|t| (0.3 + f64::from(t)).recip() / 7.0).collect();
    for alphas in [Alphas::DDPM, Alphas::COSINE, TERMINAL, Alphas::AlphasCumprod { values }] {
        let network = Parameterisation::Alphas(AlphaNetwork::new(Prediction::X0, alphas, 1.0 / 3.0).unwrap());
        let text = serde_json::to_string_pretty(&network).unwrap();
        let again: Parameterisation = serde_json::from_str(&text).unwrap();
        assert_eq!(again, network);
        assert_eq!(again.coefficients(&0.7), network.coefficients(&0.7));
    }
}

#[test]
fn what_is_no_table_is_refused() {
    let list = |values: &[f64]| Alphas::AlphasCumprod { values: values.to_vec() };
    let linear = |start, end, steps| Alphas::Linear { start, end, steps, rescale_zero_snr: false };
    for (alphas, says) in [
        (linear(0.0, 0.02, 1000), "start = 0"),
        (linear(f64::NAN, 0.02, 1000), "start = NaN"),
        (linear(0.02, 0.0001, 1000), "end = 0.0001"),
        (linear(0.5, 1.0, 1000), "end = 1"),
        (linear(0.0001, 0.02, 1), "steps = 1"),
        (linear(0.0001, 0.02, usize::MAX), "steps"),
        // single precision holds none of the image, or all of it
        (linear(0.9, 0.999, 1000), "alphas_cumprod["),
        (linear(1e-9, 1e-9, 1000), "alphas_cumprod[0] = 1"),
        (Alphas::SquaredcosCapV2 { steps: 0, rescale_zero_snr: false }, "steps = 0"),
        (list(&[]), "the number of alphas_cumprod = 0"),
        (list(&[0.5]), "the number of alphas_cumprod = 1"),
        (list(&[0.5, 0.0]), "alphas_cumprod[1] = 0"),
        (list(&[1.0, 0.5]), "alphas_cumprod[0] = 1"),
        (list(&[0.9, 0.5, 0.5]), "alphas_cumprod[2] = 0.5"),
        (list(&[0.9, 0.0, 0.0]), "alphas_cumprod[1] = 0"),
        (list(&[0.9, 0.5, -0.1]), "alphas_cumprod[2] = -0.1"),
        (list(&[0.9, f64::NAN, 0.1]), "alphas_cumprod[1] = NaN"),
        (list(&[0.9, 0.5, 1e-320]), "alphas_cumprod[2]"),
        // distinct numbers of one level
        (list(&[1e-30_f64, 1e-30_f64.next_down()]), "alphas_cumprod[1]"),
    ] {
        let error = AlphaNetwork::new(Prediction::Eps, alphas.clone(), 0.5).unwrap_err().to_string();
        assert!(error.contains(says), "{alphas:?}: {error}");
    }
    assert_eq!(AlphaNetwork::new(Prediction::Eps, Alphas::DDPM, 0.0).unwrap_err().name, "sigma_data");
}

/// The same in a file, and what no field is called.
#[test]
fn files_are_refused_with_the_reason() {
    for (network, says) in [
        (r#""prediction":"eps","alphas":{"type":"linear","start":0.1,"end":0.02}"#, "end = 0.02"),
        (r#""prediction":"eps","alphas":{"type":"alphas_cumprod","values":[0.9,0.95]}"#, "alphas_cumprod[1] = 0.95"),
        (r#""prediction":"eps","alphas":{"type":"squaredcos_cap_v2"},"sigma_data":-1"#, "sigma_data"),
        (r#""prediction":"eps","alphas":{"type":"squaredcos_cap_v2"},"sigmadata":1"#, "sigmadata"),
        (r#""prediction":"eps","alphas":{"type":"squaredcos_cap_v2","rescale":true}"#, "rescale"),
        (r#""prediction":"eps","alphas":{"type":"quadratic"}"#, "quadratic"),
        (r#""prediction":"score","alphas":{"type":"squaredcos_cap_v2"}"#, "score"),
    ] {
        let text = format!(r#"{{"type":"alphas",{network}}}"#);
        let error = serde_json::from_str::<Parameterisation>(&text).unwrap_err().to_string();
        assert!(error.contains(says), "{text}: {error}");
    }
}
