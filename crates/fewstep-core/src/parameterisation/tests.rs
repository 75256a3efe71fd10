use super::*;

mod gradient;

fn close(a: f64, b: f64) {
    assert!((a - b).abs() <= 1e-12 * b.abs().max(1e-30), "{a} is not {b}");
}

#[test]
fn coefficients_by_hand() {
    let c = Parameterisation::EDM.coefficients(&2.0);
    close(c.c_skip, 0.25 / 4.25);
    close(c.c_out, 1.0 / 4.25_f64.sqrt());
    close(c.c_in, 1.0 / 4.25_f64.sqrt());
    close(c.c_noise, 2.0_f64.ln() / 4.0);
    let c = Parameterisation::VE.coefficients(&2.0);
    assert_eq!((c.c_skip, c.c_out, c.c_in, c.c_noise), (1.0, 2.0, 1.0, 0.0));
    // VP: the label is (M - 1) t where sigma(t) = sigma
    let t: f64 = 0.37;
    let sigma = (0.5 * 19.9 * t * t + 0.1 * t).exp_m1().sqrt();
    let c = Parameterisation::VP.coefficients(&sigma);
    assert!((c.c_noise - 999.0 * t).abs() < 1e-9);
    close(c.c_in, 1.0 / sigma.hypot(1.0));
    assert_eq!((c.c_skip, c.c_out), (1.0, -sigma));
}

/// Values that the reference networks report (single precision).
#[test]
fn ranges_and_rounding_of_the_reference() {
    let near = |a: f64, b: f64| assert!((a / b - 1.0).abs() < 1e-5, "{a} is not {b}");
    near(Parameterisation::VP.sigma_min(), 0.00097656);
    near(Parameterisation::VP.sigma_max(), 152.16697693);
    near(Parameterisation::IDDPM.sigma_min(), 0.00642234);
    near(Parameterisation::IDDPM.sigma_max(), 20291.16992188);
    for (sigma, rounded) in [(0.03, 0.0302655604), (0.5, 0.500724375), (7.0, 7.0038991), (60.0, 58.3272743)] {
        near(Parameterisation::IDDPM.round_sigma(sigma), rounded);
        assert_eq!(Parameterisation::EDM.round_sigma(sigma), sigma);
    }
    assert_eq!(Parameterisation::EDM.sampling_range(), (0.002, 80.0));
    assert_eq!(Parameterisation::VE.sampling_range(), (0.02, 80.0));
    let label = Parameterisation::IDDPM.coefficients(&Parameterisation::IDDPM.sigma_max()).c_noise;
    assert_eq!(label, 999.0);
    assert_eq!(Parameterisation::IDDPM.coefficients(&Parameterisation::IDDPM.sigma_min()).c_noise, 0.0);
    assert_eq!(Parameterisation::IDDPM.round_sigma(1e9), Parameterisation::IDDPM.sigma_max());
    assert_eq!(Parameterisation::IDDPM.round_sigma(1e-9), 0.0);
}

/// A range that an EDM network says of itself is its sampler's, beyond EDM's own too.
#[test]
fn own_ranges_are_respected() {
    let edm = |sigma_min, sigma_max| Parameterisation::Edm { sigma_data: 1.0, sigma_min, sigma_max };
    assert_eq!(edm(0.0, f64::INFINITY).sampling_range(), (0.002, 80.0));
    assert_eq!(edm(1e-4, 700.0).sampling_range(), (1e-4, 700.0));
    assert_eq!(edm(0.03, f64::INFINITY).sampling_range(), (0.03, 80.0));
    assert_eq!(edm(0.0, 15.0).sampling_range(), (0.002, 15.0));
    assert_eq!(edm(0.0, 15.0).sigma_data(), 1.0);
    for p in [Parameterisation::EDM, Parameterisation::VP, Parameterisation::VE, Parameterisation::IDDPM] {
        assert_eq!(p.sigma_data(), 0.5);
    }
    let ddpm = AlphaNetwork::new(Prediction::Eps, Alphas::DDPM, 0.7).unwrap();
    let ddpm = Parameterisation::Alphas(ddpm);
    let (low, high) = ddpm.sampling_range();
    assert!((0.0100..0.0101).contains(&low) && (157.4..157.5).contains(&high), "{low} {high}");
    assert_eq!((ddpm.sigma_min(), ddpm.sigma_max(), ddpm.sigma_data()), (low, high, 0.7));
    // timesteps are real numbers: every level is known
    assert_eq!((ddpm.round_sigma(1.234), ddpm.discrete_levels()), (1.234, vec![]));
}

#[test]
fn serde_keeps_infinity() {
    for p in [Parameterisation::EDM, Parameterisation::VP, Parameterisation::VE, Parameterisation::IDDPM] {
        let text = serde_json::to_string(&p).unwrap();
        assert_eq!(serde_json::from_str::<Parameterisation>(&text).unwrap(), p, "{text}");
        p.validate().unwrap();
    }
    assert!(serde_json::to_string(&Parameterisation::EDM).unwrap().contains("\"sigma_max\":\"inf\""));
    let finite = r#"{"type":"edm","sigma_data":0.5,"sigma_min":0,"sigma_max":80}"#;
    assert_eq!(serde_json::from_str::<Parameterisation>(finite).unwrap().sigma_max(), 80.0);
    assert!(serde_json::from_str::<Parameterisation>(&finite.replace("80", "\"big\"")).is_err());
}

#[test]
fn validation_names_the_parameter() {
    let bad = Parameterisation::Iddpm { c_1: 0.001, c_2: 0.008, m: 1 << 40 };
    assert_eq!(bad.validate().unwrap_err().name, "M");
    let bad = Parameterisation::Edm { sigma_data: f64::NAN, sigma_min: 0.0, sigma_max: 1.0 };
    assert!(bad.validate().unwrap_err().to_string().contains("sigma_data"));
}
