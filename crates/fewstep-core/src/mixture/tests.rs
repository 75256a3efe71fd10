use super::*;

/// Three components, one of each kind of covariance.
fn example() -> Mixture {
    let half = 0.5_f64.sqrt();
    let component = |weight, mean: [f64; 3], covariance| Component { weight, mean: mean.to_vec(), covariance };
    Mixture::new(vec![
        component(1.0, [1.0, 0.0, -1.0], Covariance::Isotropic(0.09)),
        component(2.0, [-1.0, 0.5, 0.0], Covariance::Diagonal(vec![0.2, 0.0, 0.5])),
        component(
            1.0,
            [0.0, -1.0, 1.0],
            Covariance::LowRank { basis: vec![vec![half, half, 0.0]], variances: vec![0.7], rest: 0.01 },
        ),
    ])
    .unwrap()
}

/// Tweedie's formula: `D = x + sigma^2 grad log p(x; sigma)`, with the density written out independently.
#[test]
fn the_denoiser_is_the_gradient_of_the_log_density() {
    let mixture = example();
    let sigma: f64 = 0.4;
    // dense covariance matrices and their inverses by the formulas for 3 x 3 matrices
    let dense = |covariance: &Covariance| {
        let mut matrix = [[0.0; 3]; 3];
        for (j, row) in
            (0..3).map(|j| (j, covariance.apply(|l| l, &[f64::from(j == 0), f64::from(j == 1), f64::from(j == 2)])))
        {
            for i in 0..3 {
                matrix[i][j] = row[i] + if i == j { sigma * sigma } else { 0.0 };
            }
        }
        matrix
    };
    let log_density = |x: &[f64]| {
        let of = |c: &Component| {
            let m = dense(&c.covariance);
            let minor = |i: usize, j: usize| {
                let (a, b, c, d) = ((i + 1) % 3, (i + 2) % 3, (j + 1) % 3, (j + 2) % 3);
                m[a][c] * m[b][d] - m[a][d] * m[b][c]
            };
            let determinant: f64 = (0..3).map(|j| m[0][j] * minor(0, j)).sum();
            let v: Vec<f64> = x.iter().zip(&c.mean).map(|(x, m)| x - m).collect();
            let quadratic: f64 =
                (0..3).map(|i| (0..3).map(|j| v[i] * minor(i, j) / determinant * v[j]).sum::<f64>()).sum();
            c.weight * (-0.5 * quadratic).exp() / determinant.sqrt()
        };
        mixture.components().iter().map(of).sum::<f64>().ln()
    };
    let x = [0.3, -0.2, 0.1];
    let denoised = mixture.denoised(&x, sigma);
    for i in 0..3 {
        let at = |h: f64| {
            let mut moved = x;
            moved[i] += h;
            log_density(&moved)
        };
        let tweedie = x[i] + sigma * sigma * (at(1e-5) - at(-1e-5)) / 2e-5;
        assert!((denoised[i] - tweedie).abs() < 1e-8, "{} is not {tweedie}", denoised[i]);
    }
}

#[test]
fn derivatives_match_differences() {
    let mixture = example();
    let (x, x_dot, sigma) = (vec![0.3, -0.2, 0.1, -1.0, 0.4, 2.0], vec![1.0, -2.0, 0.5, 0.1, 0.0, -1.0], 0.6);
    for sigma_dot in [0.0, 1.0, -0.7] {
        let derivative = mixture.derivative(&x, sigma, &x_dot, sigma_dot);
        let at = |h: f64| {
            let moved: Vec<f64> = x.iter().zip(&x_dot).map(|(x, v)| x + h * v).collect();
            mixture.denoised(&moved, sigma + h * sigma_dot)
        };
        let (above, below) = (at(1e-5), at(-1e-5));
        for i in 0..x.len() {
            assert!((derivative[i] - (above[i] - below[i]) / 2e-5).abs() < 1e-8, "{i}");
        }
    }
}

#[test]
fn limits_of_the_denoiser() {
    let mixture = example();
    let x = mixture.sample(3, 5);
    let far = mixture.denoised(&x, 1e4);
    let mean: Vec<f64> =
        (0..3).map(|i| mixture.components().iter().map(|c| c.weight * c.mean[i]).sum::<f64>()).collect();
    for chunk in far.chunks_exact(3) {
        assert!(chunk.iter().zip(&mean).all(|(d, m)| (d - m).abs() < 1e-3), "at high noise D is the data's mean");
    }
    // at low noise D is x, but for the dimension in which a component has no variance
    let near = Mixture::gaussian(vec![1.0, 2.0], 0.3).unwrap().denoised(&[0.5, -0.5], 1e-6);
    assert!((near[0] - 0.5).abs() < 1e-9 && (near[1] + 0.5).abs() < 1e-9);
}

#[test]
fn samples_have_the_moments_of_the_mixture() {
    let mixture = example();
    let samples = mixture.sample(11, 40_000);
    assert_eq!(samples[..30], mixture.sample(11, 10)[..]);
    for i in 0..3 {
        let values = || samples.iter().skip(i).step_by(3);
        let mean = values().sum::<f64>() / 40_000.0;
        let second = values().map(|v| v * v).sum::<f64>() / 40_000.0;
        let unit: Vec<f64> = (0..3).map(|j| f64::from(u8::from(i == j))).collect();
        let of = |c: &Component| c.weight * (c.mean[i].powi(2) + c.covariance.apply(|l| l, &unit)[i]);
        let expected: f64 = mixture.components().iter().map(of).sum();
        let expected_mean: f64 = mixture.components().iter().map(|c| c.weight * c.mean[i]).sum();
        assert!((mean - expected_mean).abs() < 0.03 && (second - expected).abs() < 0.04, "{mean} {second} {expected}");
    }
}

#[test]
fn a_gaussian_flow_solves_the_ode() {
    let component = Component { weight: 2.0, mean: vec![1.0, -2.0], covariance: Covariance::Diagonal(vec![0.3, 0.0]) };
    let gaussian = Mixture::new(vec![component]).unwrap();
    let start = [30.0, 60.0];
    let (sigma, h) = (3.0, 1e-5);
    let at = |sigma_to| gaussian.flow(&start, 80.0, sigma_to).unwrap();
    let (x, above, below) = (at(sigma), at(sigma + h), at(sigma - h));
    let denoised = gaussian.denoised(&x, sigma);
    for i in 0..2 {
        let slope = (above[i] - below[i]) / (2.0 * h);
        assert!((slope - (x[i] - denoised[i]) / sigma).abs() < 1e-6);
    }
    assert!((at(0.0)[1] + 2.0).abs() < 1e-12, "a direction without variance ends on the mean");
    assert!(example().flow(&start, 80.0, 0.0).is_none());
}

#[test]
fn bad_components_are_named_and_serde_checks() {
    let component = |weight, mean, covariance| Component { weight, mean, covariance };
    let good = component(1.0, vec![0.0, 1.0], Covariance::Isotropic(0.5));
    let bad = [
        component(0.0, vec![0.0, 1.0], Covariance::Isotropic(0.5)),
        component(1.0, vec![0.0], Covariance::Isotropic(0.5)),
        component(1.0, vec![0.0, f64::NAN], Covariance::Isotropic(0.5)),
        component(1.0, vec![0.0, 1.0], Covariance::Isotropic(-0.5)),
        component(1.0, vec![0.0, 1.0], Covariance::Diagonal(vec![1.0])),
        component(
            1.0,
            vec![0.0, 1.0],
            Covariance::LowRank { basis: vec![vec![1.0, 1.0]], variances: vec![1.0], rest: 0.0 },
        ),
    ];
    for bad in bad {
        let error = Mixture::new(vec![good.clone(), bad]).unwrap_err();
        assert!(matches!(error, MixtureError::Component { index: 1, .. }), "{error}");
    }
    assert_eq!(Mixture::new(vec![]), Err(MixtureError::Empty));
    let text = serde_json::to_string(&example()).unwrap();
    assert_eq!(serde_json::from_str::<Mixture>(&text).unwrap(), example());
    assert!(serde_json::from_str::<Mixture>("[]").is_err());
}
